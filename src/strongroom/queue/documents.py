"""Documents that workers publish for clients: their evidence, the keyset, the release policy.

They lie beside shard 0 and expire unless renewed. Neither this layer nor the front end trusts them: the
client appraises them before it seals anything.
"""

from __future__ import annotations

from typing import Final

from strongroom.errors import QueueError
from strongroom.queue.client import Client
from strongroom.queue.errors import BODY_TOO_LARGE, QUEUE_PROTOCOL
from strongroom.queue.names import Keys, check_name, check_range, is_name
from strongroom.queue.scripts import PUBLISH

MAX_DOCUMENT: Final = 2 * 1024 * 1024
"""Bytes of one document."""

MAX_DOCUMENTS: Final = 32
"""Documents of one kind that are read; those that expire last come first."""

_MAX_LIFE: Final = 30 * 86_400


async def publish(
    client: Client, service: str, kind: str, worker: str, document: bytes, *, lifetime: float
) -> None:
    """Store or replace one worker's document of a kind.

    Args:
        client: The queue server.
        service: Name of the service.
        kind: Kind of document, a name: `evidence`, `keyset`, `policy`.
        worker: Whose document it is, a name.
        document: At most 2 MiB.
        lifetime: Seconds until it expires, 0.001 to 30 days.

    Raises:
        ConfigError: `queue-name-invalid`.
        QueueError: `queue-body-too-large`, or the server refused.
        UnreachableError: `queue-unreachable`.
    """
    keys = Keys(service)
    check_name(kind, "kind of document")
    check_name(worker, "worker")
    life_ms = check_range(round(lifetime * 1000), "lifetime in ms", 1, _MAX_LIFE * 1000)
    if len(document) > MAX_DOCUMENT:
        raise QueueError(
            BODY_TOO_LARGE, kind, found=f"{len(document)} bytes", expected=f"at most {MAX_DOCUMENT}"
        )
    names = (keys.document(kind, worker), keys.document_index(kind))
    await client.run(PUBLISH, names, life_ms, worker, document)


async def documents(client: Client, service: str, kind: str) -> dict[str, bytes]:
    """The documents of a kind that have not expired, by worker; at most 32.

    Entries of the index that are no names, and documents that are too large, are left out.

    Raises:
        ConfigError: `queue-name-invalid`.
        QueueError: The server refused or answered nonsense.
        UnreachableError: `queue-unreachable`.
    """
    keys = Keys(service)
    check_name(kind, "kind of document")
    listed = await client.execute("ZREVRANGE", keys.document_index(kind), 0, MAX_DOCUMENTS - 1)
    workers = [name for item in _list(listed, MAX_DOCUMENTS) if (name := _name(item)) is not None]
    if not workers:
        return {}
    found = await client.execute("MGET", *(keys.document(kind, worker) for worker in workers))
    return {
        worker: document
        for worker, document in zip(workers, _list(found, len(workers)), strict=False)
        if isinstance(document, bytes) and len(document) <= MAX_DOCUMENT
    }


def _list(reply: object, most: int) -> list[object]:
    if not isinstance(reply, list) or len(reply) > most:
        raise QueueError(QUEUE_PROTOCOL, "documents")
    return reply


def _name(item: object) -> str | None:
    if not isinstance(item, bytes):
        return None
    text = item.decode("latin-1")
    return text if is_name(text) else None
