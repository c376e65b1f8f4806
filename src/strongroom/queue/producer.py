"""The front end's side of the queue: records in, replies out.

client = connect("unix:///run/strongroom/queue.sock")
queue = RequestQueue(client, "pictures", max_length=1024)
replies = ReplyReader(client, "pictures", "frontend-1")
await queue.submit(SealedRecord("4f1c...", "7", sealed, "frontend-1", deadline))   # accepted when it returns
async for reply in replies:
...
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from strongroom.errors import QueueError, StrongroomError, UnreachableError
from strongroom.queue import documents as _documents
from strongroom.queue.client import FIRST_PAUSE, HOPELESS, LONGEST_PAUSE, Client, persist
from strongroom.queue.connection import Argument
from strongroom.queue.errors import QUEUE_FULL, QUEUE_PROTOCOL
from strongroom.queue.names import Keys, check_name, check_range
from strongroom.queue.records import (
    LARGEST_BODY,
    MAX_BODY,
    Reply,
    SealedRecord,
    decode_reply,
    encode_record,
)
from strongroom.queue.scripts import FULL, SUBMIT
from strongroom.queue.streams import read_count, read_entries

_log = logging.getLogger("strongroom.queue")

_READ_WAIT_MS: Final = 2_000


class RequestQueue:
    """Puts sealed records into a service's queue.

    Acceptance means that the server has acknowledged the record; from then on it is not lost by the death of
    any process, and it is answered once.

    Args:
        client: The queue server.
        service: Name of the service.
        shard: Number of the shard.
        max_length: Entries that may be in the queue, waiting or with a worker. One more is refused; none is
            dropped.
        max_body: Largest body in bytes.
        retry_for: Seconds for which a submission is tried again when the server is away.
        remember: Seconds for which an id is remembered, so that adding it again changes nothing. At least
            twice `retry_for`.

    Raises:
        ConfigError: `queue-name-invalid`.
    """

    def __init__(
        self,
        client: Client,
        service: str,
        shard: int = 0,
        *,
        max_length: int,
        max_body: int = MAX_BODY,
        retry_for: float = 10.0,
        remember: float = 60.0,
    ) -> None:
        self._client = client
        self._keys = Keys(service, shard)
        self._requests = self._keys.requests
        self._max_length = check_range(max_length, "max_length", 1, 10**9)
        self._max_body = check_range(max_body, "max_body", 1, LARGEST_BODY)
        self._retry_for = retry_for
        self._remember_ms = round(remember * 1000)
        check_range(self._remember_ms, "remember in ms", max(1, round(retry_for * 2000)), 86_400_000)

    async def submit(self, record: SealedRecord) -> None:
        """Add a record; return when the server has acknowledged it.

        Raises:
            QueueError: `queue-full`: too many entries, or the server's memory is used up; or
                `queue-record-invalid`, `queue-body-too-large`, or the server refused.
            UnreachableError: `queue-unreachable`. The record may or may not have been added; adding it again
                within `remember` seconds is safe.
        """
        fields = encode_record(record, max_body=self._max_body)
        keys = (self._requests, self._keys.marker(record.reply, record.id))

        async def add() -> object:
            return await self._client.run(SUBMIT, keys, self._max_length, self._remember_ms, *fields)

        if await persist(add, seconds=self._retry_for) == FULL:
            raise QueueError(QUEUE_FULL, expected=f"at most {self._max_length} entries")

    async def depth(self) -> int:
        """Entries in the queue, waiting or with a worker.

        Raises:
            QueueError: The server refused.
            UnreachableError: `queue-unreachable`.
        """
        length = await self._client.execute("XLEN", self._requests)
        if not isinstance(length, int):
            raise QueueError(QUEUE_PROTOCOL, "XLEN")
        return length

    async def documents(self, kind: str) -> dict[str, bytes]:
        """The documents of a kind that workers have published and that have not expired, by name; at most 32.

        Raises:
            ConfigError: `queue-name-invalid`.
            QueueError: The server refused.
            UnreachableError: `queue-unreachable`.
        """
        return await _documents.documents(self._client, self._keys.service, kind)


class ReplyReader:
    """The replies to one front end: `async for reply in reader`.

    One reader for each front end; it waits at the server, nothing polls. What it has read it deletes. While
    the server is away it tries again, with growing pauses up to a second; entries that are no replies are
    deleted and counted.

    Args:
        client: The queue server; the reader makes a connection of its own.
        service: Name of the service.
        frontend_id: This front end's name, as in the records' `reply`.
        shard: Number of the shard.
        max_body: Largest body in bytes.

    Attributes:
        malformed: Entries that were no replies.
    """

    def __init__(
        self, client: Client, service: str, frontend_id: str, shard: int = 0, *, max_body: int = MAX_BODY
    ) -> None:
        self._client = client.sibling()
        self._stream = Keys(service, shard).replies(check_name(frontend_id, "front end"))
        self._max_body = check_range(max_body, "max_body", 1, LARGEST_BODY)
        self._count = read_count(max_body)
        self._ready: deque[Reply] = deque()
        self._read: list[bytes] = []
        self._pause = 0.0
        self.malformed = 0

    def __aiter__(self) -> ReplyReader:
        return self

    async def __anext__(self) -> Reply:
        """The next reply, as soon as there is one.

        Raises:
            QueueError: `queue-denied` or `queue-tls-failed`: trying again would not help.
        """
        while not self._ready:
            try:
                self._take_over(await self._next_batch())
                self._pause = 0.0
            except (UnreachableError, QueueError) as error:
                if error.kind in HOPELESS:
                    raise
                await self._rest(error)
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Close the reader's connection."""
        await self._client.aclose()

    async def _next_batch(self) -> object:
        """Delete what was read and read on, in one write.

        Always from the start of the stream: what was read is gone from it, and the server's clock, from which
        ids are made, may have stepped back since.
        """
        commands: list[tuple[Argument, ...]] = []
        if self._read:
            commands.append(("XDEL", self._stream, *self._read))
        commands.append(("XREAD", "COUNT", self._count, "BLOCK", _READ_WAIT_MS, "STREAMS", self._stream, "0"))
        replies = await self._client.pipeline(*commands, wait=_READ_WAIT_MS / 1000)
        self._read = []
        return replies[-1]

    def _take_over(self, reply: object) -> None:
        for entry in read_entries(reply):
            self._read.append(entry.id)
            try:
                self._ready.append(decode_reply(entry.fields, max_body=self._max_body))
            except QueueError as error:
                self.malformed += 1
                _log.warning("an entry among the replies is no reply: %s", error)

    async def _rest(self, error: StrongroomError) -> None:
        if not self._pause:
            _log.warning("replies cannot be read, trying again: %s", error)
        self._pause = min(max(FIRST_PAUSE, 2 * self._pause), LONGEST_PAUSE)
        await asyncio.sleep(self._pause)
