"""Verification: from evidence to claims, up to a trusted root, at a time that the caller gives."""

from __future__ import annotations

from strongroom.attestation import sgx, tdx
from strongroom.attestation.claims import Claims
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.roots import TrustRoots

__all__ = ["TrustRoots", "verify_evidence"]

_VERIFIERS = {EvidenceKind.SGX: sgx.verify, EvidenceKind.TDX: tdx.verify}


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
    return _VERIFIERS[evidence.kind](evidence, roots, now)
