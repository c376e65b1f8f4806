"""Bodies of HTTP requests, bounded before they are read."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from strongroom.broker.errors import BODY_INVALID, BODY_TOO_LARGE
from strongroom.errors import BrokerError


async def read_body(request: Request, limit: int) -> bytes:
    """The body, refused as soon as it is known to be longer than `limit`.

    Raises:
        BrokerError: `kbs-body-too-large`; `kbs-body-invalid`, the client left before it had sent all.
    """
    declared = request.headers.get("Content-Length", "0")
    if not declared.isascii() or not declared.isdigit() or int(declared[:20]) > limit:
        raise BrokerError(BODY_TOO_LARGE, expected=f"at most {limit} bytes")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise BrokerError(BODY_TOO_LARGE, expected=f"at most {limit} bytes")
    except ClientDisconnect:
        raise BrokerError(BODY_INVALID, "a part of the body is missing") from None
    return bytes(body)
