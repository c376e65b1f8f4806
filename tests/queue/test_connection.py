"""The wire itself, against a transport in memory that plays an honest or a lying server."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import StrongroomError
from strongroom.queue.connection import _LARGE, Connection, ServerReplyError, packed


class Transport(asyncio.Transport):
    """Keeps what is written; hands over what a test receives."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False
        self._connection = connection
        connection.connection_made(self)

    def writelines(self, data: Any) -> None:
        self.writes.append(b"".join(data))

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    def receive(self, data: bytes, chunk: int = 1 << 16) -> None:
        for start in range(0, len(data), chunk):
            if self.aborted:
                return
            part = data[start : start + chunk]
            self._connection.get_buffer(-1)[: len(part)] = part
            self._connection.buffer_updated(len(part))


def pair(**options: Any) -> tuple[Connection, Transport]:
    connection = Connection(asyncio.get_running_loop(), **options)
    return connection, Transport(connection)


async def code(future: asyncio.Future[Any]) -> str:
    with pytest.raises(StrongroomError) as caught:
        await future
    return caught.value.code


@given(
    st.lists(
        st.binary(max_size=40)
        | st.text(max_size=20)
        | st.integers(-(2**70), 2**70)
        | st.integers(_LARGE - 2, _LARGE + 2).map(bytes),
        min_size=1,
        max_size=8,
    ).map(tuple)
)
def test_a_command_is_packed_as_hiredis_packs_it(arguments: tuple[Any, ...]) -> None:
    assert b"".join(packed(arguments)) == hiredis.pack_command(arguments)  # type: ignore[arg-type]


def test_a_large_argument_is_not_copied() -> None:
    body = bytes(_LARGE)
    assert any(piece is body for piece in packed(("SET", "k", body, "PX", 5)))
    assert len(packed(("SET", "k", body[1:]))) == 1


async def test_commands_of_one_turn_leave_in_one_write() -> None:
    connection, transport = pair()
    first = connection.send(("SET", b"k\x00", 1), 5)
    second = connection.send(("GET", "k"), 5)
    assert transport.writes == []
    await asyncio.sleep(0)
    assert transport.writes == [
        b"*3\r\n$3\r\nSET\r\n$2\r\nk\x00\r\n$1\r\n1\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
    ]
    connection.send(("PING",), 5)
    await asyncio.sleep(0)
    assert len(transport.writes) == 2
    transport.receive(b"+OK\r\n$3\r\na\xffb\r\n")
    assert [await first, await second] == [b"OK", b"a\xffb"]


async def test_replies_come_in_order_however_they_are_cut() -> None:
    connection, transport = pair()
    futures = [connection.send(("X", number), 5) for number in range(4)]
    transport.receive(b":1\r\n$-1\r\n*2\r\n$1\r\na\r\n*0\r\n-ERR no such\r\n", chunk=1)
    replies = [await future for future in futures]
    assert replies[:3] == [1, None, [b"a", []]]
    assert isinstance(replies[3], ServerReplyError)
    assert str(replies[3]) == "ERR no such"


async def test_a_reply_that_nobody_waits_for_any_more_is_dropped() -> None:
    connection, transport = pair()
    first, second = connection.send(("A",), 5), connection.send(("B",), 5)
    first.cancel()
    transport.receive(b":1\r\n:2\r\n")
    assert await second == 2
    assert connection.usable


@pytest.mark.parametrize(
    "nonsense", [b"@x\r\n", b"*99999999999999\r\n", b"%1\r\n*0\r\n+a\r\n", b":1\r\n:2\r\n"]
)
async def test_nonsense_ends_the_connection(nonsense: bytes) -> None:
    connection, transport = pair()
    waiting = [connection.send(("A",), 5)] if nonsense[:1] != b":" else []
    transport.receive(nonsense)
    assert transport.aborted
    await connection.closed
    assert not connection.usable
    for future in waiting:
        assert await code(future) == "queue-protocol"


async def test_a_reply_larger_than_the_bound_ends_the_connection() -> None:
    connection, transport = pair(max_reply=100)
    whole = connection.send(("A",), 5)
    waiting = connection.send(("B",), 5)
    transport.receive(b"$80\r\n" + b"x" * 80 + b"\r\n")
    assert await whole == b"x" * 80
    assert not transport.aborted
    transport.receive(b"$101\r\n" + b"x" * 60)
    assert not transport.aborted
    transport.receive(b"x" * 40)
    assert transport.aborted
    assert await code(waiting) == "queue-protocol"


async def test_a_silent_server_is_given_up_when_the_oldest_command_is_overdue() -> None:
    connection, transport = pair()
    patient = connection.send(("SLOW",), 60)
    assert not transport.aborted
    hasty = connection.send(("FAST",), 0.01)  # behind the patient one: cannot be overdue before it
    await asyncio.sleep(0.03)
    assert not transport.aborted
    transport.receive(b":1\r\n")
    assert await patient == 1
    hastier = connection.send(("FAST",), 0.02)
    assert await code(hasty) == "queue-unreachable"
    assert await code(hastier) == "queue-unreachable"
    assert transport.aborted


async def test_an_answered_command_is_never_overdue() -> None:
    connection, transport = pair()
    answered = connection.send(("A",), 0.01)
    transport.receive(b":1\r\n")
    assert await answered == 1
    await asyncio.sleep(0.03)
    assert connection.usable
    assert not transport.aborted


async def test_what_waits_fails_when_the_connection_is_lost() -> None:
    connection, transport = pair()
    waiting, forgotten = connection.send(("A",), 5), connection.send(("B",), 5)
    forgotten.cancel()
    assert connection.eof_received() is False
    cause = ConnectionResetError()
    connection.connection_lost(cause)
    assert connection.cause is cause
    assert await code(waiting) == "queue-unreachable"
    with pytest.raises(StrongroomError) as caught:
        connection.send(("C",), 5)
    assert caught.value.code == "queue-unreachable"
    connection.connection_lost(None)
    await asyncio.sleep(0)
    assert transport.writes == []


async def test_nothing_is_written_to_a_closing_transport() -> None:
    connection, transport = pair()
    waiting = connection.send(("A",), 5)
    connection.abort()
    assert await code(waiting) == "queue-unreachable"
    assert transport.writes == []


async def test_before_it_is_made_a_connection_takes_nothing() -> None:
    connection = Connection(asyncio.get_running_loop())
    assert not connection.usable
    connection.abort()
    with pytest.raises(StrongroomError) as caught:
        connection.send(("A",), 5)
    assert caught.value.code == "queue-unreachable"
    connection.connection_lost(None)
    assert connection.closed.done()


GOOD = [
    b"*1\r\n*2\r\n$6\r\nstream\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*4\r\n$2\r\nid\r\n$1\r\nx\r\n$4\r\nbody\r\n$3\r\nabc\r\n",
    b"*2\r\n:1\r\n$-1\r\n",
    b"+PONG\r\n",
    b"-OOM command not allowed\r\n",
    b"*4\r\n$3\r\n1-0\r\n$2\r\nw0\r\n:12\r\n:3\r\n",
]


def mutant(rng: random.Random) -> bytes:
    """Replies with lengths, types or bytes changed; the frame mostly stays."""
    data = bytearray(rng.choice(GOOD))
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[place] = rng.choice(b"0123456789-*$:+\r\n%~>_,#(=")
            case 1:
                data[place] = rng.randrange(256)
            case 2:
                del data[place : place + rng.randint(1, 3)]
                data = data or bytearray(b"+")
            case _:
                data[place:place] = rng.choice([b"\r\n", b"*1\r\n", b"$1\r\n", b"9", b"-", b":7\r\n"])
    return bytes(data)


async def test_20000_mutated_replies_end_in_a_reply_or_in_our_error() -> None:
    rng = random.Random(4)
    outcomes = {"reply": 0, "queue-protocol": 0, "queue-unreachable": 0}
    connection, transport = pair()
    for _ in range(20_000):
        if not connection.usable or transport.aborted:
            connection, transport = pair()
        future = connection.send(("A",), 60)
        transport.receive(mutant(rng), chunk=rng.choice([7, 1000]))
        if not future.done():  # the reply is incomplete, or was nonsense
            connection.abort()
        try:
            await future
            outcomes["reply"] += 1
        except StrongroomError as error:
            outcomes[error.code] += 1
    assert all(outcomes.values())
    assert sum(outcomes.values()) == 20_000


async def test_the_parser_is_hiredis() -> None:
    connection, _ = pair()
    assert isinstance(connection._parser, hiredis.Reader)
