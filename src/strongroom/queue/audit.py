"""Whether a queue server of the user's own is set up to keep what it accepts.

The embedded server is set up by us. Another may evict entries, or answer before it has written them; then
requests that a front end has accepted can be lost. Nothing breaks at once, so it is better said at the start.
"""

from __future__ import annotations

from typing import Final

from strongroom.errors import QueueError
from strongroom.queue.client import Client
from strongroom.queue.errors import QUEUE_DENIED, QUEUE_REFUSED
from strongroom.queue.names import is_name

_WANTED: Final = {
    "maxmemory-policy": (("noeviction",), "accepted requests can be evicted"),
    "appendonly": (("yes",), "accepted requests are lost when the server dies"),
    "appendfsync": (("no", "always"), "accepted requests can be lost when the server dies"),
}


async def server_warnings(client: Client) -> tuple[str, ...]:
    """What in the server's settings endangers accepted requests, as sentences for a log; none if all is well.

    Raises:
        UnreachableError: `queue-unreachable`.
    """
    try:
        reply = await client.execute("CONFIG", "GET", *_WANTED)
    except QueueError as error:
        if error.kind not in {QUEUE_DENIED, QUEUE_REFUSED}:
            raise
        return ("the queue server does not show its settings: see to noeviction, appendonly and appendfsync",)
    settings = _settings(reply)
    return tuple(
        f"the queue server has {name} {settings.get(name, 'unknown')}, not {' or '.join(good)}: {danger}"
        for name, (good, danger) in _WANTED.items()
        if settings.get(name) not in good
    )


def _settings(reply: object) -> dict[str, str]:
    """Names and values that are ours; whatever else the server says is left out."""
    if not isinstance(reply, list):
        return {}
    texts = [item.decode("latin-1") if isinstance(item, bytes) else "" for item in reply[:16]]
    known = zip(texts[::2], texts[1::2], strict=False)
    return {name: value for name, value in known if name in _WANTED and is_name(value)}
