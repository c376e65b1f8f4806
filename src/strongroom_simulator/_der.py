"""The little DER that a PCK certificate's SGX extension needs (ITU-T X.690)."""

from __future__ import annotations


def sequence(*items: bytes) -> bytes:
    """SEQUENCE."""
    return _tlv(0x30, b"".join(items))


def integer(value: int) -> bytes:
    """INTEGER, not negative."""
    return _tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def octets(value: bytes) -> bytes:
    """OCTET STRING."""
    return _tlv(0x04, value)


def enumerated(value: int) -> bytes:
    """ENUMERATED, below 128."""
    return _tlv(0x0A, bytes([value]))


def boolean(value: bool) -> bytes:  # noqa: FBT001 -- the value is what it encodes
    """BOOLEAN."""
    return _tlv(0x01, b"\xff" if value else b"\0")


def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER."""
    first, second, *rest = (int(part) for part in dotted.split("."))
    body = bytearray([first * 40 + second])
    for part in rest:
        digits = [part & 0x7F]
        while part := part >> 7:
            digits.append(0x80 | (part & 0x7F))
        body += bytes(reversed(digits))
    return _tlv(0x06, bytes(body))


def _tlv(tag: int, body: bytes) -> bytes:
    length = len(body)
    if length < 0x80:
        return bytes([tag, length]) + body
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + body
