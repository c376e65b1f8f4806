"""Which sources of evidence this host has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from strongroom.attestation.collectors import tpm_device
from strongroom.attestation.collectors.azure import AzureCollector
from strongroom.attestation.collectors.errors import COLLECTOR_ABSENT
from strongroom.attestation.collectors.gramine import GramineCollector
from strongroom.attestation.collectors.nsm import NitroCollector
from strongroom.attestation.collectors.occlum import OcclumCollector
from strongroom.attestation.collectors.source import Collector
from strongroom.attestation.collectors.tpm import TpmCollector
from strongroom.attestation.collectors.tsm import TsmCollector
from strongroom.attestation.evidence import EvidenceKind
from strongroom.errors import EvidenceError


@dataclass(frozen=True, slots=True)
class Source:
    """One source of evidence, tried out.

    Attributes:
        collector: The source.
        kind: What it has here; None if it has nothing.
        reason: Why it has nothing; empty if it has something.
    """

    collector: Collector
    kind: EvidenceKind | None
    reason: str


def all_collectors(
    *,
    init_data: bytes | None = None,
    event_log: Path | None = None,
    tcti: str = tpm_device.DEFAULT,
    key: int = tpm_device.MADE_ANEW,
) -> tuple[Collector, ...]:
    """Every source, the narrowest first: an enclave before the machine around it, a TEE before a TPM.

    Args:
        init_data: What this was started with, to go along.
        event_log: As of `TsmCollector`.
        tcti: As of `TpmCollector`.
        key: As of `TpmCollector`.
    """
    return (
        GramineCollector(init_data=init_data),
        OcclumCollector(init_data=init_data),
        NitroCollector(init_data=init_data),
        AzureCollector(init_data=init_data, tcti=tcti),
        TsmCollector(init_data=init_data, event_log=event_log),
        TpmCollector(init_data=init_data, tcti=tcti, key=key),
    )


def survey(collectors: Sequence[Collector]) -> tuple[Source, ...]:
    """Try each source."""
    return tuple(_try(collector) for collector in collectors)


def choose(collectors: Sequence[Collector], kind: EvidenceKind | None = None) -> Collector:
    """The first source that has evidence here, or evidence of this kind.

    Raises:
        EvidenceError: `collector-absent`, with what each lacks; or what a source says that is there and
            cannot be used.
    """
    refusals, reasons = [], []
    for collector in collectors:
        try:
            found = collector.probe()
        except EvidenceError as error:
            if error.kind is not COLLECTOR_ABSENT:
                refusals.append(error)
            reasons.append(f"{collector.name}: {_reason(error)}")
            continue
        if kind in {None, found}:
            return collector
        reasons.append(f"{collector.name}: has {found}")
    if refusals:
        raise refusals[0]
    raise EvidenceError(COLLECTOR_ABSENT, "; ".join(reasons), expected=kind)


def _try(collector: Collector) -> Source:
    try:
        return Source(collector, collector.probe(), "")
    except EvidenceError as error:
        return Source(collector, None, _reason(error))


def _reason(error: EvidenceError) -> str:
    """What is missing; of another error all, since the source is there."""
    return error.detail if error.kind is COLLECTOR_ABSENT else str(error)
