"""Run the key broker's server as configured."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvicorn

from strongroom.attestation.devices import MAX_RIMS
from strongroom.attestation.gpu_rim import MAX_RIM
from strongroom.broker import http_server
from strongroom.broker.configured import open_collateral, open_store
from strongroom.broker.kbs import KeyBroker
from strongroom.broker.server import create_app
from strongroom.broker.store import Store
from strongroom.broker.witness_client import WitnessClient
from strongroom.broker.witnessing import Witnessing
from strongroom.config import CONFIG_INVALID, BrokerConfig, Config, listening, split_listen
from strongroom.crypto.notes import NoteKey
from strongroom.errors import ConfigError, CryptoError

MAX_CONNECTIONS: Final = 512
"""Connections at once; one more is answered with 503."""


def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        BrokerError: The store cannot be opened, or `simulated-anchor`.
        ConfigError: The listen address, the store's location, the folder of reference values or a witness is
            not usable, or a source of collateral.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    host, port = split_listen(config.broker.listen)
    with (
        open_store(config.broker) as store,
        _witnessing(store, config.broker) as witnessing,
        listening(config.broker.listen),
    ):
        broker = KeyBroker(
            store,
            now=time.time,
            rng=store.rng,
            production=config.broker.profile == "production",
            rims=_rims(config.broker.gpu_rims),
            witnessing=witnessing,
            collateral=open_collateral(config.broker),
        )
        with _administration(store, config.broker, broker):
            app = create_app(store, now=time.time, broker=broker)
            uvicorn.run(app, host=host, port=port, **http_server.settings(MAX_CONNECTIONS))


@contextmanager
def _administration(store: Store, config: BrokerConfig, broker: KeyBroker) -> Iterator[None]:
    """The administration over the network, if it is configured."""
    if config.admin is None:
        yield
        return
    # Where it is used: most brokers are administered on their own machine.
    from strongroom.broker import admin_server

    with admin_server.serving(store, config.admin, broker.count_refusal):
        yield


@contextmanager
def _witnessing(store: Store, config: BrokerConfig) -> Iterator[Witnessing | None]:
    """The witnesses of the configuration, if there are any."""
    if not config.witnesses and not config.witness_threshold:
        yield None
        return
    try:
        clients = [
            WitnessClient(NoteKey.parse(each.key), each.url, timeout=config.witness_timeout)
            for each in config.witnesses
        ]
        made = Witnessing(store, clients, config.usable_threshold)
    except (CryptoError, ValueError) as error:
        raise ConfigError(CONFIG_INVALID, f"broker.witnesses: {error}") from error
    try:
        yield made
    finally:
        made.close()


def _rims(folder: str) -> list[bytes]:
    """The files with NVIDIA's reference values, unverified: each appraisal verifies them as of its time.

    Raises:
        ConfigError: `config-invalid`.
    """
    if not folder:
        return []
    try:
        paths = sorted(Path(folder).glob("*.swidtag"))[: MAX_RIMS + 1]
        files = [path.read_bytes() for path in paths if path.stat().st_size <= MAX_RIM]
    except OSError as error:
        raise ConfigError(CONFIG_INVALID, f"broker.gpu_rims: {error.strerror}") from error
    if not files or len(files) != len(paths) or len(files) > MAX_RIMS:
        expected = f"1 to {MAX_RIMS} files *.swidtag of at most {MAX_RIM} bytes"
        raise ConfigError(CONFIG_INVALID, "broker.gpu_rims", found=f"{len(files)} files", expected=expected)
    return files
