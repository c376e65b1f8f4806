from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from strongroom.codec._oip_binary import decode_binary, encode_binary
from strongroom.codec._oip_tensor import NUMERIC, objects

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NUMBERS = st.sampled_from(list(NUMERIC)).flatmap(
    lambda datatype: st.tuples(st.just(datatype), arrays.arrays(NUMERIC[datatype], SHAPES))
)


def test_the_layout_of_the_extension():
    # Little-endian, row-major, no padding; BOOL is one byte; a string has its length in four bytes.
    numbers = encode_binary("UINT32", np.array([[1, 2], [3, 2**31]], ">u4"))
    assert bytes(numbers) == b"\1\0\0\0\2\0\0\0\3\0\0\0\0\0\0\x80"
    assert bytes(encode_binary("BOOL", np.array([True, False, True]))) == b"\1\0\1"
    assert bytes(encode_binary("FP16", np.array([1.0, -2.0], np.float16))) == b"\0\x3c\0\xc0"
    assert encode_binary("BYTES", objects([b"ab", b"", b"c"], (3,))) == b"\2\0\0\0ab\0\0\0\0\1\0\0\0c"


@given(NUMBERS)
def test_numbers_round_trip(sample):
    datatype, array = sample
    raw = bytes(encode_binary(datatype, array))
    assert len(raw) == array.size * NUMERIC[datatype].itemsize
    again = decode_binary(memoryview(raw), datatype, array.shape, "input 0")
    assert again.dtype == NUMERIC[datatype]
    np.testing.assert_array_equal(again, array)
    assert not again.flags.writeable


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_bytes_round_trip(elements):
    raw = bytes(encode_binary("BYTES", objects(elements, (len(elements),))))
    again = decode_binary(memoryview(raw), "BYTES", (len(elements),), "input 0")
    assert again.tolist() == elements
    assert not again.flags.writeable


def test_numbers_are_a_view_of_the_message_in_both_directions():
    raw = bytearray(b"x" + bytes(12))
    view = memoryview(raw)
    array = decode_binary(view[1:], "FP32", (3,), "input 0")
    raw[4] = 0x3F  # sign and exponent of the first element, written behind its back
    assert array[0] != 0
    assert not array.flags.writeable
    source = np.arange(3, dtype=np.float32)
    assert np.shares_memory(np.frombuffer(encode_binary("FP32", source), np.float32), source)


def test_a_slice_is_laid_out_first():
    array = np.arange(12, dtype=np.int16).reshape(3, 4)[::2, ::3]
    raw = bytes(encode_binary("INT16", array))
    assert decode_binary(memoryview(raw), "INT16", (2, 2), "input 0").tolist() == [[0, 3], [8, 11]]


@pytest.mark.parametrize("datatype", NUMERIC)
@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (0,), (5, 0)])
def test_the_size_must_be_exact(refused, datatype, shape):
    size = math.prod(shape) * NUMERIC[datatype].itemsize
    assert decode_binary(memoryview(bytes(size)), datatype, shape, "input 0").shape == shape
    for wrong in {size - 1, size + 1} - {-1}:
        with refused("tensor-size-mismatch", "input 0"):
            decode_binary(memoryview(bytes(wrong)), datatype, shape, "input 0")


def test_a_bool_is_zero_or_one(refused):
    assert decode_binary(memoryview(b"\0\1"), "BOOL", (2,), "input 0").tolist() == [False, True]
    with refused("tensor-data-invalid", "input 7"):
        decode_binary(memoryview(b"\0\2"), "BOOL", (2,), "input 7")


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        (b"\1\0\0\0a", 2),  # one too few
        (b"\1\0\0\0a", 0),  # one too many
        (b"\1\0\0\0a\0", 1),  # trailing byte
        (b"\1\0\0\0a\0\0\0", 2),  # cut in a length
        (b"\2\0\0\0a", 1),  # cut in an element
        (b"\xff\xff\xff\xffa", 1),
        (b"", 1),
    ],
)
def test_bytes_elements_must_fill_the_tensor(refused, raw, count):
    with refused("tensor-size-mismatch", "input 0"):
        decode_binary(memoryview(raw), "BYTES", (count,), "input 0")
