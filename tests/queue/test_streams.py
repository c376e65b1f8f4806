from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import QueueError
from strongroom.queue.connection import MAX_REPLY
from strongroom.queue.records import LARGEST_BODY, MAX_BODY
from strongroom.queue.streams import (
    MAX_ENTRIES,
    Entry,
    Pending,
    claimed_entries,
    pending_entries,
    read_count,
    read_entries,
)

ENTRY = [b"1-0", [b"id", b"x"]]
READ = [[b"stream", [ENTRY, [b"1-1", None]]]]
PENDING = [[b"1-0", b"w0", 12, 3], [b"2-7", b"w1", 0, 1]]

junk = st.recursive(
    st.none() | st.integers() | st.binary(max_size=10) | st.just(b"1-0"),
    lambda inner: st.lists(inner, max_size=5),
)


def test_entries_of_a_read() -> None:
    assert read_entries(READ) == [Entry(b"1-0", [b"id", b"x"]), Entry(b"1-1", None)]
    assert read_entries([[b"stream", []]]) == []


def test_a_read_whose_time_ran_out_has_no_entries() -> None:
    assert read_entries(None) == []


def test_claimed_entries_leave_out_those_deleted_meanwhile() -> None:
    assert claimed_entries([None, ENTRY, None]) == [Entry(b"1-0", [b"id", b"x"])]


def test_lines_of_pending() -> None:
    assert pending_entries(PENDING) == [Pending(b"1-0", 3), Pending(b"2-7", 1)]
    assert pending_entries([]) == []


@pytest.mark.parametrize(
    "reply",
    [
        b"x",
        0,
        {},
        [],
        [None],
        [READ[0], READ[0]],
        [[b"stream"]],
        [[b"stream", [], []]],
        [[b"stream", b"x"]],
        [[b"stream", None]],
        [[b"stream", [b"1-0"]]],
        [[b"stream", [[b"1-0"]]]],
        [[b"stream", [[b"1-0", [], []]]]],
        [[b"stream", [[b"1", []]]]],
        [[b"stream", [[b"1-0\n", []]]]],
        [[b"stream", [[b"-1-0", []]]]],
        [[b"stream", [["1-0", []]]]],
        [[b"stream", [[None, []]]]],
        [[b"stream", [[b"9" * 21 + b"-0", []]]]],
        [[b"stream", [ENTRY] * (MAX_ENTRIES + 1)]],
    ],
)
def test_what_is_no_read_is_refused(reply: object) -> None:
    with pytest.raises(QueueError) as caught:
        read_entries(reply)
    assert caught.value.code == "queue-protocol"


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"x",
        [None],
        [[]],
        [[b"1-0", b"w", 0]],
        [[b"1-0", b"w", 0, 1, 2]],
        [[b"1", b"w", 0, 1]],
        [[b"1-0", b"w", 0, b"1"]],
        [[b"1-0", b"w", 0, None]],
        [[b"1-0", b"w", 0, -1]],
        [[b"1-0", b"w", 0, 1 << 63]],
        PENDING * MAX_ENTRIES,
    ],
)
def test_what_is_no_pending_is_refused(reply: object) -> None:
    with pytest.raises(QueueError) as caught:
        pending_entries(reply)
    assert caught.value.code == "queue-protocol"


@given(junk)
def test_any_reply_is_understood_or_refused(reply: object) -> None:
    for parse in (read_entries, claimed_entries, pending_entries):
        assert outcome(parse, reply) in {"understood", "queue-protocol"}


def outcome(parse: Callable[[object], Any], reply: object) -> str:
    """Whether a reply was understood, or the code of our error; any other error goes through."""
    try:
        parse(reply)
    except QueueError as error:
        return error.code
    return "understood"


def changed(rng: random.Random, value: object) -> object:
    """A copy with one thing changed somewhere inside."""
    odd = [None, 0, -1, 1 << 63, b"", b"1-0", b"1-", b"x" * 50, [], [[]], {}, "1-0", 2.5]
    if not isinstance(value, list) or not value or rng.random() < 0.1:
        return rng.choice(odd)
    copy = list(value)
    place = rng.randrange(len(copy))
    match rng.randrange(6):
        case 0:
            del copy[place]
        case 1:
            copy.insert(place, rng.choice([*odd, copy[place]]))
        case _:
            copy[place] = changed(rng, copy[place])
    return copy


@pytest.mark.parametrize(
    ("parse", "good"),
    [(read_entries, READ), (claimed_entries, READ[0][1]), (pending_entries, PENDING)],
)
def test_20000_mutants_are_understood_or_refused(parse: Callable[[object], Any], good: Any) -> None:
    rng = random.Random(9)
    framed = understood = 0
    for _ in range(20_000):
        reply = changed(rng, good)
        framed += isinstance(reply, list)
        result = outcome(parse, reply)
        assert result in {"understood", "queue-protocol"}
        understood += result == "understood"
    assert framed >= 10_000
    assert 0 < understood < 20_000


def test_as_many_entries_are_read_at_once_as_fit_a_reply() -> None:
    assert read_count(1024) == 64
    for largest in (1024, MAX_BODY, LARGEST_BODY):
        assert read_count(largest) * largest < MAX_REPLY
    assert read_count(MAX_BODY) == 63
    assert read_count(LARGEST_BODY) == 7
    assert read_count(MAX_REPLY) == 1
