"""Run the key broker's server as configured."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import uvicorn

from strongroom.broker.kbs import KeyBroker
from strongroom.broker.server import create_app
from strongroom.broker.store import Store
from strongroom.config import Config, home, listening, split_listen

_GRACE_SECONDS = 5
MAX_HEAD = 64 * 1024
"""Bytes of the head of a request."""
MAX_CONNECTIONS = 512
"""Connections at once; one more is answered with 503."""


def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        BrokerError: The store cannot be opened, or `simulated-anchor`.
        ConfigError: The listen address is not usable.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    host, port = split_listen(config.broker.listen)
    folder = Path(config.broker.store) if config.broker.store else home() / "broker"
    with Store.open(folder) as store, listening(config.broker.listen):
        broker = KeyBroker(
            store, now=time.time, rng=store.rng, production=config.broker.profile == "production"
        )
        uvicorn.run(
            create_app(store, now=time.time, broker=broker),
            host=host,
            port=port,
            # h11 bounds the head of a request, httptools does not; the broker is not on the hot path.
            http="h11",
            h11_max_incomplete_event_size=MAX_HEAD,
            limit_concurrency=MAX_CONNECTIONS,
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
