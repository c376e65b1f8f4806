"""The state folder: made once, private, safe to open from several processes, renewed every day."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.evidence import DCAP_KINDS, Evidence, EvidenceKind
from strongroom.attestation.verify import TrustRoots, verify_evidence
from strongroom.errors import EvidenceError
from strongroom_simulator.collateral import VALIDITY
from strongroom_simulator.errors import SimulatorError
from strongroom_simulator.pki import Pki
from strongroom_simulator.state import COLLATERAL_AGE, SimulatorState

NOW = 1_800_000_000
SIZES = {EvidenceKind.SGX: 32, EvidenceKind.TDX: 48}
OPEN = """
import sys
from pathlib import Path
from strongroom_simulator.state import SimulatorState
sys.stdin.readline()
print(SimulatorState.open(Path(sys.argv[1])).root_sha256)
"""


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.time = float(NOW)

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "simulator"


def quote(state: SimulatorState, kind: EvidenceKind = EvidenceKind.SGX) -> Evidence:
    return state.quote(kind, b"M" * SIZES[kind], b"I" * 48, b"R" * 64)


def claims(state: SimulatorState, evidence: Evidence, now: int = NOW) -> Claims:
    return verify_evidence(evidence, TrustRoots(simulated=frozenset({state.root_sha256})), now)


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_makes_evidence_that_the_production_verifier_accepts(
    folder: Path, clock: Clock, kind: EvidenceKind
) -> None:
    state = SimulatorState.open(folder, now=clock)
    found = claims(state, quote(state, kind))
    assert found.anchor is Anchor.SIMULATED
    assert found.simulated
    assert found.root_sha256 == state.root_sha256
    assert found.measurement == (b"M" * SIZES[kind]).hex()
    assert found.init_data_digest == b"I" * 48
    assert found.report_data == b"R" * 64
    assert (found.tcb_status, found.advisories, found.debug) == ("UpToDate", (), False)
    assert found.expires == NOW + VALIDITY


def test_without_the_pinned_root_it_is_refused(folder: Path, clock: Clock) -> None:
    state = SimulatorState.open(folder, now=clock)
    for roots in (TrustRoots(), TrustRoots(simulated=frozenset({"00" * 32}))):
        with pytest.raises(EvidenceError, match="evidence-untrusted-root"):
            verify_evidence(quote(state), roots, NOW)


def test_only_the_owner_can_reach_the_files(folder: Path) -> None:
    before = os.umask(0)
    try:
        quote(SimulatorState.open(folder))
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"keys.json": 0o600, "collateral-sgx.json": 0o600}


def test_a_second_opening_has_the_same_keys(folder: Path, clock: Clock) -> None:
    first = SimulatorState.open(folder, now=clock)
    text = (folder / "keys.json").read_bytes()
    second = SimulatorState.open(folder, now=clock)
    assert second.root_sha256 == first.root_sha256
    assert (folder / "keys.json").read_bytes() == text
    assert claims(first, quote(second)) == claims(second, quote(first))


def test_an_empty_folder_that_exists_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir(mode=0o700)
    assert SimulatorState.open(folder).root_sha256


def test_processes_that_open_a_new_folder_at_once_share_one_root(folder: Path) -> None:
    command = [sys.executable, "-c", OPEN, str(folder)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    roots = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert roots == {SimulatorState.open(folder).root_sha256}
    assert [path.name for path in folder.iterdir()] == ["keys.json"]


def test_who_comes_second_uses_the_first_ones_keys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment between looking and writing: another process has made the keys meanwhile."""
    create = Pki.create
    first: list[str] = []

    def create_late(now: int, rng: Callable[[int], bytes]) -> Pki:
        monkeypatch.setattr(Pki, "create", create)
        first.append(SimulatorState.open(folder).root_sha256)
        return create(now, rng)

    monkeypatch.setattr(Pki, "create", create_late)
    assert [SimulatorState.open(folder).root_sha256] == first


def test_collateral_is_kept_for_a_day_and_then_issued_again(folder: Path, clock: Clock) -> None:
    state = SimulatorState.open(folder, now=clock)
    first = quote(state).collateral
    clock.time += COLLATERAL_AGE
    assert quote(state).collateral == first
    assert quote(SimulatorState.open(folder, now=clock)).collateral == first
    clock.time += 1
    renewed = quote(state)
    assert renewed.collateral != first
    assert quote(SimulatorState.open(folder, now=clock)).collateral == renewed.collateral
    assert claims(state, renewed, int(clock.time)).expires == int(clock.time) + VALIDITY


def test_collateral_from_the_future_is_issued_again(folder: Path, clock: Clock) -> None:
    state = SimulatorState.open(folder, now=clock)
    first = quote(state).collateral
    clock.time -= 10
    renewed = quote(state)
    assert renewed.collateral != first
    assert claims(state, renewed, NOW - 10).tcb_status == "UpToDate"


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"{}", b'{"issued": 1}', b"\xff" * 100, b" " * (1024 * 1024 + 1)]
)
def test_damaged_collateral_is_issued_again(folder: Path, clock: Clock, damage: bytes) -> None:
    quote(SimulatorState.open(folder, now=clock))
    (folder / "collateral-sgx.json").write_bytes(damage)
    state = SimulatorState.open(folder, now=clock)
    assert claims(state, quote(state)).tcb_status == "UpToDate"


def test_collateral_with_other_parts_or_of_other_keys_is_issued_again(
    folder: Path, clock: Clock, tmp_path: Path
) -> None:
    quote(SimulatorState.open(folder, now=clock))
    path = folder / "collateral-sgx.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"collateral": {"tcb_info": "x"}}))
    state = SimulatorState.open(folder, now=clock)
    assert claims(state, quote(state)).tcb_status == "UpToDate"
    other = SimulatorState.open(tmp_path / "other", now=clock)
    quote(other)
    path.write_bytes((tmp_path / "other" / "collateral-sgx.json").read_bytes())
    state = SimulatorState.open(folder, now=clock)
    assert claims(state, quote(state)).tcb_status == "UpToDate"


def test_a_folder_open_to_others_is_refused(folder: Path) -> None:
    SimulatorState.open(folder)
    folder.chmod(0o750)
    with pytest.raises(SimulatorError, match="simulator-state-exposed"):
        SimulatorState.open(folder)


def test_keys_open_to_others_are_refused(folder: Path) -> None:
    SimulatorState.open(folder)
    (folder / "keys.json").chmod(0o640)
    with pytest.raises(SimulatorError, match="simulator-state-exposed"):
        SimulatorState.open(folder)


def _without(document: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in document.items() if key != "pck"}


@pytest.mark.parametrize(
    "change",
    [
        _without,
        lambda document: document | {"format": "strongroom-simulator/2"},
        lambda document: document | {"extra": 1},
        lambda document: document | {"ppid": "xyz"},
        lambda document: document | {"root": document["pck"] | {"key": document["root"]["key"]}},
        lambda document: document | {"root": {"certificate": "none", "key": "none"}},
    ],
    ids=["part missing", "other format", "unknown part", "no hex", "key of another", "no PEM"],
)
def test_damaged_keys_are_refused(
    folder: Path, change: Callable[[dict[str, object]], dict[str, object]]
) -> None:
    SimulatorState.open(folder)
    path = folder / "keys.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(SimulatorError, match="simulator-state-damaged"):
        SimulatorState.open(folder)


def test_keys_that_are_too_large_or_no_file_are_refused(folder: Path) -> None:
    SimulatorState.open(folder)
    path = folder / "keys.json"
    path.write_bytes(path.read_bytes() + b" " * (1024 * 1024))
    with pytest.raises(SimulatorError, match="simulator-state-damaged"):
        SimulatorState.open(folder)
    path.unlink()
    path.mkdir(mode=0o700)
    with pytest.raises(SimulatorError, match="simulator-state-damaged"):
        SimulatorState.open(folder)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SimulatorError, match="simulator-state-unwritable"):
        SimulatorState.open(tmp_path / "file" / "simulator")


def test_collateral_that_cannot_be_written_is_refused(folder: Path) -> None:
    state = SimulatorState.open(folder)
    (folder / "collateral-sgx.json").mkdir()
    with pytest.raises(SimulatorError, match="simulator-state-unwritable"):
        quote(state)
    assert {path.name for path in folder.iterdir()} == {"keys.json", "collateral-sgx.json"}


@pytest.mark.parametrize("size", [0, 32, 47, 49, 64])
def test_an_init_data_digest_of_another_size_is_refused(folder: Path, size: int) -> None:
    state = SimulatorState.open(folder)
    with pytest.raises(SimulatorError, match="simulator-field-size"):
        state.quote(EvidenceKind.SGX, b"M" * 32, b"I" * size, b"R" * 64)


def test_randomness_comes_from_outside(folder: Path) -> None:
    asked: list[int] = []

    def rng(size: int) -> bytes:
        asked.append(size)
        return os.urandom(size)

    SimulatorState.open(folder, rng=rng)
    assert asked == [16, 32, 32]  # the platform's identity, and each quoting enclave's authentication data
