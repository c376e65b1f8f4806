"""Binary HTTP messages (RFC 9292): requests and responses of known or indeterminate length.

    message = encode_request(Request(b"POST", b"https", b"example.com", b"/v2/models/m/infer", body=body))
    decode_request(message).body  # a view of the message

Decoding bounds every length before use, accepts what section 3.8 accepts (empty sections missing at the end,
zero bytes after it) and refuses everything else with a code.
"""

from __future__ import annotations

from strongroom.codec._bhttp_decode import Limits, decode_request, decode_response
from strongroom.codec._bhttp_message import (
    Fields,
    Framing,
    Informational,
    Request,
    Response,
    check_fields,
    check_status,
    check_target,
    header,
)
from strongroom.codec._varint import encode_varint

__all__ = [
    "Fields",
    "Framing",
    "Informational",
    "Limits",
    "Request",
    "Response",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "header",
]


def encode_request(request: Request, *, framing: Framing = Framing.KNOWN_LENGTH) -> bytes:
    """Encode a request, all sections present, without padding.

    Raises:
        CodecError: `bhttp-control-invalid` or `bhttp-field-invalid`.
    """
    target = (request.method, request.scheme, request.authority, request.path)
    check_target(*target)
    parts: list[bytes | memoryview] = [bytes((framing.value,))]
    for value in target:
        parts += (encode_varint(len(value)), value)
    parts += _sections(request, framing)
    return b"".join(parts)


def encode_response(response: Response, *, framing: Framing = Framing.KNOWN_LENGTH) -> bytes:
    """Encode a response, all sections present, without padding.

    Raises:
        CodecError: `bhttp-control-invalid` or `bhttp-field-invalid`.
    """
    parts: list[bytes | memoryview] = [bytes((framing.value + 1,))]
    for interim in response.informational:
        check_status(interim.status, informational=True)
        parts += (encode_varint(interim.status), _fields(interim.headers, framing))
    check_status(response.status)
    parts.append(encode_varint(response.status))
    parts += _sections(response, framing)
    return b"".join(parts)


def _sections(message: Request | Response, framing: Framing) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = [_fields(message.headers, framing)]
    size = memoryview(message.body).nbytes
    parts += (encode_varint(size), message.body)
    if framing is Framing.INDETERMINATE_LENGTH and size:  # the content is one chunk; now its terminator
        parts.append(b"\0")
    parts.append(_fields(message.trailers, framing))
    return parts


def _fields(fields: Fields, framing: Framing) -> bytes:
    lines: list[bytes] = []
    check_fields(fields)
    for name, value in fields:
        lines += (encode_varint(len(name)), name, encode_varint(len(value)), value)
    section = b"".join(lines)
    if framing is Framing.INDETERMINATE_LENGTH:
        return section + b"\0"
    return encode_varint(len(section)) + section
