"""Requests into the queue, answers out of it, matched by id.

One reader per front end takes all replies of its own reply stream and wakes the request that waits. Nothing
polls, and no front end sees another's replies.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from strongroom.errors import StrongroomError
from strongroom.frontend.errors import ANSWER_TIMEOUT, DRAINING, REPLIES_LOST, SERVICE_BUSY, FrontendError
from strongroom.queue.records import Reply, SealedRecord

_log = logging.getLogger("strongroom.frontend")


class Submitter(Protocol):
    """What the exchange needs of the request queue."""

    async def submit(self, record: SealedRecord) -> None:
        """Return once the queue has acknowledged the record."""


class Exchange:
    """Sends sealed records and waits for their replies.

    Args:
        queue: Where records go.
        replies: Replies addressed to `reply_address`.
        reply_address: This front end's address, unique per start: a front end that comes back has lost its
            connections, so old replies have nobody to go to.
        max_pending: Requests that may wait at once.
        now: Wall clock in seconds.
        rng: Randomness for record ids.
    """

    def __init__(
        self,
        queue: Submitter,
        replies: AsyncIterator[Reply],
        reply_address: str,
        *,
        max_pending: int,
        now: Callable[[], float] = time.time,
        rng: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._queue = queue
        self._replies = replies
        self._reply_address = reply_address
        self._max_pending = max_pending
        self._now = now
        self._rng = rng
        self._waiting: dict[str, asyncio.Future[Reply | None]] = {}
        self._closing = False
        self._failure: FrontendError | None = None
        self._failed = asyncio.Event()

    @property
    def pending(self) -> int:
        """Requests that wait for an answer now."""
        return len(self._waiting)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Exchange]:
        """Read replies for as long as the context is open."""
        reader = asyncio.create_task(self._read(), name="replies")
        reader.add_done_callback(self._reader_ended)
        try:
            yield self
        finally:
            reader.remove_done_callback(self._reader_ended)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def check(self) -> None:
        """Do nothing while replies are read.

        Raises:
            FrontendError: `replies-lost`, the reader has ended.
        """
        if self._failure is not None:
            raise self._failure

    async def failed(self) -> None:
        """Return when the reader of replies has ended though the exchange runs."""
        await self._failed.wait()

    def _reader_ended(self, reader: asyncio.Task[None]) -> None:
        error = None if reader.cancelled() else reader.exception()
        # Only the code or the type: the text of a foreign error may quote what it met.
        cause = error.code if isinstance(error, StrongroomError) else type(error).__name__
        self._failure = FrontendError(REPLIES_LOST, "the reader of replies ended", found=cause)
        _log.error("%s", self._failure)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)
        self._failed.set()

    async def _read(self) -> None:
        async for reply in self._replies:
            waiting = self._waiting.get(reply.id)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)

    async def send(self, key: str, body: bytes, deadline: int) -> Reply:
        """Queue a body and wait for its reply until the deadline.

        Args:
            key: Key id of a sealed body, or the name of a control entry.
            body: Opaque bytes.
            deadline: Unix time in milliseconds.

        Raises:
            FrontendError: `service-busy`, `service-draining`, `replies-lost` or `answer-timeout`.
            QueueError: The queue is full or away.
        """
        self.check()
        if self._closing:
            raise FrontendError(DRAINING)
        if len(self._waiting) >= self._max_pending:
            raise FrontendError(SERVICE_BUSY, found=f"{len(self._waiting)} waiting")
        remaining = deadline / 1000 - self._now()
        if remaining <= 0:
            raise FrontendError(ANSWER_TIMEOUT, "the deadline has passed")
        record_id = self._rng(16).hex()
        future: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._waiting[record_id] = future
        try:
            async with asyncio.timeout(remaining):
                await self._queue.submit(SealedRecord(record_id, key, body, self._reply_address, deadline))
                reply = await future
        except TimeoutError:
            raise FrontendError(ANSWER_TIMEOUT) from None
        finally:
            del self._waiting[record_id]
        if reply is None:
            raise self._failure or FrontendError(REPLIES_LOST)
        return reply

    def close(self) -> None:
        """Take no more requests; those that wait go on."""
        self._closing = True
