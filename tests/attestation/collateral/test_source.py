"""Folder and services together: what is asked when, how often, and by how many at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from collateral_rig import DAY, NOW, SGX, CollateralServer, Simulated, give, serve
from strongroom.attestation.collateral.folder import CollateralFolder
from strongroom.attestation.collateral.needs import AmdItem, DcapItem, VcekItem
from strongroom.attestation.collateral.pccs import Pccs
from strongroom.attestation.collateral.source import CollateralSource, open_source
from strongroom.attestation.collateral.web import Web
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.snp_report import SigningKey
from strongroom.errors import StrongroomError

Code = Callable[..., str | None]
ITEM = DcapItem(EvidenceKind.SGX, "51d000000000", "platform")
TDX = DcapItem(EvidenceKind.TDX, "51d000000000", "platform")
UNKNOWN = DcapItem(EvidenceKind.SGX, "000000000000", "platform")
EXPIRED = NOW + 31 * DAY


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(
    server: CollateralServer, folder: CollateralFolder, clock: Clock, simulated: Simulated
) -> CollateralSource:
    """A source of Intel's statements whose clock stands still."""
    serve(server, simulated.evidence())
    return CollateralSource(folder, pccs=Pccs(server.url, Web()), clock=clock, max_threads=3, max_fetches=3)


def test_it_is_fetched_once(timed: CollateralSource, server: CollateralServer, simulated: Simulated) -> None:
    assert timed.find(ITEM, NOW) == simulated.parts()
    assert timed.find(ITEM, NOW + 29 * DAY) == simulated.parts()
    assert len(server.asked) == 4


def test_it_is_fetched_again_when_it_has_expired_by_its_own_word(
    timed: CollateralSource, server: CollateralServer, simulated: Simulated
) -> None:
    timed.find(ITEM, NOW)
    give(server, (ITEM,), simulated.parts(now=EXPIRED))
    assert timed.find(ITEM, NOW + 30 * DAY) == simulated.parts()
    assert timed.find(ITEM, EXPIRED) == simulated.parts(now=EXPIRED)
    assert len(server.asked) == 8


def test_the_age_of_a_file_is_no_matter(timed: CollateralSource, server: CollateralServer) -> None:
    import os

    timed.find(ITEM, NOW)
    os.utime(timed.folder.path_of(ITEM), (0, 0))
    timed.find(ITEM, NOW)
    assert len(server.asked) == 4


def test_a_garbled_file_is_fetched_again(
    timed: CollateralSource, server: CollateralServer, simulated: Simulated
) -> None:
    timed.find(ITEM, NOW)
    timed.folder.path_of(ITEM).write_text("{")
    assert timed.find(ITEM, NOW) == simulated.parts()
    assert len(server.asked) == 8


def test_expired_and_no_network_says_both(timed: CollateralSource, server: CollateralServer) -> None:
    timed.find(ITEM, NOW)
    server.stop()
    with pytest.raises(StrongroomError) as caught:
        timed.find(ITEM, EXPIRED)
    assert caught.value.code == "collateral-unreachable"
    assert "ConnectError" in caught.value.detail
    assert "sgx-51d000000000-platform has expired on 2027-02-14 08:00:00 UTC" in caught.value.detail


def test_expired_and_no_service_is_refused(timed: CollateralSource, server: CollateralServer) -> None:
    timed.find(ITEM, NOW)
    with pytest.raises(StrongroomError) as caught:
        open_source(timed.folder.path, kds=server.url).find(ITEM, EXPIRED)
    assert caught.value.code == "collateral-missing"
    assert "has expired on" in caught.value.detail


def test_not_there_and_no_service_is_refused(folder: CollateralFolder, server: CollateralServer) -> None:
    with pytest.raises(StrongroomError) as caught:
        open_source(folder.path, kds=server.url).find(ITEM, NOW)
    assert caught.value.code == "collateral-missing"
    assert str(folder.path) in caught.value.detail
    with pytest.raises(StrongroomError) as caught:
        open_source(folder.path, pccs=server.url).find(VcekItem("Milan", bytes(64), bytes(8)), NOW)
    assert caught.value.code == "collateral-missing"
    assert server.asked == []


@pytest.mark.parametrize("now", [EXPIRED, NOW - 2 * 3600])
def test_a_service_that_has_nothing_for_that_time(now: int, timed: CollateralSource) -> None:
    with pytest.raises(StrongroomError) as caught:
        timed.find(ITEM, now)
    assert caught.value.code == "collateral-missing"
    assert "as it was fetched" in caught.value.detail
    assert timed.folder.load(ITEM) is None


def test_whether_there_is_anything(timed: CollateralSource, tmp_path: Path) -> None:
    authority = AmdItem("Milan", SigningKey.VCEK)
    assert timed.has(ITEM)
    assert not timed.has(authority)
    offline = open_source(timed.folder.path)
    assert not offline.has(ITEM)
    timed.find(ITEM, NOW)
    assert offline.has(ITEM)


def test_single_flight(timed: CollateralSource, server: CollateralServer, simulated: Simulated) -> None:
    gate = threading.Event()
    server.change(f"{SGX}/tcb", gate=gate)
    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(timed.find, ITEM, NOW) for _ in range(3)]
        _until(lambda: timed._threads == 3)
        gate.set()
        assert [each.result() for each in found] == [simulated.parts()] * 3
    assert len(server.asked) == 4
    assert timed._threads == 0


def test_a_failure_reaches_all_who_wait(timed: CollateralSource, server: CollateralServer) -> None:
    gate = threading.Event()
    server.change(f"{SGX}/tcb", gate=gate, status=500)
    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(timed.find, ITEM, NOW) for _ in range(3)]
        _until(lambda: timed._threads == 3)
        gate.set()
        errors = [each.exception() for each in found]
    assert all(isinstance(each, StrongroomError) for each in errors)
    assert {str(each) for each in errors} == {str(errors[0])}
    assert len({id(each) for each in errors}) == 3  # each its own, with its own traceback
    assert len(server.asked) == 1


def test_a_stale_service_takes_nothing_away(
    timed: CollateralSource, server: CollateralServer, simulated: Simulated, code_of: Code
) -> None:
    later = simulated.parts(now=NOW + 20 * DAY)
    give(server, (ITEM,), later)
    timed.find(ITEM, NOW + 20 * DAY)
    give(server, (ITEM,), simulated.parts())
    assert code_of(timed.renew, ITEM, NOW + 40 * DAY) == "collateral-missing"
    assert timed.find(ITEM, NOW + 40 * DAY) == later


def test_patience_ends(server: CollateralServer, folder: CollateralFolder, simulated: Simulated) -> None:
    serve(server, simulated.evidence())
    source = CollateralSource(folder, pccs=Pccs(server.url, Web()), patience=0.05)
    gate = threading.Event()
    server.change(f"{SGX}/tcb", gate=gate)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(source.find, ITEM, NOW)
        _until(lambda: source._threads == 1)
        with pytest.raises(StrongroomError) as caught:
            source.find(ITEM, NOW)
        gate.set()
        assert held.result() == simulated.parts()
    assert caught.value.code == "collateral-unreachable"


def test_those_who_need_no_network_do_not_wait(
    timed: CollateralSource, server: CollateralServer, simulated: Simulated
) -> None:
    timed.folder.keep(TDX, simulated.parts(EvidenceKind.TDX))
    gate = threading.Event()
    server.change(f"{SGX}/tcb", gate=gate)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(timed.find, ITEM, NOW)
        _until(lambda: timed._threads == 1)
        assert timed.find(TDX, NOW) == simulated.parts(EvidenceKind.TDX)
        assert not held.done()
        gate.set()
        held.result()


def test_few_threads_at_once(timed: CollateralSource, server: CollateralServer, code_of: Code) -> None:
    gate = threading.Event()
    server.change(f"{SGX}/tcb", gate=gate)
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(timed.find, ITEM, NOW) for _ in range(3)]
        _until(lambda: timed._threads == 3)
        assert code_of(timed.find, ITEM, NOW) == "collateral-busy"
        assert code_of(timed.find, UNKNOWN, NOW) == "collateral-busy"
        gate.set()
        for each in held:
            each.result()
    assert code_of(timed.find, ITEM, NOW) is None


def test_few_fetches_in_a_minute(
    timed: CollateralSource, server: CollateralServer, clock: Clock, code_of: Code
) -> None:
    families = [DcapItem(EvidenceKind.SGX, f"{number:012x}", "platform") for number in range(4)]
    assert [code_of(timed.find, each, NOW) for each in families[:3]] == ["collateral-not-found"] * 3
    assert code_of(timed.find, families[3], NOW) == "collateral-busy"
    clock.now += 59.9
    assert code_of(timed.find, ITEM, NOW) == "collateral-busy"
    clock.now += 0.1
    assert code_of(timed.find, ITEM, NOW) is None
    assert len(server.asked) == 3 + 4


def test_a_failure_is_remembered_for_half_a_minute(
    timed: CollateralSource, server: CollateralServer, clock: Clock, code_of: Code
) -> None:
    server.change(f"{SGX}/tcb", status=503)
    assert code_of(timed.find, ITEM, NOW) == "collateral-unreachable"
    server.change(f"{SGX}/tcb", status=200)
    clock.now += 29
    assert code_of(timed.find, ITEM, NOW) == "collateral-unreachable"
    assert len(server.asked) == 1
    clock.now += 1
    assert code_of(timed.find, ITEM, NOW) is None


def test_failures_do_not_pile_up(folder: CollateralFolder, server: CollateralServer, code_of: Code) -> None:
    source = CollateralSource(folder, pccs=Pccs(server.url, Web()), max_fetches=10_000)
    server.stop()
    for number in range(1030):
        item = DcapItem(EvidenceKind.SGX, f"{number:012x}", "platform")
        assert code_of(source.find, item, NOW) == "collateral-unreachable"
    assert len(source._failures) == 1024


def test_a_leader_that_dies_leaves_nobody_waiting(timed: CollateralSource, server: CollateralServer) -> None:
    """As a signal would end it: who waits hears of a fault, and the next one tries again."""
    gate = threading.Event()
    real = timed._pccs
    assert real is not None

    class Interrupted(Pccs):
        def fetch(self, item: DcapItem) -> dict[str, str]:
            gate.wait(30)
            raise KeyboardInterrupt

    timed._pccs = Interrupted(server.url, Web())
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(timed.find, ITEM, NOW) for _ in range(2)]
        _until(lambda: timed._threads == 2)
        gate.set()
        errors = {type(each.exception()) for each in found}
    assert errors == {KeyboardInterrupt, RuntimeError}
    timed._pccs = real
    assert timed.find(ITEM, NOW)


def test_a_folder_that_cannot_be_written(
    server: CollateralServer, simulated: Simulated, tmp_path: Path, code_of: Code
) -> None:
    serve(server, simulated.evidence())
    (tmp_path / "file").write_text("")
    source = open_source(tmp_path / "file", pccs=server.url)
    assert code_of(source.find, ITEM, NOW) == "collateral-folder-unwritable"


def test_addresses_that_are_none(tmp_path: Path, code_of: Code) -> None:
    assert code_of(open_source, tmp_path, pccs="http://pccs.example.org") == "collateral-source-invalid"
    assert code_of(open_source, tmp_path, kds="kdsintf.amd.com") == "collateral-source-invalid"
    assert code_of(open_source, tmp_path) is None


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.002)
