"""What a worker does for its service beside computing: fresh evidence, newer keys, public documents.

Every quarter of the evidence's life it asks the broker for a beacon. A beacon that names a newer epoch
makes it attest again and take the keys of that epoch; then it makes evidence over the beacon and publishes
it with the keyset and the release policy. In between it looks at the beacon every ten seconds, so that it
learns of a rotation soon. While the broker is away it goes on with the keys that it has, and tries again
with growing pauses; it drops each key when its time is over. When the newer keys are refused
(the broker no longer releases to this worker, or they are for another model than the one loaded) it ends:
what it holds is honoured less long than it knows, and others must get the requests that it cannot open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.beacon import Beacon, SignedBeacon
from strongroom.broker.errors import (
    BROKER_REFUSED,
    SESSION_EXPIRED,
    SESSION_SPENT,
    SESSION_UNKNOWN,
    TOKEN_EXPIRED,
    TOKEN_INVALID,
    TOKEN_MISSING,
)
from strongroom.errors import EXIT_REFUSED, BrokerError, StrongroomError
from strongroom.worker.enroll import Enrolment
from strongroom.worker.errors import KEYS_REFUSED, WorkerError
from strongroom.worker.evidence import Beacons, EvidenceSource
from strongroom.worker.keys import ServiceKeys
from strongroom.worker.logging import Journal

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
LOOK_EVERY: Final = 10.0
"""Seconds between two looks at the beacon: for so long a worker may not know of a rotation."""

HURRY_AT_MOST_EVERY: Final = 2.0
"""Seconds between two rounds that requests with unknown keys may cause."""

_PASSING: Final = frozenset(
    kind.code
    for kind in (
        BROKER_REFUSED,
        SESSION_EXPIRED,
        SESSION_SPENT,
        SESSION_UNKNOWN,
        TOKEN_EXPIRED,
        TOKEN_INVALID,
        TOKEN_MISSING,
    )
)
"""Refusals that a new session mends, and what a proxy before a broker that is away may answer."""

Forget = Callable[[], Awaitable[object]]
"""Does away with ciphertext that was left behind by an epoch whose key is dropped."""

Publish = Callable[[str, bytes, float], Awaitable[None]]
"""Publishes a document: kind, bytes, seconds that it is good for."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a worker holds and shows.

    Attributes:
        enrolment: The dealings with the broker, which block.
        keys: The service keys.
        beacons: Checks beacons.
        source: Makes evidence, which blocks.
        policy: Text of the release policy.
        max_age: Seconds for which clients accept evidence.
    """

    enrolment: Enrolment
    keys: ServiceKeys
    beacons: Beacons
    source: EvidenceSource
    policy: bytes
    max_age: float


@dataclass(frozen=True, slots=True)
class _Round:
    """What one round has found out.

    Attributes:
        complete: Whether the broker was there and everything is as it should be.
        evidence: The new evidence document, if one could be made.
    """

    complete: bool
    evidence: bytes | None


class Duties:
    """Keeps keys and evidence fresh.

    Args:
        held: What this worker holds and shows.
        publish: Publishes a document.
        forget: Called when the key of an epoch has been dropped.
        executor: One thread in which everything that blocks is done, one thing at a time.
        journal: The log.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        held: Credentials,
        publish: Publish,
        forget: Forget,
        *,
        executor: Executor,
        journal: Journal,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._enrolment = held.enrolment
        self._keys = held.keys
        self._beacons = held.beacons
        self._source = held.source
        self._policy = held.policy
        self._max_age = held.max_age
        self._publish = publish
        self._forget = forget
        self._executor = executor
        self._journal = journal
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._renewing: asyncio.Task[bool] | None = None
        self._last_round = float("-inf")
        self._over = False
        self._rounds = asyncio.Event()

    async def run(self) -> None:
        """Renew for ever, a first time at once.

        Raises:
            WorkerError: `service-keys-refused`: no key is left, or newer ones are refused. Such a worker must
                not take requests.
            BrokerError: The broker releases newer keys to others, and refuses them to this worker.
        """
        pause = FIRST_PAUSE
        while True:
            if await self.renew():
                pause = FIRST_PAUSE
                await self._sleep(self._next_round())
            else:
                await self._sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE, self._max_age / 4)

    async def renew(self) -> bool:
        """One round; callers at the same time share it. Says whether everything is as it should be.

        Raises:
            WorkerError: `service-keys-refused`: no key is left, or newer ones are refused.
            BrokerError: The broker refuses newer keys.
        """
        if self._renewing is None:
            self._renewing = self._loop.create_task(self._round(), name="renew")
            self._renewing.add_done_callback(self._renewed)
        return await asyncio.shield(self._renewing)

    async def hurry(self) -> bool:
        """A round out of turn, because a request was sealed to a key that is not held.

        Returns:
            Whether a newer epoch is held now.
        """
        before = self._keys.newest
        if self._renewing is not None or self._loop.time() - self._last_round >= HURRY_AT_MOST_EVERY:
            with suppress(BrokerError, WorkerError):  # `run` wakes up and ends the worker
                await self.renew()
        return self._keys.newest > before

    async def evidence(self, nonce: bytes) -> bytes:
        """The evidence document over a client's nonce.

        Raises:
            WorkerError: `nonce-invalid`, or `service-keys-refused` if no key is held.
            EvidenceError: No quote could be had.
        """
        return await self._loop.run_in_executor(self._executor, self._over_nonce, nonce)

    async def _sleep(self, seconds: float) -> None:
        """Wait, but not beyond a rotation, nor the end of a key that a round out of turn brings meanwhile."""
        due = self._loop.time() + seconds
        while not self._over:
            self._rounds.clear()
            look = self._loop.time() + LOOK_EVERY
            try:
                async with asyncio.timeout_at(min(due, look)):
                    await self._rounds.wait()
            except TimeoutError:
                if due <= look or await self._loop.run_in_executor(self._executor, self._rotated):
                    return
            else:
                due = min(due, self._loop.time() + self._next_round())

    def _renewed(self, task: asyncio.Task[bool]) -> None:
        self._renewing = None
        self._over = not task.cancelled() and task.exception() is not None
        self._last_round = self._loop.time()
        self._rounds.set()

    def _next_round(self) -> float:
        """Seconds to the next round: a quarter of the evidence's life, or the end of an epoch before that."""
        ends = [until - self._now() for until in self._keys.ends]
        return max(0.05, min([self._max_age / 4, *ends]))

    def _rotated(self) -> bool:
        """In the executor's thread: whether the broker is at a newer epoch; no, if it cannot be asked."""
        with suppress(StrongroomError):
            return self._ask()[1].epoch > self._keys.newest
        return False

    async def _round(self) -> bool:
        held = set(self._keys.epochs)
        found = await self._loop.run_in_executor(self._executor, self._renew)
        if held - set(self._keys.epochs):
            await self._forget()
        current = self._keys.current
        if current is None:
            raise WorkerError(KEYS_REFUSED, "no epoch is honoured any more")
        try:
            if found.evidence is not None:
                await self._publish("evidence", found.evidence, self._max_age)
            await self._publish("keyset", current.signed.to_json_bytes(), self._max_age)
            await self._publish("policy", self._policy, self._max_age)
        except StrongroomError as error:
            self._journal.failure("publish", error)
            return False
        return found.complete

    def _renew(self) -> _Round:
        """In the executor's thread: beacon, perhaps newer keys, evidence."""
        for epoch in self._keys.drop_expired(int(self._now())):
            self._journal.event("epoch-dropped", epoch=epoch)
        try:
            signed, beacon = self._ask()
        except StrongroomError as error:
            self._journal.failure("beacon", error)
            return _Round(complete=False, evidence=None)
        complete = beacon.epoch <= self._keys.newest or self._take_new_keys()
        evidence = self._over_beacon(signed)
        return _Round(complete=complete and evidence is not None, evidence=evidence)

    def _ask(self) -> tuple[SignedBeacon, Beacon]:
        try:
            return self._beacons.accept(self._enrolment.beacon())
        finally:
            self._enrolment.close()

    def _take_new_keys(self) -> bool:
        try:
            self._enrolment.attest()
            self._keys.accept(self._enrolment.service_keys(), int(self._now()))
        except StrongroomError as error:
            self._journal.failure("rotation", error)
            if _is_refusal(error):
                raise
            return False
        finally:
            self._enrolment.close()
        self._journal.event("epoch", epoch=self._keys.newest, count=len(self._keys.epochs))
        return True

    def _over_beacon(self, signed: SignedBeacon) -> bytes | None:
        current = self._keys.current
        if current is None:
            return None
        try:
            return self._source.over_beacon(signed, current.keyset.digest()).to_json_bytes()
        except StrongroomError as error:
            self._journal.failure("evidence", error)
            return None

    def _over_nonce(self, nonce: bytes) -> bytes:
        current = self._keys.current
        if current is None:
            raise WorkerError(KEYS_REFUSED, "no epoch is honoured any more")
        return self._source.over_nonce(nonce, self._beacons.newest, current.keyset.digest()).to_json_bytes()


def _is_refusal(error: StrongroomError) -> bool:
    """Whether trying again does not mend it."""
    ours = isinstance(error, BrokerError | WorkerError)
    return ours and error.exit_code == EXIT_REFUSED and error.code not in _PASSING
