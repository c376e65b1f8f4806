"""Gramine's files: a quote over the report data, and hosts that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.attestation.collectors.gramine import GramineCollector
from strongroom.attestation.evidence import EvidenceKind
from strongroom.errors import EvidenceError
from tee_fakes import FakeGramine

Attest = Callable[[bytes], bytes]
REPORT_DATA = bytes(range(64))


def test_a_quote_over_the_report_data(sgx: Attest) -> None:
    evidence = GramineCollector(init_data=b"version = 1", files=FakeGramine(sgx)).collect(REPORT_DATA)
    assert (evidence.kind, evidence.init_data, evidence.collateral) == (
        EvidenceKind.SGX,
        b"version = 1",
        None,
    )
    assert evidence.quote[48 + 320 : 48 + 384] == REPORT_DATA


def test_the_probe_wants_dcap(sgx: Attest) -> None:
    assert GramineCollector(files=FakeGramine(sgx)).probe() is EvidenceKind.SGX
    for kind in ("none", "epid"):
        collector = GramineCollector(files=FakeGramine(sgx, kind))
        for attempt in (collector.probe, lambda collector=collector: collector.collect(REPORT_DATA)):
            with pytest.raises(EvidenceError, match=rf"found {kind}, expected dcap.*collector-absent"):
                attempt()


def test_a_host_without_gramine_has_nothing(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"attestation_type: No such file.*collector-absent"):
        GramineCollector(root=tmp_path).probe()


def test_a_quote_that_does_not_end_is_refused() -> None:
    with pytest.raises(EvidenceError, match=r"quote.*at most 65536 bytes.*collector-answer-invalid"):
        GramineCollector(files=FakeGramine(lambda _: bytes(70_000))).collect(REPORT_DATA)


def test_report_data_of_another_size_is_a_mistake_of_the_caller(sgx: Attest) -> None:
    with pytest.raises(ValueError, match="64 bytes, not 65"):
        GramineCollector(files=FakeGramine(sgx)).collect(bytes(65))
