"""How many requests a worker should hold at once. Sans-I/O.

Too few, and an inference slot waits while the next request is fetched and opened. Too many, and other
workers of the service go without while ours queue up here. Little's law gives the number: those in the slots,
and beyond them the rate at which requests are finished, times the time for which one may wait here.
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
        ahead: Seconds for which an opened request may wait here. In this time the next ones are fetched.
    """

    def __init__(self, *, slots: int, limit: int, ahead: float = 0.1) -> None:
        self._slots = slots
        self._limit = limit
        self._ahead = ahead
        self._prepare = 0.0
        self._share = 0.0

    @property
    def capacity(self) -> int:
        """Requests to hold at most: at least three for each slot, at most the limit."""
        floor = min(3 * self._slots, self._limit)
        if self._share <= 0.0:
            return floor
        wanted = self._slots + (self._ahead + self._prepare) / self._share
        return max(floor, math.ceil(min(self._limit, wanted)))

    def free(self, held: int) -> int:
        """How many to fetch now; 0 while fewer than a third of the places are free.

        Of six that are fetched and opened together, each costs half of what one alone costs, because in
        between the models' weights push this code out of the processor's caches. Two for each slot are left
        meanwhile.
        """
        capacity = self.capacity
        free = capacity - held
        return free if free >= max(1, capacity // 3) else 0

    def observe(self, *, prepare: float, share: float) -> None:
        """Learn from one request.

        Args:
            prepare: Seconds to open and decode it.
            share: Seconds of the models' time that it took: from one outcome to the next.
        """
        self._prepare += _WEIGHT * (prepare - self._prepare)
        if self._share == 0.0:
            self._share = share
        self._share += _WEIGHT * (share - self._share)
