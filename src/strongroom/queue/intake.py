"""How entries get into a worker's hands: new ones, its own of before, stale ones of others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.errors import QueueError
from strongroom.queue.burial import bury
from strongroom.queue.client import PASSING, Client
from strongroom.queue.connection import Argument
from strongroom.queue.errors import BODY_TOO_LARGE, QUEUE_PROTOCOL, REQUEST_POISONOUS
from strongroom.queue.names import GROUP, Keys
from strongroom.queue.records import LARGEST_BODY, SealedRecord, decode_record
from strongroom.queue.scripts import TOUCH
from strongroom.queue.streams import Entry, Pending, claimed_entries, pending_entries, read_entries

_log = logging.getLogger("strongroom.queue")

_PAGE: Final = 128


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record that this worker is to answer.

    Attributes:
        record: The record.
        entry_id: Its entry in the stream.
        deliveries: How often it has been delivered, this time included.
    """

    record: SealedRecord
    entry_id: bytes
    deliveries: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker takes.

    Attributes:
        consumer: The worker's name.
        claim_after_ms: Silence after which another worker's entries are claimed.
        max_deliveries: Deliveries after which an entry is given up.
        max_body: Largest body in bytes.
        reply_life_ms: How long replies wait for their front end.
    """

    consumer: str
    claim_after_ms: int
    max_deliveries: int
    max_body: int
    reply_life_ms: int


class Intake:
    """Takes entries from one request stream and remembers which of them are held.

    Args:
        client: For everything but waiting.
        reader: A connection of its own for waiting.
        keys: Where the stream is.
        terms: What to take.

    Attributes:
        held: Entries that were delivered to the caller and are not yet answered, with their deliveries.
        buried: Entries that this worker has moved to the dead letters.
        own_left: Whether entries that are this worker's may lie at the server without being held.
    """

    def __init__(self, client: Client, reader: Client, keys: Keys, terms: Terms) -> None:
        self._client = client
        self._reader = reader
        self._keys = keys
        self._terms = terms
        self._reading: asyncio.Task[object] | None = None
        self.held: dict[bytes, int] = {}
        self.buried = 0
        self.own_left = True

    @property
    def reading(self) -> bool:
        """Whether a cancelled `fresh` has left a read under way; `fresh` takes it up again."""
        return self._reading is not None

    async def fresh(self, count: int, block_ms: int) -> list[Delivery]:
        """New entries; waits for the first. More than `count` may come after a cancelled call."""
        if self._reading is None:
            command: list[Argument] = ["XREADGROUP", "GROUP", GROUP, self._terms.consumer, "COUNT", count]
            command += ["BLOCK", block_ms] if block_ms else []
            command += ["STREAMS", self._keys.requests, ">"]
            reading = self._reader.execute(*command, wait=block_ms / 1000)
            self._reading = asyncio.create_task(reading, name="strongroom-queue-read")
        # Not awaited itself: a cancellation would lose the entries that the server has assigned already.
        await asyncio.wait([self._reading])
        task, self._reading = self._reading, None
        return await self._deliver(read_entries(task.result()), {})

    async def own(self, count: int) -> list[Delivery]:
        """Entries that are this worker's and not held: it has died or lost a connection since."""
        found, self.own_left = await self._claim((self._terms.consumer,), count, 0)
        return found

    async def stale(self, count: int) -> list[Delivery]:
        """Entries whose worker has been silent for too long."""
        return (await self._claim((), count, self._terms.claim_after_ms))[0]

    async def set_idle(self, entries: list[bytes], idle_ms: int) -> list[bool]:
        """Set for how long these entries have been silent, if they are still this worker's; say which are."""
        if not entries:
            return []
        arguments: tuple[Argument, ...] = (GROUP, self._terms.consumer, idle_ms, *entries)
        kept = await self._client.run(TOUCH, [self._keys.requests], *arguments)
        if not isinstance(kept, list) or len(kept) != len(entries):
            raise QueueError(QUEUE_PROTOCOL, "XCLAIM")
        return [each == 1 for each in kept]

    async def let_go(self, idle_ms: int) -> None:
        """Make all that is this worker's look silent for so long, for others to claim at once."""
        self.held.clear()
        if self._reading is not None:
            # It may have been cancelled with the connection that it waited for.
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        own = [pending.id async for pending in self._pending((self._terms.consumer,), 0)]
        await self.set_idle(own, idle_ms)

    async def _claim(
        self, consumer: tuple[str, ...], count: int, idle_ms: int
    ) -> tuple[list[Delivery], bool]:
        """Claim pending entries that are not held; also say whether there may be more.

        An entry that gets its last chance is taken only if no other such is held: if the worker dies of one,
        the others have not been delivered with it.
        """
        chosen: dict[bytes, int] = {}
        last = self._terms.max_deliveries
        suspect = last in self.held.values()
        more = False
        async for pending in self._pending(consumer, idle_ms):
            deliveries = pending.deliveries + 1
            if pending.id in self.held:
                continue
            if len(chosen) == count or (suspect and deliveries == last):
                more = True
                continue
            suspect = suspect or deliveries == last
            chosen[pending.id] = deliveries
        if not chosen:
            return [], more
        claim: tuple[Argument, ...] = (GROUP, self._terms.consumer, idle_ms, *chosen)
        reply = await self._client.execute("XCLAIM", self._keys.requests, *claim)
        return await self._deliver(claimed_entries(reply), chosen), True

    async def _pending(self, consumer: tuple[str, ...], idle_ms: int) -> AsyncIterator[Pending]:
        """All pending entries, of one worker if one is named, silent for at least so long; page by page."""
        start = b"-"
        while True:
            query: tuple[Argument, ...] = (GROUP, "IDLE", idle_ms, start, "+", _PAGE, *consumer)
            page = pending_entries(await self._client.execute("XPENDING", self._keys.requests, *query))
            for pending in page:
                yield pending
            if len(page) < _PAGE:
                return
            start = b"(" + page[-1].id

    async def _deliver(self, entries: list[Entry], deliveries: Mapping[bytes, int]) -> list[Delivery]:
        """Turn entries into deliveries and hold them; bury those that cannot be delivered."""
        found: list[Delivery] = []
        for entry in entries:
            count = deliveries.get(entry.id, 1)
            record, error = self._judge(entry, count)
            if record is not None and error is None:
                found.append(Delivery(record, entry.id, count))
            elif error is not None:
                await self._bury(entry, record, error)
        self.held.update({delivery.entry_id: delivery.deliveries for delivery in found})
        return found

    def _judge(self, entry: Entry, deliveries: int) -> tuple[SealedRecord | None, QueueError | None]:
        """The record, if it is one, and why not to deliver it, if so."""
        try:
            record = decode_record(entry.fields, max_body=LARGEST_BODY)
        except QueueError as error:
            return None, error
        size, limit = len(record.body), self._terms.max_body
        if size > limit:
            return record, QueueError(BODY_TOO_LARGE, found=f"{size} bytes", expected=f"at most {limit}")
        if deliveries > self._terms.max_deliveries:
            return record, QueueError(REQUEST_POISONOUS, found=f"{deliveries - 1} deliveries")
        return record, None

    async def _bury(self, entry: Entry, record: SealedRecord | None, error: QueueError) -> None:
        """Bury an entry. If the server will not have it, leave it alone rather than fail its neighbours."""
        _log.warning("entry %s goes to the dead letters: %s", entry.id.decode(), error)
        try:
            buried = await bury(
                self._client, self._keys, entry, record, error, reply_life_ms=self._terms.reply_life_ms
            )
        except QueueError as refusal:
            if refusal.kind in PASSING:
                raise
            _log.warning("entry %s cannot be buried: %s", entry.id.decode(), refusal)
            self.held[entry.id] = 0
        else:
            self.buried += buried
