"""The keyset: the keys of a service for one epoch, signed by its broker (docs/reference/keyset.md).

Its payload is a JCS object (RFC 8785). It is hashed and signed as exact bytes; a worker rebuilds the same
bytes from the private keys released to it and the other fields, and so never attests to a keyset from
outside (rule 1).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from strongroom.attestation.errors import KEYSET_MALFORMED
from strongroom.attestation.evidence import MAX_DOCUMENT as MAX_EVIDENCE
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.fields import (
    MODEL_NAME,
    PLAIN_TEXT,
    SERVICE_NAME,
    SHA256,
    SIGNING_KEY,
    VERSION,
    Fields,
    parse_object,
)
from strongroom.codec import b64, jcs
from strongroom.errors import CodecError, CryptoError, EvidenceError

if TYPE_CHECKING:
    from strongroom.crypto.ohttp import KeyConfig
    from strongroom.crypto.sign import VerifyingKey

KEYSET_TYPE: Final = "strongroom-keyset/2"
"""Type of the payload, and purpose of its signature."""

MAX_PAYLOAD: Final = 128 * 1024
MAX_KEYS: Final = 64 * 1024
MAX_MODELS: Final = 64
MAX_SIGNED: Final = MAX_EVIDENCE + 256 * 1024
"""Largest served document in bytes: payload, signature and the broker's evidence."""

POST_QUANTUM_RELEASE: Final = "hpke-0x647a"
"""`key_release` where private keys travel to workers only under MLKEM768-X25519."""

CLASSICAL_RELEASE: Final = "classical"
"""`key_release` where they may also travel under P-256 or RSA."""

SIGNATURE_SUITE: Final = "MLDSA65-Ed25519-SHA512"
"""`signature_suite`: what the broker signs with, both halves of which must hold."""

_KEY_RELEASE: Final = re.compile(f"{POST_QUANTUM_RELEASE}|{CLASSICAL_RELEASE}")

_NAMES: Final = frozenset(
    {
        "type",
        "service",
        "epoch",
        "keys",
        "suites",
        "signature_suite",
        "release_policy",
        "models",
        "not_before",
        "not_after",
        "broker_key",
        "key_custodian",
        "key_release",
    }
)


@dataclass(frozen=True, slots=True)
class KeysetModel:
    """One model of the service: its version and the digest of its manifest, `sha256:...`."""

    version: str
    manifest: str


@dataclass(frozen=True, slots=True)
class Keyset:
    """The keys of a service for one epoch, and what stands behind them.

    Attributes:
        service: Name of the service.
        epoch: Counter of the broker, from 1.
        keys: OHTTP key configurations (`application/ohttp-keys`, RFC 9458 section 3), at most 64 KiB.
        release_policy: Digest of the policy under which the private keys are released, `sha256:...`.
        models: The models of the service by name.
        not_before: Unix time from which the keys may be used.
        not_after: Unix time after which the keys may not be used.
        broker_key: Signing key of the broker, `ed25519+mldsa65:...`.
        key_custodian: Who runs the broker, in words for people.
        key_release: `hpke-0x647a`, or `classical` where private keys may travel to workers without
            post-quantum protection.

    Raises:
        EvidenceError: `keyset-malformed`.
    """

    service: str
    epoch: int
    keys: bytes
    release_policy: str
    models: Mapping[str, KeysetModel]
    not_before: int
    not_after: int
    broker_key: str
    key_custodian: str
    key_release: str = POST_QUANTUM_RELEASE

    def __post_init__(self) -> None:
        _read(self._object(suites=[]))
        if self.not_before >= self.not_after:
            raise EvidenceError(KEYSET_MALFORMED, "not_before is not before not_after")

    @property
    def key_configs(self) -> tuple[KeyConfig, ...]:
        """The OHTTP key configurations, in the broker's order of preference.

        Raises:
            EvidenceError: `keyset-malformed`.
        """
        from strongroom.crypto.ohttp import decode_key_configs

        try:
            return decode_key_configs(self.keys)
        except (CodecError, CryptoError) as error:
            raise EvidenceError(KEYSET_MALFORMED, f"keys: {error.kind.title}") from None

    @property
    def suites(self) -> tuple[str, ...]:
        """Names of the HPKE suites of the keys, for people; `keys` decides."""
        return suite_names(self.key_configs)

    @property
    def post_quantum_configs(self) -> tuple[KeyConfig, ...]:
        """Those of the key configurations to which a request is sealed with MLKEM768-X25519.

        Raises:
            EvidenceError: `keyset-malformed`.
        """
        from strongroom.crypto.hpke import Kem

        return tuple(config for config in self.key_configs if config.kem is Kem.MLKEM768_X25519)

    def payload(self) -> bytes:
        """The exact bytes that are signed and hashed."""
        return jcs.canonical(self._object(suites=list(self.suites)))

    def digest(self) -> str:
        """`sha384:` and the hex digest of the payload."""
        return payload_digest(self.payload())

    @classmethod
    def parse(cls, payload: bytes) -> Keyset:
        """Read a payload; only the exact bytes that `payload` would give are accepted.

        Raises:
            EvidenceError: `keyset-malformed`.
        """
        members = parse_object(KEYSET_MALFORMED, "keyset", payload, limit=MAX_PAYLOAD, names=_NAMES)
        fields = _read({name: members.raw(name) for name in _NAMES})
        keyset = cls(
            service=fields.raw("service"),
            epoch=fields.raw("epoch"),
            keys=fields.blob("keys", limit=MAX_KEYS),
            release_policy=fields.raw("release_policy"),
            models={name: KeysetModel(**model) for name, model in fields.raw("models").items()},
            not_before=fields.raw("not_before"),
            not_after=fields.raw("not_after"),
            broker_key=fields.raw("broker_key"),
            key_custodian=fields.raw("key_custodian"),
            key_release=fields.raw("key_release"),
        )
        if keyset.payload() != payload:
            raise EvidenceError(KEYSET_MALFORMED, "not canonical, or suites that are not of the keys")
        return keyset

    def _object(self, *, suites: list[str]) -> dict[str, Any]:
        return {
            "type": KEYSET_TYPE,
            "service": self.service,
            "epoch": self.epoch,
            "keys": b64.encode_url(self.keys),
            "suites": suites,
            "signature_suite": SIGNATURE_SUITE,
            "release_policy": self.release_policy,
            "models": {
                name: {"version": model.version, "manifest": model.manifest}
                for name, model in self.models.items()
            },
            "not_before": self.not_before,
            "not_after": self.not_after,
            "broker_key": self.broker_key,
            "key_custodian": self.key_custodian,
            "key_release": self.key_release,
        }


@dataclass(frozen=True, slots=True)
class SignedKeyset:
    """A keyset as it is served: payload, the broker's signature, the broker's evidence if it has any.

    Attributes:
        payload: Exact bytes of the keyset.
        signature: Signature of the broker over them, purpose `strongroom-keyset/2`.
        broker_evidence: Evidence that the broker itself runs in a TEE.
    """

    payload: bytes
    signature: bytes
    broker_evidence: Evidence | None = None

    def to_json_bytes(self) -> bytes:
        """The served document."""
        evidence = None if self.broker_evidence is None else self.broker_evidence.to_json()
        return jcs.canonical(
            {
                "keyset": b64.encode_url(self.payload),
                "signature": b64.encode_url(self.signature),
                "broker_evidence": evidence,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> SignedKeyset:
        """Read a served document. The payload stays unread until its signature has been checked.

        Raises:
            EvidenceError: `keyset-malformed`, or a code of the evidence.
        """
        from strongroom.crypto.sign import SIGNATURE_SIZE

        fields = parse_object(
            KEYSET_MALFORMED,
            "signed keyset",
            data,
            limit=MAX_SIGNED,
            names=("keyset", "signature", "broker_evidence"),
        )
        evidence = fields.raw("broker_evidence")
        return cls(
            payload=fields.blob("keyset", limit=MAX_PAYLOAD),
            signature=fields.blob("signature", limit=SIGNATURE_SIZE, exact=True),
            broker_evidence=None if evidence is None else Evidence.from_json(evidence),
        )

    def verify(self, broker_key: VerifyingKey) -> Keyset:
        """Check the broker's signature, then read the payload.

        Raises:
            CryptoError: `signature-invalid`.
            EvidenceError: `keyset-malformed`.
        """
        broker_key.verify(KEYSET_TYPE, self.payload, self.signature, what="keyset")
        return Keyset.parse(self.payload)


def payload_digest(payload: bytes) -> str:
    """`sha384:` and the hex digest of the exact bytes of a keyset."""
    return f"sha384:{hashlib.sha384(payload).hexdigest()}"


def suite_names(configs: tuple[KeyConfig, ...]) -> tuple[str, ...]:
    """Names of the suites of key configurations, without repetition, in order.

    For example `MLKEM768-X25519/HKDF-SHA256/AES-256-GCM`.
    """
    names = [
        f"{config.kem.name}/HKDF_SHA256/{aead.name}".replace("_", "-")
        for config in configs
        for _, aead in config.suites
    ]
    return tuple(dict.fromkeys(names))


def _read(value: object) -> Fields:
    fields = Fields(KEYSET_MALFORMED, "keyset", value, _NAMES)
    fields.constant("type", KEYSET_TYPE)
    fields.text("service", SERVICE_NAME)
    fields.integer("epoch", low=1)
    fields.blob("keys", limit=MAX_KEYS)
    fields.texts("suites", PLAIN_TEXT, most=64)
    fields.constant("signature_suite", SIGNATURE_SUITE)
    fields.text("release_policy", SHA256)
    _read_models(fields)
    fields.integer("not_before")
    fields.integer("not_after")
    fields.text("broker_key", SIGNING_KEY)
    fields.text("key_custodian", PLAIN_TEXT)
    fields.text("key_release", _KEY_RELEASE)
    return fields


def _read_models(fields: Fields) -> None:
    models = fields.raw("models")
    if not isinstance(models, dict) or len(models) > MAX_MODELS:
        raise fields.error("models is not an object", expected=f"at most {MAX_MODELS} members")
    for name, value in models.items():
        if not MODEL_NAME.fullmatch(name):
            raise fields.error("a model's name has not the expected form", expected=MODEL_NAME.pattern)
        model = Fields(KEYSET_MALFORMED, f"keyset, model {name}", value, ("version", "manifest"))
        model.text("version", VERSION)
        model.text("manifest", SHA256)
