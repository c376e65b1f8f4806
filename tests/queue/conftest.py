"""Real servers for the queue's tests, and a wire between client and server that can be cut."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import UnreachableError
from strongroom.queue.client import Client
from strongroom.queue.connect import connect
from strongroom.queue.consumer import WorkQueue
from strongroom.queue.producer import ReplyReader, RequestQueue
from strongroom.queue.records import Reply, SealedRecord
from strongroom.queue.valkey import EmbeddedValkey

REDIS_SERVER = Path("/usr/bin/redis-server")

_numbers = itertools.count()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="srq-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedValkey]:
    """A server for all tests of a module; each test has a service of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="srq-", dir="/tmp") as name,
        EmbeddedValkey(Path(name) / "queue") as embedded,
    ):
        yield embedded


@pytest.fixture
def own_server(folder: Path) -> Iterator[EmbeddedValkey]:
    """A server of the test's own, to be killed, filled or emptied."""
    with EmbeddedValkey(folder / "queue") as embedded:
        yield embedded


@pytest.fixture
def service() -> str:
    """A name that no other test of this run uses."""
    return f"service-{os.getpid()}-{next(_numbers)}"


@dataclass
class Bench:
    """One service on one server, with everything that was opened closed at the end."""

    url: str
    service: str
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def client(self, url: str = "", **options: Any) -> Client:
        client = connect(url or self.url, **options)
        self.stack.push_async_callback(client.aclose)
        return client

    def requests(self, client: Client | None = None, **options: Any) -> RequestQueue:
        return RequestQueue(client or self.client(), self.service, **{"max_length": 1000, **options})

    def replies(self, frontend: str = "fe", client: Client | None = None, **options: Any) -> ReplyReader:
        reader = ReplyReader(client or self.client(), self.service, frontend, **options)
        self.stack.push_async_callback(reader.aclose)
        return reader

    async def work(self, consumer: str = "w0", client: Client | None = None, **options: Any) -> WorkQueue:
        queue = WorkQueue(client or self.client(), self.service, 0, consumer, **options)
        self.stack.push_async_callback(queue.aclose)
        await queue.start()
        return queue

    @property
    def stream(self) -> str:
        return f"{{strongroom:{self.service}:0}}:requests"

    @property
    def dead(self) -> str:
        return f"{{strongroom:{self.service}:0}}:dead"


@pytest.fixture
async def bench(server: EmbeddedValkey, service: str) -> AsyncIterator[Bench]:
    made = Bench(server.url, service)
    async with made.stack:
        yield made


@pytest.fixture
async def own_bench(own_server: EmbeddedValkey, service: str) -> AsyncIterator[Bench]:
    made = Bench(own_server.url, service)
    async with made.stack:
        yield made


@pytest.fixture
def record() -> Callable[..., SealedRecord]:
    def make(record_id: str = "r1", body: bytes = b"sealed", **changes: Any) -> SealedRecord:
        fields = {"key": "7", "reply": "fe", "deadline": 1_900_000_000_000} | changes
        return SealedRecord(id=record_id, body=body, **fields)

    return make


@pytest.fixture
def reply() -> Callable[..., Reply]:
    def make(record_id: str = "r1", body: bytes = b"answer") -> Reply:
        return Reply(record_id, 200, "message/ohttp-res", body)

    return make


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 20.0) -> None:
    """Wait for something that another process or task brings about."""
    async with asyncio.timeout(seconds):
        while True:
            met = condition()
            if not isinstance(met, bool):
                met = await met
            if met:
                return
            await asyncio.sleep(0.005)


@pytest.fixture(name="until")
def _until() -> Callable[..., Awaitable[None]]:
    return until


class Wire:
    """A unix socket that passes bytes on to a server, and can lose what the server answers."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.url = f"unix://{path}"
        self.target = target
        self.connections = 0
        self.requests = 0
        self.lose_next_reply = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        up_reader, up_writer = await asyncio.open_unix_connection(str(self.target))
        try:
            await asyncio.gather(self._up(reader, up_writer), self._down(up_reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for each in (writer, up_writer):
                each.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            self.requests += 1
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self.lose_next_reply:
                self.lose_next_reply -= 1
                break
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@pytest.fixture
async def wire(server: EmbeddedValkey, folder: Path) -> AsyncIterator[Wire]:
    """A wire to the module's server."""
    made = Wire(folder / "wire.sock", server.socket)
    listener = await asyncio.start_unix_server(made.serve, made.path)
    yield made
    listener.close()


@asynccontextmanager
async def scripted(path: Path, *answers: bytes) -> AsyncIterator[str]:
    """A server that gives these answers, one for each write that comes in, then falls silent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for answer in answers:
                await reader.read(1 << 16)
                writer.write(answer)
                await writer.drain()
            await reader.read(-1)
        except ConnectionError:
            pass
        finally:
            writer.close()

    listener = await asyncio.start_unix_server(serve, path)
    yield f"unix://{path}"
    listener.close()


@pytest.fixture(name="scripted")
def _scripted() -> Any:
    return scripted


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def redis_server(folder: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start Debian's redis-server with these options; it is stopped after the test."""
    if not REDIS_SERVER.exists():
        pytest.skip(f"{REDIS_SERVER} is not installed (apt-get install redis-server)")
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [REDIS_SERVER, "--save", "", "--appendonly", "yes", "--appendfsync", "no", "--dir", folder]
            + [str(option) for option in options],
            stdout=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
    shutil.rmtree(folder / "appendonlydir", ignore_errors=True)


@pytest.fixture
def port() -> int:
    """A TCP port that is free now."""
    return free_port()


@pytest.fixture(params=["MISCONF", "NOREPLICAS"])
def no_writes(request: pytest.FixtureRequest, own_server: EmbeddedValkey) -> Any:
    """`async with no_writes(client)`: the test's own server refuses writes for that long, with this word."""
    blocked = own_server.folder / "dump.rdb"

    @asynccontextmanager
    async def full_disk(client: Client) -> AsyncIterator[None]:
        blocked.mkdir()  # no snapshot can be put in its place, which the server takes for a disk that fails
        await client.execute("CONFIG", "SET", "save", "3600 1000000")
        await client.execute("BGSAVE")
        await until(lambda: _fails_to_write(client))
        yield
        await client.execute("CONFIG", "SET", "save", "")

    @asynccontextmanager
    async def lost_replicas(client: Client) -> AsyncIterator[None]:
        await client.execute("CONFIG", "SET", "min-replicas-to-write", 1)
        yield
        await client.execute("CONFIG", "SET", "min-replicas-to-write", 0)

    return full_disk if request.param == "MISCONF" else lost_replicas


async def _fails_to_write(client: Client) -> bool:
    try:
        await client.execute("SET", "probe", "x")
    except UnreachableError as error:
        return error.found == "MISCONF"
    return False
