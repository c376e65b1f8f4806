"""Binary HTTP messages from bytes (RFC 9292), every length bounded before it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

from strongroom.codec._bhttp_message import (
    Fields,
    Framing,
    Informational,
    Request,
    Response,
    check_fields,
    check_status,
    check_target,
)
from strongroom.codec._varint import Cursor, read_varint
from strongroom.codec.errors import BHTTP_FIELD, BHTTP_FRAMING, BHTTP_LIMIT, BHTTP_TRAILING, BHTTP_TRUNCATED
from strongroom.errors import CodecError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a binary HTTP message.

    Attributes:
        message: Bytes of the message, padding included.
        control: Bytes of each of method, scheme, authority and path.
        header_section: Bytes of each header or trailer section.
        fields: Field lines of each section.
        informational: Informational responses before the final one.
        chunks: Chunks of content of indeterminate length.
    """

    message: int = 64 << 20
    control: int = 8 << 10
    header_section: int = 64 << 10
    fields: int = 128
    informational: int = 16
    chunks: int = 16 << 10


DEFAULT_LIMITS: Final = Limits()


def decode_request(data: bytes | memoryview, limits: Limits = DEFAULT_LIMITS) -> Request:
    """Decode a request of known or indeterminate length.

    Args:
        data: The message. Empty sections may be missing at its end, zero bytes may follow it (section 3.8).
        limits: Bounds.

    Returns:
        The request; its body is a view of `data`, except for content of several chunks.

    Raises:
        CodecError: `bhttp-framing-unknown`, `-truncated`, `-trailing-bytes`, `-limit`, `-control-invalid` or
            `-field-invalid`.
    """
    cursor, framing = _open(data, limits, {0: Framing.KNOWN_LENGTH, 2: Framing.INDETERMINATE_LENGTH})
    method, scheme, authority, path = (_control(cursor, limits) for _ in range(4))
    check_target(method, scheme, authority, path)
    headers, body, trailers = _sections(cursor, framing, limits)
    return Request(method, scheme, authority, path, headers, body, trailers)


def decode_response(data: bytes | memoryview, limits: Limits = DEFAULT_LIMITS) -> Response:
    """Decode a response of known or indeterminate length.

    Args:
        data: The message. Empty sections may be missing at its end, zero bytes may follow it (section 3.8).
        limits: Bounds.

    Returns:
        The response; its body is a view of `data`, except for content of several chunks.

    Raises:
        CodecError: `bhttp-framing-unknown`, `-truncated`, `-trailing-bytes`, `-limit`, `-control-invalid` or
            `-field-invalid`.
    """
    cursor, framing = _open(data, limits, {1: Framing.KNOWN_LENGTH, 3: Framing.INDETERMINATE_LENGTH})
    informational: list[Informational] = []
    while 100 <= (status := cursor.varint()) <= 199:
        if len(informational) == limits.informational:
            _too_much("informational responses", limits.informational)
        informational.append(Informational(status, _fields(cursor, framing, limits)))
    check_status(status)
    headers, body, trailers = _sections(cursor, framing, limits)
    return Response(status, headers, body, trailers, tuple(informational))


def _open(data: bytes | memoryview, limits: Limits, indicators: dict[int, Framing]) -> tuple[Cursor, Framing]:
    view = memoryview(data).cast("B")
    if len(view) > limits.message:
        _too_much("message", limits.message)
    cursor = Cursor(view)
    framing = indicators.get(cursor.varint())
    if framing is None:
        raise CodecError(BHTTP_FRAMING, expected=" or ".join(map(str, indicators)))
    return cursor, framing


def _control(cursor: Cursor, limits: Limits) -> bytes:
    length = cursor.varint()
    if length > limits.control:
        _too_much("control data", limits.control)
    return bytes(cursor.take(length))


def _sections(cursor: Cursor, framing: Framing, limits: Limits) -> tuple[Fields, bytes | memoryview, Fields]:
    headers = _fields(cursor, framing, limits)
    body = _content(cursor, framing, limits)
    trailers = _fields(cursor, framing, limits)
    if not cursor.at_end and cursor.data[cursor.position :].tobytes().strip(b"\0"):
        raise CodecError(BHTTP_TRAILING)
    return headers, body, trailers


def _fields(cursor: Cursor, framing: Framing, limits: Limits) -> Fields:
    if cursor.at_end:
        return ()
    if framing is Framing.INDETERMINATE_LENGTH:
        rest = cursor.data[cursor.position :]
        fields, length, terminated = _field_lines(rest, limits)
        if not terminated:
            raise CodecError(BHTTP_TRUNCATED, "field section")
        cursor.take(length)
        return fields
    length = cursor.varint()
    if length > limits.header_section:
        _too_much("field section", limits.header_section)
    fields, _, terminated = _field_lines(bytes(cursor.take(length)), limits)
    if terminated:
        raise CodecError(BHTTP_FIELD, "empty field name")
    return fields


def _field_lines(section: bytes | memoryview, limits: Limits) -> tuple[Fields, int, bool]:
    """Read field lines up to the end or to a zero in place of a name's length.

    Written with indices, as it runs for each field of each message.

    Returns:
        The fields, the number of bytes read, and whether it met a zero.
    """
    lines: list[tuple[bytes, bytes]] = []
    position, end, terminated = 0, len(section), False
    while position < end:
        length, name = read_varint(section, position)
        if length == 0:
            position, terminated = name, True
            break
        name_end = name + length
        length, value = read_varint(section, name_end)
        position = value + length
        if position > end:
            raise CodecError(BHTTP_TRUNCATED, "field line")
        if position > limits.header_section:
            _too_much("field section", limits.header_section)
        if len(lines) == limits.fields:
            _too_much("field lines", limits.fields)
        lines.append((bytes(section[name:name_end]), bytes(section[value:position])))
    fields = tuple(lines)
    check_fields(fields)
    return fields, position, terminated


def _content(cursor: Cursor, framing: Framing, limits: Limits) -> bytes | memoryview:
    if cursor.at_end:
        return b""
    if framing is Framing.KNOWN_LENGTH:
        return cursor.take(cursor.varint())
    chunks: list[memoryview] = []
    while length := cursor.varint():
        if len(chunks) == limits.chunks:
            _too_much("chunks", limits.chunks)
        chunks.append(cursor.take(length))
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_much(what: str, bound: int) -> NoReturn:
    raise CodecError(BHTTP_LIMIT, what, expected=f"at most {bound}")
