"""What all sources of evidence have in common."""

from __future__ import annotations

import errno
from typing import Final, Protocol

from strongroom.attestation.collectors.errors import (
    COLLECTOR_ABSENT,
    COLLECTOR_DENIED,
    COLLECTOR_FAILED,
)
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.errors import EvidenceError

REPORT_DATA_SIZE: Final = 64

_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV)
_DENIED: Final = (errno.EACCES, errno.EPERM)


class Collector(Protocol):
    """A source of evidence about the place where this program runs.

    Attributes:
        name: What it is called in lists.
    """

    @property
    def name(self) -> str:
        """What it is called in lists."""
        ...

    def probe(self) -> EvidenceKind:
        """The kind of evidence that it has here.

        Raises:
            EvidenceError: `collector-absent` with what is missing, or `collector-denied`.
        """
        ...

    def collect(self, report_data: bytes) -> Evidence:
        """Evidence that carries these 64 bytes of report data.

        Raises:
            EvidenceError: A code `collector-...`.
        """
        ...


def check_report_data(report_data: bytes) -> None:
    """Refuse report data of another size before a device sees it.

    Raises:
        ValueError: It has not 64 bytes.
    """
    if len(report_data) != REPORT_DATA_SIZE:
        raise ValueError(f"report data has {REPORT_DATA_SIZE} bytes, not {len(report_data)}")


def failed(what: str, error: OSError) -> EvidenceError:
    """The error for what the operating system refused.

    Args:
        what: The file or device.
        error: What it said.
    """
    if error.errno in _ABSENT:
        kind = COLLECTOR_ABSENT
    elif error.errno in _DENIED:
        kind = COLLECTOR_DENIED
    else:
        kind = COLLECTOR_FAILED
    return EvidenceError(kind, f"{what}: {error.strerror or 'failed'}")
