"""configfs-tsm: quotes of TDX guests and reports of SEV-SNP guests, from Linux 6.7 on.

A folder below /sys/kernel/config/tsm/report is one conversation: report data into `inblob`, evidence out of
`outblob`. `generation` counts the writes, so that somebody else's writing in between does not go unseen.

Source: Documentation/ABI/testing/configfs-tsm; drivers/virt/coco/guest/report.c.
"""

from __future__ import annotations

import errno
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.attestation import ccel
from strongroom.attestation.collectors import snp_certificates
from strongroom.attestation.collectors.errors import (
    COLLECTOR_ABSENT,
    COLLECTOR_ANSWER,
    COLLECTOR_RACED,
)
from strongroom.attestation.collectors.files import HOST, Files, read, read_text, write
from strongroom.attestation.collectors.source import check_report_data, failed
from strongroom.attestation.evidence import MAX_QUOTE, Evidence, EvidenceKind
from strongroom.attestation.snp_report import REPORT_SIZE
from strongroom.errors import EvidenceError

ROOT: Final = Path("/sys/kernel/config/tsm/report")
EVENT_LOG: Final = Path("/sys/firmware/acpi/tables/data/CCEL")

PROVIDERS: Final = {"tdx_guest": EvidenceKind.TDX, "sev_guest": EvidenceKind.SNP}
"""Kinds of evidence by the driver that makes it."""

_AGAIN: Final = (errno.EBUSY, errno.EINTR, errno.EAGAIN)
"""What the driver says while the host's quoting service is at work for somebody else."""

_TRIES: Final = 5
_PAUSE: Final = 0.2
"""Seconds before the second try; doubled for each one after."""


class TsmCollector:
    """Evidence of a TDX or SEV-SNP guest.

    Args:
        init_data: What the guest was started with; it goes along, and the quote carries its digest.
        event_log: The ACPI area with a TDX guest's event log, to go along; None to leave it out.
        root: The folder of reports.
        files: How files are reached.
        wait: Waits so many seconds.
    """

    name = "configfs-tsm"

    def __init__(
        self,
        *,
        init_data: bytes | None = None,
        event_log: Path | None = None,
        root: Path = ROOT,
        files: Files = HOST,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._init_data = init_data
        self._event_log = event_log
        self._root = root
        self._files = files
        self._wait = wait

    def probe(self) -> EvidenceKind:
        """As `Collector.probe`."""
        with self._report() as report:
            return self._kind(report)

    def collect(self, report_data: bytes) -> Evidence:
        """As `Collector.collect`. An SNP report's certificates go along if the host has given them."""
        check_report_data(report_data)
        with self._report() as report:
            kind = self._kind(report)
            self._choose_level(report)
            before = self._generation(report)
            write(self._files, report / "inblob", report_data)
            quote = self._out(report)
            table = self._table(report) if kind is EvidenceKind.SNP else b""
            if (after := self._generation(report)) != before + 1:
                raise EvidenceError(COLLECTOR_RACED, "generation", found=after, expected=before + 1)
        if kind is EvidenceKind.TDX:
            return Evidence(kind, quote, init_data=self._init_data, event_log=self._log())
        if len(quote) != REPORT_SIZE:
            raise EvidenceError(COLLECTOR_ANSWER, "SNP report", found=len(quote), expected=REPORT_SIZE)
        return Evidence(kind, quote, snp_certificates.collateral(table), self._init_data)

    @contextmanager
    def _report(self) -> Iterator[Path]:
        """A folder of our own for one report."""
        report = self._root / f"strongroom-{secrets.token_hex(8)}"
        try:
            self._files.make_folder(report)
        except OSError as error:
            raise failed(str(self._root), error) from error
        try:
            yield report
        finally:
            self._files.remove_folder(report)

    def _kind(self, report: Path) -> EvidenceKind:
        provider = read_text(self._files, report / "provider")
        if provider not in PROVIDERS:
            raise EvidenceError(
                COLLECTOR_ABSENT, "provider of configfs-tsm", found=provider, expected=", ".join(PROVIDERS)
            )
        return PROVIDERS[provider]

    def _choose_level(self, report: Path) -> None:
        """Ask for our own privilege level: a guest beside a paravisor may not ask for level 0."""
        try:
            floor = self._number(report / "privlevel_floor")
        except EvidenceError as error:
            if error.kind is COLLECTOR_ABSENT:
                return  # a driver that has no levels
            raise
        if floor:
            write(self._files, report / "privlevel", str(floor).encode())

    def _generation(self, report: Path) -> int:
        return self._number(report / "generation")

    def _number(self, path: Path) -> int:
        text = read_text(self._files, path, 32)
        if not text.isdecimal():
            raise EvidenceError(COLLECTOR_ANSWER, f"{path.name} is no number")
        return int(text)

    def _out(self, report: Path) -> bytes:
        """The evidence; the driver asks the hardware while this is read."""
        path = report / "outblob"
        pause = _PAUSE
        for _ in range(_TRIES - 1):
            try:
                return read(self._files, path, MAX_QUOTE)
            except EvidenceError as error:
                if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in _AGAIN:
                    raise
            self._wait(pause)
            pause *= 2
        return read(self._files, path, MAX_QUOTE)

    def _table(self, report: Path) -> bytes:
        """The host's table of certificates; hosts need not have one."""
        try:
            return self._files.read(report / "auxblob", snp_certificates.MAX_TABLE)
        except OSError:
            return b""

    def _log(self) -> bytes | None:
        if self._event_log is None:
            return None
        return ccel.trimmed(read(self._files, self._event_log, ccel.MAX_LOG))
