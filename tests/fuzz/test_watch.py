"""The checks of the fuzzer refuse: planted targets that are slow or crash, with and without atheris."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fuzz import check, runner
from fuzz.check import LIMIT, fastest
from fuzz.material import Material
from fuzz.runner import ROOT, Outcome, Plan, measured
from fuzz.target import Parser, Target
from fuzz.watch import SLOW, SLOWEST, Watch

NEEDS_ATHERIS = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: make fuzz installs it"
)

# What a target module would have; the engine is the real one.
PLANTED = """
import sys, time
import fuzz.targets
from fuzz.target import Parser, Target

def burn(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass

def parse(data):
    if data.startswith(b"crash"):
        raise ValueError("planted")
    if data.startswith(b"slow"):
        burn(0.12)
    if data.startswith(b"hang"):
        burn(60)
    if data.startswith(b"large"):
        data.ljust(2 << 30)[-1]

planted = Target("planted", (Parser("planted", parse, lambda _: []),))
fuzz.targets.named = {"planted": planted}.__getitem__
from fuzz.{module} import main
main(sys.argv[1:])
"""


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    def target(data: bytes) -> None:
        if data == b"crash":
            raise ValueError("planted")
        burn(float(data))

    return Watch(target, tmp_path / "findings", tmp_path / "state")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> Path:
    (tmp_path / "findings").mkdir()
    (tmp_path / "state").mkdir()
    return tmp_path


def test_an_input_that_is_too_slow_is_kept(watch: Watch, folders: Path) -> None:
    watch(b"0.1")
    (kept,) = (folders / "findings").iterdir()
    assert kept.name.startswith(SLOW)
    assert kept.read_bytes() == (folders / "state" / SLOWEST).read_bytes() == b"0.1"


def test_an_input_that_is_fast_is_not_kept(watch: Watch, folders: Path) -> None:
    watch(b"0.001")
    assert list((folders / "findings").iterdir()) == []
    assert (folders / "state" / SLOWEST).read_bytes() == b"0.001"


def test_only_a_slower_input_takes_the_place_of_the_slowest(watch: Watch, folders: Path) -> None:
    watch(b"0.01")
    watch(b"0")
    assert (folders / "state" / SLOWEST).read_bytes() == b"0.01"
    watch(b"0.03")
    assert (folders / "state" / SLOWEST).read_bytes() == b"0.03"


def test_other_inputs_that_are_too_slow_are_kept_after_the_slowest(watch: Watch, folders: Path) -> None:
    for data in (b"0.2", b"0.1", b"0.15"):
        watch(data)
    assert len(list((folders / "findings").iterdir())) == 3


def test_an_input_that_was_slow_once_is_not_kept(folders: Path) -> None:
    """As the first input that makes a library load."""
    times = iter([0.1, 0.1])
    watch = Watch(lambda _: burn(next(times, 0.0)), folders / "findings", folders / "state")
    watch(b"first")
    assert list((folders / "findings").iterdir()) == []


def test_a_crash_comes_through(watch: Watch) -> None:
    with pytest.raises(ValueError, match="planted"):
        watch(b"crash")


def test_the_fastest_run_counts() -> None:
    times = iter([0.05, 0.0, 0.05])
    assert fastest(lambda _: burn(next(times)), b"", runs=3) < 0.02


def test_what_takes_very_long_is_not_run_again() -> None:
    runs: list[bytes] = []

    def target(data: bytes) -> None:
        runs.append(data)
        burn(1.1)

    assert fastest(target, b"x") > 1
    assert runs == [b"x"]


@pytest.fixture
def planted(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the engine and the check for the planted target; the runner uses them."""
    for module in ("engine", "check"):
        (folders / f"{module}.py").write_text(PLANTED.replace("{module}", module))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folders


def run(planted: Path, *seeds: bytes, hang: int = 10) -> Outcome:
    plan = Plan(seconds=1, seed=1, work=planted / "work", hang=hang)
    nothing = Target("planted", (Parser("planted", len, lambda _: seeds),))
    runner.write_seeds(nothing, plan, Material(None))
    engine, alone = ((str(planted / f"{module}.py"),) for module in ("engine", "check"))
    return runner.run("planted", plan, engine=engine, alone=alone)


@NEEDS_ATHERIS
def test_a_target_without_findings_is_good(planted: Path) -> None:
    outcome = run(planted, b"seed")
    assert outcome.good
    assert outcome.executions > 10
    assert outcome.slowest < 1000 * LIMIT
    assert "good" in outcome.line()


@NEEDS_ATHERIS
@pytest.mark.parametrize(("seed", "kind"), [(b"crash", "crash-"), (b"large", "oom-")])
def test_a_crash_and_much_memory_are_findings(planted: Path, seed: bytes, kind: str) -> None:
    outcome = run(planted, seed)
    assert not outcome.good
    (found,) = outcome.findings
    assert found.name.startswith(kind)
    assert "1 FOUND" in outcome.line()


@NEEDS_ATHERIS
def test_a_hang_is_a_finding(planted: Path) -> None:
    outcome = run(planted, b"hang", hang=1)
    assert [path.name[:8] for path in outcome.findings] == ["timeout-"]


@NEEDS_ATHERIS
def test_a_slow_input_is_a_finding_and_runs_first_the_next_time(planted: Path) -> None:
    outcome = run(planted, b"slow")
    assert outcome.findings
    assert all(path.name.startswith(SLOW) for path in outcome.findings)
    assert outcome.slowest > 1000 * LIMIT
    (planted / "work/planted/seeds/0000").unlink()
    assert not run(planted, b"seed").good


@NEEDS_ATHERIS
def test_an_engine_that_does_not_run_is_a_failure(planted: Path) -> None:
    (planted / "engine.py").write_text("raise SystemExit(3)")
    outcome = run(planted, b"seed")
    assert not outcome.good
    assert "DID NOT RUN (status 3" in outcome.line()


def test_a_suspicion_that_does_not_hold_is_dropped(planted: Path) -> None:
    """The engine finds an input slow that is fast by itself."""
    (planted / "engine.py").write_text(
        "import pathlib, sys\n"
        "pathlib.Path(sys.argv[2], 'slow-1').write_bytes(b'\\0fast')\n"
        "print('#9\\tDONE   cov: 3 ft: 4 corp: 1/1b')\n"
        "print('stat::number_of_executed_units: 12')\n"
    )
    outcome = run(planted, b"seed")
    assert outcome.good
    assert (outcome.executions, outcome.coverage) == (12, 3)
    assert list((planted / "work/planted/findings").iterdir()) == []


def test_a_crash_without_instrumentation_has_no_time(planted: Path) -> None:
    path = planted / "input"
    path.write_bytes(b"\0crash")
    assert measured("planted", path, alone=(str(planted / "check.py"),)) is None
    path.write_bytes(b"\0slow")
    found = measured("planted", path, alone=(str(planted / "check.py"),))
    assert found is not None
    assert found > 1000 * LIMIT


@pytest.mark.parametrize(("data", "status"), [(b"\x01{}", 0), (b"", 0)])
def test_one_input_is_run_again_on_the_command_line(tmp_path: Path, data: bytes, status: int) -> None:
    path = tmp_path / "input"
    path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "codec", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "ms of CPU time" in done.stdout
    assert ("codec: JSON, 2 bytes" in done.stdout) == bool(data)


def test_a_target_that_does_not_exist_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "nothing"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no target nothing; there are broker, codec," in done.stderr


def test_the_check_prints_milliseconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"\x01{}")
    check.main(["codec", str(path)])
    assert 0 < float(capsys.readouterr().out) < 1000 * LIMIT
