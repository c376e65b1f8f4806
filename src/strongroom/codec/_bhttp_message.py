"""The values of binary HTTP: requests, responses and what makes their parts valid (RFC 9292)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from strongroom.codec.errors import BHTTP_CONTROL, BHTTP_FIELD, FIELD_REPEATED
from strongroom.errors import CodecError

Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Field lines in order: name and value."""

# RFC 9110, section 5.6.2. No colon: pseudo-fields are refused, as no extension defines one here.
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*")
_AUTHORITY: Final = re.compile(rb"[!-~]*")
_NOT_IN_AUTHORITY: Final = re.compile(rb"[/?#@\\]")
_PATH: Final = re.compile(rb"/[!-\"$-~]*")  # printable ASCII without the fragment's "#"


class Framing(Enum):
    """How the sections of a message are delimited (RFC 9292, section 3.3)."""

    KNOWN_LENGTH = 0
    INDETERMINATE_LENGTH = 2


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request.

    Attributes:
        method: Such as `b"POST"`.
        scheme: Such as `b"https"`.
        authority: Host and port, or empty.
        path: Path and query, starts with `/`.
        headers: Header section.
        body: Content. A decoded body is a view of the message, without a copy.
        trailers: Trailer section.
    """

    method: bytes
    scheme: bytes
    authority: bytes
    path: bytes
    headers: Fields = ()
    body: bytes | memoryview = b""
    trailers: Fields = ()


@dataclass(frozen=True, slots=True)
class Informational:
    """An informational response that came before the final one: status 100 to 199 and its fields."""

    status: int
    headers: Fields = ()


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response.

    Attributes:
        status: 200 to 599.
        headers: Header section.
        body: Content. A decoded body is a view of the message, without a copy.
        trailers: Trailer section.
        informational: What came before the final response, in order.
    """

    status: int
    headers: Fields = ()
    body: bytes | memoryview = b""
    trailers: Fields = ()
    informational: tuple[Informational, ...] = field(default=())


def header(headers: Fields, name: bytes) -> bytes | None:
    """The value of a field that may stand once; names compare without regard to case.

    Raises:
        CodecError: `field-repeated`.
    """
    name = name.lower()
    values = [value for key, value in headers if key.lower() == name]
    if len(values) > 1:
        raise CodecError(FIELD_REPEATED, name.decode("ascii", "replace"))
    return values[0] if values else None


def check_fields(fields: Fields) -> None:
    """Refuse a section with a field line that would be malformed in HTTP.

    Names and values are looked at all together: a few calls for a section instead of several for each line.

    Raises:
        CodecError: `bhttp-field-invalid`.
    """
    if not fields:
        return
    names, values = zip(*fields, strict=True)
    if not all(names) or _TOKEN.fullmatch(b"".join(names)) is None:
        raise CodecError(BHTTP_FIELD, "field name")
    # RFC 9113, section 8.2.1: no NUL, CR or LF, no white space at either end.
    joined = b"\n".join(values)
    if b"\0" in joined or b"\r" in joined or joined.count(b"\n") != len(values) - 1:
        raise CodecError(BHTTP_FIELD, "control character in a field value")
    if [value.strip(b" \t") for value in values] != list(values):
        raise CodecError(BHTTP_FIELD, "white space around a field value")


def check_target(method: bytes, scheme: bytes, authority: bytes, path: bytes) -> None:
    """Refuse request control data that HTTP/2 would not allow (RFC 9113, sections 8.3.1 and 8.5).

    Raises:
        CodecError: `bhttp-control-invalid`.
    """
    if _TOKEN.fullmatch(method) is None:
        raise CodecError(BHTTP_CONTROL, "method")
    if _AUTHORITY.fullmatch(authority) is None or _NOT_IN_AUTHORITY.search(authority):
        raise CodecError(BHTTP_CONTROL, "authority")
    if method == b"CONNECT":
        if scheme or path or not authority:
            raise CodecError(BHTTP_CONTROL, "CONNECT has an authority, and neither scheme nor path")
        return
    if _SCHEME.fullmatch(scheme) is None:
        raise CodecError(BHTTP_CONTROL, "scheme")
    if _PATH.fullmatch(path) is None and not (method == b"OPTIONS" and path == b"*"):
        raise CodecError(BHTTP_CONTROL, "path")


def check_status(status: int, *, informational: bool = False) -> None:
    """Refuse a status outside its range (RFC 9292, section 3.5).

    Raises:
        CodecError: `bhttp-control-invalid`.
    """
    low, high = (100, 199) if informational else (200, 599)
    if not low <= status <= high:
        raise CodecError(BHTTP_CONTROL, "status", expected=f"{low} to {high}")
