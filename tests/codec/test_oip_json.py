from __future__ import annotations

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from strongroom.codec._oip_json import decode_json, encode_json
from strongroom.codec._oip_tensor import NUMERIC, objects
from strongroom.errors import CodecError

JSON_TYPES = [datatype for datatype in NUMERIC if datatype != "FP16"]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NUMBERS = st.sampled_from(JSON_TYPES).flatmap(
    lambda datatype: st.tuples(
        st.just(datatype),
        arrays.arrays(
            NUMERIC[datatype],
            SHAPES,
            elements={"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else None,
        ),
    )
)


def decode(text: str | bytes, datatype: str, shape: tuple[int, ...]):
    raw = text.encode() if isinstance(text, str) else text
    return decode_json(msgspec.Raw(raw), datatype, shape, "input 0")


@given(NUMBERS, st.booleans())
def test_numbers_round_trip_flat_and_nested(sample, nested):
    datatype, array = sample
    if nested and array.ndim:
        text = json.dumps(array.tolist())
    else:
        text = msgspec.json.encode(encode_json(datatype, array))
    again = decode(text, datatype, array.shape)
    assert again.dtype == NUMERIC[datatype]
    np.testing.assert_array_equal(again, array)
    assert not again.flags.writeable


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=6))
def test_strings_round_trip(texts):
    array = objects([text.encode() for text in texts], (len(texts),))
    flat = encode_json("BYTES", array)
    assert flat == texts
    assert decode(json.dumps(flat), "BYTES", (len(texts),)).tolist() == array.tolist()


@pytest.mark.parametrize(
    ("text", "datatype", "shape", "expected"),
    [
        ("[[1,2],[3,4]]", "UINT32", (2, 2), [[1, 2], [3, 4]]),
        ("[1,2,3,4]", "UINT32", (2, 2), [[1, 2], [3, 4]]),
        (" [ \n[ 1 , 2 ] ]", "INT8", (1, 2), [[1, 2]]),
        ("[[[[0.5]]]]", "FP64", (1, 1, 1, 1), [[[[0.5]]]]),
        ("[1, 2e0]", "FP32", (2,), [1.0, 2.0]),
        ("[true,false]", "BOOL", (2,), [True, False]),
        ('[["a,[","b\\""]]', "BYTES", (1, 2), [[b"a,[", b'b"']]),
        ('["[[", ","]', "BYTES", (2,), [b"[[", b","]),
        ("[7]", "INT16", (), 7),
        ("[]", "FP32", (0,), []),
        ("[[],[]]", "FP32", (2, 0), [[], []]),
        ("[]", "FP32", (2, 0), [[], []]),
        ("[[],[]]", "INT8", (2, 0, 3), [[], []]),
        ("[18446744073709551615]", "UINT64", (1,), [2**64 - 1]),
        ("[-9223372036854775808]", "INT64", (1,), [-(2**63)]),
        ("[9007199254740993]", "INT64", (1,), [2**53 + 1]),
        ("[3.4028234663852886e38]", "FP32", (1,), [float(np.finfo(np.float32).max)]),
        ('["\\u00e9"]', "BYTES", (1,), [b"\xc3\xa9"]),
    ],
)
def test_accepted(text, datatype, shape, expected):
    array = decode(text, datatype, shape)
    assert array.shape == shape
    assert array.tolist() == expected


@pytest.mark.parametrize(
    ("text", "datatype", "shape"),
    [
        ("[1,2,3]", "INT8", (4,)),
        ("[1,2,3]", "INT8", (2,)),
        ("[]", "INT8", (1,)),
        ("[1]", "INT8", (0,)),
        ("[[1,2],[3,4]]", "INT8", (4, 1)),
        ("[[1,2],[3,4]]", "INT8", (1, 4)),
        ("[[1,2,3],[4]]", "INT8", (2, 2)),
        ("[[],[]]", "INT8", (0, 2)),
        ("[[],[]]", "INT8", (3, 0)),
        ('["a,b"]', "BYTES", (2,)),
        ('["a","b"]', "BYTES", (1,)),
        ('["a","b","c"]', "BYTES", (1,)),
        ("7", "INT8", (1,)),
        ("7", "INT8", ()),
        ("null", "INT8", (1,)),
        ("[[1]]", "INT8", (1,)),  # nested more deeply than the shape says
        ("[[1]]", "INT8", ()),
        ("[[[1]]]", "INT8", (1, 1)),
        ("[[1]]", "INT8", (1, 1, 1)),
        ("[[],[]]", "INT8", (2,)),
        ("[[],1]", "INT8", (2,)),
        ("[" * 5000 + "]" * 5000, "FP32", (1,)),
    ],
)
def test_data_that_does_not_fill_the_shape(refused, text, datatype, shape):
    with refused("tensor-size-mismatch", "input 0"):
        decode(text, datatype, shape)


@pytest.mark.parametrize(
    ("text", "datatype"),
    [
        ("[256]", "UINT8"),
        ("[-1]", "UINT8"),
        ("[128]", "INT8"),
        ("[18446744073709551616]", "UINT64"),
        ("[9223372036854775808]", "INT64"),
        (f"[{'9' * 400}]", "INT64"),
        ("[1.5]", "INT8"),
        ("[true]", "INT8"),
        ("[1]", "BOOL"),
        ("[null]", "FP32"),
        ('["1"]', "FP32"),
        ("[NaN]", "FP32"),
        ("[1e39]", "FP32"),
        ("[3.4028236e38]", "FP32"),
        ("[1e999]", "FP64"),
        ("[1]", "BYTES"),
        ('["x"', "BYTES"),
        ('{"a":[1]}', "FP32"),
        ("[1]]", "FP32"),
        ('["\\ud800"]', "BYTES"),
        (b'["\xff"]', "BYTES"),
    ],
)
def test_data_that_is_not_of_its_datatype(refused, text, datatype):
    with refused("tensor-data-invalid", "input 0"):
        decode(text, datatype, (1,))


def test_fp16_needs_the_binary_form(refused):
    with refused("tensor-needs-binary", "input 0"):
        decode("[1]", "FP16", (1,))
    with refused("tensor-needs-binary"):
        encode_json("FP16", np.zeros(1, np.float16))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_what_is_not_finite_needs_the_binary_form(refused, datatype, value):
    with refused("tensor-needs-binary"):
        encode_json(datatype, np.array([1, value], NUMERIC[datatype]))


def test_bytes_that_are_not_utf8_need_the_binary_form(refused):
    with refused("tensor-needs-binary"):
        encode_json("BYTES", objects([b"fine", b"\xff"], (2,)))


@pytest.mark.parametrize(
    ("text", "datatype", "shape"),
    [
        ("[" + "1," * 1000 + "oops", "FP32", (5,)),  # commas
        ("[" * 1000 + "oops", "FP32", (5, 5)),  # brackets
        ("[" + "[]," * 4 + "oops", "FP32", (4, 0)),
        ("[" + '"",' * 1000 + "oops", "BYTES", (5,)),  # quotes
        ('["' + '\\",\\"' * 1000 + "oops", "BYTES", (5,)),
    ],
)
def test_structure_is_counted_before_anything_is_parsed(refused, text, datatype, shape):
    # Not JSON at all at its end: a parser would say so, but is never asked.
    with refused("tensor-size-mismatch", "input 0"):
        decode(text, datatype, shape)


@given(SHAPES, st.sampled_from(["INT8", "BYTES"]))
def test_the_count_of_a_nested_text_is_exact(shape, datatype):
    array = np.zeros(shape, np.int8) if datatype == "INT8" else np.full(shape, '",[')
    text = json.dumps(array.tolist())
    if shape:
        assert decode(text, datatype, shape).shape == shape
    stretched = (*shape, 2)
    if array.size and shape:
        with pytest.raises(CodecError, match="tensor-size-mismatch"):
            decode(text, datatype, stretched)
