"""The plain way in, for clients that cannot seal: `/v2/...` over HTTP, sealed here.

The front end then sees requests and answers, so it is trusted; every reply says `Strongroom-Mode: plain`. It
appraises the service under its own policy as a sealing client does, and refuses to seal to anything else.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from strongroom.attestation.policy import Policy
from strongroom.attestation.serving import ServiceAppraisal, Verdict
from strongroom.codec.bhttp import Request, decode_response, encode_request
from strongroom.crypto.ohttp import KeyConfig, seal_request
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
from strongroom.frontend.documents import Documents, ServiceDocuments
from strongroom.frontend.errors import PLAIN_DISABLED, FrontendError, UnreadBodyError
from strongroom.frontend.exchange import Exchange
from strongroom.frontend.gateway import read_deadline
from strongroom.frontend.intake import Intake
from strongroom.frontend.metrics import FrontendMetrics

MODE = "plain"
MODE_HEADER = (b"strongroom-mode", b"plain")
_SEALED_ANSWER = "message/ohttp-res"
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"transfer-encoding",
        b"te",
        b"trailer",
        b"upgrade",
        b"host",
        b"content-length",
    }
)


class PlainGateway:
    """ASGI application for plain Open Inference Protocol v2 requests."""

    def __init__(
        self,
        exchange: Exchange,
        documents: Documents,
        metrics: FrontendMetrics,
        policy: Policy | None,
        intake: Intake,
        *,
        timeout: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._exchange = exchange
        self._documents = documents
        self._metrics = metrics
        self._policy = policy
        self._intake = intake
        self._timeout = timeout
        self._now = now
        self._verdict: Verdict | None = None

    @property
    def enabled(self) -> bool:
        """Whether this way in is open."""
        return self._policy is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = self._now()
        try:
            if self._policy is None:
                raise UnreadBodyError(PLAIN_DISABLED)
            async with self._intake.body(scope, receive) as body:
                deadline = read_deadline(scope, self._now(), self._timeout)
                status, headers, answer = await self._forward(scope, body, deadline)
        except ClientGoneError:
            return
        except StrongroomError as error:
            self._metrics.requests.labels(MODE, error.status).inc()
            await respond_error(send, error, (MODE_HEADER,))
            return
        self._metrics.requests.labels(MODE, status).inc()
        self._metrics.received.labels(MODE).inc(len(body))
        self._metrics.sent.labels(MODE).inc(len(answer))
        self._metrics.seconds.labels(MODE).observe(self._now() - started)
        content_type = next((value for key, value in headers if key == b"content-type"), b"application/json")
        kept = [
            (key, value)
            for key, value in headers
            if key not in _HOP_BY_HOP and key not in {b"content-type", b"cache-control"}
        ]
        await respond(send, status, content_type, answer, (*kept, MODE_HEADER))

    async def _forward(
        self, scope: Scope, body: bytes, deadline: int
    ) -> tuple[int, tuple[tuple[bytes, bytes], ...], bytes]:
        config = await self._key_config()
        kept = tuple((key, value) for key, value in scope["headers"] if key not in _HOP_BY_HOP)
        stamped = (
            *(item for item in kept if item[0] != b"strongroom-deadline"),
            (b"strongroom-deadline", str(deadline).encode()),
        )
        inner = Request(
            scope["method"].encode(), b"https", header(scope, b"host") or b"", _path(scope), stamped, body
        )
        sealed = seal_request(config, None, encode_request(inner))
        reply = await self._exchange.send(f"{config.key_id:02x}", sealed.data, deadline)
        if reply.content_type != _SEALED_ANSWER:
            self._verdict = None
            return reply.status, ((b"content-type", reply.content_type.encode()),), reply.body
        answer = decode_response(sealed.open_response(reply.body))
        return answer.status, answer.headers, bytes(answer.body)

    async def _key_config(self) -> KeyConfig:
        """The key to seal to, after the service has passed this front end's policy."""
        documents = await self._documents.current()
        verdict = self._verdict
        fresh = verdict is not None and self._now() < verdict.valid_until
        if not fresh or verdict is None or verdict.keyset_digest != documents.parsed.digest():
            verdict = self._verdict = self._appraise(documents)
        # The service lists its best first: a queue host that records must not decrypt it later.
        return verdict.keyset.key_configs[0]

    def _appraise(self, documents: ServiceDocuments) -> Verdict:
        if self._policy is None:
            raise FrontendError(PLAIN_DISABLED)
        appraisal = ServiceAppraisal(self._policy, int(self._now()))
        appraisal.keyset(documents.keyset)
        appraisal.release_policy(documents.policy)
        return appraisal.evidence(documents.evidence, None)


def _path(scope: Scope) -> bytes:
    query: bytes = scope.get("query_string", b"")
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return path + b"?" + query if query else path
