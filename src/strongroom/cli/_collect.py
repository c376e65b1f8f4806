"""What `strongroom evidence collect` does."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from strongroom.attestation.collectors import found, nvml, tpm_device, tsm
from strongroom.attestation.collectors.source import REPORT_DATA_SIZE
from strongroom.attestation.evidence import MAX_INIT_DATA, EvidenceKind
from strongroom.attestation.evidence_file import EvidenceFile
from strongroom.attestation.runtime_data import RuntimeData
from strongroom.cli._evidence import read, shown
from strongroom.cli._output import emit, say
from strongroom.cli.errors import OPTION_INVALID
from strongroom.codec import b64
from strongroom.errors import ConfigError

if TYPE_CHECKING:
    from strongroom.attestation.collectors.source import Collector
    from strongroom.cli._collateral import Sources

_NONCE_SIZE = 32
_MAX_NONCE = 256
_HANDLES = range(0x81000000, 0x82000000)
"""Handles of objects that stay in a TPM (TPM_HT_PERSISTENT)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The options that say what to collect. None stands for the default."""

    kind: str | None
    report_data: str | None
    nonce: str | None
    init_data: Path | None
    tcti: str | None
    ak_handle: str | None
    gpus: bool
    event_log: bool

    def collectors(self) -> Sequence[Collector]:
        """All sources, with these options."""
        return found.all_collectors(
            init_data=None if self.init_data is None else read(self.init_data, MAX_INIT_DATA),
            event_log=tsm.EVENT_LOG if self.event_log else None,
            tcti=tpm_device.DEFAULT if self.tcti is None else self.tcti,
            key=handle_of(self.ak_handle),
        )


def run_list(asked: Asked, *, json_output: bool) -> None:
    """Print which sources of evidence this host has."""
    sources = found.survey(asked.collectors())
    if json_output:
        emit(
            [
                {"source": each.collector.name, "kind": each.kind, "missing": each.reason or None}
                for each in sources
            ]
        )
        return
    for each in sources:
        say(f"{each.collector.name:<14} {each.kind or f'nothing. {each.reason}'}")


def run_collect(asked: Asked, output: Path | None, sources: Sources | None, *, json_output: bool) -> None:
    """Collect evidence and write an evidence file, with collateral that is fetched if there are sources."""
    if output is None:
        raise ConfigError(OPTION_INVALID, "no --output", expected="a file to write")
    runtime_data, report_data = _bound(asked)
    collector = found.choose(asked.collectors(), None if asked.kind is None else EvidenceKind(asked.kind))
    evidence = collector.collect(report_data)
    collected = int(time.time())
    if sources is not None:
        from strongroom.attestation.collateral.complete import complete

        evidence = complete(evidence, sources.open(), collected)
    made = EvidenceFile(evidence, collected, None if runtime_data is None else runtime_data.to_bytes())
    output.write_bytes(made.to_json_bytes())
    if json_output:
        emit(
            {
                "file": str(output),
                "source": collector.name,
                "kind": str(evidence.kind),
                "collected": collected,
                "report_data": report_data.hex(),
                "collateral": sorted(evidence.collateral or ()),
            }
        )
        return
    say(f"{output}: {evidence.kind} evidence of {collector.name}, collected {shown(collected)}.")
    say(f"  report data   {report_data.hex()}")
    say(f"  collateral    {', '.join(sorted(evidence.collateral or ())) or 'none; --fetch adds it'}")
    say("  Nothing was verified: `strongroom evidence verify` does that.")


def _bound(asked: Asked) -> tuple[RuntimeData | None, bytes]:
    """What the evidence binds: with GPUs the runtime data, which has their evidence, and its digest."""
    if not asked.gpus:
        if asked.nonce is not None:
            raise ConfigError(OPTION_INVALID, "--nonce has no meaning without --gpus")
        return None, _report_data(asked.report_data or "")
    if asked.report_data is not None:
        raise ConfigError(OPTION_INVALID, "--report-data has no meaning with --gpus", expected="--nonce")
    nonce = b64.encode_std(secrets.token_bytes(_NONCE_SIZE)) if asked.nonce is None else asked.nonce
    if not nonce.isascii() or len(nonce) > _MAX_NONCE:
        raise ConfigError(OPTION_INVALID, "--nonce", expected=f"ASCII, at most {_MAX_NONCE} characters")
    # Nobody will send a key for this evidence, so it names none.
    devices = nvml.collect(RuntimeData(nonce, {}).device_nonce())
    runtime_data = RuntimeData(nonce, {}, devices)
    return runtime_data, runtime_data.report_data()


def _report_data(text: str) -> bytes:
    try:
        given = bytes.fromhex(text)
    except ValueError:
        given = bytes(REPORT_DATA_SIZE + 1)
    if len(given) > REPORT_DATA_SIZE:
        raise ConfigError(
            OPTION_INVALID, "--report-data", expected=f"hex of at most {REPORT_DATA_SIZE} bytes"
        )
    return given.ljust(REPORT_DATA_SIZE, b"\0")


def handle_of(text: str | None) -> int:
    """The handle of an attestation key as it was given on the command line.

    Raises:
        ConfigError: `option-invalid`.
    """
    if text is None:
        return tpm_device.MADE_ANEW
    try:
        handle = int(text, 0)
    except ValueError:
        handle = -1
    if handle not in _HANDLES:
        expected = f"{_HANDLES.start:#x} to {_HANDLES.stop - 1:#x}"
        raise ConfigError(OPTION_INVALID, "--ak-handle", found=text[:40], expected=expected)
    return handle
