"""JSON with one meaning: strict parsing (RFC 8259, I-JSON) and the canonical form (JCS, RFC 8785).

Documents are hashed and signed as the exact bytes served, so `parse` refuses whatever two parsers could read
differently: a name given twice, NaN, lone surrogates, other encodings, numbers beyond a double's range and
integers beyond 2^53 that are not a double's own spelling. What is canonical parses, back to the same bytes.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

import msgspec
import rfc8785

from strongroom.codec.errors import (
    JSON_DUPLICATE_NAME,
    JSON_INVALID,
    JSON_NOT_REPRESENTABLE,
    JSON_TOO_DEEP,
    VALUE_TOO_LARGE,
)
from strongroom.errors import CodecError

MAX_DEPTH: Final = 64

# Possessive, with an optional closing quote: linear in time on any input.
_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_MAX_INTEGER: Final = 2**53 - 1
_PLAIN: Final = msgspec.json.Encoder(order="sorted")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def canonical(value: Any) -> bytes:
    """The canonical form of a value (RFC 8785).

    Args:
        value: Dictionaries with string names, lists, tuples, strings, booleans, None, finite floats and
            integers below 2^53.

    Raises:
        CodecError: `json-not-representable`.
    """
    try:
        if _is_plain(value):
            # What the library would write, many times as fast; a test compares the two.
            return _PLAIN.encode(value)
        return rfc8785.dumps(value)
    except (ValueError, RecursionError):  # the library's own errors are ValueErrors and can name content
        raise CodecError(JSON_NOT_REPRESENTABLE) from None


def parse(data: bytes | memoryview, *, limit: int, what: str = "JSON") -> Any:
    """Parse one JSON text strictly.

    Args:
        data: UTF-8 without byte order mark.
        limit: Most bytes that the text may have.
        what: Name of the text for the error.

    Returns:
        What `json.loads` gives: dict, list, str, int (below 2^53), float, bool or None.

    Raises:
        CodecError: `value-too-large`, `json-too-deep` (64), `json-duplicate-name` or `json-invalid`.
    """
    if len(data) > limit:
        raise CodecError(VALUE_TOO_LARGE, what, found=f"{len(data)} bytes", expected=f"at most {limit}")
    data = bytes(data)
    _check_depth(data, what)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=lambda pairs: _object(pairs, what),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
        if b"\\u" in data:  # the only way to write a lone surrogate in valid UTF-8
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except ValueError:  # JSON and Unicode errors; their texts can quote content
        raise CodecError(JSON_INVALID, what) from None
    return value


def strip_strings(data: bytes) -> bytes:
    """The JSON text without its strings, so that its structure can be counted before it is parsed."""
    return _STRINGS.sub(b"", data)


def _is_plain(value: Any) -> bool:
    """Whether a value has no floats, only built-in types, and names that sort alike in any encoding."""
    if isinstance(value, dict):
        return all(
            isinstance(name, str) and name.isascii() and _is_plain(each) for name, each in value.items()
        )
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if type(value) is int:
        return -_MAX_INTEGER <= value <= _MAX_INTEGER
    return value is None or type(value) in {str, bool}


def _check_depth(data: bytes, what: str) -> None:
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in strip_strings(data).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise CodecError(JSON_TOO_DEEP, what, expected=f"at most {MAX_DEPTH}")


def _object(pairs: list[tuple[str, Any]], what: str) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise CodecError(JSON_DUPLICATE_NAME, what)
    return members


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _integer(text: str) -> int | float:
    number = int(text)
    if abs(number) <= _MAX_INTEGER:
        return number
    double = _finite(text)
    if canonical(double) != text.encode("ascii"):
        raise ValueError(text)
    return double
