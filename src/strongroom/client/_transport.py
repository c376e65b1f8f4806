"""httpx transports that speak sealed: any httpx code becomes a client of a verified service.

    transport = SealedTransport("http://127.0.0.1:8470", policy="policy.toml")
    with httpx.Client(transport=transport, base_url="http://strongroom") as http:
        http.get("/v2/models/lite0")

The service is verified before the first request, and again when the verdict runs out.
"""

from __future__ import annotations

import time
from typing import Final

import httpx

from strongroom.client._drive import run, run_async
from strongroom.client._flow import Exchanged, Session
from strongroom.client._room import DEFAULT_TIMEOUT, LIMITS, PolicyLike, as_policy
from strongroom.codec.bhttp import Request
from strongroom.crypto.hpke import Suite

_NOT_FORWARDED: Final = frozenset({b"host", b"connection", b"transfer-encoding", b"accept-encoding"})


class SealedTransport(httpx.BaseTransport):
    """A blocking httpx transport over a verified service.

    Args:
        url: Address of the front end.
        policy: What the service must satisfy.
        suite: HPKE suite; None for the keyset's first.
        transport: How to reach the front end; None for the network.

    Raises:
        PolicyRefused: `policy-missing`.
    """

    def __init__(
        self,
        url: str,
        *,
        policy: PolicyLike,
        suite: Suite | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.session = Session(as_policy(policy), suite=suite)
        self._http = httpx.Client(base_url=url, transport=transport, trust_env=False, limits=LIMITS)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Seal a request, send it, open the response."""
        request.read()
        return _outer(run(self.session.exchange(_inner(request), _deadline(request)), self._http))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncSealedTransport(httpx.AsyncBaseTransport):
    """The asynchronous twin of `SealedTransport`."""

    def __init__(
        self,
        url: str,
        *,
        policy: PolicyLike,
        suite: Suite | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.session = Session(as_policy(policy), suite=suite)
        self._http = httpx.AsyncClient(base_url=url, transport=transport, trust_env=False, limits=LIMITS)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Seal a request, send it, open the response."""
        await request.aread()
        flow = self.session.exchange(_inner(request), _deadline(request))
        return _outer(await run_async(flow, self._http))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _inner(request: httpx.Request) -> Request:
    headers = tuple(
        (name.lower(), value) for name, value in request.headers.raw if name.lower() not in _NOT_FORWARDED
    )
    url = request.url
    return Request(request.method.encode(), b"https", url.netloc, url.raw_path, headers, request.content)


def _outer(exchanged: Exchanged) -> httpx.Response:
    response = exchanged.response
    return httpx.Response(response.status, headers=list(response.headers), content=bytes(response.body))


def _deadline(request: httpx.Request) -> float:
    """The deadline from the request's own httpx timeout."""
    read = request.extensions.get("timeout", {}).get("read")
    return time.time() + (DEFAULT_TIMEOUT if read is None else read)
