"""One connection to a Valkey or Redis server: commands out, replies in, in the same order.

All commands given in one turn of the event loop leave in one write, which is what makes many small requests
cheap. The parser is hiredis. This stands in for redis-py, whose import alone takes most of a second without
bytecode files, as in the enclave, and of which we would use a hundredth part.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import hiredis

from strongroom.errors import QueueError, UnreachableError
from strongroom.queue.errors import QUEUE_PROTOCOL, QUEUE_UNREACHABLE

Argument: TypeAlias = bytes | str | int

MAX_REPLY: Final = 1 << 32
"""Bytes that a server may send before a reply is complete: 63 entries with the largest default body."""

_LARGE: Final = 32 * 1024
"""Bytes from which an argument is sent as it is, instead of being copied into the command."""

_RECEIVE: Final = 256 * 1024
_NOTHING: Final = object()


class ServerReplyError(Exception):
    """An error reply of the server. It never leaves the queue layer."""


@dataclass(slots=True)
class _Waiting:
    """A command that has been given and not yet answered; `due` is in the loop's time."""

    future: asyncio.Future[Any]
    due: float


def packed(arguments: tuple[Argument, ...]) -> list[bytes]:
    """A command as the wire has it, in pieces; a large argument is a piece of its own, not a copy."""
    if not any(isinstance(each, bytes) and len(each) >= _LARGE for each in arguments):
        return [hiredis.pack_command(arguments)]  # type: ignore[arg-type]  # its stub allows one only
    pieces, small = [], b"*%d\r\n" % len(arguments)
    for each in arguments:
        data = each if isinstance(each, bytes) else str(each).encode()
        small += b"$%d\r\n" % len(data)
        if len(data) < _LARGE:
            small += data
        else:
            pieces += [small, data]
            small = b""
        small += b"\r\n"
    return [*pieces, small]


class Connection(asyncio.BufferedProtocol):
    """The protocol of one connection. Not reusable once lost.

    Args:
        loop: The running event loop.
        max_reply: Bytes that may come in before a reply is complete.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, max_reply: int = MAX_REPLY) -> None:
        self._loop = loop
        self._max_reply = max_reply
        self._parser = hiredis.Reader(
            protocolError=ServerReplyError, replyError=ServerReplyError, notEnoughData=_NOTHING
        )
        self._buffer = memoryview(bytearray(_RECEIVE))  # asyncio's TLS slices it, which must not copy
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._waiting: deque[_Waiting] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._unparsed = 0
        self._nonsense = False
        self.cause: BaseException | None = None
        self.closed: asyncio.Future[None] = loop.create_future()

    @property
    def usable(self) -> bool:
        """Whether commands can be sent."""
        return self._transport is not None and not self.closed.done()

    def send(self, arguments: tuple[Argument, ...], patience: float) -> asyncio.Future[Any]:
        """Give a command; it leaves with all others of this turn of the loop.

        Args:
            arguments: The command and its arguments.
            patience: Seconds after which a silent server is taken for dead and the connection dropped.

        Returns:
            A future of the reply as hiredis gives it. An error reply comes as a `ServerReplyError` value.

        Raises:
            UnreachableError: `queue-unreachable`: the connection is lost.
        """
        if not self.usable:
            raise UnreachableError(QUEUE_UNREACHABLE, "the connection is lost")
        future: asyncio.Future[Any] = self._loop.create_future()
        due = self._loop.time() + patience
        self._waiting.append(_Waiting(future, due))
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += packed(arguments)
        if self._watch is None or self._watch.when() > due:
            self._arm(due)
        return future

    def abort(self) -> None:
        """Drop the connection now; what waits fails with `queue-unreachable`."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 -- the loop's interface
        """Called by the loop."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the loop when bytes have come in."""
        self._parser.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # any buffer is taken
        self._unparsed += nbytes
        try:
            while (reply := self._parser.gets()) is not _NOTHING:
                self._unparsed = 0
                self._settle(reply)
        except (ServerReplyError, TypeError, ValueError, MemoryError, IndexError):
            self._give_up()  # hiredis cannot go on, or a reply came that nobody asked for
        if self._unparsed > self._max_reply:
            self._give_up()

    def eof_received(self) -> bool:
        """Called by the loop: the server has closed its side."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: everything that waits fails."""
        self.cause = exc
        if self._watch is not None:
            self._watch.cancel()
        self._out.clear()
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(
                    QueueError(QUEUE_PROTOCOL) if self._nonsense else UnreachableError(QUEUE_UNREACHABLE)
                )
        if not self.closed.done():
            self.closed.set_result(None)

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(self._out)
        self._out = []

    def _settle(self, reply: object) -> None:
        future = self._waiting.popleft().future
        if not future.done():
            future.set_result(reply)

    def _give_up(self) -> None:
        self._nonsense = True
        self.abort()

    def _arm(self, due: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        """Drop the connection if the oldest command is overdue; else look again when it may be."""
        self._watch = None
        if not self._waiting:
            return
        due = self._waiting[0].due
        if due <= self._loop.time():
            self.abort()
        else:
            self._arm(due)
