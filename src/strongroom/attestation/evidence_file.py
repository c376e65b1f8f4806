"""The evidence file: evidence with what its verification needs and the time of its collection, for later.

    {"type": "strongroom-evidence/1", "collected": UNIX_TIME, "evidence": {...}}

Nobody signs it, and nobody need to: the evidence carries its own signatures. The time of collection is the
word of whoever wrote the file. It says when the collateral was good, not that the evidence was made then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from strongroom.attestation.errors import EVIDENCE_MALFORMED, EVIDENCE_TOO_LARGE
from strongroom.attestation.evidence import MAX_DOCUMENT, Evidence
from strongroom.codec import jcs
from strongroom.errors import CodecError, EvidenceError

TYPE: Final = "strongroom-evidence/1"
MAX_FILE: Final = MAX_DOCUMENT + 1024
_MAX_TIME: Final = 2**40


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """Evidence that was put aside.

    Attributes:
        evidence: The evidence.
        collected: Unix time at which it was collected, by the collector's clock.
    """

    evidence: Evidence
    collected: int

    def to_json_bytes(self) -> bytes:
        """The file's content: canonical JSON and a line end."""
        value = {"type": TYPE, "collected": self.collected, "evidence": self.evidence.to_json()}
        return jcs.canonical(value) + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> EvidenceFile:
        """Read a file's content, at most 1 MiB and 1 KiB of JSON in any layout.

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
        if not isinstance(value, dict) or value.keys() != {"type", "collected", "evidence"}:
            raise EvidenceError(EVIDENCE_MALFORMED, "members other than type, collected, evidence")
        if value["type"] != TYPE:
            raise EvidenceError(EVIDENCE_MALFORMED, "type of the evidence file", expected=TYPE)
        collected = value["collected"]
        if type(collected) is not int or not 0 <= collected <= _MAX_TIME:
            raise EvidenceError(EVIDENCE_MALFORMED, "collected", expected="Unix time in seconds")
        return cls(Evidence.from_json(value["evidence"]), collected)
