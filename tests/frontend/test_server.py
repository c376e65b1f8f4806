"""The front end as a process, on a real queue, with a worker played by the test."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from part_process import PartProcess, free_port
from strongroom.queue.connect import connect
from strongroom.queue.consumer import WorkQueue
from strongroom.queue.records import Reply
from strongroom.queue.valkey import EmbeddedValkey

pytestmark = pytest.mark.system

GATEWAY = "/.well-known/ohttp-gateway"
BODY = b"\x02" + os.urandom(40)
CONFIG = """
service = "default"
[queue]
url = "{queue}"
max_body = 1048576
[broker]
url = "http://127.0.0.1:1"
key = "ed25519+mldsa65:AAAA"
[frontend]
listen = "{listen}"
timeout = {timeout}
drain = {drain}
"""


@dataclass
class Connection:
    """A keep-alive connection of a client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, body: bytes = BODY, *, method: str = "POST", path: str = GATEWAY) -> None:
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\n"
        self.writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    async def receive(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return int(status.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def ask(
        self, body: bytes = BODY, *, method: str = "POST", path: str = GATEWAY
    ) -> tuple[int, bytes]:
        self.send(body, method=method, path=path)
        status, _, answer = await self.receive()
        return status, answer

    async def ended(self) -> bool:
        """Wait for the server's end of it to close."""
        return await self.reader.read() == b""


Start = Callable[..., PartProcess]
Connect = Callable[[PartProcess], Awaitable[Connection]]


@pytest.fixture
async def connect_to() -> AsyncIterator[Connect]:
    """`await connect_to(server)`: a connection that is closed after the test."""
    opened: list[Connection] = []

    async def connect(server: PartProcess) -> Connection:
        opened.append(Connection(*await asyncio.open_connection(server.host, server.port)))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.writer.close()
        with suppress(ConnectionError):
            await connection.writer.wait_closed()


@pytest.fixture(scope="module")
def queue() -> Iterator[EmbeddedValkey]:
    with (
        tempfile.TemporaryDirectory(prefix="srf-", dir="/tmp") as folder,
        EmbeddedValkey(Path(folder) / "queue") as server,
    ):
        yield server


@pytest.fixture
def start(queue: EmbeddedValkey, tmp_path: Path) -> Iterator[Start]:
    """`start()`: a front end that listens; it is stopped after the test."""
    running: list[PartProcess] = []

    def run(
        host: str = "127.0.0.1", *, wait: bool = True, port: int = 0, drain: float = 10, timeout: float = 20
    ) -> PartProcess:
        port = port or free_port(host)
        listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        config = tmp_path / f"strongroom-{port}.toml"
        config.write_text(CONFIG.format(queue=queue.url, listen=listen, drain=drain, timeout=timeout))
        server = PartProcess.start("frontend", config, host, port)
        running.append(server)
        if wait:
            server.until_listening()
        return server

    yield run
    for server in running:
        server.kill()


async def until_deaf(server: PartProcess) -> None:
    """Wait until it takes no more connections."""
    async with asyncio.timeout(20):
        with suppress(ConnectionRefusedError):
            while True:
                server.connect().close()
                await asyncio.sleep(0.02)


@asynccontextmanager
async def worker(url: str) -> AsyncIterator[WorkQueue]:
    async with connect(url) as client:
        queue = WorkQueue(client, "default", 0, "worker-0")
        try:
            await queue.start()
            yield queue
        finally:
            await queue.aclose()


async def answer(queue: WorkQueue, count: int = 1, body: bytes = b"sealed answer") -> list[bytes]:
    """Answer so many requests; gives their bodies."""
    bodies: list[bytes] = []
    while len(bodies) < count:
        taken = await queue.take(64, 1000)
        bodies += [bytes(each.record.body) for each in taken]
        replies = [(each, Reply(each.record.id, 200, "message/ohttp-res", body)) for each in taken]
        assert all(await queue.answer(replies))
    return bodies


# Where it listens.


def test_it_listens_where_it_is_told_and_nowhere_else(start: Start) -> None:
    server = start("127.0.0.2")
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_it_listens_on_ipv6(start: Start) -> None:
    try:
        port = free_port("::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with start("::1", port=port).connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_an_address_that_is_taken_ends_it_with_an_error(start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = start(wait=False, port=other.getsockname()[1])
        assert server.wait() == 1
    log = server.log.read_text()
    assert f"  found:    127.0.0.1:{server.port}\n" in log
    assert log.endswith("  code:     listen-failed\n")


async def test_it_tells_nothing_of_itself_and_logs_no_requests(start: Start, connect_to: Connect) -> None:
    server = start()
    connection = await connect_to(server)
    connection.send(b"", method="GET", path="/healthz?secret=1")
    status, headers, _ = await connection.receive()
    assert status == 200
    assert {"server", "date"} & set(headers) == set()
    assert headers["x-content-type-options"] == "nosniff"
    server.stop()
    assert await connection.ended()
    server.wait()
    assert "secret" not in server.log.read_text()


# A request on its way.


async def test_a_request_reaches_the_worker_as_it_came_and_so_does_its_answer(
    start: Start, connect_to: Connect, queue: EmbeddedValkey
) -> None:
    server = start()
    async with worker(queue.url) as work:
        connection = await connect_to(server)
        for body in (BODY, b"\x03" + os.urandom(500_000)):
            answering = asyncio.create_task(answer(work, body=body[::-1]))
            assert await connection.ask(body) == (200, body[::-1])
            assert await answering == [body]


async def test_without_a_worker_there_is_no_keyset(start: Start, connect_to: Connect) -> None:
    connection = await connect_to(start())
    status, body = await connection.ask(b"", method="GET", path="/strongroom/v1/keyset")
    assert (status, json.loads(body)["code"]) == (503, "no-worker")


# How it stops.


async def test_at_sigterm_it_answers_what_it_holds(
    start: Start, connect_to: Connect, queue: EmbeddedValkey
) -> None:
    server = start()
    async with worker(queue.url) as work:
        connections = [await connect_to(server) for _ in range(5)]
        for connection in connections:
            connection.send()
        taken = []
        while len(taken) < 5:
            taken += await work.take(64, 1000)
        server.stop()
        await until_deaf(server)
        assert server.process.poll() is None, "it waits for what it holds"
        replies = [(each, Reply(each.record.id, 200, "message/ohttp-res", b"held")) for each in taken]
        assert all(await work.answer(replies))
        for connection in connections:
            status, _, body = await connection.receive()
            assert (status, body) == (200, b"held")
            assert await connection.ended()
    assert server.wait() in {0, -signal.SIGTERM}


async def test_at_sigterm_idle_connections_are_closed_at_once(start: Start, connect_to: Connect) -> None:
    server = start(drain=30)
    unused = await connect_to(server)
    used = await connect_to(server)
    assert (await used.ask(b"", method="GET", path="/healthz"))[0] == 200
    began = time.monotonic()
    server.stop()
    async with asyncio.timeout(10):
        assert await unused.ended()
        assert await used.ended()
    server.wait()
    assert time.monotonic() - began < 10


async def test_a_request_that_nobody_answers_does_not_hold_it_for_ever(
    start: Start, connect_to: Connect, queue: EmbeddedValkey
) -> None:
    server = start(drain=1, timeout=60)
    async with worker(queue.url) as work:
        connection = await connect_to(server)
        connection.send()
        [taken] = await work.take(1, 20_000)
        began = time.monotonic()
        server.stop()
        server.wait()
        assert time.monotonic() - began < 10
        assert b"HTTP/1.1 200" not in await connection.reader.read()
        assert await work.answer([(taken, Reply(taken.record.id, 200, "message/ohttp-res", b"late"))])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_without_a_traceback(start: Start, number: signal.Signals) -> None:
    server = start()
    server.process.send_signal(number)
    assert server.wait() in {0, -number}
    assert "Traceback" not in server.log.read_text()


# Bodies that are too large.


def read_answer(connection: socket.socket) -> bytes:
    """All that the server says until it closes."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass  # it has closed with bytes of ours unread
    return b"".join(parts)


def pour(connection: socket.socket, chunk: bytes) -> int:
    """Send the same again and again, up to 1 GiB; gives the bytes taken before the server hangs up."""
    sent = 0
    with suppress(BrokenPipeError, ConnectionResetError):
        while sent < 1 << 30:
            sent += connection.send(chunk)
    return sent


@pytest.mark.parametrize("expect", ["", "expect: 100-continue\r\n"])
def test_a_gigabyte_is_refused_on_its_announcement(start: Start, expect: str) -> None:
    server = start()
    head = f"POST {GATEWAY} HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\n{expect}"
    with server.connect() as connection:
        connection.sendall(f"{head}content-length: {1 << 30}\r\n\r\n".encode())
        answered = read_answer(connection)  # not one byte of the body was sent
    assert answered.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answered.lower()
    assert b'"request-too-large"' in answered


def test_a_gigabyte_that_comes_all_the_same_is_not_read(start: Start) -> None:
    server = start()
    with server.connect() as connection:
        head = f"POST {GATEWAY} HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\n"
        connection.sendall(f"{head}content-length: {1 << 30}\r\n\r\n".encode())
        sent = pour(connection, bytes(1 << 16))
    assert sent < 32 << 20, "what the kernel buffers, and no more"
    assert rss(server.process.pid, peak=True) < 120e6


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(start: Start) -> None:
    server = start()
    with server.connect() as connection:
        head = f"POST {GATEWAY} HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\n"
        connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        sent = pour(connection, b"10000\r\n" + bytes(1 << 16) + b"\r\n")
    assert sent < 32 << 20
    assert rss(server.process.pid, peak=True) < 120e6


# Memory.


def rss(pid: int, *, peak: bool = False) -> float:
    """Bytes of memory that a process holds, or has ever held."""
    name = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.slow
async def test_memory_after_10_000_requests(start: Start, connect_to: Connect, queue: EmbeddedValkey) -> None:
    count, clients = 10_000, 16
    server = start(timeout=100)
    body = b"\x02" + os.urandom(10_000)

    async def client() -> int:
        connection = await connect_to(server)
        good = 0
        for _ in range(count // clients):
            status, answered = await connection.ask(body)
            good += status == 200 and len(answered) == 20_000
        return good

    async with worker(queue.url) as work:
        answering = asyncio.create_task(answer(work, count, bytes(20_000)))
        assert sum(await asyncio.gather(*(client() for _ in range(clients)))) == count
        await answering
    assert rss(server.process.pid) < 120e6
