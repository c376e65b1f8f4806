"""The attestation report of AMD SEV-SNP, versions 2 to 5, as it is laid out in memory. Nothing is verified.

Source: AMD, "SEV Secure Nested Paging Firmware ABI Specification" (56860), table "ATTESTATION_REPORT".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from strongroom.attestation.errors import EVIDENCE_ALGORITHM, EVIDENCE_FORMAT, EVIDENCE_MALFORMED
from strongroom.errors import EvidenceError

REPORT_SIZE: Final = 1184
SIGNED_SIZE: Final = 0x2A0
"""Bytes that the signature covers; the signature follows."""

_COORDINATE: Final = 72
_VERSIONS: Final = range(2, 6)
_ECDSA_P384_SHA384: Final = 1

TCB_PLACES: Final = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
"""Places of the parts in a TCB_VERSION of 8 bytes, Milan and Genoa."""

TURIN_TCB_PLACES: Final = {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7}


class SigningKey(IntEnum):
    """Who holds the key that signed a report."""

    VCEK = 0
    """The chip; the key is derived from its secret and its firmware's versions."""
    VLEK = 1
    """A cloud provider, for all its chips."""


@dataclass(frozen=True, slots=True)
class SnpReport:
    """A report, parsed and not verified.

    Attributes:
        version: Of the layout, 2 to 5.
        guest_svn: Security version that the guest's owner gave it.
        debug: Whether the host may debug the guest (POLICY, bit 19).
        migratable: Whether a migration agent may be associated with the guest (POLICY, bit 18).
        id_key_digest: SHA-384 of the key that signed the guest's ID block, 48 bytes; zeros without one.
        vmpl: Privilege level that asked for the report, 0 to 3, or 0xFFFFFFFF for the host.
        signing_key: Which key signed.
        report_data: 64 bytes chosen by the guest.
        measurement: Digest of the guest at launch, 48 bytes.
        host_data: 32 bytes chosen by the host at launch.
        reported_tcb: Versions of the firmware's parts, 8 bytes; the layout depends on the product.
        chip_id: 64 bytes; zeros where the chip hides it.
        product: `Milan`, `Genoa` or `Turin`; None for version 2, which does not say.
        signed: What the signature covers.
        r: Of the ECDSA signature.
        s: Of the ECDSA signature.
    """

    version: int
    guest_svn: int
    debug: bool
    migratable: bool
    id_key_digest: bytes
    vmpl: int
    signing_key: SigningKey
    report_data: bytes
    measurement: bytes
    host_data: bytes
    reported_tcb: bytes
    chip_id: bytes
    product: str | None
    signed: bytes
    r: int
    s: int

    @classmethod
    def parse(cls, data: bytes) -> SnpReport:
        """Read a report of exactly 1184 bytes.

        Raises:
            EvidenceError: `evidence-malformed` (size, or something after the signature), `evidence-format`
                (version or product) or `evidence-algorithm` (signature or signing key).
        """
        if len(data) != REPORT_SIZE:
            raise EvidenceError(EVIDENCE_MALFORMED, "SNP report", found=len(data), expected=REPORT_SIZE)
        version, guest_svn, policy = struct.unpack_from("<IIQ", data, 0)
        vmpl, algorithm = struct.unpack_from("<II", data, 0x30)
        if version not in _VERSIONS:
            raise EvidenceError(
                EVIDENCE_FORMAT, "version of the SNP report", found=version, expected="2 to 5"
            )
        if algorithm != _ECDSA_P384_SHA384:
            raise EvidenceError(EVIDENCE_ALGORITHM, "signature of the SNP report", found=algorithm)
        signature = data[SIGNED_SIZE:]
        if any(signature[2 * _COORDINATE :]):
            raise EvidenceError(EVIDENCE_MALFORMED, "the SNP report has something after its signature")
        return cls(
            version=version,
            guest_svn=guest_svn,
            debug=bool(policy >> 19 & 1),
            migratable=bool(policy >> 18 & 1),
            id_key_digest=data[0xE0:0x110],
            vmpl=vmpl,
            signing_key=_signing_key(data[0x48]),
            report_data=data[0x50:0x90],
            measurement=data[0x90:0xC0],
            host_data=data[0xC0:0xE0],
            reported_tcb=data[0x180:0x188],
            chip_id=data[0x1A0:0x1E0],
            product=_product(data[0x188], data[0x189]) if version >= 3 else None,
            signed=data[:SIGNED_SIZE],
            r=int.from_bytes(signature[:_COORDINATE], "little"),
            s=int.from_bytes(signature[_COORDINATE : 2 * _COORDINATE], "little"),
        )


def tcb_parts(tcb: bytes, product: str) -> Mapping[str, int]:
    """The security versions in a TCB_VERSION of 8 bytes, by the names of the firmware's parts."""
    places = TURIN_TCB_PLACES if product == "Turin" else TCB_PLACES
    return {part: tcb[place] for part, place in places.items()}


def _signing_key(flags: int) -> SigningKey:
    key = flags >> 2 & 7
    if key not in tuple(SigningKey):
        raise EvidenceError(EVIDENCE_ALGORITHM, "signing key of the SNP report", found=key)
    return SigningKey(key)


def _product(family: int, model: int) -> str:
    """The product of a processor, by CPUID family and model."""
    if family == 0x19 and model < 0x10:
        return "Milan"
    if family == 0x19 and (0x10 <= model < 0x20 or 0xA0 <= model < 0xB0):
        return "Genoa"
    if family == 0x1A and model <= 0x11:
        return "Turin"
    raise EvidenceError(EVIDENCE_FORMAT, "processor of the SNP report", found=f"{family:#x}/{model:#x}")
