from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutants import mutate_bytes
from strongroom.codec import cbor
from strongroom.codec.cbor import MAX_DEPTH, MAX_VALUES, Tagged
from strongroom.errors import CodecError

LIMIT = 1 << 16

# RFC 8949, Appendix A
EXAMPLES: list[tuple[str, Any]] = [
    ("00", 0),
    ("17", 23),
    ("1818", 24),
    ("1903e8", 1000),
    ("1a000f4240", 1000000),
    ("1bffffffffffffffff", 18446744073709551615),
    ("20", -1),
    ("3903e7", -1000),
    ("3bffffffffffffffff", -18446744073709551616),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("40", b""),
    ("4401020304", b"\1\2\3\4"),
    ("60", ""),
    ("62c3bc", "\u00fc"),
    ("80", []),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("a0", {}),
    ("a201020304", {1: 2, 3: 4}),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("c11a514b67b0", Tagged(1, 1363896240)),
    ("d818456449455446", Tagged(24, b"dIETF")),
]
INDEFINITE: list[tuple[str, Any]] = [
    ("9fff", []),
    ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
    ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
]

KEYS = st.text(max_size=8) | st.integers(-(2**64), 2**64 - 1)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=300)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(KEYS, inner, max_size=5)
        | st.builds(Tagged, st.integers(0, 2**64 - 1), inner)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(("text", "value"), EXAMPLES)
def test_the_rfcs_examples_are_read_and_written(text: str, value: Any) -> None:
    assert cbor.decode(bytes.fromhex(text), limit=LIMIT) == value
    assert type(cbor.decode(bytes.fromhex(text), limit=LIMIT)) is type(value)
    assert cbor.encode(value) == bytes.fromhex(text)


@pytest.mark.parametrize(("text", "value"), INDEFINITE)
def test_arrays_and_maps_of_indefinite_length_are_read(text: str, value: Any) -> None:
    assert cbor.decode(bytes.fromhex(text), limit=LIMIT) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "ends too early"),
        ("0000", "bytes after the value"),
        ("1817", "shortest form"),
        ("1900ff", "shortest form"),
        ("1a0000ffff", "shortest form"),
        ("1b00000000ffffffff", "shortest form"),
        ("580161", "shortest form"),
        ("18", "ends too early"),
        ("4401", "ends too early"),
        ("8201", "ends too early"),
        ("a101", "ends too early"),
        ("9f01", "ends too early"),
        ("bf01", "ends too early"),
        ("c1", "ends too early"),
        ("1c", "reserved or indefinite"),
        ("1f", "reserved or indefinite"),
        ("5f4101ff", "reserved or indefinite"),
        ("7f6161ff", "reserved or indefinite"),
        ("df00", "reserved or indefinite"),
        ("ff", "reserved or indefinite"),
        ("61ff", "UTF-8"),
        ("f7", "simple value"),
        ("f0", "simple value"),
        ("f820", "simple value"),
        ("f93c00", "simple value|shortest"),
        ("fb3ff199999999999a", "simple value"),
        ("a201020103", "comes twice"),
        ("a1410102", "no text or integer"),
        ("a1f501", "no text or integer"),
        ("bf01ff", "reserved or indefinite"),
    ],
)
def test_anything_else_is_refused(text: str, why: str) -> None:
    with pytest.raises(CodecError, match=why) as refused:
        cbor.decode(bytes.fromhex(text), limit=LIMIT)
    assert refused.value.code == "cbor-invalid"


def test_size_depth_and_number_are_bounded() -> None:
    assert cbor.decode(b"\x42ab", limit=3) == b"ab"
    with pytest.raises(CodecError, match="value-too-large"):
        cbor.decode(b"\x42ab", limit=2)
    cbor.decode(b"\x81" * MAX_DEPTH + b"\x00", limit=LIMIT)
    with pytest.raises(CodecError, match="cbor-limit"):
        cbor.decode(b"\x81" * (MAX_DEPTH + 1) + b"\x00", limit=LIMIT)
    with pytest.raises(CodecError, match="cbor-limit"):
        cbor.decode(b"\xc1" * (MAX_DEPTH + 1) + b"\x00", limit=LIMIT)
    assert len(cbor.decode(b"\x9f" + bytes(MAX_VALUES - 1) + b"\xff", limit=LIMIT)) == MAX_VALUES - 1
    with pytest.raises(CodecError, match="cbor-limit"):
        cbor.decode(b"\x9f" + bytes(MAX_VALUES) + b"\xff", limit=LIMIT)


def test_a_claimed_length_costs_nothing() -> None:
    for head in ("9bffffffffffffffff", "bbffffffffffffffff", "5bffffffffffffffff", "7bffffffffffffffff"):
        with pytest.raises(CodecError, match="ends too early"):
            cbor.decode(bytes.fromhex(head), limit=LIMIT)


@pytest.mark.parametrize("value", [1.5, {1, 2}, object(), 1 << 64, -(1 << 64) - 1])
def test_what_has_no_form_is_not_written(value: object) -> None:
    with pytest.raises(TypeError):
        cbor.encode(value)


@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    assert cbor.decode(cbor.encode(value), limit=LIMIT) == value


def test_20000_mutants_give_our_errors_only_and_are_canonical() -> None:
    value = {
        "a": [1, b"two", "three", None, {"x": Tagged(18, [True, -5])}],
        "b": b"\0" * 40,
        7: {"k": [0] * 5},
    }
    accepted = refused = 0
    rng = random.Random(5)
    for _ in range(20_000):
        data = mutate_bytes(rng, cbor.encode(value))
        try:
            found = cbor.decode(data, limit=LIMIT)
        except CodecError:
            refused += 1
        else:
            accepted += 1
            if not {0x9F, 0xBF} & set(data):
                assert cbor.encode(found) == data
    assert accepted > 2000
    assert refused > 2000
