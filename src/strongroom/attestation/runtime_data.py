"""What report data binds in the KBS protocol 0.4.0: nonce, one-time key, and the evidence of devices.

Report data is SHA-384 of the JCS object `{"additional-evidence", "nonce", "tee-pubkey"}`, and 16 zero bytes.
The nonce of a device is made of the same object without `additional-evidence`, since the device's evidence is
in that. So the CPU's evidence vouches for the very evidence of the devices that came along.

Sources: github.com/confidential-containers/trustee, kbs/docs/kbs_attestation_protocol.md;
guest-components, attestation-agent/attester (nvidia).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.attestation.errors import EVIDENCE_MALFORMED, EVIDENCE_TOO_LARGE
from strongroom.codec import jcs
from strongroom.errors import CodecError, EvidenceError

MAX_RUNTIME_DATA: Final = 768 * 1024
REPORT_DATA_BYTES: Final = 64
DEVICE_NONCE_BYTES: Final = 32
"""All that an NVIDIA GPU takes: the first bytes of the digest."""


@dataclass(frozen=True, slots=True)
class RuntimeData:
    """What an attester was asked to bind.

    Attributes:
        nonce: The challenge, as it was sent.
        tee_pubkey: The attester's one-time key as a JWK.
        additional_evidence: JSON text with the evidence of devices, see `devices`; empty for none.
    """

    nonce: str
    tee_pubkey: Mapping[str, str]
    additional_evidence: str = ""

    @classmethod
    def parse(cls, data: bytes) -> RuntimeData:
        """Read the JSON object, at most 768 KiB.

        Raises:
            EvidenceError: `evidence-too-large` or `evidence-malformed`.
        """
        if len(data) > MAX_RUNTIME_DATA:
            found = f"{len(data)} bytes"
            raise EvidenceError(
                EVIDENCE_TOO_LARGE, "runtime data", found=found, expected=f"at most {MAX_RUNTIME_DATA}"
            )
        try:
            value = jcs.parse(data, limit=MAX_RUNTIME_DATA, what="runtime data")
        except CodecError as error:
            raise EvidenceError(EVIDENCE_MALFORMED, f"runtime data: {error.kind.title}") from None
        if not isinstance(value, dict) or value.keys() != {"nonce", "tee-pubkey", "additional-evidence"}:
            raise EvidenceError(EVIDENCE_MALFORMED, "members of the runtime data")
        nonce, key, additional = value["nonce"], value["tee-pubkey"], value["additional-evidence"]
        if not isinstance(nonce, str) or not isinstance(additional, str) or not _is_key(key):
            raise EvidenceError(EVIDENCE_MALFORMED, "types in the runtime data")
        return cls(nonce, key, additional)

    def to_bytes(self) -> bytes:
        """The canonical JSON whose digest is bound."""
        return jcs.canonical({**self._asked(), "additional-evidence": self.additional_evidence})

    def report_data(self) -> bytes:
        """What the evidence's report data must be, 64 bytes."""
        return hashlib.sha384(self.to_bytes()).digest().ljust(REPORT_DATA_BYTES, b"\0")

    def device_nonce(self) -> bytes:
        """What a device's evidence must be for, 32 bytes."""
        return hashlib.sha384(jcs.canonical(self._asked())).digest()[:DEVICE_NONCE_BYTES]

    def _asked(self) -> dict[str, Any]:
        return {"nonce": self.nonce, "tee-pubkey": dict(self.tee_pubkey)}


def _is_key(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(member, str) for member in value.values())
