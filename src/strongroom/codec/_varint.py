"""Variable-length integers (RFC 9000, section 16) and a bounds-checked cursor over a message."""

from __future__ import annotations

from typing import Final

from strongroom.codec.errors import BHTTP_TRUNCATED
from strongroom.errors import CodecError

VARINT_MAX: Final = 2**62 - 1


def encode_varint(value: int) -> bytes:
    """Encode in the least number of bytes.

    Args:
        value: 0 to 2^62 - 1; anything else is a mistake of the caller.

    Raises:
        ValueError: The value is out of range.
    """
    if value < 0 or value > VARINT_MAX:
        raise ValueError("a variable-length integer is 0 to 2^62 - 1")
    if value < 0x40:
        return bytes((value,))
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x4000_0000:
        return (value | 0x8000_0000).to_bytes(4, "big")
    return (value | 0xC000_0000_0000_0000).to_bytes(8, "big")


def read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Read a variable-length integer, in its shortest form or not (RFC 9000 allows both).

    Args:
        data: The message.
        position: Index of the first byte, not negative; may lie past the end.

    Returns:
        The value and the index of the byte after it.

    Raises:
        CodecError: `bhttp-truncated`.
    """
    if position >= len(data):
        raise CodecError(BHTTP_TRUNCATED, "a number is missing")
    first = data[position]
    if first < 0x40:  # by far the most frequent form
        return first, position + 1
    length = 1 << (first >> 6)
    end = position + length
    if end > len(data):
        raise CodecError(BHTTP_TRUNCATED, "a number is cut off")
    return int.from_bytes(data[position:end], "big") & ((1 << (8 * length - 2)) - 1), end


class Cursor:
    """Reads a message from front to back and never past its end.

    Attributes:
        data: The message; what is taken from it are views, not copies.
        position: Index of the next byte.
        end: Length of the message.
    """

    __slots__ = ("data", "end", "position")

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.position = 0
        self.end = len(data)

    @property
    def at_end(self) -> bool:
        """Whether all bytes are read."""
        return self.position == self.end

    def varint(self) -> int:
        """Read a variable-length integer.

        Raises:
            CodecError: `bhttp-truncated`.
        """
        value, self.position = read_varint(self.data, self.position)
        return value

    def take(self, length: int) -> memoryview:
        """Read that many bytes, as a view of the message.

        Raises:
            CodecError: `bhttp-truncated`.
        """
        start = self.position
        stop = start + length
        if stop > self.end:
            raise CodecError(BHTTP_TRUNCATED, found=f"{self.end - start} bytes left", expected=length)
        self.position = stop
        return self.data[start:stop]
