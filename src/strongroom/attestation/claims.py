"""Claims: what verified evidence says, in one form for every kind of TEE."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from strongroom.attestation.evidence import EvidenceKind


class Anchor(StrEnum):
    """Who stands at the top of the certificate chain.

    `SIMULATED` is a test root that somebody made on his own machine. It protects nothing.
    """

    INTEL = "intel"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class Claims:
    """What one piece of evidence says, after its signatures have been verified. Not yet appraised.

    Attributes:
        kind: Kind of TEE.
        anchor: Who vouches for the hardware.
        root_sha256: SHA-256 of the DER of the root certificate, lower-case hex.
        measurement: Lower-case hex. SGX: MRENCLAVE (32 bytes). TDX: MRTD (48 bytes); where a run-time
            register is not zero, followed by `:RTMR0:RTMR1:RTMR2:RTMR3`, so that a policy which lists a bare
            MRTD never admits a guest of which it knows the firmware only.
        signer: Lower-case hex. SGX: MRSIGNER. TDX: MROWNER.
        report_data: The 64 bytes that the attested code chose.
        init_data_digest: SHA-384 of the init-data, from CONFIGID (SGX with KSS) or MRCONFIGID (TDX); zeros if
            there is none.
        tcb_status: The vendor's word on the platform, for example `UpToDate`.
        advisories: Security advisories that apply, as the vendor names them.
        debug: Whether the host can read the enclave.
        product_id: ISVPRODID (SGX); 0 for TDX, which has none.
        svn: ISVSVN (SGX); 0 for TDX, which has none.
        expires: Unix time at which the collateral ceases to be usable.
        fmspc: Lower-case hex of the platform family.
    """

    kind: EvidenceKind
    anchor: Anchor
    root_sha256: str
    measurement: str
    signer: str
    report_data: bytes
    init_data_digest: bytes
    tcb_status: str
    advisories: tuple[str, ...]
    debug: bool
    product_id: int
    svn: int
    expires: int
    fmspc: str

    @property
    def simulated(self) -> bool:
        """Whether a test root, and no hardware, stands behind the evidence."""
        return self.anchor is Anchor.SIMULATED
