from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import ConfigError, QueueError, UnreachableError
from strongroom.queue.connect import connect
from strongroom.queue.consumer import WorkQueue
from strongroom.queue.records import Reply
from strongroom.queue.valkey import EmbeddedValkey


@pytest.fixture
async def flow(bench: Any, record: Any) -> Any:
    """Submit by id, look at what is pending."""

    class Flow:
        requests = bench.requests()
        client = bench.client()

        async def submit(self, *ids: str, **changes: Any) -> None:
            for name in ids:
                await self.requests.submit(record(name, **changes))

        async def pending(self) -> dict[bytes, tuple[bytes, int, int]]:
            lines = await self.client.execute("XPENDING", bench.stream, "workers", "-", "+", 1000)
            return {line[0]: (line[1], line[2], line[3]) for line in lines}

        async def replies(self, frontend: str = "fe") -> list[tuple[bytes, bytes]]:
            stream = f"{{strongroom:{bench.service}:0}}:replies:{frontend}"
            entries = await self.client.execute("XRANGE", stream, "-", "+")
            return [(fields[1], fields[7]) for _, fields in entries]

    return Flow()


def ids(deliveries: Any) -> list[str]:
    return [delivery.record.id for delivery in deliveries]


class TestTake:
    async def test_what_was_sent_before_the_first_start_is_delivered(self, bench: Any, flow: Any) -> None:
        await flow.submit("early")
        worker = await bench.work()
        [delivery] = await worker.take(4, 1000)
        assert (delivery.record.id, delivery.deliveries) == ("early", 1)
        assert worker.held == 1

    async def test_starting_again_keeps_the_group(self, bench: Any, flow: Any) -> None:
        worker = await bench.work()
        await flow.submit("a")
        await worker.take(1, 1000)
        await bench.work("w1")
        assert len(await flow.pending()) == 1

    async def test_no_more_than_asked_for(self, bench: Any, flow: Any) -> None:
        await flow.submit("a", "b", "c")
        worker = await bench.work()
        assert ids(await worker.take(2, 1000)) == ["a", "b"]
        assert ids(await worker.take(2, 1000)) == ["c"]

    async def test_an_entry_goes_to_one_worker(self, bench: Any, flow: Any) -> None:
        await flow.submit(*(f"r{number}" for number in range(20)))
        workers = [await bench.work(f"w{number}") for number in range(3)]
        taken = await asyncio.gather(*(worker.take(10, 500) for worker in workers))
        names = [name for deliveries in taken for name in ids(deliveries)]
        assert sorted(names) == sorted(f"r{number}" for number in range(20))

    async def test_it_waits_for_the_first(self, bench: Any, flow: Any) -> None:
        worker = await bench.work()
        taking = asyncio.create_task(worker.take(4, 10_000))
        await asyncio.sleep(0.05)
        await flow.submit("late")
        assert ids(await taking) == ["late"]

    async def test_when_the_time_is_over_it_returns_nothing(self, bench: Any) -> None:
        worker = await bench.work()
        start = time.monotonic()
        assert await worker.take(4, 0) == []
        assert await worker.take(4, 100) == []
        assert 0.1 <= time.monotonic() - start < 2

    async def test_none_is_not_a_number_to_ask_for(self, bench: Any) -> None:
        with pytest.raises(ConfigError, match="count"):
            await (await bench.work()).take(0, 0)

    async def test_a_cancelled_take_loses_nothing(self, bench: Any, flow: Any) -> None:
        worker = await bench.work()
        for name in ("a", "b", "c", "d", "e"):
            taking = asyncio.create_task(worker.take(1, 10_000))
            await asyncio.sleep(0.01)
            taking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taking
            await flow.submit(name, f"{name}2")
            assert sorted(ids(await worker.take(1, 1000)) + ids(await worker.take(1, 1000))) == [
                name,
                f"{name}2",
            ]
        assert {deliveries for _, _, deliveries in (await flow.pending()).values()} == {1}

    async def test_a_cancelled_take_that_asked_for_more_overfills_nobody(self, bench: Any, flow: Any) -> None:
        worker = await bench.work()
        taking = asyncio.create_task(worker.take(10, 10_000))
        await asyncio.sleep(0.05)
        taking.cancel()
        await asyncio.wait([taking])
        async with asyncio.TaskGroup() as group:  # all in one write, so that they are read at once
            for name in "abc":
                group.create_task(flow.submit(name))
        names = []
        for _ in range(3):
            deliveries = await worker.take(1, 1000)
            assert len(deliveries) == 1
            names += ids(deliveries)
        assert sorted(names) == ["a", "b", "c"]

    async def test_a_cancellation_while_claiming_loses_nothing(self, bench: Any, flow: Any) -> None:
        await flow.submit("a")
        first = await bench.work("w0")
        await first.take(1, 1000)
        again = await bench.work("w0", max_deliveries=100)
        for _ in range(5):
            taking = asyncio.create_task(again.take(1, 10_000))
            for _ in range(3):
                await asyncio.sleep(0)
            taking.cancel()
            await asyncio.wait([taking])
        assert ids(await again.take(1, 1000)) == ["a"]

    async def test_a_record_past_its_deadline_is_delivered_all_the_same(self, bench: Any, flow: Any) -> None:
        await flow.submit("late", deadline=1)
        [delivery] = await (await bench.work()).take(1, 1000)
        assert delivery.record.deadline == 1

    async def test_a_group_that_somebody_destroyed_is_made_again(self, bench: Any, flow: Any) -> None:
        worker = await bench.work()
        assert await worker.take(1, 0) == []
        await flow.client.execute("DEL", bench.stream)
        taking = asyncio.create_task(worker.take(1, 10_000))
        await asyncio.sleep(0.05)
        await flow.submit("a")
        assert ids(await taking) == ["a"]

    async def test_a_stream_that_is_none_is_no_end(self, bench: Any, flow: Any, caplog: Any) -> None:
        worker = await bench.work()
        await flow.client.execute("SET", bench.stream, "no stream")
        assert await worker.take(1, 100) == []
        assert await worker.take(1, 0) == []
        assert len(caplog.records) == 1
        await flow.client.execute("DEL", bench.stream)
        await flow.submit("a")
        assert ids(await worker.take(1, 5000)) == ["a"]

    async def test_a_server_that_refuses_the_worker_is_an_error(self, scripted: Any, folder: Path) -> None:
        answers = (b"+PONG\r\n", b"-NOPERM x\r\n")
        async with scripted(folder / "s", *answers) as url, connect(url, timeout=0.2) as client:
            worker = WorkQueue(client, "s", 0, "w0")
            with pytest.raises(QueueError, match="queue-denied"):
                await worker.take(1, 1000)
            await worker.aclose()

    @pytest.mark.parametrize(
        "answer", [b":1\r\n", b"*1\r\n:1\r\n", b"*1\r\n*4\r\n$1\r\nx\r\n:1\r\n:1\r\n:1\r\n", b"@"]
    )
    async def test_nonsense_of_the_server_is_no_end(self, scripted: Any, folder: Path, answer: bytes) -> None:
        async with scripted(folder / "s", b"+PONG\r\n", *[answer] * 9) as url, connect(url) as client:
            worker = WorkQueue(client, "s", 0, "w0")
            assert await worker.take(1, 50) == []
            await worker.aclose()

    async def test_while_the_server_is_away_it_waits(self, folder: Path, record: Any) -> None:
        server = EmbeddedValkey(folder / "q")
        async with connect(server.url) as client:
            worker = WorkQueue(client, "s", 0, "w0")
            start = time.monotonic()
            assert await worker.take(1, 100) == []
            assert time.monotonic() - start >= 0.1
            taking = asyncio.create_task(worker.take(1, 20_000))
            with server:
                from strongroom.queue.producer import RequestQueue

                await worker.start()
                await RequestQueue(client, "s", max_length=1).submit(record("a"))
                assert ids(await taking) == ["a"]
                await worker.aclose()

    async def test_starting_without_a_server_fails_in_the_end(self, folder: Path, monkeypatch: Any) -> None:
        from strongroom.queue.client import persist

        async def shortly(operation: Any, *, seconds: float) -> Any:
            assert seconds == 10.0
            return await persist(operation, seconds=0.01)

        monkeypatch.setattr("strongroom.queue.consumer.persist", shortly)
        async with connect(f"unix://{folder}/none") as client:
            with pytest.raises(UnreachableError):
                await WorkQueue(client, "s", 0, "w0").start()

    async def test_a_start_that_is_refused_is_an_error(self, bench: Any, flow: Any) -> None:
        await flow.client.execute("SET", bench.stream, "no stream")
        with pytest.raises(QueueError, match="queue-refused"):
            await bench.work()


class TestAnswer:
    async def test_the_reply_reaches_its_front_end_and_the_entry_is_gone(
        self, bench: Any, flow: Any, reply: Any
    ) -> None:
        await flow.submit("a")
        await flow.submit("b", reply="fe2")
        worker = await bench.work()
        deliveries = await worker.take(2, 1000)
        answers = [(each, reply(each.record.id, each.record.id.encode())) for each in deliveries]
        assert await worker.answer(answers) == [True, True]
        assert await flow.replies("fe") == [(b"a", b"a")]
        assert await flow.replies("fe2") == [(b"b", b"b")]
        assert await flow.requests.depth() == 0
        assert await flow.pending() == {}
        assert worker.held == 0

    async def test_the_first_answer_wins(self, bench: Any, flow: Any, reply: Any) -> None:
        await flow.submit("a")
        slow, fast = await bench.work("slow", claim_after_ms=1), await bench.work("fast", claim_after_ms=1)
        [first] = await slow.take(1, 1000)
        [second] = await fast.take(1, 5000)
        assert (second.record, second.deliveries) == (first.record, 2)
        assert await fast.answer([(second, reply("a", b"fast"))]) == [True]
        assert await slow.answer([(first, reply("a", b"slow"))]) == [False]
        assert await flow.replies() == [(b"a", b"fast")]

    async def test_the_owner_does_not_matter_only_the_order(self, bench: Any, flow: Any, reply: Any) -> None:
        await flow.submit("a")
        slow, fast = await bench.work("slow", claim_after_ms=1), await bench.work("fast", claim_after_ms=1)
        [first] = await slow.take(1, 1000)
        [second] = await fast.take(1, 5000)
        assert await slow.answer([(first, reply("a", b"slow"))]) == [True]
        assert await fast.answer([(second, reply("a", b"fast"))]) == [False]
        assert await flow.replies() == [(b"a", b"slow")]

    async def test_answers_of_one_turn_leave_in_one_write(
        self, bench: Any, flow: Any, wire: Any, reply: Any
    ) -> None:
        names = [f"r{number}" for number in range(40)]
        await flow.submit("first", *names)
        worker = await bench.work(client=bench.client(wire.url))
        first, *rest = await worker.take(50, 1000)
        await worker.answer([(first, reply("first"))])
        before = wire.requests
        halves = rest[:20], rest[20:]
        stored = await asyncio.gather(
            *(worker.answer([(each, reply(each.record.id)) for each in half]) for half in halves)
        )
        assert stored == [[True] * 20] * 2
        assert wire.requests == before + 1

    async def test_a_lost_confirmation_stores_nothing_twice(
        self, bench: Any, flow: Any, wire: Any, reply: Any
    ) -> None:
        await flow.submit("a", "b")
        worker = await bench.work(client=bench.client(wire.url))
        deliveries = await worker.take(2, 1000)
        wire.lose_next_reply = 1
        answers = [(each, reply(each.record.id)) for each in deliveries]
        assert await worker.answer(answers) == [False, False]  # stored, but by the attempt before
        assert [name for name, _ in await flow.replies()] == [b"a", b"b"]
        assert await flow.requests.depth() == 0

    async def test_one_bad_reply_does_not_keep_the_others(self, bench: Any, flow: Any, reply: Any) -> None:
        await flow.submit("a", "b", "c")
        worker = await bench.work(max_body=10)
        a, b, c = await worker.take(3, 1000)
        bad = [(a, reply("a")), (b, reply("b", bytes(11))), (c, Reply("c", 42, "x/y", b""))]
        with pytest.raises(QueueError, match="queue-body-too-large"):
            await worker.answer(bad)
        assert await flow.replies() == [(b"a", b"answer")]
        assert worker.held == 0
        again = await worker.take(3, 1000)
        assert [(each.record.id, each.deliveries) for each in again] == [("b", 2), ("c", 2)]

    async def test_an_answer_that_the_server_refuses_is_an_error(
        self, bench: Any, flow: Any, reply: Any
    ) -> None:
        await flow.submit("a")
        worker = await bench.work()
        [delivery] = await worker.take(1, 1000)
        await flow.client.execute("SET", f"{{strongroom:{bench.service}:0}}:replies:fe", "no stream")
        with pytest.raises(QueueError, match="queue-refused"):
            await worker.answer([(delivery, reply("a"))])
        assert await flow.requests.depth() == 1

    async def test_without_a_server_it_fails_in_the_end_and_the_entry_comes_again(
        self, own_server: EmbeddedValkey, own_bench: Any, record: Any, reply: Any
    ) -> None:
        worker = await own_bench.work(retry_for=0.05)
        await own_bench.requests().submit(record("a"))
        [delivery] = await worker.take(1, 1000)
        own_server.stop()
        with pytest.raises(UnreachableError):
            await worker.answer([(delivery, reply("a"))])
        assert worker.held == 0
        own_server.start()
        [again] = await worker.take(1, 10_000)
        assert (again.record.id, again.deliveries) == ("a", 2)
        assert await worker.answer([(again, reply("a"))]) == [True]

    async def test_nothing_to_answer(self, bench: Any) -> None:
        assert await (await bench.work()).answer([]) == []


class TestSigns:
    async def test_an_entry_that_is_touched_is_not_claimed(self, bench: Any, flow: Any) -> None:
        await flow.submit("a")
        slow = await bench.work("slow")
        eager = await bench.work("eager", claim_after_ms=300)
        [delivery] = await slow.take(1, 1000)
        end = time.monotonic() + 0.9
        while time.monotonic() < end:
            assert await slow.touch() == [True]
            assert await eager.claim_stale() == []
            await asyncio.sleep(0.02)
        [(owner, _, deliveries)] = (await flow.pending()).values()
        assert (owner, deliveries) == (b"slow", 1)
        assert await slow.touch([delivery]) == [True]

    async def test_an_entry_that_is_not_touched_is_claimed(self, bench: Any, flow: Any) -> None:
        await flow.submit("a")
        dead, alive = await bench.work("dead"), await bench.work("alive", claim_after_ms=200)
        [delivery] = await dead.take(1, 1000)
        assert await alive.claim_stale() == []
        [claimed] = await alive.take(1, 10_000)
        assert (claimed.record, claimed.entry_id) == (delivery.record, delivery.entry_id)
        assert await dead.touch() == [False]
        [(owner, _, deliveries)] = (await flow.pending()).values()
        assert (owner, deliveries) == (b"alive", 2)

    async def test_touching_needs_no_server_and_nothing_to_touch(
        self, own_server: EmbeddedValkey, own_bench: Any, record: Any
    ) -> None:
        worker = await own_bench.work()
        assert await worker.touch() == []
        await own_bench.requests().submit(record("a"))
        await worker.take(1, 1000)
        own_server.stop()
        assert await worker.touch() == [True]

    async def test_a_server_that_refuses_the_worker_about_touching_is_an_error(
        self, scripted: Any, folder: Path
    ) -> None:
        from strongroom.queue.consumer import Delivery

        answers = (b"+PONG\r\n", b"-NOPERM x\r\n")
        async with scripted(folder / "s", *answers) as url, connect(url, timeout=0.2) as client:
            worker = WorkQueue(client, "s", 0, "w0")
            with pytest.raises(QueueError, match="queue-denied"):
                await worker.touch([Delivery(None, b"1-0", 1)])  # type: ignore[arg-type]
            await worker.aclose()

    @pytest.mark.parametrize("answer", [b"-MISCONF x\r\n", b"-WRONGTYPE x\r\n", b"*2\r\n:1\r\n:1\r\n"])
    async def test_no_other_error_about_touching_is_an_end(
        self, scripted: Any, folder: Path, answer: bytes
    ) -> None:
        from strongroom.queue.consumer import Delivery

        answers = (b"+PONG\r\n", answer)
        async with scripted(folder / "s", *answers) as url, connect(url, timeout=0.2) as client:
            worker = WorkQueue(client, "s", 0, "w0")
            assert await worker.touch([Delivery(None, b"1-0", 1)]) == [True]  # type: ignore[arg-type]
            await worker.aclose()

    async def test_a_worker_outlives_a_server_that_takes_no_writes(
        self, own_bench: Any, no_writes: Any, record: Any, reply: Any
    ) -> None:
        worker = await own_bench.work()
        await own_bench.requests().submit(record("a"))
        [delivery] = await worker.take(1, 1000)
        async with no_writes(own_bench.client()):
            assert await worker.touch() == [True]
            assert await worker.take(1, 50) == []
            answering = asyncio.create_task(worker.answer([(delivery, reply("a"))]))
            await asyncio.sleep(0.05)
        assert await answering == [True]

    async def test_a_rewrite_leaves_nothing_of_what_was_answered(
        self, own_server: EmbeddedValkey, own_bench: Any, record: Any, reply: Any, until: Any
    ) -> None:
        def stored() -> bytes:
            files = (own_server.folder / "appendonlydir").iterdir()
            return b"".join(file.read_bytes() for file in files if file.exists())

        worker = await own_bench.work()
        await own_bench.requests().submit(record("a", b"SEALED-BODY"))
        [delivery] = await worker.take(1, 1000)
        await worker.answer([(delivery, reply("a"))])
        assert b"SEALED-BODY" in stored()
        assert await worker.rewrite() is True
        await until(lambda: b"SEALED-BODY" not in stored())

    async def test_a_server_that_does_not_rewrite_is_no_error(
        self, scripted: Any, folder: Path, caplog: Any
    ) -> None:
        async with scripted(folder / "s", b"+PONG\r\n", b"-NOPERM x\r\n") as url, connect(url) as client:
            worker = WorkQueue(client, "s", 0, "w0")
            assert await worker.rewrite() is False
            await worker.aclose()
        assert "is not rewritten" in caplog.text

    async def test_closing_gives_back_what_was_not_answered(self, bench: Any, flow: Any) -> None:
        await flow.submit("a", "b")
        leaving, staying = await bench.work("leaving"), await bench.work("staying", claim_after_ms=400)
        await leaving.take(1, 1000)
        waiting = asyncio.create_task(leaving.take(5, 10_000))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
        await leaving.aclose()
        assert leaving.held == 0
        assert sorted(ids(await staying.claim_stale())) == ["a", "b"]  # without waiting for 400 ms

    async def test_closing_while_it_still_connects_is_no_error(self, folder: Path) -> None:
        """The read that waits for the connection is cancelled with it."""
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(folder / "s"))
            silent.listen()
            client = connect(f"unix://{folder / 's'}")
            worker = WorkQueue(client, "s", 0, "w0")
            taking = asyncio.create_task(worker.take(1, 10_000))
            await asyncio.sleep(0.05)
            taking.cancel()
            await asyncio.wait([taking])
            await client.aclose()
            await worker.aclose()
        assert worker.held == 0

    async def test_closing_twice_or_without_a_server_is_no_error(
        self, own_server: EmbeddedValkey, own_bench: Any, record: Any
    ) -> None:
        worker = await own_bench.work()
        await own_bench.requests().submit(record("a"))
        await worker.take(1, 1000)
        own_server.stop()
        await worker.aclose()
        await worker.aclose()
        assert worker.held == 0


@pytest.mark.parametrize(
    "options",
    [
        {"consumer": "a b"},
        {"service": "{x}"},
        {"shard": -1},
        {"claim_after_ms": 0},
        {"max_deliveries": 0},
        {"max_body": 0},
        {"reply_life": 0.0},
    ],
)
def test_names_and_numbers_are_checked(options: dict[str, Any]) -> None:
    values = {"service": "s", "shard": 0, "consumer": "w0"} | options
    with pytest.raises(ConfigError):
        WorkQueue(connect("unix:///q"), **values)
