"""The broker's administration over the network: one POST for each request, over TLS 1.3.

It listens at an address of its own, so that a firewall can keep it apart from the workers'. Clients
show a certificate that `client_ca` has issued, or a bearer token of an OIDC issuer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from strongroom.bounded_http import BoundedProtocol
from strongroom.broker import admin_requests, http_server
from strongroom.broker.admin_auth import Authenticator
from strongroom.broker.admin_errors import ADMIN_FORBIDDEN, ADMIN_UNAUTHENTICATED
from strongroom.broker.admin_requests import MAX_REQUEST
from strongroom.broker.http_body import read_body
from strongroom.broker.oidc import FetchedKeys, FileKeys, OidcIssuer, fetch
from strongroom.broker.store import Store
from strongroom.config import CONFIG_INVALID, LISTEN_FAILED, AdminConfig, OidcConfig, split_listen
from strongroom.errors import ConfigError, StrongroomError

ADMIN_PATH: Final = "/strongroom/v1/admin"

_CERTIFICATE: Final = "strongroom.client_certificate"
_SERVER_FAULT: Final = 500
_MAX_CONNECTIONS: Final = 64
_START_SECONDS: Final = 10.0
_logger = logging.getLogger("strongroom.broker")


def create_app(store: Store, authenticator: Authenticator, refused: Callable[[str], None]) -> Starlette:
    """The application.

    Args:
        store: What is administered.
        authenticator: Finds out who asks.
        refused: Is told the code of a request that was refused because of who asks.
    """

    def answer(certificate: bytes | None, authorization: str | None, body: bytes) -> dict[str, Any]:
        try:
            by = authenticator.principal(certificate, authorization)
            return admin_requests.perform(store, admin_requests.parse(body), by)
        except StrongroomError as error:
            if error.kind in {ADMIN_UNAUTHENTICATED, ADMIN_FORBIDDEN}:
                refused(error.code)
            raise

    async def ask(request: Request) -> Response:
        body = await read_body(request, MAX_REQUEST)
        certificate = request.scope.get("extensions", {}).get(_CERTIFICATE)
        authorization = request.headers.get("Authorization")
        members = await run_in_threadpool(answer, certificate, authorization, body)
        return JSONResponse(members, headers={"Cache-Control": "no-store"})

    return Starlette(
        routes=[Route(ADMIN_PATH, ask, methods=["POST"])],
        exception_handlers={StrongroomError: _problem},
    )


@contextmanager
def serving(
    store: Store,
    config: AdminConfig,
    refused: Callable[[str], None],
    *,
    now: Callable[[], float] = time.time,
) -> Iterator[str]:
    """Serve the administration in a thread while the block runs.

    Args:
        store: What is administered.
        config: Where, with which certificates, for which issuers.
        refused: As for `create_app`.
        now: The clock, Unix seconds.

    Yields:
        Where it listens, `host:port`.

    Raises:
        ConfigError: `config-invalid` or `listen-failed`.
        BrokerError: `oidc-unavailable`, a file with keys cannot be used.
    """
    host, port = split_listen(config.listen)
    issuers = [_issuer(each) for each in config.oidc]
    if not issuers and not config.client_ca:
        raise ConfigError(CONFIG_INVALID, "broker.admin", expected="client_ca, or at least one oidc")
    context = _tls(config, certificate_needed=not issuers)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(store, Authenticator(issuers, now), refused),
            host=host,
            port=port,
            ssl_context_factory=lambda _config, _default: context,
            lifespan="off",
            **http_server.settings(_MAX_CONNECTIONS, _CertificateProtocol),
        )
    )
    thread = threading.Thread(target=_run, args=(server,), name="administration", daemon=True)
    thread.start()
    try:
        _wait_until_started(server, thread, config.listen)
        yield f"{host}:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class _CertificateProtocol(BoundedProtocol):
    """Tells the application the client's certificate, which uvicorn does not."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        self.app = _with_certificate(self.app, tls.getpeercert(binary_form=True))


def _with_certificate(app: Any, certificate: bytes | None) -> ASGIApp:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {**scope.get("extensions", {}), _CERTIFICATE: certificate}
        await app(scope, receive, send)

    return inner


def _run(server: uvicorn.Server) -> None:
    with contextlib.suppress(SystemExit):  # it cannot listen; whoever waits for the start sees that it ended
        server.run()


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread, listen: str) -> None:
    end = time.monotonic() + _START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > end:
            raise ConfigError(LISTEN_FAILED, "administration", found=listen)
        time.sleep(0.01)


def _tls(config: AdminConfig, *, certificate_needed: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(config.certificate, config.key)
        if config.client_ca:
            context.load_verify_locations(config.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED if certificate_needed else ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(CONFIG_INVALID, f"broker.admin: certificates: {reason}") from None
    return context


def _issuer(config: OidcConfig) -> OidcIssuer:
    if config.keys:
        return OidcIssuer(config.issuer, config.audience, FileKeys(Path(config.keys)))
    return OidcIssuer(config.issuer, config.audience, FetchedKeys(config.issuer, fetch, time.monotonic))


def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StrongroomError)  # noqa: S101 -- registered for this type
    problem = error.to_problem()
    if error.status >= _SERVER_FAULT:
        _logger.error("%s", error)
        problem = {name: problem[name] for name in ("type", "title", "status", "code", "remedy")}
    return JSONResponse(problem, status_code=error.status, media_type="application/problem+json")
