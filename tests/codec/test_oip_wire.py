from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.codec._oip_limits import OipLimits, too_much
from strongroom.codec._oip_wire import HEADER_NAME, RequestWire, decode_wire, parse_header_length, split
from strongroom.errors import CodecError

REQUEST = msgspec.json.Decoder(RequestWire)


def test_the_name_of_the_header():
    assert HEADER_NAME == "Inference-Header-Content-Length"


@given(st.integers(1, 10**16 - 1))
def test_a_header_length_round_trips(value):
    assert parse_header_length(str(value).encode()) == value


def test_a_missing_header_is_no_length():
    assert parse_header_length(None) is None


@pytest.mark.parametrize(
    "value",
    [b"", b"0", b"-1", b"+1", b" 1", b"1 ", b"01", b"1.0", b"0x1", b"1e3", b"1_0", b"\xd9\xa1", b"9" * 17],
)
def test_another_header_length_is_refused(refused, value):
    with refused("oip-header-length"):
        parse_header_length(value)


def test_split():
    limits = OipLimits()
    assert tuple(map(bytes, split(b"{}tail", 2, limits))) == (b"{}", b"tail")
    assert tuple(map(bytes, split(memoryview(b"{}"), None, limits))) == (b"{}", b"")
    assert tuple(map(bytes, split(b"{}", 2, limits))) == (b"{}", b"")


@pytest.mark.parametrize("length", [0, -1, 7, 2**62])
def test_a_header_length_beyond_the_body(refused, length):
    with refused("oip-header-length"):
        split(b"{}tail", length, OipLimits())


def test_the_bounds_of_body_and_json_are_exact(refused):
    assert bytes(split(b"{}tail", 2, OipLimits(body=6, json=2))[1]) == b"tail"
    with refused("oip-limit", "body"):
        split(b"{}tail", 2, OipLimits(body=5))
    with refused("oip-limit", "JSON part"):
        split(b"{}tail", 3, OipLimits(json=2))
    with refused("oip-limit", "JSON part"):
        split(b"{}tail", None, OipLimits(json=5))


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b'{"inputs":[]} x', "malformed"),
        (b'{"inputs":[{"data":' + b"[" * 100_000, "malformed"),
        (b'{"inputs":[],"id":"\xff"}', "malformed"),
        (b"[]", "array"),
        (b"{}", "inputs"),
        (b'{"inputs":[],"extra":1}', "unknown member"),
        (b'{"inputs":{}}', "$.inputs"),
        (b'{"inputs":[],"id":5}', "$.id"),
        (b'{"inputs":[],"parameters":{"a":[]}}', "$.parameters"),
        (b'{"inputs":[],"parameters":{"a":null}}', "$.parameters"),
        (b'{"inputs":[{"name":"x","shape":[1.5],"datatype":"FP32"}]}', "$.inputs[0].shape[0]"),
        (b'{"inputs":[{"name":"x","shape":[],"datatype":"FP32","more":1}]}', "unknown member"),
        (b'{"inputs":[],"outputs":[{"name":"x","data":[]}]}', "unknown member"),
        (b'{"inputs":[],"outputs":[{}]}', "name"),
    ],
)
def test_what_is_not_a_request(refused, text, detail):
    with refused("oip-invalid", detail):
        decode_wire(REQUEST, memoryview(text))


@pytest.mark.parametrize(
    "text",
    [
        b'{"inputs":[],"hunter2":1}',
        b'{"inputs":[],"parameters":{"hunter2":{}}}',
        b'{"inputs":["hunter2"]}',
        b'{"inputs":[],"id":"hunter2" oops',
    ],
)
def test_errors_do_not_show_content(text):
    with pytest.raises(CodecError) as caught:
        decode_wire(REQUEST, memoryview(text))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_model_may_be_named_in_the_request_too():
    wire = decode_wire(REQUEST, memoryview(b'{"model_name":"m","model_version":"1","inputs":[]}'))
    assert wire.inputs == []


def test_too_much_names_the_bound(refused):
    with refused("oip-limit", "tensors"):
        too_much("tensors", 7)
