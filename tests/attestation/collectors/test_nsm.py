"""The Nitro Security Module: a document over the report data, and answers that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation.collectors.nsm import NitroCollector
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.nitro import verify
from strongroom.attestation.roots import TrustRoots
from strongroom.errors import EvidenceError
from strongroom_simulator.nitro import NitroPlatform
from tee_fakes import FakeNsm, device_file

NOW = 1_800_000_000
REPORT_DATA = bytes(range(64))


def fake(platform: NitroPlatform, **options: Any) -> FakeNsm:
    pcrs = dict.fromkeys(range(16), b"\x11" * 48)
    return FakeNsm(lambda user: platform.document(platform.payload(pcrs, user, NOW)), **options)


def test_a_document_verifies_and_binds_the_report_data(nitro: NitroPlatform, tmp_path: Path) -> None:
    collector = NitroCollector(path=device_file(tmp_path), ioctl=fake(nitro))
    evidence = collector.collect(REPORT_DATA)
    claims = verify(evidence, TrustRoots(simulated=frozenset({nitro.root_sha256})), NOW)
    assert (claims.kind, claims.report_data) == (EvidenceKind.NITRO, REPORT_DATA)


def test_the_init_data_goes_along(nitro: NitroPlatform, tmp_path: Path) -> None:
    collector = NitroCollector(init_data=b"version = 1", path=device_file(tmp_path), ioctl=fake(nitro))
    assert collector.collect(REPORT_DATA).init_data == b"version = 1"


def test_a_host_without_the_device_has_nothing(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"nsm: No such file.*collector-absent"):
        NitroCollector(path=tmp_path / "nsm").probe()
    assert NitroCollector(path=device_file(tmp_path)).probe() is EvidenceKind.NITRO


def test_an_error_of_the_module_is_shown_bounded(nitro: NitroPlatform, tmp_path: Path) -> None:
    module = fake(nitro, answer={"Error": "InvalidOperation\n" + "x" * 1000})
    with pytest.raises(EvidenceError, match=r"answers 'InvalidOperation\\nx{47}'.*collector-failed"):
        NitroCollector(path=device_file(tmp_path), ioctl=module).collect(REPORT_DATA)


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff",
        {"Attestation": {"document": "text"}},
        {"Attestation": b"document"},
        {"Attestation": {}},
        {"DescribeNSM": {"document": b"document"}},
        {"Error": 7},
        ["Attestation"],
    ],
)
def test_any_other_answer_is_refused(nitro: NitroPlatform, tmp_path: Path, answer: object) -> None:
    collector = NitroCollector(path=device_file(tmp_path), ioctl=fake(nitro, answer=answer))
    with pytest.raises(EvidenceError, match=r"answer of the NSM.*collector-answer-invalid"):
        collector.collect(REPORT_DATA)


def test_a_size_beyond_the_buffer_is_refused(nitro: NitroPlatform, tmp_path: Path) -> None:
    collector = NitroCollector(path=device_file(tmp_path), ioctl=fake(nitro, size=0x3001))
    with pytest.raises(EvidenceError, match=r"size of the answer.*collector-answer-invalid"):
        collector.collect(REPORT_DATA)


def test_a_document_that_does_not_fit_is_the_devices_error(tmp_path: Path) -> None:
    collector = NitroCollector(path=device_file(tmp_path), ioctl=FakeNsm(lambda _: bytes(0x3000)))
    with pytest.raises(EvidenceError, match=r"Message too long.*collector-failed"):
        collector.collect(REPORT_DATA)


def test_a_real_file_is_no_such_device(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"device: Inappropriate ioctl.*collector-failed"):
        NitroCollector(path=device_file(tmp_path)).collect(REPORT_DATA)


def test_report_data_of_another_size_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="64 bytes, not 0"):
        NitroCollector().collect(b"")
