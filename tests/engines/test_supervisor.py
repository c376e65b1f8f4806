"""The supervisor over real processes, which are small shell scripts and Python programs."""

from __future__ import annotations

import asyncio
import itertools
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from strongroom.engines.errors import EngineError
from strongroom.engines.supervisor import Pace, Part, PartEvent, Supervisor

BRISK = Pace(first_pause=0.02, longest_pause=0.08, steady_after=60, start_timeout=20, stop_grace=20)

# Says that it runs, then waits; on SIGTERM it notes its name in a file that all share, and ends with 0.
WAITING = """
import os, signal, sys
name, notes, marker = sys.argv[1:4]
def stop(*_):
    with open(notes, "a") as file:
        file.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("hello from", name, os.environ.get("COLOUR", ""), flush=True)
open(marker, "a").close()
while True:
    signal.pause()
"""
# The same, but it does not listen.
DEAF = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[3], "a").close()
while True:
    signal.pause()
"""
# A supervisor in a process of its own, with two parts; prints their process ids when both are ready.
ALONE = """
import asyncio, pathlib, sys
from strongroom.engines.supervisor import Part, Supervisor
folder, code = pathlib.Path(sys.argv[1]), sys.argv[2]
def part(name):
    marker = folder / f"{name}.marker"
    async def ready():
        return marker.exists()
    return Part(name, [sys.executable, "-c", code, name, str(folder / "notes"), str(marker)], ready)
async def main():
    supervisor = Supervisor([part("a"), part("b")], folder)
    await supervisor.start()
    print(*supervisor.pids.values(), flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


class Stage:
    """Parts for a test, and what the supervisor reports about them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.notes = folder / "notes"
        self.events: list[PartEvent] = []
        self._changed = asyncio.Event()

    def program(self, name: str, code: str = WAITING, environment: dict[str, str] | None = None) -> Part:
        """A part that is ready once it has written its marker."""
        marker = self.folder / f"{name}.marker"

        async def ready() -> bool:
            return marker.exists()

        command = [sys.executable, "-S", "-c", code, name, str(self.notes), str(marker)]
        return Part(name, command, ready, environment or {})

    def shell(self, name: str, script: str, *, ready: bool = True) -> Part:
        """A part that runs a shell script."""

        async def is_ready() -> bool:
            return ready

        return Part(name, ["/bin/sh", "-c", script], is_ready)

    def report(self, event: PartEvent) -> None:
        self.events.append(event)
        self._changed.set()

    def said(self, what: str, part: str = "") -> list[str]:
        """The parts to which something happened, in order; or the details, for one part."""
        of_kind = [event for event in self.events if event.what == what]
        return [e.detail for e in of_kind if e.part == part] if part else [e.part for e in of_kind]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for an event after which the condition holds."""
        async with asyncio.timeout(30):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @asynccontextmanager
    async def supervised(self, *parts: Part, pace: Pace = BRISK) -> AsyncIterator[Supervisor]:
        supervisor = Supervisor(parts, self.logs, report=self.report, pace=pace)
        try:
            await supervisor.start()
            yield supervisor
        finally:
            await supervisor.stop()


@pytest.fixture
async def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


async def test_parts_start_and_become_ready_in_their_order(stage: Stage) -> None:
    async with stage.supervised(*(stage.program(name) for name in "abc")) as supervisor:
        assert stage.said("started") == ["a", "b", "c"]
        assert stage.said("ready") == ["a", "b", "c"]
        assert list(supervisor.pids) == ["a", "b", "c"]
        assert all(lives(pid) for pid in supervisor.pids.values())
        assert stage.said("started", "b") == [f"pid {supervisor.pids['b']}"]


async def test_starting_waits_for_a_part_that_takes_its_time(stage: Stage) -> None:
    asked = itertools.count()

    async def ready() -> bool:
        return next(asked) >= 3

    async with stage.supervised(Part("slow", ["/bin/sleep", "100"], ready)):
        assert next(asked) == 4
        assert stage.said("ready") == ["slow"]


async def test_parts_stop_in_reverse_with_sigterm(stage: Stage) -> None:
    async with stage.supervised(*(stage.program(name) for name in "abc")) as supervisor:
        pids = list(supervisor.pids.values())
    assert stage.notes.read_text().split() == ["c", "b", "a"]
    assert stage.said("stopped") == ["c", "b", "a"]
    assert stage.said("stopped", "a") == ["exit status 0"]
    assert stage.said("died") == []
    assert supervisor.pids == {}
    assert not any(lives(pid) for pid in pids)


async def test_a_part_that_does_not_listen_is_killed(stage: Stage) -> None:
    pace = Pace(stop_grace=0.1)
    async with stage.supervised(stage.program("a"), stage.program("deaf", DEAF), pace=pace):
        pass
    assert stage.said("stopped", "deaf") == [f"exit status {-signal.SIGKILL}"]
    assert stage.notes.read_text().split() == ["a"], "the others stop as ever"


async def test_a_part_that_dies_is_started_again(stage: Stage) -> None:
    async with stage.supervised(stage.program("a"), stage.program("b")) as supervisor:
        before = supervisor.pids
        os.kill(before["a"], signal.SIGKILL)
        await stage.until(lambda: len(stage.said("started", "a")) == 2)
        assert supervisor.pids["b"] == before["b"], "its neighbour is left alone"
        assert supervisor.pids["a"] != before["a"]
        assert stage.said("died", "a") == [f"exit status {-signal.SIGKILL}"]


async def test_the_pause_before_a_restart_doubles_up_to_a_limit(stage: Stage) -> None:
    times: list[float] = []

    def report(event: PartEvent) -> None:
        if event.what in {"started", "died"}:
            times.append(time.monotonic())
        stage.report(event)

    pace = Pace(first_pause=0.1, longest_pause=0.4, steady_after=60)
    supervisor = Supervisor([stage.shell("a", "exit 7")], stage.logs, report=report, pace=pace)
    await supervisor.start()
    try:
        await stage.until(lambda: len(stage.said("started")) == 5)
    finally:
        await supervisor.stop()
    pauses = [times[at + 1] - times[at] for at in range(1, 9, 2)]
    for pause, expected in zip(pauses, [0.1, 0.2, 0.4, 0.4], strict=True):
        assert expected <= pause < expected + 0.3
    assert stage.said("died", "a")[0] == "exit status 7"


async def test_a_part_that_has_lived_starts_over_with_the_shortest_pause(stage: Stage) -> None:
    """With `steady_after` at nothing no death is early: no pause grows, and the part never fails."""
    deaths = 0

    async def ready() -> bool:
        return deaths >= 6

    def report(event: PartEvent) -> None:
        nonlocal deaths
        deaths += event.what == "died"

    pace = Pace(first_pause=0.01, longest_pause=1000, steady_after=0, early_deaths=3, start_timeout=20)
    part = Part("a", ["/bin/true"], ready)
    supervisor = Supervisor([part], stage.logs, report=report, pace=pace)
    async with asyncio.timeout(20):
        try:
            await supervisor.start()
        finally:
            await supervisor.stop()
    assert deaths >= 6


async def test_a_part_that_dies_again_and_again_is_named_with_its_last_lines(stage: Stage) -> None:
    script = "for n in 1 2 3 4 5 6 7 8; do echo line $n; done >&2; exit 1"
    waiting = stage.shell("front", "exec sleep 100", ready=False)
    with pytest.raises(EngineError) as caught:
        async with stage.supervised(stage.program("a"), stage.shell("broken", script), waiting):
            pytest.fail("it must not count as started")
    assert caught.value.code == "part-failed"
    assert caught.value.detail == "broken: line 4 | line 5 | line 6 | line 7 | line 8"
    assert caught.value.found == str(stage.logs / "broken.log")
    assert len(stage.said("died", "broken")) >= 3
    assert stage.said("stopped") == ["front", "a"], "the others are stopped"


async def test_a_part_that_never_becomes_ready_is_named(stage: Stage) -> None:
    pace = Pace(start_timeout=0.2)
    with pytest.raises(EngineError, match="part-failed") as caught:
        async with stage.supervised(
            stage.program("a"), stage.shell("b", "exec sleep 100", ready=False), pace=pace
        ):
            pytest.fail("it must not count as started")
    assert caught.value.detail == "b: no output"


async def test_a_program_that_is_not_there_is_named(stage: Stage) -> None:
    async def never() -> bool:
        return False

    with pytest.raises(EngineError, match="part-failed") as caught:
        async with stage.supervised(Part("a", ["/nonexistent/program"], never)):
            pytest.fail("it must not count as started")
    assert "cannot start /nonexistent/program: No such file or directory" in caught.value.detail


async def test_a_log_that_cannot_be_written_is_an_error(stage: Stage) -> None:
    (stage.logs / "a.log").mkdir()
    with pytest.raises(EngineError, match="part-failed") as caught:
        async with stage.supervised(stage.shell("a", "exec sleep 100", ready=False)):
            pytest.fail("it must not count as started")
    assert caught.value.found == str(stage.logs / "a.log")
    assert stage.said("died", "a")[0] == "no log: Is a directory"


async def test_only_the_end_of_a_long_log_is_read(stage: Stage) -> None:
    with (stage.logs / "a.log").open("wb") as log:
        log.truncate(1 << 30)
    with pytest.raises(EngineError) as caught:
        async with stage.supervised(stage.shell("a", "echo; echo the end; exit 1", ready=False)):
            pytest.fail("it must not count as started")
    assert caught.value.detail.endswith("the end")
    assert len(caught.value.detail) < 3000


async def test_output_goes_to_a_log_for_the_owner_only(stage: Stage) -> None:
    async with stage.supervised(stage.program("a", environment={"COLOUR": "blue"})):
        pass
    log = stage.logs / "a.log"
    assert log.read_text() == "hello from a blue\n"
    assert log.stat().st_mode & 0o777 == 0o600


async def test_a_log_grows_over_restarts(stage: Stage) -> None:
    async with stage.supervised(stage.program("a")) as supervisor:
        os.kill(supervisor.pids["a"], signal.SIGKILL)
        marker = stage.folder / "a.marker"
        marker.unlink()
        await stage.until(lambda: len(stage.said("started", "a")) == 2)
        async with asyncio.timeout(20):
            while not marker.exists():
                await asyncio.sleep(0.01)
    assert (stage.logs / "a.log").read_text() == "hello from a \n" * 2


async def test_a_part_is_out_of_reach_of_the_terminals_signals(stage: Stage) -> None:
    async with stage.supervised(stage.program("a")) as supervisor:
        assert os.getsid(supervisor.pids["a"]) == supervisor.pids["a"]
        assert Path(f"/proc/{supervisor.pids['a']}/fd/0").readlink() == Path("/dev/null")


async def test_stopping_while_a_part_waits_for_its_restart(stage: Stage) -> None:
    pace = Pace(first_pause=1000)
    async with stage.supervised(stage.program("a"), stage.shell("b", "exit 1"), pace=pace):
        await stage.until(lambda: stage.said("died") == ["b"])
    assert stage.said("stopped") == ["a"]
    assert len(stage.said("started", "b")) == 1


async def test_stopping_before_anything_has_started(stage: Stage) -> None:
    supervisor = Supervisor([stage.program("a")], stage.logs, report=stage.report)
    await supervisor.stop()
    assert stage.events == []


async def test_a_start_that_is_cancelled_leaves_nothing_running(stage: Stage) -> None:
    supervisor = Supervisor(
        [stage.shell("a", "exec sleep 100", ready=False)], stage.logs, report=stage.report
    )
    starting = asyncio.create_task(supervisor.start())
    await stage.until(lambda: bool(supervisor.pids))
    [pid] = supervisor.pids.values()
    starting.cancel()
    await asyncio.wait({starting})
    await supervisor.stop()
    assert not lives(pid)


async def test_a_report_that_fails_keeps_no_part_from_being_stopped(stage: Stage) -> None:
    """The reporter's own fault, say a standard output that has gone."""

    def report(event: PartEvent) -> None:
        stage.report(event)
        if event.what == "died":
            raise BrokenPipeError

    parts = [stage.program("a"), stage.program("b"), stage.shell("c", "exit 1")]
    supervisor = Supervisor(parts, stage.logs, report=report, pace=BRISK)
    await supervisor.start()
    pids = supervisor.pids
    await stage.until(lambda: stage.said("died") == ["c"])
    await supervisor.stop()
    assert stage.said("stopped") == ["b", "a"]
    assert not any(lives(pid) for pid in pids.values())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_parts_end_with_a_supervisor_that_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", ALONE, str(tmp_path), WAITING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert len(pids) == 2
        ends = [os.pidfd_open(pid) for pid in pids]
        supervisor.send_signal(number)
        supervisor.wait(30)
    for end in ends:
        ended, _, _ = select.select([end], [], [], 30)
        os.close(end)
        assert ended, "a part outlives its supervisor"
    assert sorted((tmp_path / "notes").read_text().split()) == ["a", "b"], "they could end in order"
