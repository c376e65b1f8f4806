"""The time check around a target: keeps inputs that take too long, and the slowest of all."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fuzz.check import LIMIT, RUNS, fastest

SLOWEST: Final = "slowest"
"""Name of the file with the slowest input."""

SLOW: Final = "slow-"
"""How names of inputs begin that took longer than the limit."""

_MOST_SLOW: Final = 8
_ONE_IN: Final = 64
_LONGEST_PIECE: Final = 64


class Watch:
    """Runs a target, and measures it.

    Code that counts its branches is slower, so what is kept is a suspicion: see `fuzz.check`.

    Args:
        target: What is fuzzed.
        findings: Folder for inputs that take too long.
        state: Folder for the slowest input.
        limit: CPU seconds that are too long.
    """

    def __init__(
        self, target: Callable[[bytes], object], findings: Path, state: Path, *, limit: float = LIMIT
    ) -> None:
        self._target = target
        self._findings = findings
        self._state = state
        self._limit = limit
        self._slowest = 0.0
        self._kept = 0

    def __call__(self, data: bytes) -> None:
        """Run one input; exceptions of the target come through."""
        if fastest(self._target, data, runs=1) <= self._slowest:
            return
        # Measured again: what took long once may have waited for the machine, or for an import.
        again = fastest(self._target, data, runs=RUNS)
        if again > self._limit and self._kept < _MOST_SLOW:
            self._kept += 1
            (self._findings / f"{SLOW}{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
        if again > self._slowest:
            # Beyond the limit the bar stays there, so that other inputs that are too slow are kept too.
            self._slowest = min(again, self._limit)
            (self._state / SLOWEST).write_bytes(data)


def stretched(data: bytes, most: int, seed: int) -> bytes | None:
    """Now and then the input with one piece repeated up to the largest size; else None.

    Mutations of libFuzzer seldom make a large input out of a small one, and time above the linear shows in
    large ones only.
    """
    rng = random.Random(seed)
    if rng.randrange(_ONE_IN) or len(data) < 2:
        return None
    start = rng.randrange(1, len(data))  # the first byte chooses the parser
    piece = data[start : start + rng.randint(1, _LONGEST_PIECE)]
    times = max(0, most - len(data)) // len(piece)
    return data[:start] + piece * times + data[start:]
