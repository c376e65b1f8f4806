"""Base64 that has one spelling only (RFC 4648): what decodes also encodes back to the same text."""

from __future__ import annotations

import base64
import binascii

from strongroom.codec.errors import BASE64_INVALID, VALUE_TOO_LARGE
from strongroom.errors import CodecError


def encode_url(data: bytes) -> str:
    """Encode as base64url without padding (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_url(text: str, *, limit: int, what: str = "value") -> bytes:
    """Decode base64url without padding.

    Args:
        text: The encoded value, as it came from outside.
        limit: Most bytes that the decoded value may have.
        what: Name of the value for the error.

    Raises:
        CodecError: `value-too-large` or `base64-invalid` (another alphabet, padding, spare bits set).
    """
    raw = _ascii(text, limit=limit, what=what)
    if b"=" in raw:
        raise CodecError(BASE64_INVALID, f"{what} is padded")
    data = _decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", what=what)
    # Spare bits of the last character and characters of the other alphabet do not survive the way back.
    if encode_url(data).encode("ascii") != raw:
        raise CodecError(BASE64_INVALID, f"{what} is not canonical base64url")
    return _bounded(data, limit=limit, what=what)


def encode_std(data: bytes) -> str:
    """Encode as standard base64 with padding (RFC 4648, section 4)."""
    return base64.b64encode(data).decode("ascii")


def decode_std(text: str, *, limit: int, what: str = "value") -> bytes:
    """Decode standard base64 with padding.

    Args:
        text: The encoded value, as it came from outside.
        limit: Most bytes that the decoded value may have.
        what: Name of the value for the error.

    Raises:
        CodecError: `value-too-large` or `base64-invalid` (another alphabet, missing padding, spare bits set).
    """
    raw = _ascii(text, limit=limit, what=what)
    data = _decode(raw, altchars=None, what=what)
    if base64.b64encode(data) != raw:
        raise CodecError(BASE64_INVALID, f"{what} is not canonical base64")
    return _bounded(data, limit=limit, what=what)


def _ascii(text: str, *, limit: int, what: str) -> bytes:
    if not isinstance(text, str):
        raise CodecError(BASE64_INVALID, f"{what} is not a string")
    if len(text) > 4 * (limit // 3 + 1):
        raise CodecError(VALUE_TOO_LARGE, what, expected=f"at most {limit} bytes")
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise CodecError(BASE64_INVALID, f"{what} is not ASCII") from None


def _decode(raw: bytes, *, altchars: bytes | None, what: str) -> bytes:
    try:
        return base64.b64decode(raw, altchars=altchars, validate=True)
    except binascii.Error:
        raise CodecError(BASE64_INVALID, f"{what} is not base64") from None


def _bounded(data: bytes, *, limit: int, what: str) -> bytes:
    if len(data) > limit:
        raise CodecError(VALUE_TOO_LARGE, what, found=f"{len(data)} bytes", expected=f"at most {limit}")
    return data
