"""The key broker's HTTP server: KBS protocol, beacons, policies, log, health (docs/reference/broker.md).

store = Store.open(folder)
uvicorn.run(create_app(store, now=time.time), host="127.0.0.1", port=8471)
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from strongroom.broker.errors import RESOURCE_PATH
from strongroom.broker.http_body import read_body
from strongroom.broker.http_errors import Step, kbs_error
from strongroom.broker.kbs import KeyBroker
from strongroom.broker.messages import (
    ATTEST_PATH,
    AUTH_PATH,
    BEACON_PREFIX,
    COOKIE,
    LOG_PREFIX,
    MAX_ATTEST,
    MAX_AUTH,
    POLICY_PREFIX,
    RESOURCE_PREFIX,
)
from strongroom.broker.store import Store
from strongroom.codec.tiles import CHECKPOINT_PATH
from strongroom.errors import BrokerError, StrongroomError

MAINTENANCE_SECONDS: Final = 15.0
HEALTH_PATH: Final = "/healthz"

_FOR_EVER: Final = "public, max-age=31536000, immutable"
_BEARER: Final = "bearer "
_RETRY_SECONDS: Final = "5"
_logger = logging.getLogger("strongroom.broker")


def create_app(
    store: Store,
    *,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    maintenance_seconds: float = MAINTENANCE_SECONDS,
    broker: KeyBroker | None = None,
) -> Starlette:
    """The application. Its lifespan runs the maintenance; closing the store is the caller's.

    Args:
        store: An open store; other processes may hold it too.
        now: The clock, unix seconds.
        sleep: Waits between two rounds of maintenance.
        maintenance_seconds: For how long.
        broker: A broker with other bounds than the default ones.

    Raises:
        BrokerError: A code of the store.
    """
    served = broker or KeyBroker(store, now=now, rng=store.rng)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(_maintain(served, sleep, maintenance_seconds), name="maintenance")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            try:
                await run_in_threadpool(served.close)
            except StrongroomError as error:
                _logger.warning("the last refusals are not in the log: %s", error)

    endpoints = _Endpoints(served)
    app = Starlette(
        routes=[
            Route(AUTH_PATH, endpoints.auth, methods=["POST"]),
            Route(ATTEST_PATH, endpoints.attest, methods=["POST"]),
            Route(RESOURCE_PREFIX + "{path:path}", endpoints.resource, methods=["GET"]),
            Route(BEACON_PREFIX + "{service}", endpoints.beacon, methods=["GET"]),
            Route(POLICY_PREFIX + "{service}", endpoints.policy, methods=["GET"]),
            Route(LOG_PREFIX + "{path:path}", endpoints.log, methods=["GET"]),
            Route(HEALTH_PATH, endpoints.health, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _not_found, StrongroomError: _problem},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a path that names no resource is refused, not corrected
    return app


class _Endpoints:
    """HTTP in, HTTP out. The broker's work is done in threads: it reads files and verifies signatures."""

    def __init__(self, broker: KeyBroker) -> None:
        self._broker = broker

    async def auth(self, request: Request) -> Response:
        """POST /kbs/v0/auth."""
        try:
            body = await read_body(request, MAX_AUTH)
            challenge = await run_in_threadpool(self._broker.auth, body)
        except StrongroomError as error:
            return _kbs(error, Step.ATTEST)
        response = JSONResponse({"nonce": challenge.nonce, "extra-params": ""})
        expires = email.utils.formatdate(challenge.expires, usegmt=True)
        response.headers["Set-Cookie"] = f"{COOKIE}={challenge.session}; Expires={expires}; HttpOnly"
        return response

    async def attest(self, request: Request) -> Response:
        """POST /kbs/v0/attest."""
        try:
            body = await read_body(request, MAX_ATTEST)
            token = await run_in_threadpool(self._broker.attest, request.cookies.get(COOKIE), body)
        except StrongroomError as error:
            return _kbs(error, Step.ATTEST)
        return JSONResponse({"token": token})

    async def resource(self, request: Request) -> Response:
        """GET /kbs/v0/resource/<repository>/<type>/<tag>."""
        header = request.headers.get("Authorization", "")
        bearer = header[len(_BEARER) :].strip() if header.lower().startswith(_BEARER) else None
        cookie = request.cookies.get(COOKIE)
        try:
            jwe = await run_in_threadpool(self._broker.resource, cookie, bearer, request.path_params["path"])
        except StrongroomError as error:
            return _kbs(error, Step.RESOURCE)
        return Response(jwe, media_type="application/json", headers={"Cache-Control": "no-store"})

    async def beacon(self, request: Request) -> Response:
        """GET /strongroom/v1/beacon/<service>."""
        document = await run_in_threadpool(self._broker.beacon, request.path_params["service"])
        return Response(document, media_type="application/json", headers={"Cache-Control": "no-store"})

    async def policy(self, request: Request) -> Response:
        """GET /strongroom/v1/policy/<service>."""
        text = await run_in_threadpool(self._broker.policy, request.path_params["service"])
        return PlainTextResponse(text, media_type="application/toml")

    async def log(self, request: Request) -> Response:
        """GET /strongroom/v1/log/checkpoint, .../tile/<L>/<N>, .../tile/entries/<N> (C2SP tlog-tiles)."""
        path = request.path_params["path"]
        part = await run_in_threadpool(self._broker.log_part, path)
        if path == CHECKPOINT_PATH:
            return PlainTextResponse(part, headers={"Cache-Control": "no-cache"})
        return Response(part, media_type="application/octet-stream", headers={"Cache-Control": _FOR_EVER})

    async def health(self, _request: Request) -> Response:
        """GET /healthz."""
        await run_in_threadpool(self._broker.check)
        return JSONResponse({"status": "ok"})


async def _maintain(broker: KeyBroker, sleep: Callable[[float], Awaitable[Any]], seconds: float) -> None:
    while True:
        try:
            await run_in_threadpool(broker.maintain)
        except Exception as error:  # whatever it is: keys must still be deleted when their time comes
            _logger.warning("maintenance failed and will be tried again: %s", error)
        await sleep(seconds)


def _kbs(error: StrongroomError, step: Step) -> Response:
    status, members = kbs_error(error, step)
    _note(error, status)
    return JSONResponse(members, status_code=status, headers=_retry(status))


def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StrongroomError)  # noqa: S101 -- registered for this type
    _note(error, error.status)
    problem = error.to_problem()
    if error.status >= 500:
        problem = {name: problem[name] for name in ("type", "title", "status", "code")}
    return JSONResponse(
        problem, status_code=error.status, media_type="application/problem+json", headers=_retry(error.status)
    )


def _not_found(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- registered for this type
    _, members = kbs_error(BrokerError(RESOURCE_PATH, error.detail), Step.RESOURCE)
    return JSONResponse(members, status_code=error.status_code, headers=error.headers)


def _retry(status: int) -> dict[str, str] | None:
    return {"Retry-After": _RETRY_SECONDS} if status == 503 else None


def _note(error: StrongroomError, status: int) -> None:
    if status >= 500:
        _logger.error("%s", error)
    else:
        _logger.info("refused: %s", error.code)
