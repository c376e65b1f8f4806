"""The evidence file: evidence with what its verification needs and the time of its collection, for later.

    {"type": "strongroom-evidence/1", "collected": UNIX_TIME, "evidence": {...},
     "runtime_data": BASE64URL, "rims": [BASE64URL, ...]}

The last two are there only if the evidence was made for a key broker, and has GPUs beside it.

Nobody signs it, and nobody need to: the evidence carries its own signatures. The time of collection is the
word of whoever wrote the file. It says when the collateral was good, not that the evidence was made then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from strongroom.attestation.errors import EVIDENCE_MALFORMED, EVIDENCE_TOO_LARGE
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.runtime_data import MAX_RUNTIME_DATA
from strongroom.codec import b64, jcs
from strongroom.errors import CodecError, EvidenceError

TYPE: Final = "strongroom-evidence/1"
MAX_FILE: Final = 4 * 1024 * 1024
MAX_RIMS: Final = 16
MAX_RIMS_SIZE: Final = 1024 * 1024
_MAX_TIME: Final = 2**40
_NEEDED: Final = {"type", "collected", "evidence"}


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """Evidence that was put aside.

    Attributes:
        evidence: The evidence.
        collected: Unix time at which it was collected, by the collector's clock.
        runtime_data: What the evidence binds, at most 768 KiB, with the evidence of devices in it.
        rims: NVIDIA's signed reference values for them, at most 16 of 1 MiB.
    """

    evidence: Evidence
    collected: int
    runtime_data: bytes | None = None
    rims: tuple[bytes, ...] = ()

    def to_json_bytes(self) -> bytes:
        """The file's content: canonical JSON and a line end."""
        value = {"type": TYPE, "collected": self.collected, "evidence": self.evidence.to_json()}
        if self.runtime_data is not None:
            value["runtime_data"] = b64.encode_url(self.runtime_data)
        if self.rims:
            value["rims"] = [b64.encode_url(each) for each in self.rims]
        return jcs.canonical(value) + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> EvidenceFile:
        """Read a file's content, at most 4 MiB of JSON in any layout.

        Raises:
            EvidenceError: `evidence-malformed` or `evidence-too-large`.
        """
        if len(data) > MAX_FILE:
            raise EvidenceError(
                EVIDENCE_TOO_LARGE,
                "evidence file",
                found=f"{len(data)} bytes",
                expected=f"at most {MAX_FILE}",
            )
        try:
            value: Any = jcs.parse(data, limit=MAX_FILE, what="evidence file")
        except CodecError as error:
            raise EvidenceError(EVIDENCE_MALFORMED, error.kind.title) from None
        if not isinstance(value, dict) or value.keys() - {"runtime_data", "rims"} != _NEEDED:
            raise EvidenceError(EVIDENCE_MALFORMED, "members other than type, collected, evidence")
        if value["type"] != TYPE:
            raise EvidenceError(EVIDENCE_MALFORMED, "type of the evidence file", expected=TYPE)
        collected = value["collected"]
        if type(collected) is not int or not 0 <= collected <= _MAX_TIME:
            raise EvidenceError(EVIDENCE_MALFORMED, "collected", expected="Unix time in seconds")
        runtime_data, rims = value.get("runtime_data"), value.get("rims", [])
        if not isinstance(rims, list) or len(rims) > MAX_RIMS:
            raise EvidenceError(EVIDENCE_MALFORMED, "rims", expected=f"at most {MAX_RIMS}")
        return cls(
            Evidence.from_json(value["evidence"]),
            collected,
            None if runtime_data is None else _decode(runtime_data, "runtime_data", MAX_RUNTIME_DATA),
            tuple(_decode(each, "a RIM", MAX_RIMS_SIZE) for each in rims),
        )


def _decode(value: Any, what: str, limit: int) -> bytes:
    try:
        return b64.decode_url(value, limit=limit, what=what)
    except CodecError as error:
        raise EvidenceError(EVIDENCE_MALFORMED, f"{what}: {error.kind.title}") from None
