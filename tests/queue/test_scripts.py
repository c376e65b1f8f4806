"""The Lua scripts, run as they are on a real server."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from strongroom.errors import QueueError
from strongroom.queue.scripts import ADDED, ANSWER, BURY, FULL, KNOWN, PUBLISH, SUBMIT, TOUCH

GROUP = "workers"


@pytest.fixture
async def run(bench: Any) -> Any:
    """Commands and scripts on keys of this test's hash tag."""

    class Run:
        client = bench.client()

        def __init__(self) -> None:
            self.tag = f"{{{bench.service}}}"

        async def __call__(self, *command: Any) -> Any:
            return await self.client.execute(*command)

        async def script(self, script: Any, keys: list[str], *arguments: Any) -> Any:
            return await self.client.run(script, [self.tag + key for key in keys], *arguments)

        async def delivered(self, consumer: str = "w0") -> list[bytes]:
            reply = await self("XREADGROUP", "GROUP", GROUP, consumer, "STREAMS", f"{self.tag}requests", ">")
            return [entry[0] for entry in reply[0][1]]

        async def group(self) -> str:
            stream = f"{self.tag}requests"
            await self("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
            return stream

    return Run()


def test_a_script_is_known_by_the_sha1_of_its_text() -> None:
    for script in (SUBMIT, ANSWER, BURY, TOUCH, PUBLISH):
        assert script.text.startswith("#!lua")
        assert script.digest == hashlib.sha1(script.text.encode()).hexdigest()


async def test_submit_adds_once(run: Any) -> None:
    add = (SUBMIT, ["requests", "marker"], 10, 60_000, "id", "a", "body", b"\x00\xff")
    assert await run.script(*add) == ADDED
    assert await run.script(*add) == KNOWN
    [[_, fields]] = await run("XRANGE", f"{run.tag}requests", "-", "+")
    assert fields == [b"id", b"a", b"body", b"\x00\xff"]
    assert 0 < await run("PTTL", f"{run.tag}marker") <= 60_000


async def test_submit_refuses_when_full_and_leaves_no_marker(run: Any) -> None:
    assert await run.script(SUBMIT, ["requests", "m1"], 1, 60_000, "id", "a") == ADDED
    assert await run.script(SUBMIT, ["requests", "m2"], 1, 60_000, "id", "b") == FULL
    assert await run.script(SUBMIT, ["requests", "m1"], 1, 60_000, "id", "a") == KNOWN
    assert await run("EXISTS", f"{run.tag}m2") == 0
    assert await run("XLEN", f"{run.tag}requests") == 1


async def test_answer_stores_acknowledges_and_deletes_once(run: Any) -> None:
    stream = await run.group()
    await run("XADD", stream, "*", "id", "a")
    [entry] = await run.delivered()
    answer = (ANSWER, ["requests", "replies"], GROUP, entry, 60_000, "id", "a", "body", "first")
    assert await run.script(*answer) == 1
    assert await run.script(*answer[:-1], "second") == 0
    [[_, fields]] = await run("XRANGE", f"{run.tag}replies", "-", "+")
    assert fields[-1] == b"first"
    assert 0 < await run("PTTL", f"{run.tag}replies") <= 60_000
    assert await run("XLEN", stream) == 0
    assert (await run("XPENDING", stream, GROUP))[0] == 0


async def test_answer_needs_an_entry_that_was_delivered(run: Any) -> None:
    stream = await run.group()
    entry = await run("XADD", stream, "*", "id", "a")
    assert await run.script(ANSWER, ["requests", "replies"], GROUP, entry, 60_000, "id", "a") == 0
    assert await run("XLEN", stream) == 1
    assert await run("EXISTS", f"{run.tag}replies") == 0


async def test_an_answer_that_cannot_be_stored_acknowledges_nothing(run: Any) -> None:
    stream = await run.group()
    await run("XADD", stream, "*", "id", "a")
    [entry] = await run.delivered()
    await run("SET", f"{run.tag}replies", "no stream")
    with pytest.raises(QueueError):
        await run.script(ANSWER, ["requests", "replies"], GROUP, entry, 60_000, "id", "a")
    assert (await run("XPENDING", stream, GROUP))[0] == 1
    assert await run("XLEN", stream) == 1


async def test_bury_moves_an_entry_and_answers(run: Any) -> None:
    stream = await run.group()
    await run("XADD", stream, "*", "id", "a")
    [entry] = await run.delivered()
    bury = (BURY, ["requests", "dead", "replies"], GROUP, entry, 5, 60_000, 2, "reason", "x", "id", "a")
    assert await run.script(*bury) == 1
    assert await run.script(*bury) == 0
    [[_, letter]] = await run("XRANGE", f"{run.tag}dead", "-", "+")
    [[_, answer]] = await run("XRANGE", f"{run.tag}replies", "-", "+")
    assert (letter, answer) == ([b"reason", b"x"], [b"id", b"a"])
    assert 0 < await run("PTTL", f"{run.tag}replies") <= 60_000
    assert await run("XLEN", stream) == 0
    assert (await run("XPENDING", stream, GROUP))[0] == 0


async def test_bury_without_anybody_to_answer_keeps_the_newest_letters(run: Any) -> None:
    stream = await run.group()
    for number in range(4):
        await run("XADD", stream, "*", "id", number)
    for number, entry in enumerate(await run.delivered()):
        assert await run.script(BURY, ["requests", "dead"], GROUP, entry, 3, 1, 2, "number", number) == 1
    letters = await run("XRANGE", f"{run.tag}dead", "-", "+")
    assert [fields[1] for _, fields in letters] == [b"1", b"2", b"3"]


async def test_touch_renews_only_what_is_the_consumers(run: Any) -> None:
    stream = await run.group()
    for _ in range(2):
        await run("XADD", stream, "*", "id", "a")
    mine, others = (await run.delivered("w0"))[:2]
    await run("XCLAIM", stream, GROUP, "w1", 0, others)
    await run("XCLAIM", stream, GROUP, "w0", 0, mine, "IDLE", 5000, "JUSTID")
    kept = await run.script(TOUCH, ["requests"], GROUP, "w0", 0, mine, others, "9-9")
    assert kept == [1, 0, 0]
    [[_, owner, idle, deliveries]] = await run("XPENDING", stream, GROUP, mine, mine, 1)
    assert (owner, deliveries) == (b"w0", 1)
    assert idle < 5000
    [[_, owner, _, _]] = await run("XPENDING", stream, GROUP, others, others, 1)
    assert owner == b"w1"


async def test_touch_can_make_an_entry_look_silent(run: Any) -> None:
    stream = await run.group()
    await run("XADD", stream, "*", "id", "a")
    [entry] = await run.delivered()
    assert await run.script(TOUCH, ["requests"], GROUP, "w0", 60_000, entry) == [1]
    [[_, _, idle, deliveries]] = await run("XPENDING", stream, GROUP, "IDLE", 60_000, "-", "+", 9)
    assert idle >= 60_000
    assert deliveries == 1


async def test_touch_says_of_a_deleted_entry_that_it_is_gone(run: Any) -> None:
    stream = await run.group()
    entry = await run("XADD", stream, "*", "id", "a")
    await run.delivered()
    await run("XDEL", stream, entry)
    assert await run.script(TOUCH, ["requests"], GROUP, "w0", 0, entry) == [0]


async def test_publish_lists_documents_until_they_expire(run: Any) -> None:
    await run.script(PUBLISH, ["doc1", "index"], 60_000, "w1", "one")
    await run.script(PUBLISH, ["doc2", "index"], 1, "w2", "two")
    assert await run("GET", f"{run.tag}doc1") == b"one"
    assert 1000 < await run("PTTL", f"{run.tag}index") <= 60_000  # a short life does not shorten the index's
    while await run("EXISTS", f"{run.tag}doc2"):
        pass
    await run.script(PUBLISH, ["doc1", "index"], 90_000, "w1", "newer")
    assert await run("ZRANGE", f"{run.tag}index", 0, -1) == [b"w1"]
    assert await run("GET", f"{run.tag}doc1") == b"newer"
    assert 60_000 < await run("PTTL", f"{run.tag}index") <= 90_000
