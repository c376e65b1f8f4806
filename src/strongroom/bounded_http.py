"""uvicorn's HTTP/1.1 protocol with bounds on what comes before and around a body.

    uvicorn.Config(app, http=bounded(ConnectionLimits()), ...)

The parser collects header fields, and the trailer fields of a chunked body, without a limit of its own; and
uvicorn waits for them without end, so that a few hundred silent connections would keep everybody else out.
How long a body may be is for the application to say.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from strongroom.errors import StrongroomError, define

PROBLEM: Final = b"application/problem+json"

BAD_REQUEST: Final = define(
    "bad-request",
    "The request is not valid",
    status=400,
    remedy="Correct the part that is named.",
)
HEADERS_TOO_LARGE: Final = define(
    "headers-too-large",
    "The header section is too large",
    status=431,
    remedy="Send at most 64 KiB and 128 fields.",
)


class HttpError(StrongroomError):
    """What came is no request within bounds."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds for one connection.

    Attributes:
        header_bytes: Most bytes of request line and header section, and of a trailer section.
        fields: Most header and trailer fields of a request.
        header_seconds: Seconds for a header section, and for the rest of a body that nobody reads.
        body_piece: Bytes of a body that are kept until the application takes them.
        body_seconds: Seconds for a whole body; None where the application has a time of its own.
    """

    header_bytes: int = 64 * 1024
    fields: int = 128
    header_seconds: float = 10.0
    body_piece: int = 256 * 1024
    body_seconds: float | None = None


class OneWrite:
    """A transport that sends in one piece what one turn of the loop writes.

    uvicorn writes the head of a response and its body apart, which are two system calls and two packets.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._out: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send these bytes when this turn of the loop is over."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def close(self) -> None:
        """Send what was written, and close."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and not self._transport.is_closing():
            self._transport.write(b"".join(out))


class BoundedProtocol(HttpToolsProtocol):
    """One connection within `limits`."""

    limits = ConnectionLimits()

    _count = 0
    _in_header = True
    _deadline: asyncio.TimerHandle | None = None
    _refusal: HttpError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base
        """Start the time for the first request's header section."""
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]  # as a transport
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser piece by piece, none longer than what may still come without a body."""
        view = memoryview(data)
        while view and not self.transport.is_closing():
            if self._in_header and self._deadline is None:
                self._arm()
            room = self.limits.header_bytes - self._count
            if room <= 0:
                self._refusal = self._too_large(f"more than {self.limits.header_bytes} bytes")
                self.send_400_response("")
                return
            piece, view = view[:room], view[room:]
            self._count += len(piece)
            super().data_received(data if len(piece) == len(data) else bytes(piece))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header or trailer field; an error ends the parser, and `send_400_response` tells it."""
        if len(self.headers) >= self.limits.fields:
            self._refusal = self._too_large(f"more than {self.limits.fields} fields")
            raise self._refusal
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The header section is there."""
        self._in_header = False
        self._count = 0
        self._disarm()
        if self.limits.body_seconds is not None:
            self._arm(self.limits.body_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body; what comes between pieces is bounded like a header section.

        The application is woken when a whole piece of `body_piece` bytes is there, or the end of the body,
        not for each packet.
        """
        self._count = 0
        cycle: RequestResponseCycle = self.cycle
        if cycle.response_complete or len(cycle.body) + len(body) >= self.limits.body_piece:
            super().on_body(body)
        else:
            cycle.body += body

    def on_message_complete(self) -> None:
        """The next bytes are the next request's."""
        self._in_header = True
        self._count = 0
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Give a request that was answered before its end a bounded time to end."""
        super().on_response_complete()
        if not self._in_header and self._deadline is None:
            self._arm()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- the base's signature
        """Refuse what is no request within bounds, as problem details, and close."""
        self._disarm()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            error = self._refusal or HttpError(BAD_REQUEST, "HTTP/1.1 message")
            body = msgspec.json.encode(error.to_problem())
            head = b"content-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[error.status] + head % (PROBLEM, len(body)) + body)
        # An earlier request of this connection still waits: an answer here would be taken for its answer.
        self.transport.close()

    def _too_large(self, found: str) -> HttpError:
        return HttpError(HEADERS_TOO_LARGE, found=found)

    def _arm(self, seconds: float | None = None) -> None:
        self._deadline = self.loop.call_later(seconds or self.limits.header_seconds, self._give_up)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()


def bounded(
    limits: ConnectionLimits, protocol: type[BoundedProtocol] = BoundedProtocol
) -> type[BoundedProtocol]:
    """The protocol with other limits; uvicorn makes one object of the class for each connection."""
    return type(protocol.__name__, (protocol,), {"limits": limits})
