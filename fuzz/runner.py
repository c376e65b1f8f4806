"""Runs targets side by side and says what was found.

The folder `.fuzz` keeps, by target: `seeds` (made anew at each run), `corpus` (inputs that reached something
new, kept for the next run), `findings` (run first at the next run) and `log`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.check import LIMIT
from fuzz.material import Material
from fuzz.target import MAX_INPUT, Target
from fuzz.watch import SLOW, SLOWEST

ROOT: Final = Path(__file__).resolve().parent.parent
WORK: Final = ROOT / ".fuzz"
MEMORY: Final = 1024
"""Most MiB of memory of a target's process."""

Program = tuple[str, ...]
"""Arguments with which the interpreter starts a program."""

ENGINE: Final = ("-m", "fuzz.engine")
ALONE: Final = ("-m", "fuzz.check")

_START: Final = 300
"""Seconds for importing, for the seeds, and for the last input."""

_EXECUTED: Final = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_PROGRESS: Final = re.compile(r"^#(\d+)\s.*?\bcov: (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Plan:
    """How targets are run.

    Attributes:
        seconds: For which each is fuzzed.
        seed: Of the mutations.
        work: Folder for everything that is kept.
        hang: Seconds after which libFuzzer ends a single input.
    """

    seconds: int
    seed: int
    work: Path = WORK
    hang: int = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one target.

    Attributes:
        name: The target.
        executions: How many inputs were run.
        rate: Inputs for each second of wall time.
        coverage: Branches and comparisons reached, as libFuzzer counts.
        slowest: CPU milliseconds of the slowest input, measured without instrumentation.
        findings: Inputs that crash, hang, take too much memory or too long.
        failure: Why the target did not run at all; empty if it did.
    """

    name: str
    executions: int
    rate: float
    coverage: int
    slowest: float
    findings: tuple[Path, ...] = ()
    failure: str = ""

    @property
    def good(self) -> bool:
        """Whether it ran and nothing was found."""
        return not self.findings and not self.failure

    def line(self) -> str:
        """For people."""
        verdict = "good" if self.good else self.failure or f"{len(self.findings)} FOUND"
        return (
            f"{self.name:<12}{self.executions:>10} executions{self.rate:>8.0f}/s{self.coverage:>7} covered"
            f"{self.slowest:>8.1f} ms slowest   {verdict}"
        )


def run_all(targets: Iterable[Target], plan: Plan, *, jobs: int, material: Material) -> Iterator[Outcome]:
    """Run targets, so many at a time; outcomes come in the order of the targets."""
    chosen = list(targets)
    for target in chosen:
        write_seeds(target, plan, material)
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda target: run(target.name, plan), chosen)


def run(name: str, plan: Plan, *, engine: Program = ENGINE, alone: Program = ALONE) -> Outcome:
    """Run one target, whose seeds are written.

    Args:
        name: The target.
        plan: How.
        engine: Starts `fuzz.engine`.
        alone: Starts `fuzz.check`.
    """
    folder = plan.work / name
    findings, state, corpus = (_made(folder / part) for part in ("findings", "state", "corpus"))
    began, started = time.time(), time.monotonic()
    command = [
        sys.executable,
        *engine,
        *(name, str(findings), str(state)),
        *_options(plan, findings),
        *map(str, (corpus, folder / "seeds", findings)),
    ]
    log = folder / "log"
    with log.open("wb") as output:
        try:
            status = subprocess.run(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                check=False,
                timeout=plan.seconds + _START,
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
    text = log.read_text("utf-8", "replace")
    executions, coverage = _numbers(text)
    fresh = [path for path in sorted(findings.iterdir()) if path.stat().st_mtime >= began]
    found = tuple(path for path in fresh if not path.name.startswith(SLOW) or _is_slow(name, path, alone))
    failure = "" if found or (status == 0 and executions) else f"DID NOT RUN (status {status}, see {log})"
    rate = executions / (time.monotonic() - started)
    return Outcome(name, executions, rate, coverage, _slowest(name, state, alone), found, failure)


def measured(name: str, path: Path, *, alone: Program = ALONE) -> float | None:
    """CPU milliseconds of one input in a fresh process without instrumentation; None if it crashes there."""
    command = [sys.executable, *alone, name, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def _options(plan: Plan, findings: Path) -> list[str]:
    return [
        f"-max_total_time={plan.seconds}",
        f"-max_len={MAX_INPUT}",
        f"-seed={plan.seed}",
        f"-timeout={plan.hang}",
        f"-rss_limit_mb={MEMORY}",
        f"-artifact_prefix={findings}/",
        "-entropic_scale_per_exec_time=1",
        "-print_final_stats=1",
    ]


def write_seeds(target: Target, plan: Plan, material: Material) -> None:
    """Write a target's seeds anew."""
    folder = plan.work / target.name / "seeds"
    shutil.rmtree(folder, ignore_errors=True)
    _made(folder)
    for number, seed in enumerate(target.seeds(material)):
        (folder / f"{number:04}").write_bytes(seed)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _numbers(text: str) -> tuple[int, int]:
    """Executions and coverage by libFuzzer's own words; after a crash, as of the last progress."""
    progress = _PROGRESS.findall(text)
    executed = _EXECUTED.search(text)
    last, coverage = map(int, progress[-1]) if progress else (0, 0)
    return (int(executed[1]) if executed else last), coverage


def _is_slow(name: str, path: Path, alone: Program) -> bool:
    """Whether a suspicion holds; else the file goes."""
    spent = measured(name, path, alone=alone)
    if spent is not None and spent <= 1000 * LIMIT:
        path.unlink()
        return False
    return True


def _slowest(name: str, state: Path, alone: Program) -> float:
    path = state / SLOWEST
    return (measured(name, path, alone=alone) or 0.0) if path.is_file() else 0.0
