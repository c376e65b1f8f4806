"""How many requests a worker should hold at once. Sans-I/O.

Too few, and an inference slot waits while the next request is fetched and opened. Too many, and other
workers of the service go without while ours queue up here. Little's law gives the number: the rate at which
the slots finish requests, times the time that a request needs from the queue to a slot and through it.
"""

from __future__ import annotations

import math
from typing import Final

_WEIGHT: Final = 0.1


class Pace:
    """Follows the measured times of a worker and says how many requests to hold.

    Args:
        slots: Inferences that run side by side.
        limit: Never hold more than this.
        fetch: Seconds that a fetch from the queue may take.
    """

    def __init__(self, *, slots: int, limit: int, fetch: float = 0.01) -> None:
        self._slots = slots
        self._limit = limit
        self._fetch = fetch
        self._prepare = 0.0
        self._infer = 0.0

    @property
    def capacity(self) -> int:
        """Requests to hold at most: at least three for each slot, at most the limit."""
        floor = min(3 * self._slots, self._limit)
        if self._infer <= 0.0:
            return floor
        ahead = (self._fetch + self._prepare) / self._infer
        return max(floor, math.ceil(min(self._limit, self._slots * (1 + ahead))))

    def free(self, held: int) -> int:
        """How many to fetch now; 0 while fewer than a third of the places are free.

        Fetching and opening several at a time costs a fifth less than one by one, because in between the
        models' weights push this code out of the processor's caches. Two for each slot are left meanwhile.
        """
        capacity = self.capacity
        free = capacity - held
        return free if free >= max(1, capacity // 3) else 0

    def observe(self, *, prepare: float, infer: float) -> None:
        """Learn from one request: seconds to open and decode it, and its share of its inference."""
        self._prepare += _WEIGHT * (prepare - self._prepare)
        if self._infer == 0.0:
            self._infer = infer
        self._infer += _WEIGHT * (infer - self._infer)
