"""Dead letters: entries that are no records, and records whose workers died too often.

A dead letter says what was wrong and what the entry looked like. Its body is kept only if it is small: the
host of the queue could otherwise fill the memory with them. The stream keeps the newest hundred.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from strongroom.errors import QueueError
from strongroom.queue.client import Client
from strongroom.queue.connection import Argument
from strongroom.queue.names import GROUP, Keys
from strongroom.queue.records import Reply, SealedRecord, encode_reply
from strongroom.queue.scripts import BURY
from strongroom.queue.streams import Entry

MAX_DEAD: Final = 100
"""Dead letters that are kept; older ones go. Their clients have had their answers."""

KEPT_BODY: Final = 1024 * 1024
"""Bytes up to which a dead letter holds the body itself, beside its size and digest."""

_KEPT_FIELDS: Final = 16
_KEPT_VALUE: Final = 256


async def bury(
    client: Client,
    keys: Keys,
    entry: Entry,
    record: SealedRecord | None,
    error: QueueError,
    *,
    reply_life_ms: int,
) -> bool:
    """Move an entry to the dead letters and, where it is a record, answer its front end with the error.

    Args:
        client: The queue server.
        keys: Where the entry is.
        entry: The entry.
        record: What it says, if it is a record.
        error: Why it is given up.
        reply_life_ms: How long the reply waits for a reader.

    Returns:
        Whether the entry was still pending; if not, somebody else has answered it.

    Raises:
        QueueError: The server refused.
        UnreachableError: `queue-unreachable`.
    """
    letter = [b"reason", error.code.encode(), b"entry", entry.id]
    letter += _remains(entry.fields) if record is None else _contents(record)
    names = [keys.requests, keys.dead]
    answer: tuple[bytes, ...] = ()
    if record is not None:
        names.append(keys.replies(record.reply))
        answer = encode_reply(problem_reply(record.id, error))
    arguments: tuple[Argument, ...] = (
        GROUP,
        entry.id,
        MAX_DEAD,
        reply_life_ms,
        len(letter),
        *letter,
        *answer,
    )
    return bool(await client.run(BURY, names, *arguments) == 1)


def problem_reply(record_id: str, error: QueueError) -> Reply:
    """An error as the reply to a record: problem details (RFC 9457)."""
    body = json.dumps(error.to_problem(), separators=(",", ":")).encode()
    return Reply(record_id, error.status, "application/problem+json", body)


def _contents(record: SealedRecord) -> list[bytes]:
    """The fields of a record; size and digest always stand for the body, which may be left out."""
    fields = {
        b"id": record.id.encode(),
        b"key": record.key.encode(),
        b"reply": record.reply.encode(),
        b"deadline": b"%d" % record.deadline,
        b"size": b"%d" % len(record.body),
        b"sha256": hashlib.sha256(record.body).hexdigest().encode(),
    }
    if len(record.body) <= KEPT_BODY:
        fields[b"body"] = record.body
    return [item for pair in fields.items() for item in pair]


def _remains(fields: object) -> list[bytes]:
    """The beginnings of the first fields of something that is no record."""
    if not isinstance(fields, list):
        return []
    values = [item[:_KEPT_VALUE] for item in fields[: 2 * _KEPT_FIELDS] if isinstance(item, bytes)]
    return [part for number, value in enumerate(values) for part in (b"field-%d" % number, value)]
