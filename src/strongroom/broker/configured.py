"""The key store that a configuration names."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from strongroom.broker.errors import STORE_LOCATION
from strongroom.broker.store import Store
from strongroom.config import BrokerConfig, home
from strongroom.errors import ConfigError

POSTGRES: Final = ("postgresql://", "postgres://")


def open_store(config: BrokerConfig, *, now: Callable[[], float] = time.time) -> Store:
    """Open the store of a configured broker.

    Raises:
        BrokerError: A code of the store.
        ConfigError: `store-location-invalid`.
    """
    if not config.store.startswith(POSTGRES):
        if config.epoch_keys:
            raise ConfigError(STORE_LOCATION, "epoch_keys is for a store in PostgreSQL only")
        return Store.open(Path(config.store) if config.store else home() / "broker", now=now)
    if not config.epoch_keys:
        raise ConfigError(
            STORE_LOCATION,
            "a store in PostgreSQL needs epoch_keys",
            expected="a folder that all brokers share",
        )
    return Store.open(Path(config.epoch_keys), url=config.store, now=now)
