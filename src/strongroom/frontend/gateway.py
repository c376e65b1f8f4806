"""The sealed way in: `POST /.well-known/ohttp-gateway` (RFC 9458, RFC 9540).

The body is opaque here. Size, deadline and number of waiting requests are checked; then it goes into the
queue as it came, and the answer goes back as it came.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from strongroom.bounded_http import BAD_REQUEST
from strongroom.crypto.ohttp import peek_key_id
from strongroom.errors import StrongroomError
from strongroom.frontend.asgi import (
    ClientGoneError,
    Receive,
    Scope,
    Send,
    header,
    respond,
    respond_error,
)
from strongroom.frontend.errors import CONTENT_TYPE_UNSUPPORTED, FrontendError
from strongroom.frontend.exchange import Exchange
from strongroom.frontend.intake import Intake
from strongroom.frontend.metrics import FrontendMetrics

REQUEST_TYPE = b"message/ohttp-req"
DEADLINE_HEADER = b"strongroom-deadline"
MODE = "sealed"


class SealedGateway:
    """ASGI application for sealed requests."""

    def __init__(
        self,
        exchange: Exchange,
        metrics: FrontendMetrics,
        intake: Intake,
        *,
        timeout: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._exchange = exchange
        self._metrics = metrics
        self._intake = intake
        self._timeout = timeout
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = self._now()
        try:
            if header(scope, b"content-type") != REQUEST_TYPE:
                raise FrontendError(CONTENT_TYPE_UNSUPPORTED, expected=REQUEST_TYPE.decode())
            async with self._intake.body(scope, receive) as body:
                key = f"{peek_key_id(body).key_id:02x}"
                deadline = read_deadline(scope, self._now(), self._timeout)
                reply = await self._exchange.send(key, body, deadline)
        except ClientGoneError:
            return
        except StrongroomError as error:
            self._metrics.requests.labels(MODE, error.status).inc()
            await respond_error(send, error)
            return
        self._metrics.requests.labels(MODE, reply.status).inc()
        self._metrics.received.labels(MODE).inc(len(body))
        self._metrics.sent.labels(MODE).inc(len(reply.body))
        self._metrics.seconds.labels(MODE).observe(self._now() - started)
        await respond(send, reply.status, reply.content_type.encode(), reply.body)


def read_deadline(scope: Scope, now: float, timeout: float) -> int:
    """The outer deadline in Unix milliseconds: what the client asks for, at most `timeout` seconds away.

    Raises:
        FrontendError: `bad-request`, the header is not a number.
    """
    latest = int((now + timeout) * 1000)
    value = header(scope, DEADLINE_HEADER)
    if value is None:
        return latest
    if not value.isdigit() or len(value) > 15:
        raise FrontendError(BAD_REQUEST, "Strongroom-Deadline", expected="Unix time in milliseconds")
    return min(int(value), latest)
