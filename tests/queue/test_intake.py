"""What a worker may take: its own, stale ones, new ones; and what becomes of the rest."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from strongroom.errors import QueueError
from strongroom.queue.connect import connect
from strongroom.queue.consumer import WorkQueue
from strongroom.queue.intake import _PAGE


def ids(deliveries: Any) -> list[str]:
    return [delivery.record.id for delivery in deliveries]


async def pending(bench: Any) -> dict[bytes, int]:
    """Deliveries by entry, as the server counts them."""
    lines = await bench.client().execute("XPENDING", bench.stream, "workers", "-", "+", 10_000)
    return {line[0]: line[3] for line in lines}


async def submit(bench: Any, record: Any, *names: str) -> None:
    requests = bench.requests()
    for name in names:
        await requests.submit(record(name))


async def dead(bench: Any) -> list[dict[bytes, bytes]]:
    entries = await bench.client().execute("XRANGE", bench.dead, "-", "+")
    return [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in entries]


class TestOwn:
    async def test_a_worker_that_comes_back_under_its_name_goes_on_at_once(
        self, bench: Any, record: Any
    ) -> None:
        await submit(bench, record, "a", "b", "c")
        before = await bench.work("w0", claim_after_ms=60_000)
        await before.take(2, 1000)
        after = await bench.work("w0", claim_after_ms=60_000)
        taken = [await after.take(1, 1000) for _ in range(3)]
        assert [(each.record.id, each.deliveries) for [each] in taken] == [("a", 2), ("b", 2), ("c", 1)]

    async def test_what_it_holds_it_does_not_get_again(self, bench: Any, record: Any) -> None:
        await submit(bench, record, "a", "b")
        worker = await bench.work(claim_after_ms=1)
        await worker.take(1, 1000)
        worker._intake.own_left = True
        assert ids(await worker.take(5, 1000)) == ["b"]
        assert await worker.claim_stale() == []
        assert await worker.take(5, 50) == []
        assert set((await pending(bench)).values()) == {1}

    async def test_a_delivery_that_got_lost_comes_again(self, bench: Any, record: Any, wire: Any) -> None:
        await submit(bench, record, "a")
        worker = await bench.work(client=bench.client(wire.url))
        await worker.take(1, 0)
        await submit(bench, record, "b", "c")
        wire.lose_next_reply = 1  # of the read that gets both
        assert ids(await worker.take(5, 5000)) == ["b", "c"]
        assert sorted((await pending(bench)).values()) == [1, 2, 2]

    async def test_more_than_one_page_is_found(self, bench: Any, record: Any) -> None:
        names = [f"r{number}" for number in range(2 * _PAGE + 10)]
        await submit(bench, record, *names)
        before = await bench.work("w0")
        taken: list[str] = []
        while len(taken) < len(names):
            taken += ids(await before.take(64, 1000))
        after = await bench.work("w0")
        again: list[str] = []
        while deliveries := await after.take(50, 0):
            again += ids(deliveries)
        assert again == names

    async def test_an_entry_that_the_host_deleted_is_forgotten(self, bench: Any, record: Any) -> None:
        await submit(bench, record, "a", "b")
        await (await bench.work("w0")).take(2, 1000)
        client = bench.client()
        [[first, _], _] = await client.execute("XRANGE", bench.stream, "-", "+")
        await client.execute("XDEL", bench.stream, first)
        after = await bench.work("w0")
        assert ids(await after.take(5, 1000)) == ["b"]
        assert len(await pending(bench)) == 1


class TestStale:
    async def test_two_that_claim_at_once_do_not_both_get_it(self, bench: Any, record: Any) -> None:
        names = [f"r{number}" for number in range(40)]
        await submit(bench, record, *names)
        await (await bench.work("dead")).take(40, 1000)
        await asyncio.sleep(0.2)
        heirs = [await bench.work(f"heir{number}", claim_after_ms=200) for number in range(4)]
        claimed = await asyncio.gather(*(heir.claim_stale() for heir in heirs))
        assert sorted(name for deliveries in claimed for name in ids(deliveries)) == sorted(names)

    async def test_claiming_stops_at_what_was_asked_for(self, bench: Any, record: Any) -> None:
        await submit(bench, record, "a", "b", "c")
        await (await bench.work("dead")).take(3, 1000)
        heir = await bench.work("heir", claim_after_ms=1)
        await asyncio.sleep(0.01)
        assert ids(await heir.claim_stale(2)) == ["a", "b"]
        assert ids(await heir.claim_stale(2)) == ["c"]

    async def test_taking_claims_by_itself_and_then_reads_on(self, bench: Any, record: Any) -> None:
        await submit(bench, record, "a")
        await (await bench.work("dead")).take(1, 1000)
        heir = await bench.work("heir", claim_after_ms=100)
        await submit(bench, record, "b")
        assert ids(await heir.take(5, 5000)) == ["b"]
        assert ids(await heir.take(5, 5000)) == ["a"]

    async def test_right_after_a_start_nothing_is_claimed(self, bench: Any, record: Any) -> None:
        """The others may have lost their connections just as this one."""
        await submit(bench, record, "a")
        await (await bench.work("other")).take(1, 1000)
        await asyncio.sleep(0.3)
        eager = await bench.work("eager", claim_after_ms=300)
        assert await eager.take(1, 0) == []
        assert ids(await eager.take(1, 5000)) == ["a"]


class TestPoison:
    async def die(self, bench: Any, times: int, count: int = 64) -> list[list[str]]:
        """Workers under one name that take what they get and are gone without a word."""
        seen = []
        for _ in range(times):
            worker = await bench.work("w0")
            seen.append(ids(await worker.take(count, 500)))
        return seen

    async def test_after_its_last_delivery_an_entry_is_a_dead_letter_with_an_answer(
        self, bench: Any, record: Any
    ) -> None:
        await submit(bench, record, "bad")
        assert await self.die(bench, 3) == [["bad"]] * 3
        worker = await bench.work("w0")
        assert await worker.take(1, 100) == []
        assert worker.buried == 1
        [letter] = await dead(bench)
        assert letter[b"reason"] == b"request-poisonous"
        assert (letter[b"id"], letter[b"body"]) == (b"bad", b"sealed")
        reply = await anext(bench.replies())
        assert (reply.id, reply.status, reply.content_type) == ("bad", 500, "application/problem+json")
        assert json.loads(reply.body)["code"] == "request-poisonous"
        assert await bench.requests().depth() == 0
        assert await pending(bench) == {}

    async def test_the_last_delivery_is_made_to_one_entry_at_a_time(
        self, bench: Any, record: Any, reply: Any
    ) -> None:
        await submit(bench, record, "a", "b", "bad", "c")
        assert await self.die(bench, 2) == [["a", "b", "bad", "c"]] * 2
        worker = await bench.work("w0")
        for name in ("a", "b"):
            [delivery] = await worker.take(64, 1000)
            assert (delivery.record.id, delivery.deliveries) == (name, 3)
            assert await worker.take(64, 0) == []
            assert await worker.answer([(delivery, reply(name))]) == [True]
        assert ids(await worker.take(64, 1000)) == ["bad"]  # kills this worker, and nobody else's request
        after = await bench.work("w0")
        [delivery] = await after.take(64, 1000)
        assert delivery.record.id == "c"
        assert await after.answer([(delivery, reply("c"))]) == [True]
        assert [letter[b"id"] for letter in await dead(bench)] == [b"bad"]
        reader = bench.replies()
        codes = {}
        for _ in range(4):
            answer = await anext(reader)
            codes[answer.id] = answer.status
        assert codes == {"a": 200, "b": 200, "c": 200, "bad": 500}

    async def test_new_entries_are_delivered_beside_a_suspect(self, bench: Any, record: Any) -> None:
        await submit(bench, record, "x", "y")
        await self.die(bench, 2)
        worker = await bench.work("w0")
        assert ids(await worker.take(64, 1000)) == ["x"]
        await submit(bench, record, "new")
        assert ids(await worker.take(64, 1000)) == ["new"]

    async def test_a_suspect_is_waited_for_and_the_next_follows_soon(
        self, bench: Any, record: Any, reply: Any
    ) -> None:
        await submit(bench, record, "x", "y")
        await self.die(bench, 2)
        worker = await bench.work("w0")
        [first] = await worker.take(64, 1000)
        taking = asyncio.create_task(worker.take(64, 20_000))
        await asyncio.sleep(0.1)
        assert not taking.done()
        await worker.answer([(first, reply("x"))])
        async with asyncio.timeout(2):
            assert ids(await taking) == ["y"]

    async def test_with_one_delivery_allowed_none_is_repeated(self, bench: Any, record: Any) -> None:
        await submit(bench, record, "a")
        await (await bench.work("w0", max_deliveries=1)).take(1, 1000)
        after = await bench.work("w0", max_deliveries=1)
        assert await after.take(1, 50) == []
        assert [letter[b"reason"] for letter in await dead(bench)] == [b"request-poisonous"]

    async def test_a_claimed_entry_is_given_up_likewise(self, bench: Any, record: Any) -> None:
        await submit(bench, record, "bad")
        for name in ("w0", "w1", "w2"):
            worker = await bench.work(name, claim_after_ms=50)
            assert ids(await worker.take(1, 5000)) == ["bad"]
        heir = await bench.work("w3", claim_after_ms=50)
        assert await heir.take(1, 500) == []
        assert len(await dead(bench)) == 1


class TestJunk:
    JUNK = (
        ("no", "record"),
        ("id", "a b", "key", "7", "body", "x", "reply", "fe", "deadline", "1"),
        ("id", "a", "key", "7", "body", "x", "reply", "fe}:x", "deadline", "1"),
        ("id", "a", "key", "7", "body", "x", "reply", "fe", "deadline", "soon"),
        ("id", "a", "id", "b", "key", "7", "body", "x", "reply", "fe"),
        tuple(b"\xff" * 1000 for _ in range(100)),
    )

    async def test_junk_goes_to_the_dead_letters_and_its_neighbours_are_delivered(
        self, bench: Any, record: Any
    ) -> None:
        client, worker = bench.client(), await bench.work()
        await submit(bench, record, "first")
        for fields in self.JUNK:
            await client.execute("XADD", bench.stream, "*", *fields)
        await submit(bench, record, "last")
        assert ids(await worker.take(64, 1000)) == ["first", "last"]
        letters = await dead(bench)
        assert [letter[b"reason"] for letter in letters] == [b"queue-entry-malformed"] * len(self.JUNK)
        assert worker.buried == len(self.JUNK)
        assert len(await pending(bench)) == 2
        assert max(sum(map(len, letter.values())) for letter in letters) < 10_000

    async def test_a_body_larger_than_the_worker_takes_is_answered(self, bench: Any, record: Any) -> None:
        requests, worker = bench.requests(), await bench.work(max_body=1000)
        await requests.submit(record("fits", bytes(1000)))
        await requests.submit(record("large", bytes(1001)))
        assert ids(await worker.take(64, 1000)) == ["fits"]
        [letter] = await dead(bench)
        assert (letter[b"reason"], letter[b"size"]) == (b"queue-body-too-large", b"1001")
        reply = await anext(bench.replies())
        assert (reply.id, reply.status) == ("large", 413)
        assert json.loads(reply.body)["code"] == "queue-body-too-large"

    async def test_junk_that_cannot_be_buried_is_left_alone(
        self, bench: Any, record: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        client, worker = bench.client(), await bench.work()
        await client.execute("SET", bench.dead, "no stream")
        await client.execute("XADD", bench.stream, "*", "no", "record")
        await submit(bench, record, "a")
        assert ids(await worker.take(64, 1000)) == ["a"]
        assert await worker.take(64, 50) == []
        assert worker.buried == 0
        assert any("cannot be buried" in each.message for each in caplog.records)

    async def test_nonsense_in_answer_to_a_burial_is_no_burial(self, scripted: Any, folder: Any) -> None:
        answers = (
            b"*1\r\n*4\r\n$3\r\n1-0\r\n$1\r\nw\r\n:0\r\n:1\r\n",
            b"*1\r\n*2\r\n$3\r\n1-0\r\n*1\r\n$1\r\nx\r\n",
            b"@",
        )
        async with scripted(folder / "s", b"+PONG\r\n", *answers) as url, connect(url, timeout=0.2) as client:
            worker = WorkQueue(client, "s", 0, "w0")
            with pytest.raises(QueueError, match="queue-protocol"):
                await worker.claim_stale()
            assert (worker.buried, worker.held) == (0, 0)
            await worker.aclose()

    async def test_a_burial_that_fails_on_the_way_is_repeated(
        self, bench: Any, record: Any, wire: Any
    ) -> None:
        worker = await bench.work(client=bench.client(wire.url))
        assert await worker.take(1, 0) == []
        client = bench.client()
        await client.execute("XADD", bench.stream, "*", "no", "record")
        # The read's reply arrives, the burial's does not.
        arrived = wire.requests + 1

        async def cut() -> None:
            while wire.requests < arrived + 1:
                await asyncio.sleep(0)
            wire.lose_next_reply = 1

        cutting = asyncio.create_task(cut())
        taking = asyncio.create_task(worker.take(64, 1000))
        await submit(bench, record, "a")
        names = ids(await taking) or ids(await worker.take(64, 1000))
        await cutting
        assert names == ["a"]
        assert len(await dead(bench)) == 1
        assert len(await pending(bench)) == 1
