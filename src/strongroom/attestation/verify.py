"""Verification: from evidence to claims, up to a trusted root, at a time that the caller gives."""

from __future__ import annotations

from strongroom.attestation.claims import Claims
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.roots import TrustRoots

__all__ = ["TrustRoots", "verify_evidence"]


def verify_evidence(evidence: Evidence, roots: TrustRoots, now: int) -> Claims:
    """Verify evidence of any kind.

    The result says what the evidence says; whether that is good enough is for a policy (`Policy.appraise`).

    Args:
        evidence: Evidence with its collateral.
        roots: Roots up to which it may verify.
        now: Unix time of the appraisal, by the relying party's clock.

    Raises:
        EvidenceError: A code `evidence-...` for what did not hold.
    """
    # Loaded at their first use, so that nobody pays for kinds that he does not meet.
    match evidence.kind:
        case EvidenceKind.SGX:
            from strongroom.attestation.sgx import verify
        case EvidenceKind.TDX:
            from strongroom.attestation.tdx import verify
        case EvidenceKind.SNP:
            from strongroom.attestation.snp import verify
        case EvidenceKind.NITRO:
            from strongroom.attestation.nitro import verify
        case EvidenceKind.AZ_SNP:
            from strongroom.attestation.azure import verify_snp as verify
        case EvidenceKind.AZ_TDX:
            from strongroom.attestation.azure import verify_tdx as verify
        case EvidenceKind.TPM:
            from strongroom.attestation.tpm_host import verify
    return verify(evidence, roots, now)
