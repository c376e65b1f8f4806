"""Bounds on what a client may make the front end hold, over real connections."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from strongroom.bounded_http import ConnectionLimits
from strongroom.config import BrokerConfig, Config, FrontendConfig, QueueConfig
from strongroom.frontend.asgi import ClientGoneError, respond
from strongroom.frontend.errors import FrontendError
from strongroom.frontend.intake import Intake
from strongroom.frontend.server import http_server

LIMITS = ConnectionLimits(header_seconds=0.3)
CONFIG = Config(
    "pictures",
    QueueConfig("unix:///nowhere"),
    BrokerConfig("http://nowhere", "ed25519+mldsa65:"),
    frontend=FrontendConfig(listen="127.0.0.1:0"),
)
POST = b"POST /.well-known/ohttp-gateway HTTP/1.1\r\nHost: a\r\nContent-Type: message/ohttp-req\r\n"
LIVE = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture
async def connect(frontend) -> AsyncIterator[Connect]:
    async for each in connecting(frontend):
        yield each


@pytest.fixture
async def connect_to_sealed_only(sealed_only) -> AsyncIterator[Connect]:
    async for each in connecting(sealed_only):
        yield each


async def connecting(frontend: Any, app: Any = None) -> AsyncIterator[Connect]:
    """Connections to a front end, or another application in its place, that listens at a port."""
    server = http_server(CONFIG, app or frontend.app, frontend.exchange, LIMITS)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    writers: list[asyncio.StreamWriter] = []

    async def connection() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    yield connection
    for writer in writers:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    server.should_exit = True
    await serving


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, str, bytes]:
    """Status, code if it is a problem, and header section."""
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
    code = json.loads(body)["code"] if b"problem+json" in head else ""
    return int(head.split()[1]), code, head


async def closes(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection is closed."""
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except OSError:
            return b""


async def send_until_closed(writer: asyncio.StreamWriter, piece: bytes, total: int) -> int:
    """Send `total` bytes or until the peer closes; bytes sent."""
    sent = 0
    with suppress(OSError):
        while sent < total and not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
            await asyncio.sleep(0)
    return sent


@pytest.mark.parametrize("start", [b"X: ", b"X: 1\r\nY: "])
async def test_a_header_section_of_a_mebibyte_is_refused(connect, start: bytes) -> None:
    reader, writer = await connect()
    writer.write(LIVE + start + b"a" * 65536)
    assert (await answer_of(reader))[:2] == (431, "headers-too-large")
    await send_until_closed(writer, b"a" * 65536, 1 << 20)
    assert await closes(reader) == b""


async def test_a_url_of_a_mebibyte_is_refused(connect) -> None:
    reader, writer = await connect()
    writer.write(b"GET /" + b"a" * 65536)
    assert (await answer_of(reader))[:2] == (431, "headers-too-large")


@pytest.mark.parametrize(("fields", "status"), [(127, 200), (128, 431), (2000, 431)])
async def test_more_than_128_fields_are_refused(connect, fields: int, status: int) -> None:
    reader, writer = await connect()
    writer.write(LIVE + b"a: b\r\n" * fields + b"\r\n")
    assert (await answer_of(reader))[0] == status


@pytest.mark.parametrize("trailer", [b"X: " + b"a" * 300_000, b"a: b\r\n" * 130])
async def test_a_trailer_section_is_bounded_too(connect, frontend, trailer: bytes) -> None:
    reader, writer = await connect()
    writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + trailer)
    assert b" 200 " not in (await closes(reader))
    assert frontend.queue.records == []


async def test_a_plain_body_that_nobody_reads_closes_the_connection(connect_to_sealed_only) -> None:
    reader, writer = await connect_to_sealed_only()
    writer.write(
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 1000
    )
    started = time.monotonic()
    assert (await answer_of(reader))[:2] == (403, "plain-disabled")
    assert await closes(reader) == b""
    assert time.monotonic() - started < LIMITS.header_seconds


async def test_bytes_that_are_not_http_are_refused_as_a_problem(connect) -> None:
    reader, writer = await connect()
    writer.write(b"\x16\x03\x01\x02\x00\r\n\r\n")
    assert (await answer_of(reader))[:2] == (400, "bad-request")
    assert await closes(reader) == b""


@pytest.mark.parametrize("start", [b"", LIVE])
async def test_a_header_section_that_does_not_come_closes_the_connection(connect, start: bytes) -> None:
    reader, writer = await connect()
    writer.write(start)
    started = time.monotonic()
    assert await closes(reader) == b""
    assert time.monotonic() - started < 3


async def test_an_empty_line_after_an_answer_does_not_keep_the_connection(connect) -> None:
    reader, writer = await connect()
    writer.write(LIVE + b"\r\n")
    assert (await answer_of(reader))[0] == 200
    writer.write(b"\r\n")
    started = time.monotonic()
    assert await closes(reader) == b""
    assert time.monotonic() - started < 3


async def test_a_trickled_header_section_closes_the_connection(connect) -> None:
    reader, writer = await connect()
    writer.write(LIVE)
    started = time.monotonic()
    while not reader.at_eof() and time.monotonic() - started < 3:
        with suppress(OSError):
            writer.write(b"a: b\r\n")
            await writer.drain()
        await asyncio.sleep(0.02)
    assert time.monotonic() - started < 2


async def test_a_connection_is_used_again_after_large_bodies(connect, frontend) -> None:
    reader, writer = await connect()
    for size in (41, 300_000, 41):
        writer.write(POST + b"Content-Length: %d\r\n\r\n" % size + b"\x02" + bytes(size - 1))
        assert (await answer_of(reader))[0] == 400
    assert [len(record.body) for record in frontend.queue.records] == [41, 300_000, 41]
    assert frontend.intake.held == 0


async def test_pipelined_requests_are_all_answered(connect) -> None:
    reader, writer = await connect()
    writer.write((LIVE + b"\r\n") * 5)
    assert [(await answer_of(reader))[0] for _ in range(5)] == [200] * 5


@pytest.mark.parametrize("framing", [b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_a_body_that_does_not_come_is_given_up(connect, frontend, framing: bytes) -> None:
    reader, writer = await connect()
    writer.write(POST + framing + b"\r\n1\r\n")
    status, code, head = await answer_of(reader)
    assert (status, code) == (408, "request-timeout")
    assert b"connection: close" in head
    assert await closes(reader) == b""
    assert frontend.intake.held == 0


async def test_a_body_that_nobody_reads_has_its_time_too(connect) -> None:
    reader, writer = await connect()
    writer.write(b"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    assert (await answer_of(reader))[0] == 404
    started = time.monotonic()
    while not reader.at_eof() and time.monotonic() - started < 3:
        with suppress(OSError):
            writer.write(b"a")
            await writer.drain()
        await asyncio.sleep(0.02)
    assert time.monotonic() - started < 2


async def test_bodies_beyond_the_budget_are_refused_and_the_budget_comes_back(connect, frontend) -> None:
    frontend.queue.held = True
    size = 1 << 20
    request = POST + b"Content-Length: %d\r\n\r\n" % size + b"\x02" + bytes(size - 1)
    first_reader, first = await connect()
    first.write(request)
    while not frontend.queue.records:
        await asyncio.sleep(0.01)
    reader, writer = await connect()
    writer.write(request)
    status, code, head = await answer_of(reader)
    assert (status, code) == (503, "service-busy")
    assert b"retry-after: 1" in head
    assert b"connection: close" in head
    await frontend.queue.replies.put(frontend.queue.answer(frontend.queue.records[0]))
    assert (await answer_of(first_reader))[0] == 400
    assert frontend.intake.held == 0
    frontend.queue.held = False
    reader, writer = await connect()
    writer.write(request)
    assert (await answer_of(reader))[0] == 400


async def test_only_so_many_bodies_are_read_at_once() -> None:
    intake = Intake(max_body=100, max_reading=1)
    gate: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    scope = {"headers": []}

    async def read() -> bytes:
        async with intake.body(scope, gate.get) as body:
            return body

    first = asyncio.create_task(read())
    await asyncio.sleep(0)
    with pytest.raises(FrontendError, match="service-busy"):
        await read()
    await gate.put({"type": "http.request", "body": b"abc"})
    assert await first == b"abc"
    await gate.put({"type": "http.disconnect"})
    with pytest.raises(ClientGoneError):
        await read()
    assert intake.held == 0


class Recorder:
    """An application that notes the size of each piece of a body, and goes on when it is allowed to."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.goes_on = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while True:
            await self.goes_on.wait()
            message = await receive()
            self.sizes.append(len(message["body"]))
            if not message["more_body"]:
                return await respond(send, 200, b"text/plain", b"")


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def connect_to_recorder(frontend, recorder: Recorder) -> AsyncIterator[Connect]:
    async for each in connecting(frontend, recorder):
        yield each


async def test_a_small_body_wakes_the_application_once(connect_to_recorder, recorder: Recorder) -> None:
    recorder.goes_on.set()
    reader, writer = await connect_to_recorder()
    writer.write(POST + b"Content-Length: 200000\r\n\r\n")
    for _ in range(20):
        writer.write(bytes(10_000))
        await writer.drain()
        await asyncio.sleep(0.005)
    assert (await answer_of(reader))[0] == 200
    assert recorder.sizes == [200_000]


async def test_a_large_body_comes_in_pieces_and_no_faster_than_it_is_taken(
    connect_to_recorder, recorder: Recorder
) -> None:
    total = 64 << 20
    reader, writer = await connect_to_recorder()
    writer.write(POST + b"Content-Length: %d\r\n\r\n" % total)
    sending = asyncio.create_task(send_until_closed(writer, bytes(1 << 16), total))
    await asyncio.sleep(0.3)
    assert not sending.done()
    recorder.goes_on.set()
    assert await sending == total
    assert (await answer_of(reader))[0] == 200
    assert sum(recorder.sizes) == total
    assert max(recorder.sizes) < LIMITS.body_piece + (1 << 18)
