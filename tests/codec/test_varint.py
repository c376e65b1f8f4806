from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.codec._varint import VARINT_MAX, Cursor, encode_varint, read_varint

# RFC 9000, appendix A.1
VECTORS = [
    ("c2197c5eff14e88c", 151_288_809_941_952_652),
    ("9d7f3e7d", 494_878_333),
    ("7bbd", 15_293),
    ("25", 37),
]


@pytest.mark.parametrize(("raw", "value"), VECTORS)
def test_vectors_of_rfc_9000(raw, value):
    assert encode_varint(value).hex() == raw
    assert read_varint(bytes.fromhex(raw), 0) == (value, len(raw) // 2)


def test_a_longer_form_than_needed_is_read():
    assert read_varint(bytes.fromhex("4025"), 0) == (37, 2)  # RFC 9000, appendix A.1
    assert read_varint(bytes.fromhex("c000000000000000"), 0) == (0, 8)


@pytest.mark.parametrize(
    ("value", "size"),
    [(0, 1), (63, 1), (64, 2), (16383, 2), (16384, 4), (2**30 - 1, 4), (2**30, 8), (VARINT_MAX, 8)],
)
def test_the_shortest_form_is_written(value, size):
    assert len(encode_varint(value)) == size
    assert read_varint(encode_varint(value), 0) == (value, size)


@pytest.mark.parametrize("value", [-1, VARINT_MAX + 1])
def test_values_out_of_range_are_a_mistake_of_the_caller(value):
    with pytest.raises(ValueError, match="variable-length"):
        encode_varint(value)


@given(st.integers(0, VARINT_MAX), st.binary(max_size=4), st.binary(max_size=4))
def test_round_trip_in_place(value, before, after):
    message = before + encode_varint(value) + after
    assert read_varint(message, len(before)) == (value, len(message) - len(after))
    cursor = Cursor(memoryview(message))
    cursor.take(len(before))
    assert cursor.varint() == value
    assert bytes(cursor.take(len(after))) == after
    assert cursor.at_end


@pytest.mark.parametrize("value", [0, 64, 16384, 2**30])
def test_every_truncation_is_refused(refused, value):
    raw = encode_varint(value)
    for size in range(len(raw)):
        with refused("bhttp-truncated", "missing" if size == 0 else "cut off"):
            read_varint(raw[:size], 0)


def test_a_position_past_the_end_is_refused(refused):
    with refused("bhttp-truncated", "missing"):
        read_varint(b"\x01", 2**62)


def test_the_cursor_takes_views_and_stops_at_the_end(refused):
    cursor = Cursor(memoryview(b"abc"))
    assert bytes(cursor.take(2)) == b"ab"
    with refused("bhttp-truncated"):
        cursor.take(2)
    assert cursor.take(1).obj == b"abc"
    assert cursor.at_end
    assert len(cursor.take(0)) == 0
    with refused("bhttp-truncated"):
        cursor.varint()
