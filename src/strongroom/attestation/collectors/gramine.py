"""Gramine: an SGX quote from the files of its LibOS, below /dev/attestation.

They belong to the process that uses them. The manifest needs `sgx.remote_attestation = "dcap"`.

Source: gramine.readthedocs.io, "Attestation and Secret Provisioning".
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from strongroom.attestation.collectors.errors import COLLECTOR_ABSENT
from strongroom.attestation.collectors.files import HOST, Files, read, read_text, write
from strongroom.attestation.collectors.source import check_report_data
from strongroom.attestation.evidence import MAX_QUOTE, Evidence, EvidenceKind
from strongroom.errors import EvidenceError

ROOT: Final = Path("/dev/attestation")
_DCAP: Final = "dcap"


class GramineCollector:
    """Evidence of an SGX enclave under Gramine.

    Args:
        init_data: What the enclave was started with; it goes along.
        root: The folder of the LibOS.
        files: How files are reached.
    """

    name = "gramine"

    def __init__(self, *, init_data: bytes | None = None, root: Path = ROOT, files: Files = HOST) -> None:
        self._init_data = init_data
        self._root = root
        self._files = files

    def probe(self) -> EvidenceKind:
        """As `Collector.probe`."""
        found = read_text(self._files, self._root / "attestation_type")
        if found != _DCAP:
            raise EvidenceError(
                COLLECTOR_ABSENT, "sgx.remote_attestation of the manifest", found=found, expected=_DCAP
            )
        return EvidenceKind.SGX

    def collect(self, report_data: bytes) -> Evidence:
        """As `Collector.collect`."""
        check_report_data(report_data)
        kind = self.probe()
        write(self._files, self._root / "user_report_data", report_data)
        return Evidence(kind, read(self._files, self._root / "quote", MAX_QUOTE), init_data=self._init_data)
