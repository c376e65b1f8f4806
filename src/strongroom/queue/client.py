"""A client of one queue server: connects when needed, comes back after a loss, speaks in our errors."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

from strongroom.errors import QueueError, StrongroomError, UnreachableError
from strongroom.queue.connection import Argument, Connection, ServerReplyError
from strongroom.queue.errors import (
    QUEUE_DENIED,
    QUEUE_FULL,
    QUEUE_PROTOCOL,
    QUEUE_REFUSED,
    QUEUE_TLS_FAILED,
    QUEUE_UNREACHABLE,
)
from strongroom.queue.scripts import Script

_T = TypeVar("_T")

FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 1.0
_WORD: Final = re.compile(r"[A-Z]{2,20}", re.ASCII)

PASSING: Final = frozenset({QUEUE_UNREACHABLE, QUEUE_PROTOCOL})
"""Kinds of failure that may be gone after a new connection or a while: one command may be tried again."""

HOPELESS: Final = frozenset({QUEUE_DENIED, QUEUE_TLS_FAILED})
"""Kinds of failure that last until somebody changes a setting. Who serves for ever ends only for these."""

_MEANINGS: Final = {
    "OOM": QUEUE_FULL,
    "NOAUTH": QUEUE_DENIED,
    "WRONGPASS": QUEUE_DENIED,
    "NOPERM": QUEUE_DENIED,
    "LOADING": QUEUE_UNREACHABLE,
    "BUSY": QUEUE_UNREACHABLE,
    "READONLY": QUEUE_UNREACHABLE,
    "MASTERDOWN": QUEUE_UNREACHABLE,
    "CLUSTERDOWN": QUEUE_UNREACHABLE,
    "TRYAGAIN": QUEUE_UNREACHABLE,
    "MISCONF": QUEUE_UNREACHABLE,  # its disk is full: it takes no writes until there is room
    "NOREPLICAS": QUEUE_UNREACHABLE,
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a queue server listens and as whom to speak to it.

    Attributes:
        path: Path of a unix socket; then host and port are not used.
        host: Name or address.
        port: TCP port.
        database: Number of the database.
        user: User name, empty for the default user.
        password: Password; empty for none. Never shown.
        tls: TLS settings, `None` for none.
    """

    path: str = ""
    host: str = ""
    port: int = 6379
    database: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class Client:
    """Commands to one queue server over one connection that is made when needed.

    It belongs to the event loop that first uses it. Commands of any number of tasks share the connection and
    leave together, one write per turn of the loop. A command that waits at the server (`BLOCK`) would hold up
    the others: give it a client of its own, see `sibling`.

    Args:
        target: The server.
        timeout: Seconds for a connection attempt, and for the answer to a command.
    """

    def __init__(self, target: Target, *, timeout: float = 5.0) -> None:
        self.target = target
        self.timeout = timeout
        self._connection: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return self._connection is not None and self._connection.usable

    def sibling(self) -> Client:
        """Another client of the same server, with a connection of its own."""
        return Client(self.target, timeout=self.timeout)

    async def execute(self, *arguments: Argument, wait: float = 0.0) -> Any:
        """Run one command.

        Args:
            arguments: The command's name and arguments.
            wait: Seconds that the server itself may hold the command back (`BLOCK`).

        Returns:
            The reply: bytes, int, None or a list of such.

        Raises:
            QueueError: `queue-full` (out of memory), `queue-denied`, `queue-tls-failed`, `queue-refused` or
                `queue-protocol`.
            UnreachableError: `queue-unreachable`: no connection, or lost before the reply. The command may or
                may not have been run.
        """
        connection = self._connection
        if connection is None or not connection.usable:
            connection = await self._connect()
        return _checked(await connection.send(arguments, self.timeout + wait))

    async def pipeline(self, *commands: tuple[Argument, ...], wait: float = 0.0) -> list[Any]:
        """Run commands in this order over one connection; others may come in between.

        Returns:
            The replies.

        Raises:
            QueueError: As `execute`; the first error of the server. The other commands are run all the same.
            UnreachableError: As `execute`.
        """
        connection = self._connection
        if connection is None or not connection.usable:
            connection = await self._connect()
        replies = await asyncio.gather(*[connection.send(each, self.timeout + wait) for each in commands])
        return [_checked(reply) for reply in replies]

    async def run(self, script: Script, keys: Sequence[str], *arguments: Argument) -> Any:
        """Run a script, by its digest where the server knows it.

        Raises:
            QueueError: As `execute`.
            UnreachableError: As `execute`.
        """
        rest = (len(keys), *keys, *arguments)
        try:
            return await self.execute("EVALSHA", script.digest, *rest)
        except UnknownScriptError:
            return await self.execute("EVAL", script.text, *rest)

    async def aclose(self) -> None:
        """Drop the connection. What waits fails with `queue-unreachable`."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._connection is not None:
            self._connection.abort()
            await self._connection.closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _connect(self) -> Connection:
        """The connection; all who need one share one attempt."""
        if self._closed:
            raise UnreachableError(QUEUE_UNREACHABLE, "this client is closed")
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="strongroom-queue-connect")
            self._opening.add_done_callback(self._opened)
        # A cancelled caller must not take the attempt away from the others.
        return await asyncio.shield(self._opening)

    def _opened(self, task: asyncio.Task[Connection]) -> None:
        self._opening = None
        if not task.cancelled() and task.exception() is None:
            self._connection = task.result()

    async def _open(self) -> Connection:
        connection = Connection(asyncio.get_running_loop())
        try:
            async with asyncio.timeout(self.timeout):
                await self._dial(connection)
                await self._greet(connection)
        except BaseException as error:
            connection.abort()
            raise self._reason(error, connection.cause) from None
        return connection

    async def _dial(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        target = self.target
        if target.path:
            await loop.create_unix_connection(lambda: connection, target.path)
        else:
            await loop.create_connection(lambda: connection, target.host, target.port, ssl=target.tls)

    def _reason(self, error: BaseException, cause: BaseException | None) -> BaseException:
        """Why no connection came about, as one of our errors; a cancellation stays one."""
        for failure in (error, cause):  # a server that wants a certificate says so after the handshake
            if isinstance(failure, ssl.SSLError):
                return QueueError(QUEUE_TLS_FAILED, str(self.target), found=failure.reason)
        if isinstance(error, OSError | TimeoutError):
            return UnreachableError(QUEUE_UNREACHABLE, str(self.target), found=type(error).__name__)
        return error

    async def _greet(self, connection: Connection) -> None:
        """Log in, choose the database, and see that the server is ready."""
        target = self.target
        commands: list[tuple[Argument, ...]] = []
        if target.password:
            commands.append(("AUTH", target.user or "default", target.password))
        if target.database:
            commands.append(("SELECT", target.database))
        commands.append(("PING",))
        for reply in await asyncio.gather(*[connection.send(each, self.timeout) for each in commands]):
            _checked(reply)


class UnknownScriptError(StrongroomError):
    """The server does not know a script by its digest. Stays inside this module."""


async def persist(operation: Callable[[], Awaitable[_T]], *, seconds: float) -> _T:
    """Run an operation that may be run again, until it does not fail for want of a working server.

    The first retry follows after 10 ms, each later one after twice the pause, at most 1 s.

    Args:
        operation: What to run; it must do no harm when run twice.
        seconds: For how long to try again.

    Raises:
        UnreachableError: The server did not answer in all that time.
        QueueError: `queue-protocol`, likewise; any other at once.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    pause = FIRST_PAUSE
    while True:
        try:
            return await operation()
        except (UnreachableError, QueueError) as error:
            if error.kind not in PASSING or loop.time() + pause > until:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _checked(reply: Any) -> Any:
    """The reply, unless it is an error."""
    if isinstance(reply, ServerReplyError):
        raise _translated(reply)
    return reply


def _translated(reply: ServerReplyError) -> StrongroomError:
    """An error reply as one of ours. Of the server's text only the first word is taken over."""
    word = str(reply).split(" ", 1)[0]
    if word == "NOSCRIPT":
        return UnknownScriptError(QUEUE_REFUSED)
    kind = _MEANINGS.get(word, QUEUE_REFUSED)
    found = word if _WORD.fullmatch(word) else None
    if kind is QUEUE_UNREACHABLE:
        return UnreachableError(kind, found=found)
    return QueueError(kind, found=found)
