"""Reference values: measurements that a publisher has signed, for policies that name him.

A publisher signs the measurements of a release ahead of its roll-out. A policy that names his key and the
name of the series then accepts them besides those that it lists itself (docs/reference/reference-values.md).

    signed = SignedReferenceValues.parse(path.read_bytes())
    policy = Policy.load(policy_path).with_values(signed)       # signature, name and version are checked here
    policy.appraise(claims, now=now)                            # and the validity at each appraisal

The payload is a JCS object (RFC 8785), signed and hashed as exact bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from strongroom.attestation import policy_file
from strongroom.attestation.errors import VALUES_MALFORMED
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.fields import PLAIN_TEXT, SERVICE_NAME, Fields, parse_object
from strongroom.codec import b64, jcs
from strongroom.errors import ConfigError, EvidenceError

if TYPE_CHECKING:
    from strongroom.crypto.sign import SigningKey, VerifyingKey

VALUES_TYPE: Final = "strongroom-reference-values/1"
"""Type of the payload, and purpose of its signature."""

MAX_PAYLOAD: Final = 256 * 1024
MAX_SIGNED: Final = 384 * 1024
"""Largest file in bytes: payload and signature in base64url."""

_MAX_SIGNATURE: Final = 8 * 1024
_NAMES: Final = (
    "type",
    "publisher",
    "name",
    "version",
    "issued",
    "not_before",
    "expires",
    "measurements",
)


@dataclass(frozen=True, slots=True)
class ReferenceValues:
    """One version of a series of reference values.

    Attributes:
        publisher: Who publishes them, in words for people; the signature says who it is.
        name: Name of the series, in the form of a service's name.
        version: From 1; a later publication has a higher one.
        issued: Unix time at which they were signed, by the publisher's clock.
        not_before: Unix time from which they count.
        expires: Unix time from which they no longer count.
        measurements: By kind, each measurement with its label in words for people; see `Claims.measurement`.

    Raises:
        EvidenceError: `reference-values-malformed`.
    """

    publisher: str
    name: str
    version: int
    issued: int
    not_before: int
    expires: int
    measurements: Mapping[EvidenceKind, Mapping[str, str]]

    def __post_init__(self) -> None:
        _read(self._object())

    def valid_at(self, now: int) -> bool:
        """Whether they count at a Unix time."""
        return self.not_before <= now < self.expires

    def of_kind(self, kind: EvidenceKind) -> frozenset[str]:
        """The measurements of a kind."""
        return frozenset(self.measurements.get(kind, ()))

    def payload(self) -> bytes:
        """The exact bytes that are signed and hashed."""
        return jcs.canonical(self._object())

    @property
    def digest(self) -> str:
        """`sha256:` and the hex digest of the payload."""
        return f"sha256:{hashlib.sha256(self.payload()).hexdigest()}"

    @classmethod
    def parse(cls, payload: bytes) -> ReferenceValues:
        """Read a payload; only the exact bytes that `payload` would give are accepted.

        Raises:
            EvidenceError: `reference-values-malformed`.
        """
        members = parse_object(VALUES_MALFORMED, "reference values", payload, limit=MAX_PAYLOAD, names=_NAMES)
        fields = _read({name: members.raw(name) for name in _NAMES})
        values = cls(
            publisher=fields.raw("publisher"),
            name=fields.raw("name"),
            version=fields.raw("version"),
            issued=fields.raw("issued"),
            not_before=fields.raw("not_before"),
            expires=fields.raw("expires"),
            measurements={EvidenceKind(kind): each for kind, each in fields.raw("measurements").items()},
        )
        if values.payload() != payload:
            raise EvidenceError(VALUES_MALFORMED, "not in canonical form")
        return values

    def sign(self, key: SigningKey) -> SignedReferenceValues:
        """Sign them as their publisher."""
        return SignedReferenceValues(self.payload(), key.sign(VALUES_TYPE, self.payload()))

    def _object(self) -> dict[str, Any]:
        return {
            "type": VALUES_TYPE,
            "publisher": self.publisher,
            "name": self.name,
            "version": self.version,
            "issued": self.issued,
            "not_before": self.not_before,
            "expires": self.expires,
            "measurements": {str(kind): dict(each) for kind, each in self.measurements.items()},
        }


@dataclass(frozen=True, slots=True)
class SignedReferenceValues:
    """Reference values as they are published.

    Attributes:
        payload: Exact bytes of the reference values.
        signature: The publisher's signature over them, purpose `strongroom-reference-values/1`.
    """

    payload: bytes
    signature: bytes

    def to_json_bytes(self) -> bytes:
        """The file's content: canonical JSON and a line end."""
        value = {
            "reference_values": b64.encode_url(self.payload),
            "signature": b64.encode_url(self.signature),
        }
        return jcs.canonical(value) + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> SignedReferenceValues:
        """Read a file's content. The payload stays unread until its signature has been checked.

        Raises:
            EvidenceError: `reference-values-malformed`.
        """
        names = ("reference_values", "signature")
        what = "signed reference values"
        fields = parse_object(VALUES_MALFORMED, what, data, limit=MAX_SIGNED, names=names)
        return cls(
            payload=fields.blob("reference_values", limit=MAX_PAYLOAD),
            signature=fields.blob("signature", limit=_MAX_SIGNATURE),
        )

    def verify(self, publisher: VerifyingKey) -> ReferenceValues:
        """Check the publisher's signature, then read the payload.

        Raises:
            CryptoError: `signature-invalid`.
            EvidenceError: `reference-values-malformed`.
        """
        publisher.verify(VALUES_TYPE, self.payload, self.signature, what="reference values")
        return ReferenceValues.parse(self.payload)


def _read(value: object) -> Fields:
    fields = Fields(VALUES_MALFORMED, "reference values", value, _NAMES)
    fields.constant("type", VALUES_TYPE)
    fields.text("publisher", PLAIN_TEXT)
    fields.text("name", SERVICE_NAME)
    fields.integer("version", low=1)
    fields.integer("issued")
    first = fields.integer("not_before")
    fields.integer("expires", low=first + 1)
    _check_measurements(fields)
    return fields


def _check_measurements(fields: Fields) -> None:
    value = fields.raw("measurements")
    if not isinstance(value, dict) or not value:
        raise fields.error("measurements is not an object", expected="measurements by kind")
    for kind, labelled in value.items():
        if not isinstance(labelled, dict) or not labelled:
            raise fields.error("measurements of a kind", expected="an object: measurement to label")
        for label in labelled.values():
            if not isinstance(label, str) or not PLAIN_TEXT.fullmatch(label):
                raise fields.error(f"label of a {kind} measurement", expected=PLAIN_TEXT.pattern)
    try:
        policy_file.measurement_lists({kind: list(labelled) for kind, labelled in value.items()})
    except ConfigError as error:
        raise fields.error(f"measurements: {error.detail}") from None
