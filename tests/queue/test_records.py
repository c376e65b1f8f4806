from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import QueueError
from strongroom.queue.records import (
    MAX_DEADLINE,
    Reply,
    SealedRecord,
    decode_record,
    decode_reply,
    encode_record,
    encode_reply,
)

RECORD = SealedRecord("r-1", "7", b"\x00sealed\xff", "frontend.1", 1_900_000_000_000)
REPLY = Reply("r-1", 200, "message/ohttp-res", b"\x00answer\xff")

REFUSALS = {"queue-entry-malformed", "queue-body-too-large"}

ids = st.from_regex(r"\A[A-Za-z0-9._~-]{1,128}\Z")
names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
records = st.builds(SealedRecord, ids, names, st.binary(max_size=300), names, st.integers(0, MAX_DEADLINE))
replies = st.builds(
    Reply, ids, st.integers(100, 599), st.from_regex(r"\A[!-~][ -~]{0,126}[!-~]\Z"), st.binary(max_size=300)
)


def code(call: Callable[[], object]) -> str:
    with pytest.raises(QueueError) as caught:
        call()
    return caught.value.code


@given(records)
def test_a_record_survives_the_wire(record: SealedRecord) -> None:
    assert decode_record(list(encode_record(record))) == record


@given(replies)
def test_a_reply_survives_the_wire(reply: Reply) -> None:
    assert decode_reply(list(encode_reply(reply))) == reply


def test_the_fields_are_those_of_the_design() -> None:
    assert encode_record(RECORD) == (
        *(b"id", b"r-1"),
        *(b"key", b"7"),
        *(b"body", b"\x00sealed\xff"),
        *(b"reply", b"frontend.1"),
        *(b"deadline", b"1900000000000"),
    )
    assert encode_reply(REPLY) == (
        *(b"id", b"r-1"),
        *(b"status", b"200"),
        *(b"type", b"message/ohttp-res"),
        *(b"body", b"\x00answer\xff"),
    )


def test_fields_may_come_in_any_order() -> None:
    fields = list(encode_record(RECORD))
    assert decode_record(fields[6:] + fields[:6]) == RECORD


def test_only_the_key_evidence_asks_for_evidence() -> None:
    assert not RECORD.asks_for_evidence
    assert replace(RECORD, key="evidence").asks_for_evidence


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": "a" * 129},
        {"id": "a/b"},
        {"id": "a\n"},
        {"id": "ä"},
        {"key": ""},
        {"key": "a:b"},
        {"key": "k" * 129},
        {"reply": ""},
        {"reply": "}:x"},
        {"reply": "-fe"},
        {"deadline": -1},
        {"deadline": MAX_DEADLINE + 1},
    ],
)
def test_a_record_out_of_bounds_is_not_sent(change: dict[str, Any]) -> None:
    assert code(lambda: encode_record(replace(RECORD, **change))) == "queue-record-invalid"


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": "a b"},
        {"status": 99},
        {"status": 600},
        {"content_type": ""},
        {"content_type": "a"},
        {"content_type": "a\r\nb"},
        {"content_type": " ab"},
        {"content_type": "ab "},
        {"content_type": "x" * 129},
        {"content_type": "texté"},
    ],
)
def test_a_reply_out_of_bounds_is_not_sent(change: dict[str, Any]) -> None:
    assert code(lambda: encode_reply(replace(REPLY, **change))) == "queue-record-invalid"


def test_a_body_may_be_as_large_as_the_limit_and_no_larger() -> None:
    record, reply = replace(RECORD, body=bytes(10)), replace(REPLY, body=bytes(10))
    record_fields, reply_fields = list(encode_record(record)), list(encode_reply(reply))
    assert decode_record(record_fields, max_body=10) == record
    assert decode_reply(reply_fields, max_body=10) == reply
    assert encode_record(record, max_body=10) == tuple(record_fields)
    assert encode_reply(reply, max_body=10) == tuple(reply_fields)
    for call in (
        lambda: encode_record(record, max_body=9),
        lambda: encode_reply(reply, max_body=9),
        lambda: decode_record(record_fields, max_body=9),
        lambda: decode_reply(reply_fields, max_body=9),
    ):
        assert code(call) == "queue-body-too-large"


def with_field(fields: tuple[bytes, ...], name: bytes, value: object) -> list[object]:
    changed: list[object] = list(fields)
    changed[changed.index(name) + 1] = value
    return changed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"id", b""),
        (b"id", b"a b"),
        (b"id", b"\xff"),
        (b"id", b"a" * 129),
        (b"id", None),
        (b"id", 1),
        (b"key", b""),
        (b"key", b"a:b"),
        (b"key", b"\xc3\xa4"),
        (b"reply", b""),
        (b"reply", b"{x}"),
        (b"reply", b"\x80"),
        (b"deadline", b""),
        (b"deadline", b"-1"),
        (b"deadline", b"+1"),
        (b"deadline", b"01"),
        (b"deadline", b"1 "),
        (b"deadline", b"1_0"),
        (b"deadline", b"1e3"),
        (b"deadline", "\u0663".encode()),
        (b"deadline", str(MAX_DEADLINE + 1).encode()),
        (b"deadline", b"9" * 5000),
        (b"body", None),
        (b"body", [b"x"]),
    ],
)
def test_each_bad_field_of_a_record_is_refused_alone(name: bytes, value: object) -> None:
    fields = with_field(encode_record(RECORD), name, value)
    assert code(lambda: decode_record(fields)) == "queue-entry-malformed"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"id", b""),
        (b"id", b"a/b"),
        (b"id", b"\xff"),
        (b"status", b"99"),
        (b"status", b"600"),
        (b"status", b"0200"),
        (b"status", b""),
        (b"status", b"2OO"),
        (b"type", b""),
        (b"type", b"a\r\nset-cookie: b"),
        (b"type", b"\xffab"),
        (b"type", b"x" * 129),
        (b"body", 7),
    ],
)
def test_each_bad_field_of_a_reply_is_refused_alone(name: bytes, value: object) -> None:
    fields = with_field(encode_reply(REPLY), name, value)
    assert code(lambda: decode_reply(fields)) == "queue-entry-malformed"


@pytest.mark.parametrize(
    "fields",
    [
        None,
        b"id",
        7,
        {},
        [],
        [b"id"],
        [None] * 10,
        list(encode_record(RECORD))[:-1],
        list(encode_record(RECORD))[:-2],
        [*encode_record(RECORD), b"more", b"x"],
        [*encode_record(RECORD)[:-2], b"id", b"r-1"],
        [*encode_record(RECORD)[:-2], b"Deadline", b"1"],
        tuple(encode_record(RECORD)),
    ],
)
def test_what_has_not_exactly_the_fields_is_no_record(fields: object) -> None:
    assert code(lambda: decode_record(fields)) == "queue-entry-malformed"
    assert code(lambda: decode_reply(fields)) == "queue-entry-malformed"


def test_an_error_shows_nothing_of_the_record() -> None:
    secret = b"s3cret-" * 5
    with pytest.raises(QueueError) as caught:
        decode_record(with_field(encode_record(RECORD), b"key", secret + b":"))
    assert "s3cret" not in repr(caught.value) + str(caught.value) + str(caught.value.to_problem())


def mutant(rng: random.Random, fields: list[object]) -> object:
    """A structure-aware change: the outer frame, a list of an even number of strings, mostly stays."""
    fields = list(fields)
    place = rng.randrange(len(fields))
    value = fields[place]
    kind = rng.randrange(10)
    if kind <= 3 and isinstance(value, bytes):
        data = bytearray(value)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data)) : rng.randrange(len(data)) + 1] = rng.randbytes(rng.randint(0, 2))
            data = data or bytearray(b"x")
        fields[place] = bytes(data)
    elif kind == 4:
        fields[place] = rng.choice([b"", b"0", b"\x00", b"-1", b"9" * 20, b"a" * 200, b"\xff\xfe", b"id"])
    elif kind == 5:
        other = rng.randrange(len(fields))
        fields[place], fields[other] = fields[other], fields[place]
    elif kind == 6:
        del fields[place & ~1 : (place & ~1) + 2]
    elif kind == 7:
        fields[place & ~1 : place & ~1] = [rng.choice([b"id", b"key", b"x"]), rng.randbytes(3)]
    elif kind == 8:
        fields[place] = rng.choice([None, 0, -1, 1.5, True, [], [b"id"], {}, "text"])
    else:
        return rng.choice([None, 0, b"", fields[:place], tuple(fields), [fields], {b"id": b"x"}])
    return fields


@pytest.mark.parametrize(
    ("decode", "encode", "good"),
    [(decode_record, encode_record, RECORD), (decode_reply, encode_reply, REPLY)],
)
def test_20000_mutants_are_decoded_or_refused_with_our_error(
    decode: Callable[[object], Any], encode: Callable[[Any], tuple[bytes, ...]], good: Any
) -> None:
    rng = random.Random(20_000)
    framed = accepted = 0
    for _ in range(20_000):
        fields = mutant(rng, list(encode(good)))
        framed += isinstance(fields, list) and len(fields) == len(encode(good))
        decoded = outcome(decode, fields)
        if isinstance(decoded, str):
            assert decoded in REFUSALS
        else:
            accepted += 1
            assert decode(list(encode(decoded))) == decoded
    assert framed >= 10_000
    assert 0 < accepted < 20_000


def outcome(decode: Callable[[object], Any], fields: object) -> Any:
    """What was decoded, or the code of our error; any other error goes through."""
    try:
        return decode(fields)
    except QueueError as error:
        return error.code


@given(
    st.recursive(
        st.none() | st.integers() | st.binary(max_size=20), lambda inner: st.lists(inner, max_size=12)
    )
)
def test_anything_that_a_server_can_send_is_decoded_or_refused(fields: object) -> None:
    for decode in (decode_record, decode_reply):
        decoded = outcome(decode, fields)
        assert not isinstance(decoded, str) or decoded in REFUSALS
