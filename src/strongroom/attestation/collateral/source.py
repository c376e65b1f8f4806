"""Where collateral comes from: a folder and, if there is a network, the vendors' services, under limits.

Who asks has often proved nothing yet: a quote names its platform, and that is looked for before the quote can
be verified. So for each source

- one item is fetched once at a time; whoever wants the same one waits for that answer;
- few threads may fetch or wait at once, and the next one is refused with `collateral-busy`, so that others
  who need no network are not held up;
- there is a bound on fetches in a minute;
- a failure is remembered for half a minute.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from strongroom.attestation.collateral import validity
from strongroom.attestation.collateral.errors import (
    COLLATERAL_BUSY,
    COLLATERAL_MISSING,
    COLLATERAL_UNREACHABLE,
)
from strongroom.attestation.collateral.folder import CollateralFolder
from strongroom.attestation.collateral.kds import Kds
from strongroom.attestation.collateral.needs import DcapItem, Item
from strongroom.attestation.collateral.pccs import Pccs
from strongroom.attestation.collateral.validity import Period
from strongroom.attestation.collateral.web import Web
from strongroom.errors import EvidenceError, StrongroomError, UnreachableError

MAX_THREADS: Final = 8
"""Most threads that fetch or wait for what another one fetches."""

MAX_FETCHES: Final = 60
"""Most items that are fetched in a minute."""

PATIENCE_SECONDS: Final = 60.0
"""For what another thread fetches: four answers."""

_MINUTE: Final = 60.0
_FAILURE_SECONDS: Final = 30.0
_MAX_FAILURES: Final = 1024

_Service = Callable[[], dict[str, str]]


@dataclass(slots=True)
class _Flight:
    """An item on its way."""

    landed: threading.Event = field(default_factory=threading.Event)
    parts: dict[str, str] | None = None
    error: StrongroomError | None = None


class CollateralSource:
    """Finds items. Safe to share between threads.

    Args:
        folder: Keeps what was fetched, and may have been filled elsewhere.
        pccs: Intel's statements; None takes them from the folder only.
        kds: AMD's statements; None takes them from the folder only.
        clock: Monotonic time in seconds, for the limits. Whether something holds is for the caller's time.
        max_threads: Most threads that fetch or wait.
        max_fetches: Most fetches in a minute.
        patience: Most seconds to wait for what another thread fetches.
    """

    def __init__(
        self,
        folder: CollateralFolder,
        *,
        pccs: Pccs | None = None,
        kds: Kds | None = None,
        clock: Callable[[], float] = time.monotonic,
        max_threads: int = MAX_THREADS,
        max_fetches: int = MAX_FETCHES,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.folder = folder
        self._pccs = pccs
        self._kds = kds
        self._clock = clock
        self._max_threads = max_threads
        self._max_fetches = max_fetches
        self._patience = patience
        self._lock = threading.Lock()
        self._threads = 0
        self._flights: dict[str, _Flight] = {}
        self._fetches: deque[float] = deque()
        self._failures: dict[str, tuple[float, StrongroomError]] = {}

    def has(self, item: Item) -> bool:
        """Whether the item is in the folder, holding or not, or there is a service to ask for it."""
        return self._service(item) is not None or self.folder.load(item) is not None

    def find(self, item: Item, now: int) -> dict[str, str]:
        """The parts of an item that hold at a Unix time.

        Raises:
            EvidenceError: `collateral-missing`, `collateral-not-found` or `collateral-answer-invalid`.
            UnreachableError: `collateral-unreachable` or `collateral-busy`.
            ConfigError: `collateral-folder-unwritable`.
        """
        kept = self.folder.load(item)
        if kept is not None and validity.period(kept).holds(now):
            return kept
        fact = f"{item.name} is not in {self.folder.path}" if kept is None else _fact(item, kept, now)
        if self._service(item) is None:
            raise EvidenceError(COLLATERAL_MISSING, fact)
        try:
            return self.renew(item, now)
        except (EvidenceError, UnreachableError) as error:
            if kept is None:
                raise
            # Two facts: what is kept is over, and there is nothing newer.
            raise _again(error, f"{error.detail}; {fact}") from error

    def renew(self, item: Item, now: int) -> dict[str, str]:
        """The same, fetched anew: to fill a folder whose items are to last.

        Raises:
            StrongroomError: As for `find`.
        """
        service = self._service(item)
        if service is None:
            raise EvidenceError(COLLATERAL_MISSING, f"{item.name}: no service to fetch it from")
        return self._fetched(item, service, now)

    def _service(self, item: Item) -> _Service | None:
        if isinstance(item, DcapItem):
            pccs = self._pccs
            return None if pccs is None else lambda: pccs.fetch(item)
        kds = self._kds
        return None if kds is None else lambda: kds.fetch(item)

    def _fetched(self, item: Item, service: _Service, now: int) -> dict[str, str]:
        """What the service says, by this thread or by another that is at it already."""
        with self._lock:
            self._check_limits(item)
            flight = self._flights.get(item.name)
            leads = flight is None
            if flight is None:
                self._count_fetch()
                flight = self._flights[item.name] = _Flight()
            self._threads += 1
        try:
            if leads:
                self._fly(item, flight, service, now)
            elif not flight.landed.wait(self._patience):
                raise UnreachableError(COLLATERAL_UNREACHABLE, f"{item.name}: no answer yet")
        finally:
            with self._lock:
                self._threads -= 1
        if flight.error is not None:
            raise _again(flight.error, flight.error.detail) from flight.error
        if flight.parts is None:
            raise RuntimeError("the thread that fetched collateral has failed")
        return flight.parts

    def _fly(self, item: Item, flight: _Flight, service: _Service, now: int) -> None:
        try:
            parts = service()
            validity.check(item, parts)
            if not validity.period(parts).holds(now):
                # Not kept: what is kept may be better.
                raise EvidenceError(COLLATERAL_MISSING, f"as it was fetched, {_fact(item, parts, now)}")
            self.folder.keep(item, parts)
            flight.parts = parts
        except StrongroomError as error:
            flight.error = error
        finally:
            with self._lock:
                del self._flights[item.name]
                if flight.error is not None:
                    self._remember(item, flight.error)
            flight.landed.set()

    def _check_limits(self, item: Item) -> None:
        until, error = self._failures.get(item.name, (0.0, None))
        if error is not None:
            if self._clock() < until:
                raise _again(error, error.detail)
            del self._failures[item.name]
        if self._threads >= self._max_threads:
            raise UnreachableError(COLLATERAL_BUSY, expected=f"at most {self._max_threads} at once")

    def _count_fetch(self) -> None:
        now = self._clock()
        while self._fetches and self._fetches[0] <= now - _MINUTE:
            self._fetches.popleft()
        if len(self._fetches) >= self._max_fetches:
            raise UnreachableError(COLLATERAL_BUSY, expected=f"at most {self._max_fetches} in a minute")
        self._fetches.append(now)

    def _remember(self, item: Item, error: StrongroomError) -> None:
        while len(self._failures) >= _MAX_FAILURES:
            del self._failures[next(iter(self._failures))]
        self._failures[item.name] = (self._clock() + _FAILURE_SECONDS, error)


def open_source(
    folder: Path, *, pccs: str = "", kds: str = "", clock: Callable[[], float] = time.monotonic
) -> CollateralSource:
    """A source as it is configured.

    Args:
        folder: Where items are kept.
        pccs: Address of a PCCS or PCS; empty for none.
        kds: Address of a KDS; empty for none.
        clock: Monotonic time in seconds.

    Raises:
        ConfigError: `collateral-source-invalid`.
    """
    web = Web(clock=clock)
    return CollateralSource(
        CollateralFolder(folder),
        pccs=Pccs(pccs, web) if pccs else None,
        kds=Kds(kds, web) if kds else None,
        clock=clock,
    )


def _again(error: StrongroomError, detail: str) -> StrongroomError:
    """The same error for another thread: an exception that is raised collects the places it went through."""
    return type(error)(error.kind, detail, found=error.found, expected=error.expected)


def _fact(item: Item, parts: dict[str, str], now: int) -> str:
    span: Period = validity.period(parts)
    if now > span.expires:
        return f"{item.name} has expired on {_shown(span.expires)}"
    return f"{item.name} holds from {_shown(span.issued)} on only"


def _shown(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"
