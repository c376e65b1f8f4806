"""Init-data: what a worker was started with, bound into its evidence by digest (rule 1).

It is TOML in the form of the Confidential Containers (`version`, `algorithm`, `[data]`), so that a broker
of theirs can read it; our part is one entry, `strongroom.toml`. The digest is SHA-384 of the exact bytes;
CONFIGID (SGX) or MRCONFIGID (TDX) carries it. See docs/reference/init-data.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from strongroom.attestation._toml import parse_toml
from strongroom.attestation.errors import INIT_DATA_MALFORMED
from strongroom.attestation.fields import RESOURCE, SERVICE_NAME, SHA256, SIGNING_KEY, Fields
from strongroom.errors import EvidenceError

MAX_INIT_DATA: Final = 64 * 1024
MAX_MODELS: Final = 64
_ENTRY: Final = "strongroom.toml"
_VERSION: Final = "0.1.0"
_ALGORITHM: Final = "sha384"
_NAMES: Final = ("service", "broker_key", "release_policy", "models")


@dataclass(frozen=True, slots=True)
class InitData:
    """What a worker may do, fixed before it starts.

    Attributes:
        service: Name of the service that it works for.
        broker_key: The only broker whose keys it takes, `ed25519+mldsa65:...`.
        release_policy: Digest of the policy under which the service key is released, `sha256:...`.
        models: Resources that hold the keys of its models, for example `kbs:///default/model/lite0`.

    Raises:
        EvidenceError: `init-data-malformed`.
    """

    service: str
    broker_key: str
    release_policy: str
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _read(
            {
                "service": self.service,
                "broker_key": self.broker_key,
                "release_policy": self.release_policy,
                "models": list(self.models),
            }
        )

    def to_toml(self) -> bytes:
        """The init-data as bytes; equal values give equal bytes."""
        models = ", ".join(f'"{model}"' for model in self.models)
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
    outer.constant("algorithm", _ALGORITHM)
    entries = Fields(INIT_DATA_MALFORMED, "init-data, data", outer.raw("data"), (_ENTRY,))
    entry = entries.raw(_ENTRY)
    if not isinstance(entry, str):
        raise EvidenceError(INIT_DATA_MALFORMED, f"{_ENTRY} is not a string")
    fields = _read(_toml(entry))
    return InitData(
        service=fields.raw("service"),
        broker_key=fields.raw("broker_key"),
        release_policy=fields.raw("release_policy"),
        models=tuple(fields.raw("models")),
    )


def digest(data: bytes) -> bytes:
    """SHA-384 of the exact bytes of an init-data (48 bytes)."""
    return hashlib.sha384(data).digest()


def _read(value: object) -> Fields:
    fields = Fields(INIT_DATA_MALFORMED, "init-data", value, _NAMES)
    fields.text("service", SERVICE_NAME)
    fields.text("broker_key", SIGNING_KEY)
    fields.text("release_policy", SHA256)
    fields.texts("models", RESOURCE, most=MAX_MODELS)
    return fields


def _toml(text: str) -> dict[str, object]:
    try:
        return parse_toml(text)
    except (ValueError, RecursionError):  # ValueError: TOML errors, and integers too long for Python
        raise EvidenceError(INIT_DATA_MALFORMED, "not TOML") from None
