"""Claims: what verified evidence says, in one form for every kind of TEE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.roots import NVIDIA_ROOT_SHA256

if TYPE_CHECKING:
    from strongroom.attestation.devices import Device


class Anchor(StrEnum):
    """Who stands at the top of the certificate chain.

    `SIMULATED` is a test root that somebody made on his own machine. It protects nothing.
    """

    INTEL = "intel"
    AMD = "amd"
    AWS = "aws"
    TPM = "tpm"
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
            MRTD never admits a guest of which it knows the firmware only. SNP: the launch digest (48 bytes).
            Nitro: PCR0, PCR1 and PCR2 (48 bytes each), joined by `:`. Azure: that of the paravisor, as SNP or
            TDX has it; what the VM runs is in its PCRs. TPM: empty, for the same reason.
        signer: Lower-case hex. SGX: MRSIGNER. TDX: MROWNER. SNP: the digest of the ID key. Nitro: PCR8, zeros
            for an image that was not signed.
        report_data: What the attested code chose: 64 bytes; for Nitro `user_data`, at most 512 bytes. Azure,
            TPM: the nonce of the TPM's quote, padded with zeros.
        init_data_digest: SHA-384 of the init-data; zeros if there is none. SGX with KSS: from CONFIGID. TDX:
            from MRCONFIGID. SNP: of the init-data that comes along and whose SHA-256 is HOST_DATA. Azure,
            TPM: of the init-data that comes along and that PCR 8 was extended with. Nitro has no place for
            it.
        tcb_status: The vendor's word on the platform, for example `UpToDate`; empty where the vendor
            publishes none.
        advisories: Security advisories that apply, as the vendor names them.
        debug: Whether the host can read the enclave.
        product_id: ISVPRODID (SGX); 0 for TDX, which has none.
        svn: ISVSVN (SGX); 0 for TDX, which has none.
        expires: Unix time at which the collateral ceases to be usable.
        fmspc: Lower-case hex of Intel's platform family; empty for others.
        product: SNP: `Milan`, `Genoa` or `Turin`; empty for others.
        tcb: SNP: security versions of the firmware's parts by name; empty for others.
        privilege: SNP: the VMPL at which the report was asked for, 0 is the highest; 0 for others.
        migratable: SNP: whether a migration agent may move the guest's memory; false for others.
        revocation_checked: Whether a revocation list was at hand. Always so for SGX and TDX; Nitro's
            certificates live for hours instead; a pinned key of a TPM has no certificate.
        devices: GPUs whose evidence the report data binds.
        pcrs: Azure, TPM: the registers of the bank SHA-256 by number, lower-case hex; empty for others.
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
    fmspc: str = ""
    product: str = ""
    tcb: Mapping[str, int] = field(default_factory=dict)
    privilege: int = 0
    migratable: bool = False
    revocation_checked: bool = True
    pcrs: Mapping[int, str] = field(default_factory=dict)
    devices: tuple[Device, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The claims for machines: bytes as lower-case hex."""
        return {
            "kind": str(self.kind),
            "anchor": str(self.anchor),
            "root_sha256": self.root_sha256,
            "simulated": self.simulated,
            "measurement": self.measurement,
            "signer": self.signer,
            "report_data": self.report_data.hex(),
            "init_data_digest": self.init_data_digest.hex(),
            "tcb_status": self.tcb_status,
            "tcb": dict(self.tcb),
            "advisories": list(self.advisories),
            "debug": self.debug,
            "product_id": self.product_id,
            "svn": self.svn,
            "product": self.product,
            "fmspc": self.fmspc,
            "privilege": self.privilege,
            "migratable": self.migratable,
            "revocation_checked": self.revocation_checked,
            "devices": [device.to_json() for device in self.devices],
            "pcrs": {str(number): value for number, value in sorted(self.pcrs.items())},
            "expires": self.expires,
        }

    @property
    def simulated(self) -> bool:
        """Whether a test root, and no hardware, stands behind the evidence or part of it."""
        return bool(self.simulated_roots)

    @property
    def simulated_roots(self) -> frozenset[str]:
        """SHA-256 of the test roots behind the evidence and that of its devices, lower-case hex."""
        own = {self.root_sha256} if self.anchor is Anchor.SIMULATED else set()
        return frozenset(own | {device.gpu.root_sha256 for device in self.devices} - {NVIDIA_ROOT_SHA256})
