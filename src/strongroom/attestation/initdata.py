"""Init-data: what a worker was started with, bound into its evidence by digest (rule 1).

It is TOML in the form of the Confidential Containers (`version`, `algorithm`, `[data]`), so that a broker
of theirs can read it; our part is one entry, `strongroom.toml`. The digest is SHA-384 of the exact bytes;
CONFIGID (SGX) or MRCONFIGID (TDX) carries it; HOST_DATA (SNP) carries SHA-256. See
docs/reference/init-data.md.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from strongroom.attestation._toml import parse_toml
from strongroom.attestation.errors import INIT_DATA_MALFORMED
from strongroom.attestation.fields import NOTE_KEY, RESOURCE, SERVICE_NAME, SHA256, SIGNING_KEY, Fields
from strongroom.errors import CryptoError, EvidenceError

MAX_INIT_DATA: Final = 64 * 1024
MAX_MODELS: Final = 64
_ENTRY: Final = "strongroom.toml"
_VERSION: Final = "0.1.0"
_ALGORITHM: Final = "sha384"
_ALGORITHMS: Final = re.compile(r"sha-?(256|384|512)")
"""What the launcher of a guest was told. What counts is the digest that its kind of evidence carries."""

MAX_WITNESSES: Final = 16
_NAMES: Final = ("service", "broker_key", "release_policy", "models")
_WITNESS_NAMES: Final = ("witnesses", "witness_threshold")


@dataclass(frozen=True, slots=True)
class InitData:
    """What a worker may do, fixed before it starts.

    Attributes:
        service: Name of the service that it works for.
        broker_key: The only broker whose keys it takes, `ed25519+mldsa65:...`.
        release_policy: Digest of the policy under which the service key is released, `sha256:...`.
        models: Resources that hold the keys of its models, for example `kbs:///default/model/lite0`.
        witnesses: Keys of witnesses of the broker's log (`NAME+ID+BASE64`, cosignatures); may be empty.
        witness_threshold: How many of them must have cosigned the log before it takes a key; 0 without any.

    Raises:
        EvidenceError: `init-data-malformed`.
    """

    service: str
    broker_key: str
    release_policy: str
    models: tuple[str, ...] = ()
    witnesses: tuple[str, ...] = ()
    witness_threshold: int = 0

    def __post_init__(self) -> None:
        members: dict[str, object] = {
            "service": self.service,
            "broker_key": self.broker_key,
            "release_policy": self.release_policy,
            "models": list(self.models),
        }
        if self.witnesses or self.witness_threshold:
            members["witnesses"] = list(self.witnesses)
            members["witness_threshold"] = self.witness_threshold
        _read(members)

    def to_toml(self) -> bytes:
        """The init-data as bytes; equal values give equal bytes."""
        models = ", ".join(f'"{model}"' for model in self.models)
        witnesses = ", ".join(f'"{key}"' for key in self.witnesses)
        witnessed = (
            f"witnesses = [{witnesses}]\nwitness_threshold = {self.witness_threshold}\n" if witnesses else ""
        )
        return (
            f'version = "{_VERSION}"\n'
            f'algorithm = "{_ALGORITHM}"\n'
            "\n"
            "[data]\n"
            f"\"{_ENTRY}\" = '''\n"
            f'service = "{self.service}"\n'
            f'broker_key = "{self.broker_key}"\n'
            f'release_policy = "{self.release_policy}"\n'
            f"models = [{models}]\n"
            f"{witnessed}"
            "'''\n"
        ).encode()


def parse(data: bytes) -> InitData:
    """Read init-data, at most 64 KiB.

    Raises:
        EvidenceError: `init-data-malformed`.
    """
    if len(data) > MAX_INIT_DATA:
        raise EvidenceError(
            INIT_DATA_MALFORMED, "too long", found=f"{len(data)} bytes", expected=f"at most {MAX_INIT_DATA}"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise EvidenceError(INIT_DATA_MALFORMED, "not UTF-8") from None
    outer = Fields(INIT_DATA_MALFORMED, "init-data", _toml(text), ("version", "algorithm", "data"))
    outer.constant("version", _VERSION)
    outer.text("algorithm", _ALGORITHMS)
    # Others may stand beside ours: a guest of Confidential Containers is configured there too.
    entries = outer.raw("data")
    if not isinstance(entries, dict) or not isinstance(entry := entries.get(_ENTRY), str):
        raise EvidenceError(INIT_DATA_MALFORMED, f"data without a text {_ENTRY}")
    fields = _read(_toml(entry))
    return InitData(
        service=fields.raw("service"),
        broker_key=fields.raw("broker_key"),
        release_policy=fields.raw("release_policy"),
        models=tuple(fields.raw("models")),
        witnesses=tuple(fields.raw("witnesses")) if fields.has("witnesses") else (),
        witness_threshold=fields.raw("witness_threshold") if fields.has("witnesses") else 0,
    )


def digest(data: bytes) -> bytes:
    """SHA-384 of the exact bytes of an init-data (48 bytes)."""
    return hashlib.sha384(data).digest()


def host_data(data: bytes) -> bytes:
    """SHA-256 of the exact bytes of an init-data: SNP's HOST_DATA has room for 32 bytes only."""
    return hashlib.sha256(data).digest()


def _read(value: object) -> Fields:
    witnessed = isinstance(value, dict) and bool(value.keys() & set(_WITNESS_NAMES))
    fields = Fields(INIT_DATA_MALFORMED, "init-data", value, _NAMES + (_WITNESS_NAMES if witnessed else ()))
    fields.text("service", SERVICE_NAME)
    fields.text("broker_key", SIGNING_KEY)
    fields.text("release_policy", SHA256)
    fields.texts("models", RESOURCE, most=MAX_MODELS)
    if witnessed:
        keys = fields.texts("witnesses", NOTE_KEY, most=MAX_WITNESSES)
        fields.integer("witness_threshold", low=1, high=len(keys))
        _check_witnesses(keys)
    return fields


def _check_witnesses(keys: tuple[str, ...]) -> None:
    from strongroom.crypto.notes import NoteKey, NoteType  # loads cryptography

    try:
        parsed = [NoteKey.parse(key) for key in keys]
    except CryptoError as error:
        raise EvidenceError(INIT_DATA_MALFORMED, f"witnesses: {error.kind.title}") from None
    if any(key.type is not NoteType.COSIGNATURE_V1 for key in parsed):
        raise EvidenceError(INIT_DATA_MALFORMED, "witnesses: a key that does not cosign")
    if len({key.public for key in parsed}) != len(parsed):
        raise EvidenceError(INIT_DATA_MALFORMED, "witnesses: one key under two names")


def _toml(text: str) -> dict[str, object]:
    try:
        return parse_toml(text)
    except (ValueError, RecursionError):  # ValueError: TOML errors, and integers too long for Python
        raise EvidenceError(INIT_DATA_MALFORMED, "not TOML") from None
