"""The worker's side of the queue: deliveries in, answers out.

    queue = WorkQueue(connect(url), "pictures", 0, "worker-0")
    await queue.start()
    while running:
        for delivery in await queue.take(16, 1000):
            ...                                         # meanwhile `await queue.touch()` every few seconds
        await queue.answer([(delivery, reply), ...])

Every entry is delivered at least once and answered once: the first answer wins, in the transaction that
acknowledges and deletes the entry. What a worker holds when it dies goes to the next that asks, after
`claim_after_ms` without a sign of life, or to the same worker when it comes back under its name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from strongroom.errors import QueueError, UnreachableError
from strongroom.queue import documents
from strongroom.queue.client import FIRST_PAUSE, HOPELESS, LONGEST_PAUSE, Client, persist
from strongroom.queue.intake import Delivery, Intake, Terms
from strongroom.queue.names import GROUP, Keys, check_name, check_range
from strongroom.queue.records import LARGEST_BODY, MAX_BODY, Reply, encode_reply
from strongroom.queue.scripts import ANSWER
from strongroom.queue.streams import read_count

__all__ = ["Delivery", "WorkQueue"]

_log = logging.getLogger("strongroom.queue")

# After the server has been away, other workers need up to `LONGEST_PAUSE` seconds to come back and touch what
# they hold; only then may it count as stale.
_GRACE: Final = 2.5 * LONGEST_PAUSE

_RELEASED_MS: Final = 3_600_000
_SUSPECT_PAUSE: Final = 0.02
_DAY_MS: Final = 86_400_000


class WorkQueue:
    """One worker's view of one shard of a service's queue.

    Of entries on the last delivery that they may have, a worker is given one at a time, so that a request
    that kills its worker does not take its neighbours with it to the dead letters.

    Args:
        client: The queue server; the queue makes a second connection of its own.
        service: Name of the service.
        shard: Number of the shard.
        consumer: This worker's name, the same after a restart, and no other living worker's.
        claim_after_ms: Silence after which another worker's entries are claimed. Touch what is held at least
            three times as often.
        max_deliveries: Deliveries after which an entry is given up.
        max_body: Largest body in bytes, of records and replies.
        retry_for: Seconds for which an answer is tried again when the server is away.
        reply_life: Seconds for which replies wait for their front end.

    Raises:
        ConfigError: `queue-name-invalid`.
    """

    def __init__(
        self,
        client: Client,
        service: str,
        shard: int,
        consumer: str,
        *,
        claim_after_ms: int = 10_000,
        max_deliveries: int = 3,
        max_body: int = MAX_BODY,
        retry_for: float = 30.0,
        reply_life: float = 60.0,
    ) -> None:
        self._client = client
        self._reader = client.sibling()
        self._keys = Keys(service, shard)
        self._terms = Terms(
            consumer=check_name(consumer, "consumer"),
            claim_after_ms=check_range(claim_after_ms, "claim_after_ms", 1, _DAY_MS),
            max_deliveries=check_range(max_deliveries, "max_deliveries", 1, 1000),
            max_body=check_range(max_body, "max_body", 1, LARGEST_BODY),
            reply_life_ms=check_range(round(reply_life * 1000), "reply_life in ms", 1, _DAY_MS),
        )
        self._most = read_count(max_body)
        self._retry_for = retry_for
        self._intake = Intake(client, self._reader, self._keys, self._terms)
        self._spare: list[Delivery] = []
        self._next_claim = 0.0
        self._failing = False

    @property
    def held(self) -> int:
        """Entries that were taken and not yet answered."""
        return len(self._intake.held)

    @property
    def buried(self) -> int:
        """Entries that this worker has moved to the dead letters."""
        return self._intake.buried

    async def start(self) -> None:
        """Create the consumer group, at the start of the stream, unless it exists.

        Raises:
            QueueError: The server refused.
            UnreachableError: `queue-unreachable`, after ten seconds of trying.
        """
        await persist(self._create_group, seconds=10.0)
        self._be_patient()

    async def take(self, count: int, block_ms: int) -> list[Delivery]:
        """Take up to `count` entries: own ones left from before, then stale ones of others, then new ones.

        Entries that are no records, or were delivered too often, go to the dead letters on the way. While the
        server is away this waits and tries again, and returns nothing when the time is over. A cancelled call
        loses nothing.

        Args:
            count: Most deliveries to return, from 1. Fewer are returned if bodies may be very large.
            block_ms: Milliseconds to wait for the first, or a tenth of a second longer; 0 does not wait.

        Raises:
            ConfigError: `queue-name-invalid`: `count` is less than 1.
            QueueError: `queue-denied` or `queue-tls-failed`: trying again would not help.
        """
        loop = asyncio.get_running_loop()
        count = min(check_range(count, "count", 1, 1 << 31), self._most)
        until = loop.time() + block_ms / 1000
        pause = FIRST_PAUSE
        while True:
            try:
                found = await self._find(count, max(0.0, until - loop.time()))
                self._failing = False
                pause = FIRST_PAUSE
            except (QueueError, UnreachableError) as error:
                await self._recover(error)
                await asyncio.sleep(min(pause, max(0.0, until - loop.time())))
                pause = min(2 * pause, LONGEST_PAUSE)
                found = []
            except BaseException:
                self._intake.own_left = True
                raise
            if found or loop.time() >= until:
                return found

    async def claim_stale(self, count: int = 64) -> list[Delivery]:
        """Take over up to `count` entries of workers silent for `claim_after_ms`. `take` does so by itself.

        Raises:
            QueueError: The server refused.
            UnreachableError: `queue-unreachable`.
        """
        return await self._intake.stale(min(count, self._most))

    async def touch(self, deliveries: Iterable[Delivery] | None = None) -> list[bool]:
        """Show that this worker lives and still works on these entries, so that nobody claims them.

        Args:
            deliveries: By default everything that was taken and not yet answered.

        Returns:
            For each whether it is still this worker's; for all True while the server is away or takes no
            writes, when nobody can claim.

        Raises:
            QueueError: `queue-denied` or `queue-tls-failed`: trying again would not help.
        """
        entries = list(self._intake.held) if deliveries is None else [each.entry_id for each in deliveries]
        try:
            return await self._intake.set_idle(entries, 0)
        except (QueueError, UnreachableError) as error:
            if error.kind in HOPELESS:
                raise
            _log.warning("what is held cannot be touched, trying again: %s", error)
            return [True] * len(entries)

    async def answer(self, answers: Sequence[tuple[Delivery, Reply]]) -> list[bool]:
        """Answer entries, each in one transaction that stores the reply, acknowledges and deletes.

        All answers given in one turn of the event loop, in this call or others, leave in one write. While the
        server is away this tries again.

        Returns:
            For each whether its answer was stored now. False: it was answered before, by another worker or by
            an attempt of this call whose confirmation was lost.

        Raises:
            QueueError: `queue-record-invalid` or `queue-body-too-large`, or the server refused.
            UnreachableError: `queue-unreachable`, after `retry_for` seconds.
            One of these means that at least one answer was not stored. Its entry is no longer held and will
            be delivered again; the other answers are not affected.
        """
        attempts = [self._answer(delivery, reply) for delivery, reply in answers]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome is True for outcome in outcomes]

    async def publish(self, kind: str, worker: str, document: bytes, ttl: float) -> None:
        """Store or replace this worker's document of a kind for `ttl` seconds.

        Kinds are names: `evidence`, `keyset`, `policy`.

        Raises:
            ConfigError: `queue-name-invalid`.
            QueueError: `queue-body-too-large`, or the server refused.
            UnreachableError: `queue-unreachable`, after `retry_for` seconds.
        """
        service = self._keys.service
        await persist(
            lambda: documents.publish(self._client, service, kind, worker, document, lifetime=ttl),
            seconds=self._retry_for,
        )

    async def rewrite(self) -> bool:
        """Ask the server to write its file anew without what was answered and deleted.

        To be called when the keys of an epoch are dropped, so that no ciphertext outlives them on the disk. A
        server that refuses, as one without an append-only file or with access rules may, keeps its file.

        Returns:
            Whether the server has begun; if not, that is logged.
        """
        try:
            await self._client.execute("BGREWRITEAOF")
        except (QueueError, UnreachableError) as error:
            _log.warning("the queue's file is not rewritten: %s", error)
            return False
        return True

    async def aclose(self) -> None:
        """Give back what was not answered, for others to claim at once, and close the second connection."""
        await self._reader.aclose()
        self._spare.clear()
        with suppress(QueueError, UnreachableError):
            await self._intake.let_go(_RELEASED_MS)

    async def _find(self, count: int, seconds: float) -> list[Delivery]:
        """One look for deliveries, at most `seconds` long and perhaps shorter."""
        intake, loop = self._intake, asyncio.get_running_loop()
        if not self._spare and not intake.reading:
            if self._failing:
                await intake.set_idle(list(intake.held), 0)
            if intake.own_left and (found := await intake.own(count)):
                return found
            if loop.time() >= self._next_claim:
                if found := await intake.stale(count):
                    return found
                self._next_claim = loop.time() + self._terms.claim_after_ms / 4000
            if intake.own_left:  # what is left waits until a suspect is answered: look again soon
                await asyncio.sleep(min(seconds, _SUSPECT_PAUSE))
                seconds = 0.0
            seconds = min(seconds, max(0.001, self._next_claim - loop.time()))
        if not self._spare:
            self._spare = await intake.fresh(count, round(seconds * 1000))
        found, self._spare = self._spare[:count], self._spare[count:]
        return found

    async def _recover(self, error: QueueError | UnreachableError) -> None:
        """After a failure anything may have been assigned that did not arrive."""
        if error.kind in HOPELESS:
            raise error
        if not self._failing:
            _log.warning("the queue cannot be read, trying again: %s", error)
        self._failing = True
        self._intake.own_left = True
        self._be_patient()
        if error.found == "NOGROUP":  # somebody has emptied the server
            with suppress(QueueError, UnreachableError):
                await self._create_group()

    def _be_patient(self) -> None:
        grace = min(_GRACE, self._terms.claim_after_ms / 1000)
        self._next_claim = asyncio.get_running_loop().time() + grace

    async def _create_group(self) -> None:
        try:
            await self._client.execute("XGROUP", "CREATE", self._keys.requests, GROUP, "0", "MKSTREAM")
        except QueueError as error:
            if error.found != "BUSYGROUP":
                raise

    async def _answer(self, delivery: Delivery, reply: Reply) -> bool:
        keys = (self._keys.requests, self._keys.replies(delivery.record.reply))
        entry = delivery.entry_id
        try:
            fields = encode_reply(reply, max_body=self._terms.max_body)
            stored = await persist(
                lambda: self._client.run(ANSWER, keys, GROUP, entry, self._terms.reply_life_ms, *fields),
                seconds=self._retry_for,
            )
        except BaseException:
            self._intake.own_left = True
            raise
        finally:
            self._intake.held.pop(entry, None)
        return bool(stored == 1)
