"""What counts as slow, and one input measured by itself.

python -m fuzz.check TARGET FILE     CPU time in milliseconds, in a process without instrumentation
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

LIMIT: Final = 0.050
"""Most seconds of CPU time that an input of less than 64 KiB may cost."""

RUNS: Final = 5
"""Of so many runs the fastest counts: other programs on the machine make single ones slower, never faster."""

_LONG: Final = 1.0
"""Seconds after which nobody need to measure again."""


def fastest(target: Callable[[bytes], object], data: bytes, *, runs: int = RUNS) -> float:
    """CPU seconds of the fastest of some runs of one input. An exception of the target comes through."""
    best = float("inf")
    for _ in range(runs):
        started = time.thread_time()
        target(data)
        best = min(best, time.thread_time() - started)
        if best > _LONG:
            break
    return best


def main(arguments: list[str]) -> None:
    """Measure one input of one target."""
    from fuzz.targets import named

    name, path = arguments
    print(f"{1000 * fastest(named(name), Path(path).read_bytes()):.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
