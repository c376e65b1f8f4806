"""The shapes of what stream commands answer. The server is not trusted to keep to them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeGuard

from strongroom.errors import QueueError
from strongroom.queue.connection import MAX_REPLY
from strongroom.queue.errors import QUEUE_PROTOCOL

MAX_ENTRIES: Final = 1024
"""Lines in one reply; no command of ours asks for more."""

_ENTRY_ID: Final = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream; what its fields mean has not been looked at."""

    id: bytes
    fields: object


@dataclass(frozen=True, slots=True)
class Pending:
    """One line of XPENDING: an entry that was delivered and not acknowledged.

    Attributes:
        id: The entry.
        deliveries: How often it has been delivered.
    """

    id: bytes
    deliveries: int


def read_count(max_body: int) -> int:
    """How many entries to ask for at once, so that a reply stays below `connection.MAX_REPLY` bytes."""
    return max(1, min(64, MAX_REPLY // (max_body + 4096)))


def read_entries(reply: object) -> list[Entry]:
    """The entries that XREAD or XREADGROUP gave for one stream; none if the time ran out.

    Raises:
        QueueError: `queue-protocol`.
    """
    if reply is None:
        return []
    if not _is_list(reply) or len(reply) != 1 or not _is_list(reply[0]) or len(reply[0]) != 2:
        raise QueueError(QUEUE_PROTOCOL, "XREAD")
    return claimed_entries(reply[0][1])


def claimed_entries(reply: object) -> list[Entry]:
    """The entries that XCLAIM or XRANGE gave; those deleted meanwhile (null) are left out.

    Raises:
        QueueError: `queue-protocol`.
    """
    return [_entry(item) for item in _lines(reply) if item is not None]


def pending_entries(reply: object) -> list[Pending]:
    """The lines of XPENDING with a range.

    Raises:
        QueueError: `queue-protocol`.
    """
    return [_pending(item) for item in _lines(reply)]


def _lines(reply: object) -> list[object]:
    if not _is_list(reply) or len(reply) > MAX_ENTRIES:
        raise QueueError(QUEUE_PROTOCOL, "entries of a stream")
    return reply


def _entry(item: object) -> Entry:
    if not _is_list(item) or len(item) != 2 or not _is_entry_id(item[0]):
        raise QueueError(QUEUE_PROTOCOL, "entry of a stream")
    return Entry(item[0], item[1])


def _pending(item: object) -> Pending:
    if not _is_list(item) or len(item) != 4 or not _is_entry_id(item[0]):
        raise QueueError(QUEUE_PROTOCOL, "XPENDING")
    deliveries = item[3]
    if not isinstance(deliveries, int) or not 0 <= deliveries < 1 << 63:
        raise QueueError(QUEUE_PROTOCOL, "XPENDING")
    return Pending(item[0], deliveries)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _is_entry_id(value: object) -> TypeGuard[bytes]:
    return isinstance(value, bytes) and _ENTRY_ID.fullmatch(value) is not None
