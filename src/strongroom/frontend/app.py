"""The front end's ASGI application: which path goes where.

| path | what |
|---|---|
| `GET /.well-known/ohttp-gateway` | `application/ohttp-keys` (RFC 9540); our client uses the keyset |
| `POST /.well-known/ohttp-gateway` | a sealed request, `message/ohttp-req` |
| `GET /strongroom/v1/keyset`, `/policy`, `/evidence[?nonce=]` | what a client appraises before it seals |
| `/v2/...` | plain Open Inference Protocol v2, where a policy for it is configured |
| `GET /healthz`, `/v2/health/live`, `/v2/health/ready`, `/metrics` | for operators |
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from strongroom.bounded_http import BAD_REQUEST
from strongroom.codec.b64 import decode_url
from strongroom.errors import StrongroomError
from strongroom.frontend import metrics as metrics_module
from strongroom.frontend.asgi import JSON, Receive, Scope, Send, respond, respond_error
from strongroom.frontend.documents import Documents, evidence_list
from strongroom.frontend.errors import (
    EVIDENCE_RATE_LIMITED,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    FrontendError,
)
from strongroom.frontend.exchange import Exchange
from strongroom.frontend.gateway import SealedGateway
from strongroom.frontend.metrics import FrontendMetrics
from strongroom.frontend.plain import PlainGateway
from strongroom.frontend.ratelimit import TokenBucket

PLAIN_HEADER = b"strongroom-plain"
GATEWAY_PATH = "/.well-known/ohttp-gateway"
_EVIDENCE_TIMEOUT = 10.0
_NONCE_BYTES = 32
_QUOTES_PER_SECOND = 20.0
_QUOTES_AT_ONCE = 40

Handler = Callable[[Scope, Send], Awaitable[None]]


class FrontendApp:
    """Dispatches requests; holds no state of its own."""

    def __init__(
        self,
        exchange: Exchange,
        documents: Documents,
        metrics: FrontendMetrics,
        sealed: SealedGateway,
        plain: PlainGateway,
        *,
        depth: Callable[[], Awaitable[int]],
        now: Callable[[], float] = time.time,
        quotes: TokenBucket | None = None,
    ) -> None:
        self._exchange = exchange
        self._documents = documents
        self._metrics = metrics
        self._sealed = sealed
        self._plain = plain
        self._depth = depth
        self._now = now
        self._quotes = quotes or TokenBucket(_QUOTES_PER_SECOND, _QUOTES_AT_ONCE)
        self._get: dict[str, Handler] = {
            GATEWAY_PATH: self._ohttp_keys,
            "/strongroom/v1/keyset": self._keyset,
            "/strongroom/v1/policy": self._policy,
            "/strongroom/v1/evidence": self._evidence,
            "/healthz": self._live,
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
            "/metrics": self._render_metrics,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        path, method = scope["path"], scope["method"]
        if path == GATEWAY_PATH and method == "POST":
            return await self._sealed(scope, receive, send)
        handler = self._get.get(path)
        try:
            if handler is not None and method in {"GET", "HEAD"}:
                return await handler(scope, send)
            if handler is not None:
                raise FrontendError(METHOD_NOT_ALLOWED, found=method)
            if path == "/v2" or path.startswith("/v2/"):
                return await self._plain(scope, receive, send)
            raise FrontendError(NOT_FOUND)
        except StrongroomError as error:
            await respond_error(send, error)

    async def _ohttp_keys(self, _scope: Scope, send: Send) -> None:
        await respond(send, 200, b"application/ohttp-keys", (await self._documents.current()).ohttp_keys)

    async def _keyset(self, _scope: Scope, send: Send) -> None:
        await respond(
            send,
            200,
            JSON,
            (await self._documents.current()).keyset,
            ((PLAIN_HEADER, b"enabled" if self._plain.enabled else b"disabled"),),
        )

    async def _policy(self, _scope: Scope, send: Send) -> None:
        await respond(send, 200, b"application/toml", (await self._documents.current()).policy)

    async def _evidence(self, scope: Scope, send: Send) -> None:
        query = parse_qs(scope.get("query_string", b"").decode("ascii", "replace"), keep_blank_values=True)
        nonces = query.get("nonce", [])
        if not nonces:
            return await respond(send, 200, JSON, (await self._documents.current()).evidence)
        try:
            nonce = decode_url(nonces[0], limit=_NONCE_BYTES, what="nonce")
        except StrongroomError:
            nonce = b""
        if len(nonce) != _NONCE_BYTES:
            raise FrontendError(BAD_REQUEST, "nonce", expected="32 bytes in base64url without padding")
        # Each nonce costs a worker a quote, and anybody may ask.
        if self._quotes.take() > 0:
            raise FrontendError(EVIDENCE_RATE_LIMITED)
        deadline = int((self._now() + _EVIDENCE_TIMEOUT) * 1000)
        reply = await self._exchange.send("evidence", nonce, deadline)
        if reply.status != 200:
            return await respond(send, reply.status, reply.content_type.encode(), reply.body)
        return await respond(send, 200, JSON, evidence_list([reply.body]))

    async def _live(self, _scope: Scope, send: Send) -> None:
        await respond(send, 200, JSON, b'{"live":true}')

    async def _ready(self, _scope: Scope, send: Send) -> None:
        self._exchange.check()
        await self._documents.current()
        await respond(send, 200, JSON, b'{"ready":true}')

    async def _render_metrics(self, _scope: Scope, send: Send) -> None:
        self._metrics.pending.set(self._exchange.pending)
        self._metrics.depth.set(await self._depth())
        await respond(send, 200, metrics_module.CONTENT_TYPE, self._metrics.render())
