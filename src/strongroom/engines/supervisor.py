"""Start the parts of a service on this machine, restart what dies, stop everything.

Each part is a process with a log file of its own. A part that dies is started again after a pause that
doubles up to a limit; one that has lived for a while starts over with the shortest. At the end the
parts get SIGTERM in reverse order, then SIGKILL. Should the supervisor itself be killed, the kernel ends
its parts (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from strongroom.engines.errors import PART_FAILED, EngineError
from strongroom.engines.orphans import die_with

_POLL_SECONDS: Final = 0.02
_TAIL_BYTES: Final = 2000
_TAIL_LINES: Final = 5


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a supervisor is, in seconds.

    Attributes:
        first_pause: Before a part that died is started again; doubles each time it dies early.
        longest_pause: Up to this.
        steady_after: A part that has lived for so long did not die early.
        early_deaths: So many early deaths in a row, and a part counts as failing while parts start.
        start_timeout: For each part to become ready.
        stop_grace: Between SIGTERM and SIGKILL.
    """

    first_pause: float = 0.2
    longest_pause: float = 5.0
    steady_after: float = 10.0
    early_deaths: int = 3
    start_timeout: float = 60.0
    stop_grace: float = 15.0


@dataclass(frozen=True, slots=True)
class Part:
    """One process of a service.

    Attributes:
        name: For the log file and messages.
        command: Program and arguments.
        ready: Resolves to True once the part serves.
        environment: Variables to set beside the supervisor's own.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], Awaitable[bool]]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartEvent:
    """Something that happened to a part: `started`, `ready`, `died` or `stopped`."""

    part: str
    what: str
    detail: str = ""


class Supervisor:
    """Runs parts until it is stopped.

    Args:
        parts: In the order in which they start and become ready; they stop in reverse.
        logs: Folder of the log files, one for each part.
        report: Called with every event.
        pace: How patient it is.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        logs: Path,
        *,
        report: Callable[[PartEvent], None] = lambda _: None,
        pace: Pace = Pace(),  # noqa: B008 -- a value that does not change
    ) -> None:
        self._report = report
        self._pace = pace
        self._parts = [_Running(part, logs / f"{part.name}.log", report, pace) for part in parts]

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the parts that are running now."""
        return {part.part.name: part.pid for part in self._parts if part.pid}

    async def start(self) -> None:
        """Start all parts and wait until each is ready.

        Raises:
            EngineError: `part-failed`: a part does not come up; its last log lines are in the detail.
        """
        for part in self._parts:
            part.launch()
        for part in self._parts:
            deadline = time.monotonic() + self._pace.start_timeout
            while not await part.part.ready():
                failing = [each for each in self._parts if each.failing]
                if failing or time.monotonic() > deadline:
                    blamed = failing[0] if failing else part
                    raise EngineError(PART_FAILED, blamed.last_lines(), found=str(blamed.log))
                await asyncio.sleep(_POLL_SECONDS)
            self._report(PartEvent(part.part.name, "ready"))

    async def stop(self) -> None:
        """Stop all parts, the last first."""
        for part in reversed(self._parts):
            await part.stop()


class _Running:
    """One part and the task that keeps it alive."""

    def __init__(self, part: Part, log: Path, report: Callable[[PartEvent], None], pace: Pace) -> None:
        self.part = part
        self.log = log
        self._report = report
        self._pace = pace
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._early_deaths = 0

    @property
    def pid(self) -> int:
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    def launch(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name=f"keep-{self.part.name}")

    async def _keep(self) -> None:
        pause = self._pace.first_pause
        while True:
            started = time.monotonic()
            how = await self._run_once()
            if time.monotonic() - started >= self._pace.steady_after:
                pause, self._early_deaths = self._pace.first_pause, 0
            else:
                self._early_deaths += 1
            self._report(PartEvent(self.part.name, "died", how))
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._pace.longest_pause)

    async def _run_once(self) -> str:
        """Run it to its end; says how it ended."""
        try:
            descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            return f"no log: {error.strerror}"
        try:
            self._process = await self._spawn(descriptor)
        except OSError as error:
            reason = f"cannot start {self.part.command[0]}: {error.strerror}"
            os.write(descriptor, f"{reason}\n".encode())
            return reason
        finally:
            os.close(descriptor)
        self._report(PartEvent(self.part.name, "started", f"pid {self._process.pid}"))
        return f"exit status {await self._process.wait()}"

    async def _spawn(self, log: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.part.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **self.part.environment},
            start_new_session=True,
            preexec_fn=die_with(os.getpid(), signal.SIGTERM),
        )

    @property
    def failing(self) -> bool:
        """Whether it has died again and again without ever living for a while."""
        return self._early_deaths >= self._pace.early_deaths

    def last_lines(self) -> str:
        """Its name, and the end of its log."""
        text = ""
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
            text = " | ".join(lines[-_TAIL_LINES:])
        return f"{self.part.name}: {text or 'no output'}"

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})  # whatever became of it, the process must be stopped
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._pace.stop_grace):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        self._report(PartEvent(self.part.name, "stopped", f"exit status {process.returncode}"))
