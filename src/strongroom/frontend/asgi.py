"""Small helpers over raw ASGI: bodies are bounded before they are read, errors are problem details."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

from strongroom.bounded_http import BAD_REQUEST, PROBLEM
from strongroom.errors import StrongroomError
from strongroom.frontend.errors import BODY_TOO_LARGE, FrontendError, UnreadBodyError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

JSON = b"application/json"
_RETRY_AFTER = (b"retry-after", b"1")


class ClientGoneError(Exception):
    """The client closed the connection; there is nobody to answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first value of a request header; `name` in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


async def read_body(scope: Scope, receive: Receive, limit: int, claim: Callable[[int], None]) -> bytes:
    """Read a request body of at most `limit` bytes; a longer announced one is refused unread.

    Args:
        scope: The request.
        receive: Gives its body.
        limit: Most bytes.
        claim: Called with the size of each piece before it is kept; may refuse it with an error.

    Raises:
        FrontendError: `request-too-large` or `bad-request`, or what `claim` raises.
        ClientGoneError: The client went away.
    """
    announced = header(scope, b"content-length")
    if announced is not None:
        if not announced.isdigit():
            raise FrontendError(BAD_REQUEST, "Content-Length is not a number")
        if len(announced) > 15 or int(announced) > limit:
            raise UnreadBodyError(
                BODY_TOO_LARGE, found=announced.decode()[:20], expected=f"at most {limit} bytes"
            )
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise UnreadBodyError(
                BODY_TOO_LARGE, found=f"more than {limit}", expected=f"at most {limit} bytes"
            )
        claim(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def respond(send: Send, status: int, content_type: bytes, body: bytes, headers: Headers = ()) -> None:
    """Send one whole response."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", str(len(body)).encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, error: StrongroomError, headers: Headers = ()) -> None:
    """Send an error as problem details (RFC 9457); a body that was not read closes the connection."""
    extra = list(headers)
    if error.status in {429, 503}:
        extra.append(_RETRY_AFTER)
    if isinstance(error, UnreadBodyError):
        extra.append((b"connection", b"close"))
    await respond(send, error.status, PROBLEM, msgspec.json.encode(error.to_problem()), extra)
