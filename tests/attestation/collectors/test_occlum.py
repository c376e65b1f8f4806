"""Occlum's device: two calls, sizes that are not believed, hosts that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation.collectors.occlum import OcclumCollector
from strongroom.attestation.evidence import EvidenceKind
from strongroom.errors import EvidenceError
from tee_fakes import FakeOcclum, device_file

Attest = Callable[[bytes], bytes]
REPORT_DATA = bytes(range(64))
INSIDE = {"OCCLUM": "yes"}


def test_a_quote_of_its_true_size_over_the_report_data(sgx: Attest, tmp_path: Path) -> None:
    collector = OcclumCollector(
        init_data=b"version = 1", path=device_file(tmp_path), ioctl=FakeOcclum(sgx), environ=INSIDE
    )
    evidence = collector.collect(REPORT_DATA)
    assert (evidence.kind, evidence.init_data) == (EvidenceKind.SGX, b"version = 1")
    assert evidence.quote[48 + 320 : 48 + 384] == REPORT_DATA
    assert len(evidence.quote) == len(sgx(REPORT_DATA))


def test_a_host_without_occlum_has_nothing(sgx: Attest, tmp_path: Path) -> None:
    path = device_file(tmp_path)
    with pytest.raises(EvidenceError, match=r"OCCLUM.*collector-absent"):
        OcclumCollector(path=path, ioctl=FakeOcclum(sgx), environ={}).probe()
    with pytest.raises(EvidenceError, match=r"sgx: No such file.*collector-absent"):
        OcclumCollector(path=tmp_path / "sgx", ioctl=FakeOcclum(sgx), environ=INSIDE).probe()
    assert OcclumCollector(path=path, ioctl=FakeOcclum(sgx), environ=INSIDE).probe() is EvidenceKind.SGX


@pytest.mark.parametrize("size", [0, 64 * 1024 + 1, 2**32 - 1])
def test_a_size_that_no_quote_has_is_refused(sgx: Attest, tmp_path: Path, size: int) -> None:
    collector = OcclumCollector(path=device_file(tmp_path), ioctl=FakeOcclum(sgx, size=size), environ=INSIDE)
    with pytest.raises(EvidenceError, match=rf"found {size}, expected 1 to 65536.*collector-answer-invalid"):
        collector.collect(REPORT_DATA)


def test_a_quote_longer_than_announced_is_refused(sgx: Attest, tmp_path: Path) -> None:
    fake = FakeOcclum(sgx)

    def overlong(descriptor: int, request: int, argument: Any) -> None:
        fake(descriptor, request, argument)
        if not isinstance(argument, bytearray):
            import ctypes

            ctypes.c_uint32.from_address(argument.quote_size).value += 1000

    collector = OcclumCollector(path=device_file(tmp_path), ioctl=overlong, environ=INSIDE)
    with pytest.raises(EvidenceError, match=r"size of the quote.*collector-answer-invalid"):
        collector.collect(REPORT_DATA)


def test_what_the_device_refuses_is_named(sgx: Attest, tmp_path: Path) -> None:
    collector = OcclumCollector(path=device_file(tmp_path), ioctl=FakeOcclum(sgx, spare=-1), environ=INSIDE)
    with pytest.raises(EvidenceError, match=r"device: Invalid argument.*collector-failed"):
        collector.collect(REPORT_DATA)


def test_a_real_file_is_no_such_device(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"device: Inappropriate ioctl.*collector-failed"):
        OcclumCollector(path=device_file(tmp_path), environ=INSIDE).collect(REPORT_DATA)


def test_report_data_of_another_size_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="64 bytes, not 0"):
        OcclumCollector().collect(b"")
