"""The command line, see `fuzz`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fuzz.check import LIMIT, fastest
from fuzz.material import Material
from fuzz.runner import Plan, run_all
from fuzz.targets import TARGETS, named


def main() -> int:
    """Fuzz, or run one input again. Exit status 1 if anything is found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz the parsers of Strongroom.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time (2)")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (1)")
    parser.add_argument("what", nargs="*", metavar="TARGET", help="targets; or one target and a FILE")
    given = parser.parse_args()
    names: list[str] = given.what
    if len(names) == 2 and names[1] not in TARGETS and Path(names[1]).is_file():
        return _again(names[0], Path(names[1]))
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    return _fuzz(names or list(TARGETS), Plan(given.seconds, given.seed), given.jobs)


def _fuzz(names: list[str], plan: Plan, jobs: int) -> int:
    material = Material.find()
    if material.testdata is None:
        print("No recorded evidence: STRONGROOM_TESTDATA names no folder. Seeds are simulated only.")
    good = True
    for outcome in run_all(map(named, names), plan, jobs=jobs, material=material):
        print(outcome.line(), flush=True)
        for path in outcome.findings:
            print(f"    python -m fuzz {outcome.name} {path}")
        good = good and outcome.good
    return 0 if good else 1


def _again(name: str, path: Path) -> int:
    """One input again, without instrumentation; a crash shows as the traceback that it is."""
    target, data = named(name), path.read_bytes()
    if data:
        print(f"{name}: {target.parsers[data[0] % len(target.parsers)].name}, {len(data) - 1} bytes")
    spent = fastest(target, data)
    print(f"{1000 * spent:.1f} ms of CPU time, at most {1000 * LIMIT:.0f} are good")
    return 0 if spent <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
