"""CBOR (RFC 8949) as far as attestation documents need it: no floating point, no interpretation of tags.

A full decoder turns tags into dates, fractions or regular expressions before anything is verified. This one
gives integers, bytes, text, lists, dictionaries, booleans, None and `Tagged`, and refuses the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from strongroom.codec.errors import CBOR_INVALID, CBOR_LIMIT, VALUE_TOO_LARGE
from strongroom.errors import CodecError

MAX_DEPTH: Final = 16
MAX_VALUES: Final = 4096


class _Major(IntEnum):
    """RFC 8949, section 3.1."""

    UNSIGNED = 0
    NEGATIVE = 1
    BYTES = 2
    TEXT = 3
    ARRAY = 4
    MAP = 5
    TAG = 6
    SIMPLE = 7


_INDEFINITE: Final = 31
_BREAK: Final = 0xFF
_SIMPLE_VALUES: Final[Mapping[int, bool | None]] = {20: False, 21: True, 22: None}


@dataclass(frozen=True, slots=True)
class Tagged:
    """A value with a tag that nobody has looked at."""

    tag: int
    value: Any


def decode(data: bytes, *, limit: int, what: str = "CBOR") -> Any:
    """Decode exactly one value.

    Heads are read in their shortest form only. Strings of indefinite length are refused; arrays and maps of
    indefinite length are read. Keys of maps are text or integers, each once.

    Args:
        data: The encoded value, nothing after it.
        limit: Most bytes of it.
        what: Name of the value for the error.

    Raises:
        CodecError: `value-too-large`, `cbor-invalid` or `cbor-limit`.
    """
    if len(data) > limit:
        raise CodecError(VALUE_TOO_LARGE, what, found=f"{len(data)} bytes", expected=f"at most {limit}")
    reader = _Reader(data, what)
    value = reader.value(0)
    if reader.position != len(data):
        raise reader.wrong("bytes after the value")
    return value


def encode(value: object) -> bytes:
    """Encode in the shortest form; maps keep their order.

    Raises:
        TypeError: A type that has no form here.
    """
    if isinstance(value, bool) or value is None:
        return bytes([_Major.SIMPLE << 5 | {False: 20, True: 21, None: 22}[value]])
    if isinstance(value, int):
        return _head(_Major.UNSIGNED, value) if value >= 0 else _head(_Major.NEGATIVE, -1 - value)
    if isinstance(value, bytes):
        return _head(_Major.BYTES, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return _head(_Major.TEXT, len(text)) + text
    if isinstance(value, Tagged):
        return _head(_Major.TAG, value.tag) + encode(value.value)
    if isinstance(value, Mapping):
        items = b"".join(encode(key) + encode(item) for key, item in value.items())
        return _head(_Major.MAP, len(value)) + items
    if isinstance(value, Sequence):
        return _head(_Major.ARRAY, len(value)) + b"".join(encode(item) for item in value)
    raise TypeError(f"no CBOR form for {type(value).__name__}")


def _head(major: _Major, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * size:
            return bytes([major << 5 | info]) + argument.to_bytes(size)
    raise TypeError("an integer of more than 64 bits")


class _Reader:
    """A position in a message."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._values = 0
        self.position = 0

    def wrong(self, how: str) -> CodecError:
        return CodecError(CBOR_INVALID, f"{self._what}: {how}")

    def value(self, depth: int) -> Any:
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            raise CodecError(CBOR_LIMIT, self._what)
        major, info = divmod(self._take(1)[0], 32)
        if info == _INDEFINITE and major in {_Major.ARRAY, _Major.MAP}:
            return self._list(None, depth) if major == _Major.ARRAY else self._map(None, depth)
        argument = self._argument(info)
        match major:
            case _Major.UNSIGNED:
                return argument
            case _Major.NEGATIVE:
                return -1 - argument
            case _Major.BYTES:
                return self._take(argument)
            case _Major.TEXT:
                return self._text(argument)
            case _Major.ARRAY:
                return self._list(argument, depth)
            case _Major.MAP:
                return self._map(argument, depth)
            case _Major.TAG:
                return Tagged(argument, self.value(depth + 1))
        return self._simple(info)

    def _simple(self, info: int) -> bool | None:
        if info not in _SIMPLE_VALUES:
            raise self.wrong("a simple value or a floating-point number")
        return _SIMPLE_VALUES[info]

    def _take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self._data):
            raise self.wrong("ends too early")
        part = self._data[self.position : end]
        self.position = end
        return part

    def _argument(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise self.wrong("a reserved or indefinite length")
        size = 1 << info - 24
        argument = int.from_bytes(self._take(size))
        if argument < 24 or (size > 1 and argument < 1 << 4 * size):
            raise self.wrong("not in the shortest form")
        return argument

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode("utf-8")
        except UnicodeDecodeError:
            raise self.wrong("text that is not UTF-8") from None

    def _list(self, count: int | None, depth: int) -> list[Any]:
        items: list[Any] = []
        while self._more(len(items), count):
            items.append(self.value(depth + 1))
        return items

    def _map(self, count: int | None, depth: int) -> dict[str | int, Any]:
        items: dict[str | int, Any] = {}
        while self._more(len(items), count):
            key = self.value(depth + 1)
            # True and 1 are equal as keys in Python, and not in CBOR.
            if type(key) not in {str, int} or key in items:
                raise self.wrong("a key that is no text or integer, or comes twice")
            items[key] = self.value(depth + 1)
        return items

    def _more(self, found: int, count: int | None) -> bool:
        if count is not None:
            return found < count
        if self._data[self.position : self.position + 1] != bytes([_BREAK]):
            return True
        self.position += 1
        return False
