"""Refusals of requesters that have proved nothing: counted, and logged in bulk.

Anyone who reaches the broker can be refused as often as they like. An entry for each would let them grow the
signed log, which is never cut, and keep the disk busy. So the first is logged at once and those that follow
are counted, by code, until the next entry, a minute later at the earliest.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from strongroom.broker import log
from strongroom.broker.log_entry import Event, Fact
from strongroom.broker.store import Store

SECONDS: Final = 60.0
"""Least time between two entries."""


class RefusalCounter:
    """Counts refusals and logs the counts. Safe to share between threads.

    It is as small as the number of error codes, whoever asks for whatever.

    Args:
        store: Where the log is.
        now: The clock.
        seconds: Least time between two entries.
    """

    def __init__(self, store: Store, now: Callable[[], float], *, seconds: float = SECONDS) -> None:
        self._store = store
        self._now = now
        self._seconds = seconds
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._written: float | None = None

    def add(self, code: str) -> None:
        """Count a refusal, and log what is counted if an entry is due.

        Raises:
            BrokerError: A code of the store; the counts are kept for the next entry.
        """
        with self._lock:
            self._counts[code] += 1
        self.flush()

    def flush(self, *, force: bool = False) -> None:
        """Log what is counted if an entry is due.

        Args:
            force: Do so even if it is not due, because the broker stops.

        Raises:
            BrokerError: As `add`.
        """
        now = self._now()
        with self._lock:
            # A clock that was put back must not silence the log until it has caught up.
            early = self._written is not None and 0 <= now - self._written < self._seconds
            if not self._counts or (early and not force):
                return
            counts, self._counts = self._counts, Counter()
            self._written = now
        facts: dict[str, Fact] = {"counts": dict(counts)}
        try:
            with self._store.write() as db:
                log.append(self._store, db, time=int(now), event=Event.REFUSALS, facts=facts)
        except BaseException:
            with self._lock:
                self._counts += counts
            raise
