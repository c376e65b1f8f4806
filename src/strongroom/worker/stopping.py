"""One wish to stop, from a signal handler or any thread, for a thread or an event loop that waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Stopper:
    """Set once, never cleared."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._listeners: list[Callable[[], object]] = []

    @property
    def stopped(self) -> bool:
        """Whether it was set."""
        return self._stopped.is_set()

    def set(self) -> None:
        """Ask for the end. May be called from a signal handler."""
        if not self._stopped.is_set():
            self._stopped.set()
            for listener in self._listeners:
                listener()

    def listen(self, listener: Callable[[], object]) -> None:
        """Call `listener` when it is set, from wherever that is; at once if it was set before."""
        self._listeners.append(listener)
        if self._stopped.is_set():
            listener()

    def wait(self, seconds: float) -> bool:
        """Sleep, but not longer than until it is set; say whether it is."""
        return self._stopped.wait(seconds)

    def wait_for(self, future: Future[Any]) -> None:
        """Sleep until the future is done or this is set."""
        either = threading.Event()
        future.add_done_callback(lambda _: either.set())
        self.listen(either.set)
        either.wait()
