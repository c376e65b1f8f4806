"""SIGKILL, for real: of the queue server and of workers, while entries are with the workers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from strongroom.queue.connect import connect
from strongroom.queue.consumer import Delivery, WorkQueue
from strongroom.queue.producer import ReplyReader, RequestQueue
from strongroom.queue.records import Reply, SealedRecord
from strongroom.queue.valkey import EmbeddedValkey

pytestmark = pytest.mark.system

PROGRAM = Path(__file__).parent / "worker_program.py"


@dataclass
class Tally:
    """What happened, counted."""

    accepted: list[str] = field(default_factory=list)
    taken: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def body_of(name: str) -> bytes:
    return f"body of {name}".encode() * 20


async def submit(queue: RequestQueue, names: list[str], tally: Tally, at_once: int = 16) -> None:
    """Submit all, `at_once` at a time."""
    left = iter(names)

    async def one_after_another() -> None:
        for name in left:
            await queue.submit(SealedRecord(name, "7", body_of(name), "fe", 0))
            tally.accepted.append(name)

    await asyncio.gather(*(one_after_another() for _ in range(at_once)))


async def collect(reader: ReplyReader, tally: Tally) -> None:
    async for reply in reader:
        tally.answered[reply.id] += 1
        if reply.body != body_of(reply.id):
            tally.wrong.append(reply.id)


async def work(queue: WorkQueue, tally: Tally) -> None:
    """A worker that needs a few milliseconds for each entry."""

    async def handle(delivery: Delivery) -> None:
        name = delivery.record.id
        await asyncio.sleep(0.005)
        answer = Reply(name, 200, "a/b", delivery.record.body)
        tally.stored[name] += (await queue.answer([(delivery, answer)]))[0]

    async with asyncio.TaskGroup() as group:
        while True:
            for delivery in await queue.take(16, 200):
                tally.taken[delivery.record.id] += 1
                group.create_task(handle(delivery))
            await queue.touch()


async def kill(server: EmbeddedValkey) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.running:
        await asyncio.sleep(0.001)


async def ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_the_server_is_killed_again_and_again_under_load(
    folder: Path, until: Any, durability: Any
) -> None:
    names = [f"r{number}" for number in range(600)]
    tally, server = Tally(), EmbeddedValkey(folder / "q", durability)
    server.start()
    try:
        front, back = connect(server.url), connect(server.url)
        workers = [WorkQueue(back, "s", 0, f"w{number}", claim_after_ms=5_000) for number in range(2)]
        for worker in workers:
            await worker.start()
        reader = ReplyReader(front, "s", "fe")
        tasks = [asyncio.create_task(work(worker, tally)) for worker in workers]
        tasks.append(asyncio.create_task(collect(reader, tally)))
        submitting = asyncio.create_task(
            submit(RequestQueue(front, "s", max_length=100_000, retry_for=30), names, tally)
        )
        held_at_kill = []
        for share in (60, 180, 300):
            await until(lambda share=share: len(tally.answered) > share and all(w.held for w in workers))
            held_at_kill.append(sum(worker.held for worker in workers))
            await kill(server)
            server.start()
        await submitting
        await until(lambda: len(tally.answered) == len(names))
        assert await RequestQueue(front, "s", max_length=1).depth() == 0
        for task in tasks:
            await ended(task)
        for opened in (*workers, reader, front, back):
            await opened.aclose()
    finally:
        server.stop()
    assert all(held_at_kill)
    assert sorted(tally.accepted) == sorted(names)
    assert set(tally.answered.values()) == {1}
    assert set(tally.answered) == set(names)
    assert tally.wrong == []
    assert max(tally.stored.values()) == 1


async def test_what_was_accepted_before_the_server_died_is_there_after(folder: Path) -> None:
    server = EmbeddedValkey(folder / "q")
    names = [f"r{number}" for number in range(200)]
    tally = Tally()
    with server:
        async with connect(server.url) as client:
            submitting = asyncio.create_task(
                submit(RequestQueue(client, "s", max_length=1000, retry_for=0.0), names, tally)
            )
            while len(tally.accepted) < 50:
                await asyncio.sleep(0)
            await kill(server)
            with suppress(Exception):
                await submitting
        server.start()
        async with connect(server.url) as client:
            worker = WorkQueue(client, "s", 0, "w0")
            await worker.start()
            found = [each.record async for each in everything(worker)]
            await worker.aclose()
    assert 50 <= len(tally.accepted) < 200
    assert {record.id for record in found} >= set(tally.accepted)
    assert all(record.body == body_of(record.id) for record in found)


async def everything(worker: WorkQueue) -> AsyncIterator[Delivery]:
    while deliveries := await worker.take(64, 0):
        for delivery in deliveries:
            yield delivery


class Process:
    """A worker process and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[list[str]] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().split())

    def count(self, verb: str) -> int:
        return sum(line[0] == verb for line in self.lines)

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self._reading


@pytest.fixture
async def start(own_server: EmbeddedValkey, service: str) -> AsyncIterator[Any]:
    started: list[Process] = []

    async def start(name: str, mode: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(PROGRAM), own_server.url, service, name, mode),
            stdout=asyncio.subprocess.PIPE,
        )
        started.append(Process(process))
        return started[-1]

    yield start
    for each in started:
        await each.kill()


async def test_a_killed_workers_entries_go_to_another(own_bench: Any, start: Any, until: Any) -> None:
    tally, names = Tally(), [f"r{number}" for number in range(40)]
    await submit(own_bench.requests(), names, tally)
    collecting = asyncio.create_task(collect(own_bench.replies(), tally))
    victim = await start("victim", "hold")
    await until(lambda: victim.count("took") == 40)
    heir = await start("heir", "answer")
    await victim.kill()
    await until(lambda: len(tally.answered) == 40)
    await ended(collecting)
    assert set(tally.answered.values()) == {1}
    assert victim.count("answered") == 0
    assert {line[2] for line in heir.lines if line[0] == "took"} == {"2"}
    assert await own_bench.requests().depth() == 0


async def test_a_killed_worker_that_comes_back_goes_on_at_once(
    own_bench: Any, start: Any, until: Any
) -> None:
    tally, names = Tally(), [f"r{number}" for number in range(200)]
    collecting = asyncio.create_task(collect(own_bench.replies(), tally))
    submitting = asyncio.create_task(submit(own_bench.requests(), names, tally))
    victim = await start("w0", "stall")
    await until(lambda: victim.count("took") > victim.count("answered") == 25)
    await victim.kill()
    in_hand = {line[1] for line in victim.lines if line[0] == "took"} - set(tally.answered)
    again = await start("w0", "answer")
    await submitting
    await until(lambda: len(tally.answered) == 200)
    await ended(collecting)
    assert in_hand
    assert set(tally.answered.values()) == {1}
    assert tally.wrong == []
    assert any(line[:1] == ["took"] and line[2] == "2" for line in again.lines)
    answered = Counter(line[1] for each in (victim, again) for line in each.lines if line[2] == "True")
    assert max(answered.values()) == 1


async def test_a_request_that_kills_its_worker_takes_no_neighbour_with_it(
    own_bench: Any, start: Any, until: Any
) -> None:
    requests, reader = own_bench.requests(), own_bench.replies()
    for number in range(12):
        body = b"poison" if number == 5 else b"good"
        await requests.submit(SealedRecord(f"r{number}", "7", body, "fe", 0))
    replies: dict[str, Reply] = {}

    async def collect() -> None:
        async for reply in reader:
            assert reply.id not in replies
            replies[reply.id] = reply

    collecting = asyncio.create_task(collect())
    deaths = 0
    while len(replies) < 12:
        worker = await start("w0", "poison")  # as a supervisor would
        await until(lambda worker=worker: len(replies) == 12 or worker.process.returncode is not None)
        deaths += worker.process.returncode == -signal.SIGKILL
        await worker.kill()
    await ended(collecting)
    assert deaths == 3
    assert {name for name, reply in replies.items() if reply.status == 200} == {
        f"r{number}" for number in range(12) if number != 5
    }
    assert replies["r5"].status == 500
    assert b"request-poisonous" in replies["r5"].body


async def test_the_whole_queue_dies_and_comes_back(
    own_server: EmbeddedValkey, own_bench: Any, start: Any, until: Any
) -> None:
    """Server and workers at once: what was accepted is answered by those that come after."""
    tally, names = Tally(), [f"r{number}" for number in range(100)]
    await submit(own_bench.requests(), names, tally)
    workers = [await start(f"w{number}", "hold") for number in range(2)]
    await until(lambda: sum(worker.count("took") for worker in workers) == 100)
    await kill(own_server)
    for worker in workers:
        await worker.kill()
    own_server.start()
    collecting = asyncio.create_task(collect(own_bench.replies(), tally))
    for number in range(2):
        await start(f"w{number}", "answer")
    await until(lambda: len(tally.answered) == 100)
    await ended(collecting)
    assert set(tally.answered.values()) == {1}
    assert tally.wrong == []
