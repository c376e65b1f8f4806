"""configfs-tsm: TDX and SNP guests, busy hosts, races, privilege levels, the event log."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.collectors.snp_certificates import ARK, ASK, VCEK
from strongroom.attestation.collectors.tsm import EVENT_LOG, TsmCollector
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.snp import verify as verify_snp
from strongroom.errors import EvidenceError
from strongroom_simulator.snp import SnpPlatform
from tee_fakes import FakeTsm

Attest = Callable[[bytes], bytes]
REPORT_DATA = bytes(range(64))
NOW = 1_800_000_000


def collector(fake: FakeTsm, **options: Any) -> TsmCollector:
    return TsmCollector(files=fake, wait=lambda _: None, **options)


def test_a_quote_of_a_tdx_guest(tdx: Attest) -> None:
    fake = FakeTsm(tdx)
    evidence = collector(fake, init_data=b"version = 1").collect(REPORT_DATA)
    assert evidence.kind is EvidenceKind.TDX
    assert evidence.quote[48 + 520 : 48 + 584] == REPORT_DATA
    assert (evidence.init_data, evidence.collateral, evidence.event_log) == (b"version = 1", None, None)
    assert not fake.reports  # its folder is gone


def test_the_event_log_goes_along_without_what_fills_its_area(tdx: Attest, ccel_log: bytes) -> None:
    fake = FakeTsm(tdx, areas={EVENT_LOG: ccel_log + b"\xff" * 4096})
    assert collector(fake, event_log=EVENT_LOG).collect(REPORT_DATA).event_log == ccel_log


def test_an_event_log_that_is_not_there_is_named(tdx: Attest) -> None:
    with pytest.raises(EvidenceError, match=r"CCEL: No such file.*collector-absent"):
        collector(FakeTsm(tdx), event_log=EVENT_LOG).collect(REPORT_DATA)


def test_a_report_of_an_snp_guest_verifies_with_the_certificates_of_its_host(
    snp: Attest, platform: SnpPlatform, table_of: Callable[..., bytes]
) -> None:
    certificates = (platform.signer, platform.authority, platform.root)
    ders = [each.public_bytes(Encoding.DER) for each in certificates]
    table = table_of(dict(zip((VCEK, ASK, ARK), ders, strict=True)))
    evidence = collector(FakeTsm(snp, "sev_guest", table=table)).collect(REPORT_DATA)
    claims = verify_snp(evidence, TrustRoots(simulated=frozenset({platform.root_sha256})), NOW)
    assert claims.report_data == REPORT_DATA


@pytest.mark.parametrize("table", [None, b""])
def test_a_host_without_certificates_leaves_the_collateral_out(snp: Attest, table: bytes | None) -> None:
    assert collector(FakeTsm(snp, "sev_guest", table=table)).collect(REPORT_DATA).collateral is None


@pytest.mark.parametrize("busy", [1, 4])
def test_a_busy_quoting_service_is_asked_again(tdx: Attest, busy: int) -> None:
    waited: list[float] = []
    fake = FakeTsm(tdx, busy=busy)
    assert TsmCollector(files=fake, wait=waited.append).collect(REPORT_DATA).quote
    assert waited == [0.2 * 2**place for place in range(busy)]


def test_one_that_stays_busy_is_an_error(tdx: Attest) -> None:
    with pytest.raises(EvidenceError, match=r"outblob: Device or resource busy.*collector-failed"):
        collector(FakeTsm(tdx, busy=5)).collect(REPORT_DATA)


def test_another_error_of_the_driver_is_not_tried_again(tdx: Attest) -> None:
    waited: list[float] = []
    fake = FakeTsm(tdx, failing={"outblob": errno.EIO})
    with pytest.raises(EvidenceError, match=r"outblob: Input/output error.*collector-failed"):
        TsmCollector(files=fake, wait=waited.append).collect(REPORT_DATA)
    assert not waited
    assert not fake.reports


def test_somebody_elses_writing_is_seen(tdx: Attest) -> None:
    with pytest.raises(EvidenceError, match=r"generation \(found 2, expected 1\).*collector-raced"):
        collector(FakeTsm(tdx, racing=True)).collect(REPORT_DATA)


def test_report_data_that_the_driver_did_not_take_is_seen(tdx: Attest) -> None:
    """The kernel drops what a write to a binary attribute answers, and counts only what it took."""

    class Deaf(FakeTsm):
        def write(self, path: Path, data: bytes) -> int:
            if path.name == "inblob":
                self.reports[path.parent].inblob = bytes(64)  # not counted
                return len(data)
            return super().write(path, data)

    with pytest.raises(EvidenceError, match=r"generation \(found 0, expected 1\).*collector-raced"):
        collector(Deaf(tdx)).collect(REPORT_DATA)


def test_a_guest_beside_a_paravisor_asks_at_its_own_level(snp: Attest) -> None:
    fake = FakeTsm(snp, "sev_guest", floor=2)
    assert collector(fake).collect(REPORT_DATA).kind is EvidenceKind.SNP
    assert fake.levels == [2]


def test_a_guest_at_level_0_asks_without_naming_it(snp: Attest) -> None:
    fake = FakeTsm(snp, "sev_guest", floor=0)
    collector(fake).collect(REPORT_DATA)
    assert fake.levels == []


def test_a_level_that_cannot_be_read_is_an_error(snp: Attest) -> None:
    fake = FakeTsm(snp, "sev_guest", floor=0, failing={"privlevel_floor": errno.EIO})
    with pytest.raises(EvidenceError, match=r"privlevel_floor.*collector-failed"):
        collector(fake).collect(REPORT_DATA)


def test_a_number_that_is_none_is_refused(tdx: Attest) -> None:
    class Odd(FakeTsm):
        def read(self, path: Path, limit: int) -> bytes:
            return b"-1\n" if path.name == "generation" else super().read(path, limit)

    with pytest.raises(EvidenceError, match=r"generation is no number.*collector-answer-invalid"):
        collector(Odd(tdx)).collect(REPORT_DATA)


def test_an_snp_report_of_another_size_is_refused(tdx: Attest) -> None:
    with pytest.raises(EvidenceError, match=r"SNP report.*expected 1184.*collector-answer-invalid"):
        collector(FakeTsm(tdx, "sev_guest")).collect(REPORT_DATA)


def test_a_quote_that_does_not_end_is_refused() -> None:
    with pytest.raises(EvidenceError, match=r"outblob.*at most 65536 bytes.*collector-answer-invalid"):
        collector(FakeTsm(lambda _: bytes(70_000))).collect(REPORT_DATA)


@pytest.mark.parametrize(
    ("provider", "kind"), [("tdx_guest", EvidenceKind.TDX), ("sev_guest", EvidenceKind.SNP)]
)
def test_a_probe_names_the_kind_and_leaves_nothing_behind(
    tdx: Attest, provider: str, kind: EvidenceKind
) -> None:
    fake = FakeTsm(tdx, provider)
    assert collector(fake).probe() is kind
    assert not fake.reports


def test_a_kernel_without_a_driver_has_nothing(tdx: Attest) -> None:
    with pytest.raises(EvidenceError, match=r"No such device or address.*collector-absent"):
        collector(FakeTsm(tdx, "")).probe()


def test_a_driver_of_another_kind_is_named(tdx: Attest) -> None:
    with pytest.raises(EvidenceError, match=r"found arm_cca_guest, expected tdx_guest.*collector-absent"):
        collector(FakeTsm(tdx, "arm_cca_guest")).probe()


def test_a_user_who_may_not_make_a_report_is_told_so(tdx: Attest) -> None:
    with pytest.raises(EvidenceError, match=r"tsm/report: Permission denied.*collector-denied"):
        collector(FakeTsm(tdx, failing={"folder": errno.EACCES})).probe()


def test_a_host_without_configfs_has_nothing(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"report: No such file.*collector-absent"):
        TsmCollector(root=tmp_path / "tsm" / "report").probe()


def test_report_data_of_another_size_is_a_mistake_of_the_caller(tdx: Attest) -> None:
    with pytest.raises(ValueError, match="64 bytes, not 63"):
        collector(FakeTsm(tdx)).collect(bytes(63))
