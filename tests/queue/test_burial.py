from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from strongroom.errors import QueueError
from strongroom.queue.burial import KEPT_BODY, MAX_DEAD, bury, problem_reply
from strongroom.queue.errors import ENTRY_MALFORMED, REQUEST_POISONOUS
from strongroom.queue.names import GROUP, Keys
from strongroom.queue.records import decode_reply, encode_record, encode_reply
from strongroom.queue.streams import Entry


@pytest.fixture
async def grave(bench: Any) -> Any:
    class Grave:
        client = bench.client()
        keys = Keys(bench.service)

        async def delivered(self, *fields: Any) -> Entry:
            await self.client.execute("XADD", bench.stream, "*", *fields)
            reply = await self.client.execute(
                "XREADGROUP", "GROUP", GROUP, "w0", "STREAMS", bench.stream, ">"
            )
            return Entry(*reply[0][1][0])

        async def bury(self, entry: Entry, record: Any, error: QueueError) -> bool:
            return await bury(self.client, self.keys, entry, record, error, reply_life_ms=60_000)

        async def letters(self) -> list[dict[bytes, bytes]]:
            entries = await self.client.execute("XRANGE", bench.dead, "-", "+")
            return [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in entries]

    made = Grave()
    await made.client.execute("XGROUP", "CREATE", bench.stream, GROUP, "0", "MKSTREAM")
    return made


async def test_a_letter_tells_everything_of_a_record(grave: Any, bench: Any, record: Any) -> None:
    given = record("a", b"\x00\xff")
    entry = await grave.delivered(*encode_record(given))
    assert await grave.bury(entry, given, QueueError(REQUEST_POISONOUS)) is True
    assert await grave.bury(entry, given, QueueError(REQUEST_POISONOUS)) is False
    [letter] = await grave.letters()
    assert letter == {
        b"reason": b"request-poisonous",
        b"entry": entry.id,
        b"id": b"a",
        b"key": b"7",
        b"reply": b"fe",
        b"deadline": b"1900000000000",
        b"size": b"2",
        b"sha256": hashlib.sha256(b"\x00\xff").hexdigest().encode(),
        b"body": b"\x00\xff",
    }
    assert (await anext(bench.replies())).id == "a"


async def test_a_large_body_is_not_kept_but_known_by_its_digest(grave: Any, record: Any) -> None:
    for body, kept in ((bytes(KEPT_BODY), True), (bytes(KEPT_BODY + 1), False)):
        given = record("a", body)
        entry = await grave.delivered(*encode_record(given))
        await grave.bury(entry, given, QueueError(REQUEST_POISONOUS))
        letter = (await grave.letters())[-1]
        assert (b"body" in letter) is kept
        assert letter[b"size"] == b"%d" % len(body)
        assert letter[b"sha256"] == hashlib.sha256(body).hexdigest().encode()


async def test_of_junk_the_beginnings_are_kept_and_nobody_is_answered(grave: Any, bench: Any) -> None:
    entry = await grave.delivered(*(b"x" * 1000 for _ in range(100)))
    assert await grave.bury(entry, None, QueueError(ENTRY_MALFORMED)) is True
    [letter] = await grave.letters()
    assert letter.pop(b"reason") == b"queue-entry-malformed"
    assert letter.pop(b"entry") == entry.id
    assert letter == {b"field-%d" % number: b"x" * 256 for number in range(32)}
    tag = grave.keys.tag
    assert await grave.client.execute("KEYS", f"{tag.replace('{', '?').replace('}', '?')}:replies:*") == []


@pytest.mark.parametrize("fields", [None, b"x", 7, [], [None, 1, []]])
async def test_junk_of_any_type_can_be_buried(grave: Any, fields: object) -> None:
    entry = await grave.delivered("no", "record")
    assert await grave.bury(Entry(entry.id, fields), None, QueueError(ENTRY_MALFORMED)) is True
    assert set((await grave.letters())[0]) == {b"reason", b"entry"}


async def test_only_the_newest_letters_are_kept(grave: Any) -> None:
    for number in range(MAX_DEAD + 3):
        entry = await grave.delivered("no", number)
        await grave.bury(entry, None, QueueError(ENTRY_MALFORMED))
    letters = await grave.letters()
    assert len(letters) == MAX_DEAD
    assert letters[0][b"field-1"] == b"3"


def test_an_error_becomes_problem_details_that_can_be_sent() -> None:
    reply = problem_reply("a", QueueError(REQUEST_POISONOUS, found="3 deliveries"))
    assert decode_reply(list(encode_reply(reply))) == reply
    problem = json.loads(reply.body)
    assert problem["code"] == "request-poisonous"
    assert problem["status"] == reply.status == 500
    assert problem["found"] == "3 deliveries"
