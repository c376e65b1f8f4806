"""Evidence with the collateral that its verification needs, from whoever has it.

What comes along with the evidence is taken if it is whole and holds at the time of the appraisal, so that an
evidence file stays what it is. Else the source is asked. Nothing is verified here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from strongroom.attestation import certificates
from strongroom.attestation.collateral import validity
from strongroom.attestation.collateral.errors import COLLATERAL_MISSING, COLLATERAL_NOT_FOUND
from strongroom.attestation.collateral.needs import Item, authority_of, needs
from strongroom.attestation.collateral.source import CollateralSource
from strongroom.attestation.evidence import INTEL_KINDS, Evidence, EvidenceKind
from strongroom.errors import EvidenceError


def complete(evidence: Evidence, source: CollateralSource, now: int) -> Evidence:
    """Evidence with collateral that holds at a time.

    Args:
        evidence: With collateral of its own, or not.
        source: Where to find what it lacks.
        now: Unix time of the appraisal.

    Raises:
        EvidenceError: A code `evidence-...` for what cannot be read, or `collateral-...`.
        UnreachableError: `collateral-unreachable` or `collateral-busy`.
        ConfigError: `collateral-folder-unwritable`.
    """
    if evidence.kind in INTEL_KINDS:
        if _holds(evidence.collateral, now):
            return evidence
        return replace(evidence, collateral=_first(evidence, source, now))
    if evidence.kind is EvidenceKind.SNP:
        own = evidence.collateral
        if own is None or not _holds({"vek": own["vek"]}, now):
            return replace(evidence, collateral=_first(evidence, source, now))
        return _with_authority(evidence, authority_of(own["vek"]), source, now)
    if evidence.kind is EvidenceKind.AZ_SNP:
        ((item,),) = needs(evidence.kind, evidence.quote)
        return _with_authority(evidence, item, source, now)
    return evidence


def items_of(evidence: Evidence) -> tuple[tuple[Item, ...], ...]:
    """What a vendor's service has to give for evidence: one of these sets, the likeliest first.

    Raises:
        EvidenceError: A code of `needs`.
    """
    if evidence.kind is EvidenceKind.SNP and evidence.collateral is not None:
        return ((authority_of(evidence.collateral["vek"]),),)
    return needs(evidence.kind, evidence.quote)


def renew_all(evidence: Evidence, source: CollateralSource, now: int) -> dict[Item, dict[str, str]]:
    """What the vendor states for evidence, by item, fetched anew, whether or not there is some already.

    Raises:
        StrongroomError: As for `complete`.
    """
    return _first_of(items_of(evidence), lambda item: source.renew(item, now))


def _first(evidence: Evidence, source: CollateralSource, now: int) -> dict[str, str]:
    found = _first_of(needs(evidence.kind, evidence.quote), lambda item: source.find(item, now))
    return {name: text for parts in found.values() for name, text in parts.items()}


def _first_of(
    choices: tuple[tuple[Item, ...], ...], find: Callable[[Item], dict[str, str]]
) -> dict[Item, dict[str, str]]:
    """The items of the first set that is there; of the last one, the reason why it is not."""
    *others, last = choices
    for items in others:
        try:
            return {item: find(item) for item in items}
        except EvidenceError as error:
            if error.kind not in {COLLATERAL_NOT_FOUND, COLLATERAL_MISSING}:
                raise
    return {item: find(item) for item in last}


def _with_authority(evidence: Evidence, item: Item, source: CollateralSource, now: int) -> Evidence:
    """The same with the authorities and their revocation list.

    The verifier knows AMD's authorities and does without a list, so that both may be missing. If there is no
    source of them, it is for the policy to say whether they may; if there is one, it must answer.
    """
    own = dict(evidence.collateral or {})
    held = [name for name in ("chain", "crl") if name in own and _holds({name: own[name]}, now)]
    if len(held) == 2 or not source.has(item):
        return evidence
    found = source.find(item, now)
    if "chain" in held and _root(own) != _root(found):
        return evidence  # under a root of its own, of which the source says nothing
    return replace(evidence, collateral=own | found)


def _holds(parts: Mapping[str, str] | None, now: int) -> bool:
    if parts is None:
        return False
    try:
        return validity.period(parts).holds(now)
    except EvidenceError:
        return False


def _root(parts: Mapping[str, str]) -> str:
    return certificates.sha256(certificates.parse_chain(parts["chain"], "ASK and ARK")[-1])
