from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import ConfigError, QueueError, UnreachableError
from strongroom.queue.connect import connect
from strongroom.queue.producer import ReplyReader, RequestQueue
from strongroom.queue.records import decode_record
from strongroom.queue.valkey import EmbeddedValkey


async def stored(bench: Any) -> list[Any]:
    """The records in the stream, read by a client of the test's own."""
    entries = await bench.client().execute("XRANGE", bench.stream, "-", "+")
    return [decode_record(fields) for _, fields in entries]


class TestSubmit:
    async def test_a_record_is_in_the_stream_when_submit_returns(self, bench: Any, record: Any) -> None:
        requests = bench.requests()
        for each in (record("a", b"\x00\xff"), record("b")):
            await requests.submit(each)
        assert await stored(bench) == [record("a", b"\x00\xff"), record("b")]
        assert await requests.depth() == 2

    async def test_submissions_of_one_turn_leave_in_one_write(
        self, wire: Any, bench: Any, record: Any
    ) -> None:
        requests = bench.requests(bench.client(wire.url))
        await requests.submit(record("first"))  # connects, and teaches the script
        before = wire.requests
        await asyncio.gather(*(requests.submit(record(f"r{number}")) for number in range(50)))
        assert wire.requests == before + 1
        assert await requests.depth() == 51

    async def test_the_same_id_again_changes_nothing(self, bench: Any, record: Any) -> None:
        requests = bench.requests()
        for body in (b"one", b"two"):
            await requests.submit(record("same", body))
        assert await stored(bench) == [record("same", b"one")]

    async def test_the_same_id_of_another_front_end_is_another_request(self, bench: Any, record: Any) -> None:
        requests = bench.requests()
        for frontend in ("fe", "fe2", "fe"):
            await requests.submit(record("same", reply=frontend))
        assert len(await stored(bench)) == 2

    async def test_an_id_is_remembered_after_its_answer(self, bench: Any, record: Any, reply: Any) -> None:
        requests, worker = bench.requests(), await bench.work()
        await requests.submit(record("a"))
        [delivery] = await worker.take(1, 1000)
        await worker.answer([(delivery, reply("a"))])
        await requests.submit(record("a"))
        assert await stored(bench) == []

    async def test_an_id_is_forgotten_in_the_end(self, bench: Any, record: Any, until: Any) -> None:
        requests = bench.requests(retry_for=0.01, remember=0.05)
        await requests.submit(record("a"))

        async def added_again() -> bool:
            await requests.submit(record("a"))
            return await requests.depth() == 2

        await until(added_again)

    async def test_a_lost_confirmation_adds_nothing_twice(self, wire: Any, bench: Any, record: Any) -> None:
        requests = bench.requests(bench.client(wire.url))
        await requests.submit(record("first"))
        wire.lose_next_reply = 1
        await requests.submit(record("second"))
        assert wire.connections == 2
        assert [each.id for each in await stored(bench)] == ["first", "second"]

    async def test_what_was_never_sent_is_sent_when_the_server_is_back(
        self, folder: Path, record: Any, service: str
    ) -> None:
        server = EmbeddedValkey(folder / "q")
        async with connect(server.url) as client:
            requests = RequestQueue(client, service, max_length=10)
            submitting = asyncio.create_task(requests.submit(record()))
            await asyncio.sleep(0.03)
            assert not submitting.done()
            with server:
                await submitting
                assert await requests.depth() == 1

    async def test_a_server_that_takes_no_writes_for_a_while_is_waited_for(
        self, own_bench: Any, no_writes: Any, record: Any
    ) -> None:
        client = own_bench.client()
        async with no_writes(client):
            with pytest.raises(UnreachableError) as caught:
                await own_bench.requests(retry_for=0.05).submit(record("a"))
            assert caught.value.found in {"MISCONF", "NOREPLICAS"}
            assert (caught.value.code, caught.value.status) == ("queue-unreachable", 503)
            waiting = asyncio.create_task(own_bench.requests().submit(record("b")))
            await asyncio.sleep(0.05)
        await waiting
        assert await own_bench.requests().depth() == 1

    async def test_in_the_end_it_gives_up(self, folder: Path, record: Any) -> None:
        async with connect(f"unix://{folder}/none") as client:
            requests = RequestQueue(client, "s", max_length=10, retry_for=0.05)
            with pytest.raises(UnreachableError) as caught:
                await requests.submit(record())
        assert (caught.value.code, caught.value.status) == ("queue-unreachable", 503)


class TestFull:
    async def test_one_more_than_fits_is_refused_and_nothing_dropped(self, bench: Any, record: Any) -> None:
        requests = bench.requests(max_length=3)
        outcomes = await asyncio.gather(
            *(requests.submit(record(f"r{number}")) for number in range(5)), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if outcome is not None]
        assert [getattr(each, "code", each) for each in refused] == ["queue-full", "queue-full"]
        assert {getattr(each, "status", each) for each in refused} == {503}
        assert [each.id for each in await stored(bench)] == ["r0", "r1", "r2"]

    async def test_a_known_id_is_accepted_by_a_full_queue(self, bench: Any, record: Any) -> None:
        requests = bench.requests(max_length=1)
        for _ in range(2):
            await requests.submit(record("a"))
        assert await requests.depth() == 1

    async def test_entries_with_a_worker_count_until_they_are_answered(
        self, bench: Any, record: Any, reply: Any
    ) -> None:
        requests, worker = bench.requests(max_length=1), await bench.work()
        await requests.submit(record("a"))
        [delivery] = await worker.take(1, 1000)
        with pytest.raises(QueueError, match="queue-full"):
            await requests.submit(record("b"))
        await worker.answer([(delivery, reply("a"))])
        await requests.submit(record("b"))
        assert await requests.depth() == 1

    async def test_memory_that_is_used_up_means_full_and_answers_make_room(
        self, folder: Path, service: str, record: Any, reply: Any
    ) -> None:
        from strongroom.queue.consumer import WorkQueue

        with EmbeddedValkey(folder / "q", maxmemory=8 << 20) as server:
            async with connect(server.url) as client:
                requests = RequestQueue(client, service, max_length=10_000)
                worker = WorkQueue(client, service, 0, "w0")
                await worker.start()
                accepted: list[str] = []

                async def fill() -> None:
                    while True:
                        name = f"r{len(accepted)}"
                        await requests.submit(record(name, bytes(100_000)))
                        accepted.append(name)

                with pytest.raises(QueueError) as caught:
                    await fill()
                assert (caught.value.code, caught.value.found) == ("queue-full", "OOM")
                assert len(accepted) > 10
                assert await requests.depth() == len(accepted)
                reader = ReplyReader(client, service, "fe")
                taken = 0
                while deliveries := await worker.take(16, 0):
                    taken += len(deliveries)
                    answers = [(each, reply(each.record.id, bytes(100_000))) for each in deliveries]
                    assert await worker.answer(answers) == [True] * len(answers)
                    for _ in answers:
                        await anext(reader)
                assert taken == len(accepted)
                await requests.submit(record("again", bytes(100_000)))
                await worker.aclose()
                await reader.aclose()


class TestBounds:
    async def test_a_body_has_a_largest_size(self, bench: Any, record: Any) -> None:
        requests = bench.requests(max_body=10)
        await requests.submit(record("a", bytes(10)))
        with pytest.raises(QueueError) as caught:
            await requests.submit(record("b", bytes(11)))
        assert (caught.value.code, caught.value.status) == ("queue-body-too-large", 413)
        assert await requests.depth() == 1

    async def test_a_record_that_is_none_is_not_sent(self, bench: Any, record: Any) -> None:
        with pytest.raises(QueueError) as caught:
            await bench.requests().submit(record("a b"))
        assert (caught.value.code, caught.value.status) == ("queue-record-invalid", 400)

    @pytest.mark.parametrize(
        "options",
        [
            {"max_length": 0},
            {"max_body": 0},
            {"max_body": 1 << 40},
            {"retry_for": 31.0},
            {"remember": 90_000.0},
            {"remember": 0.0, "retry_for": 0.0},
        ],
    )
    def test_numbers_out_of_range_are_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            RequestQueue(connect("unix:///q"), "s", **{"max_length": 1, **options})

    def test_names_are_checked(self) -> None:
        client = connect("unix:///q")
        for make in (
            lambda: RequestQueue(client, "a b", max_length=1),
            lambda: RequestQueue(client, "s", -1, max_length=1),
            lambda: ReplyReader(client, "s", "{fe}"),
            lambda: ReplyReader(client, "s}", "fe"),
            lambda: ReplyReader(client, "s", "fe", max_body=0),
        ):
            with pytest.raises(ConfigError):
                make()

    async def test_shards_are_apart(self, bench: Any, record: Any) -> None:
        client = bench.client()
        zero, one = (RequestQueue(client, bench.service, shard, max_length=9) for shard in (0, 1))
        await zero.submit(record())
        assert (await zero.depth(), await one.depth()) == (1, 0)

    async def test_a_length_that_is_no_number(self, scripted: Any, folder: Path) -> None:
        async with scripted(folder / "s", b"+PONG\r\n", b"+OK\r\n") as url, connect(url) as client:
            with pytest.raises(QueueError, match="queue-protocol"):
                await RequestQueue(client, "s", max_length=1).depth()


class TestReplies:
    @staticmethod
    def stream(bench: Any, frontend: str = "fe") -> str:
        return f"{{strongroom:{bench.service}:0}}:replies:{frontend}"

    async def put(self, bench: Any, *fields: Any, frontend: str = "fe") -> None:
        await bench.client().execute("XADD", self.stream(bench, frontend), "*", *fields)

    async def good(self, bench: Any, name: str, **options: Any) -> None:
        await self.put(bench, "id", name, "status", 200, "type", "a/b", "body", name, **options)

    async def test_replies_come_in_order_and_are_deleted(self, bench: Any) -> None:
        reader = bench.replies()
        for number in range(150):  # more than are read at once
            await self.good(bench, f"r{number}")
        assert [(await anext(reader)).id for _ in range(150)] == [f"r{number}" for number in range(150)]
        waiting = asyncio.create_task(anext(reader))  # deletes what was read, then waits
        await self.good(bench, "last")
        assert (await waiting).id == "last"
        assert await bench.client().execute("XLEN", self.stream(bench)) == 1

    async def test_it_waits_at_the_server(self, bench: Any, wire: Any) -> None:
        reader = bench.replies(client=bench.client(wire.url))
        waiting = asyncio.create_task(anext(reader))
        await asyncio.sleep(0.1)
        before = wire.requests
        await asyncio.sleep(0.3)
        assert wire.requests == before
        await self.good(bench, "r")
        assert (await waiting).id == "r"

    async def test_a_wait_without_an_answer_goes_on(self, bench: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr("strongroom.queue.producer._READ_WAIT_MS", 1)
        reader = bench.replies()
        waiting = asyncio.create_task(anext(reader))
        await asyncio.sleep(0.4)
        await self.good(bench, "r")
        assert (await waiting).id == "r"

    async def test_a_front_end_gets_its_own_replies_only(self, bench: Any) -> None:
        await self.good(bench, "theirs", frontend="fe2")
        await self.good(bench, "mine")
        reader = bench.replies()
        assert (await anext(reader)).id == "mine"
        assert await bench.client().execute("XLEN", self.stream(bench, "fe2")) == 1

    async def test_replies_from_before_the_start_are_read(self, bench: Any) -> None:
        await self.good(bench, "old")
        assert (await anext(bench.replies())).id == "old"

    async def test_a_clock_that_steps_back_hides_nothing(self, bench: Any) -> None:
        client, reader = bench.client(), bench.replies()
        fields = ("status", 200, "type", "a/b", "body", "")
        await client.execute("XADD", self.stream(bench), "9999999999999-0", "id", "future", *fields)
        assert (await anext(reader)).id == "future"
        waiting = asyncio.create_task(anext(reader))

        await asyncio.sleep(0.05)
        await client.execute("DEL", self.stream(bench))  # as after its expiry
        await client.execute("XADD", self.stream(bench), "5-0", "id", "past", *fields)
        assert (await waiting).id == "past"

    async def test_junk_is_deleted_and_counted(self, bench: Any) -> None:
        reader = bench.replies(max_body=5)
        await self.put(bench, "no", "reply")
        await self.put(bench, "id", "a", "status", 999, "type", "a/b", "body", "x")
        await self.put(bench, "id", "large", "status", 200, "type", "a/b", "body", "123456")
        await self.good(bench, "ok")
        assert (await anext(reader)).id == "ok"
        assert reader.malformed == 3
        waiting = asyncio.create_task(anext(reader))
        await self.good(bench, "next")
        assert (await waiting).id == "next"
        assert await bench.client().execute("XLEN", self.stream(bench)) == 1

    async def test_a_lost_connection_loses_and_repeats_nothing(self, bench: Any, wire: Any) -> None:
        reader = bench.replies(client=bench.client(wire.url))
        seen = []
        for number in range(20):
            await self.good(bench, f"r{number}")
            wire.lose_next_reply = number % 3 == 0
            seen.append((await anext(reader)).id)
        assert seen == [f"r{number}" for number in range(20)]
        assert wire.connections > 5

    async def test_it_comes_back_when_the_server_does(
        self, folder: Path, service: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = EmbeddedValkey(folder / "q")
        reader = ReplyReader(connect(server.url), service, "fe")
        waiting = asyncio.create_task(anext(reader))
        await asyncio.sleep(0.1)
        stream = f"{{strongroom:{service}:0}}:replies:fe"
        with server:
            async with connect(server.url) as client:
                fields = ("id", "r", "status", 200, "type", "a/b", "body", "")
                await client.execute("XADD", stream, "*", *fields)
                assert (await waiting).id == "r"
            await reader.aclose()
        assert [each.message.split(",")[0] for each in caplog.records] == ["replies cannot be read"]

    async def test_nonsense_of_the_server_is_survived(self, scripted: Any, folder: Path) -> None:
        good = b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*8\r\n" + b"".join(
            b"$%d\r\n%s\r\n" % (len(each), each)
            for each in (b"id", b"r", b"status", b"200", b"type", b"a/b", b"body", b"")
        )
        answers = [b"+PONG\r\n", b":5\r\n", b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n:1\r\n", good]
        async with scripted(folder / "s", *answers) as url:
            reader = ReplyReader(connect(url), "s", "fe")
            assert (await anext(reader)).id == "r"
            await reader.aclose()

    async def test_a_server_that_refuses_the_reader_is_an_error(self, scripted: Any, folder: Path) -> None:
        async with scripted(folder / "s", b"-NOAUTH x\r\n") as url:
            reader = ReplyReader(connect(url), "s", "fe")
            with pytest.raises(QueueError, match="queue-denied"):
                await anext(reader)
            await reader.aclose()

    async def test_a_server_that_takes_no_writes_for_a_while_is_no_end(
        self, own_bench: Any, no_writes: Any, until: Any
    ) -> None:
        client = own_bench.client()
        stream = f"{{strongroom:{own_bench.service}:0}}:replies:fe"
        fields = ("status", 200, "type", "a/b", "body", "")
        await client.execute("XADD", stream, "*", "id", "r0", *fields)
        reader = own_bench.replies()
        assert (await anext(reader)).id == "r0"
        async with no_writes(client):
            waiting = asyncio.create_task(anext(reader))  # it has r0 to delete, which is a write
            await until(lambda: reader._pause > 0.05)
            assert not waiting.done()
        await client.execute("XADD", stream, "*", "id", "r1", *fields)
        assert (await waiting).id == "r1"

    @pytest.mark.parametrize("line", [b"-WRONGTYPE x\r\n", b"-OOM x\r\n", b"-ERR x\r\n"])
    async def test_no_other_error_of_the_server_is_an_end(
        self, scripted: Any, folder: Path, until: Any, line: bytes
    ) -> None:
        async with scripted(folder / "s", b"+PONG\r\n", line) as url:
            reader = ReplyReader(connect(url), "s", "fe")
            waiting = asyncio.create_task(anext(reader))
            await until(lambda: reader._pause > 0 or waiting.done())
            assert not waiting.done()
            waiting.cancel()
            await reader.aclose()

    async def test_replies_that_nobody_reads_expire(
        self, bench: Any, record: Any, reply: Any, until: Any
    ) -> None:
        worker = await bench.work(reply_life=0.2)
        await bench.requests().submit(record())
        [delivery] = await worker.take(1, 1000)
        await worker.answer([(delivery, reply())])
        client = bench.client()
        assert await client.execute("XLEN", self.stream(bench)) == 1

        async def gone() -> bool:
            return await client.execute("EXISTS", self.stream(bench)) == 0

        await until(gone)

    async def test_iteration_is_endless(self, bench: Any) -> None:
        reader = bench.replies()
        for name in ("a", "b"):
            await self.good(bench, name)
        seen = []
        async for reply in reader:
            seen.append(reply.id)
            if len(seen) == 2:
                break
        assert seen == ["a", "b"]
