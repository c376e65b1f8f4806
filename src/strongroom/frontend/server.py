"""Run the front end: uvicorn, with a graceful end.

At SIGTERM the front end takes no new requests, answers those it holds within `drain` seconds, and ends.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from contextlib import suppress
from pathlib import Path

import uvicorn
import uvloop

from strongroom.attestation.policy import Policy
from strongroom.bounded_http import ConnectionLimits, bounded
from strongroom.config import Config, listening, split_listen
from strongroom.errors import StrongroomError
from strongroom.frontend.app import FrontendApp
from strongroom.frontend.asgi import Receive, Scope, Send
from strongroom.frontend.documents import Documents
from strongroom.frontend.exchange import Exchange
from strongroom.frontend.gateway import SealedGateway
from strongroom.frontend.intake import Intake
from strongroom.frontend.metrics import FrontendMetrics
from strongroom.frontend.plain import PlainGateway
from strongroom.queue.audit import server_warnings
from strongroom.queue.client import Client, persist
from strongroom.queue.connect import connect
from strongroom.queue.producer import ReplyReader, RequestQueue

LIMITS = ConnectionLimits()
_BACKLOG = 2048
_WARN_SECONDS = 60.0
_log = logging.getLogger("strongroom.frontend")


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: The queue's URL or files are not usable.
        FrontendError: `replies-lost`; the supervisor starts the front end again.
    """
    frontend = config.frontend
    policy = Policy.load(Path(frontend.policy)) if frontend.policy else None
    address = f"frontend-{os.urandom(8).hex()}"
    client = connect(config.queue.url, tls=config.queue.tls)
    replies = ReplyReader(client, config.service, address, max_body=config.queue.max_body)
    queue = RequestQueue(
        client, config.service, max_length=config.queue.max_length, max_body=config.queue.max_body
    )
    exchange = Exchange(queue, replies, address, max_pending=frontend.max_pending)
    try:
        warned = asyncio.create_task(_warn_of_queue(client))
        async with exchange.running():
            await serve_exchange(
                http_server(config, build(config, queue, exchange, policy), exchange), exchange
            )
        warned.cancel()
    finally:
        await replies.aclose()
        await client.aclose()


async def serve_exchange(server: uvicorn.Server, exchange: Exchange) -> None:
    """Serve until the process is asked to stop, or the exchange fails.

    Raises:
        FrontendError: `replies-lost`.
    """

    async def stop() -> None:
        await exchange.failed()
        server.should_exit = True

    watch = asyncio.create_task(stop())
    try:
        await server.serve()
    finally:
        watch.cancel()
    exchange.check()


async def _warn_of_queue(client: Client) -> None:
    """Say once in the log what in the queue server's settings endangers accepted requests."""
    with suppress(StrongroomError):
        for warning in await persist(lambda: server_warnings(client), seconds=_WARN_SECONDS):
            _log.warning("%s", warning)


def build(config: Config, queue: RequestQueue, exchange: Exchange, policy: Policy | None) -> FrontendApp:
    """The application over a queue."""
    metrics = FrontendMetrics()
    documents = Documents(queue)
    intake = Intake(
        max_body=config.queue.max_body,
        timeout=config.frontend.body_timeout,
        budget=config.frontend.body_budget,
    )
    timeout = config.frontend.timeout
    return FrontendApp(
        exchange,
        documents,
        metrics,
        SealedGateway(exchange, metrics, intake, timeout=timeout),
        PlainGateway(exchange, documents, metrics, policy, intake, timeout=timeout),
        depth=queue.depth,
    )


class _DrainingServer(uvicorn.Server):
    """A server that tells the exchange to take nothing new once it is asked to stop."""

    def __init__(self, config: uvicorn.Config, exchange: Exchange) -> None:
        super().__init__(config)
        self._exchange = exchange

    async def shutdown(self, *args: object, **kwargs: object) -> None:
        self._exchange.close()
        await super().shutdown(*args, **kwargs)  # type: ignore[arg-type]  # the base's signature varies


def http_server(
    config: Config, app: FrontendApp, exchange: Exchange, limits: ConnectionLimits = LIMITS
) -> uvicorn.Server:
    """The HTTP server around the application."""
    host, port = split_listen(config.frontend.listen)

    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    settings = uvicorn.Config(
        asgi,
        host=host,
        port=port,
        http=bounded(limits),
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=int(config.frontend.drain),
        ws="none",
    )
    return _DrainingServer(settings, exchange)


def run(config: Config) -> None:
    """Serve in this process until it is told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    gc.collect()
    gc.freeze()  # what is there now lives as long as the process; the collector need not look at it
    with (
        suppress(KeyboardInterrupt),
        listening(config.frontend.listen),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(serve(config))
