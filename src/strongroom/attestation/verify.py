"""Verification: from evidence to claims, up to a trusted root, at a time that the caller gives."""

from __future__ import annotations

import importlib
from types import ModuleType

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
    claims: Claims = _verifier(evidence.kind).verify(evidence, roots, now)
    return claims


def _verifier(kind: EvidenceKind) -> ModuleType:
    """The module of a kind; loaded at its first use, so that nobody pays for kinds that he does not meet."""
    return importlib.import_module(f"strongroom.attestation.{kind}")
