"""Strict reading of members: each rule refuses alone, with the code of the document."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from strongroom.attestation.errors import BEACON_MALFORMED
from strongroom.attestation.fields import MAX_TIME, Fields, parse_object
from strongroom.errors import EvidenceError

LETTERS = re.compile("[a-z]{1,3}")


def read(value: object, method: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(Fields(BEACON_MALFORMED, "thing", {"x": value}, ("x",)), method)("x", *args, **kwargs)


@pytest.mark.parametrize("value", [None, [], "x", 5])
def test_only_an_object_has_members(value: object) -> None:
    with pytest.raises(EvidenceError, match="thing: not an object"):
        Fields(BEACON_MALFORMED, "thing", value, ("x",))


def test_a_missing_member_is_named() -> None:
    with pytest.raises(EvidenceError, match="without y"):
        Fields(BEACON_MALFORMED, "thing", {"x": 1}, ("x", "y"))


def test_an_unknown_member_is_counted_not_quoted() -> None:
    with pytest.raises(EvidenceError, match="1 unknown members") as caught:
        Fields(BEACON_MALFORMED, "thing", {"x": 1, "\x1b[31m": 2}, ("x",))
    assert "\x1b" not in str(caught.value)


def test_a_constant() -> None:
    read("a", "constant", "a")
    with pytest.raises(EvidenceError, match="another x"):
        read("b", "constant", "a")


@pytest.mark.parametrize("value", ["", "abcd", "A", "ab\n", 5, None, ["a"]])
def test_a_text_of_another_form_is_refused(value: object) -> None:
    assert read("abc", "text", LETTERS) == "abc"
    with pytest.raises(EvidenceError) as caught:
        read(value, "text", LETTERS)
    assert caught.value.code == "beacon-malformed"


@pytest.mark.parametrize("value", [-1, 11, True, 1.0, "1", None])
def test_an_integer_out_of_range_is_refused(value: object) -> None:
    assert read(0, "integer", high=10) == 0
    assert read(10, "integer", high=10) == 10
    with pytest.raises(EvidenceError):
        read(value, "integer", high=10)


def test_the_largest_integer_is_what_jcs_carries() -> None:
    assert read(MAX_TIME, "integer") == 2**53 - 1
    with pytest.raises(EvidenceError):
        read(MAX_TIME + 1, "integer")


@pytest.mark.parametrize("value", [None, "a", ["a", 5], ["a", "A"], ["a", "a"], ["a", "b", "c"]])
def test_a_list_of_texts_is_refused(value: object) -> None:
    assert read(["b", "a"], "texts", LETTERS, most=2) == ("b", "a")
    with pytest.raises(EvidenceError):
        read(value, "texts", LETTERS, most=2)


@pytest.mark.parametrize("value", [None, 5, "AA==", "A", "AB", "+A", "AAAA"])
def test_bytes_are_refused(value: object) -> None:
    assert read("AAA", "blob", limit=2) == b"\0\0"
    with pytest.raises(EvidenceError):
        read(value, "blob", limit=2)


def test_bytes_of_an_exact_length() -> None:
    assert read("AA", "blob", limit=2) == b"\0"
    with pytest.raises(EvidenceError, match="wrong length"):
        read("AA", "blob", limit=2, exact=True)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"x":1,"x":2}', b'{"x":NaN}', b"{}", b'{"x":1}      '])
def test_json_that_is_not_the_object_is_refused(data: bytes, code_of: Callable[..., str | None]) -> None:
    assert parse_object(BEACON_MALFORMED, "thing", b'{"x":1}', limit=8, names=("x",)).raw("x") == 1
    assert code_of(parse_object, BEACON_MALFORMED, "thing", data, limit=8, names=("x",)) == "beacon-malformed"
