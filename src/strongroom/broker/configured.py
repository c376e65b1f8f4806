"""The key store, the root keys and the source of collateral that a configuration names."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from strongroom.attestation.collateral.source import CollateralSource, open_source
from strongroom.broker import keyfile
from strongroom.broker.errors import ROOT_KEY_CONFIG, STORE_LOCATION
from strongroom.broker.rootkey import FileRootKey, RootKey
from strongroom.broker.store import Store
from strongroom.config import BrokerConfig, RootConfig, home
from strongroom.errors import ConfigError

POSTGRES: Final = ("postgresql://", "postgres://")

_PIN_LIMIT: Final = 256
_NEEDED: Final = {
    "file": {"path"},
    "tpm": {"pcrs"},
    "pkcs11": {"module", "token", "pin_file", "key"},
    "kms": {"key"},
}
_POSSIBLE: Final = {"tpm": {"tcti"}, "kms": {"region", "endpoint"}}


def open_store(config: BrokerConfig, *, now: Callable[[], float] = time.time) -> Store:
    """Open the store of a configured broker.

    Raises:
        BrokerError: A code of the store or its root key.
        ConfigError: `store-location-invalid` or `root-key-config`.
    """
    folder, url = _location(config)
    return Store.open(folder, url=url, roots=_roots(config), now=now)


def root_key(config: RootConfig, table: str) -> RootKey:
    """The root key of a configuration's table.

    Args:
        config: The table.
        table: Its name, for errors.

    Raises:
        BrokerError: A code of the root key.
        ConfigError: `root-key-config`.
    """
    _check(config, table)
    if config.kind == "tpm":
        from strongroom.broker.rootkey_tpm import TpmRootKey

        return TpmRootKey(config.pcrs, tcti=config.tcti)
    if config.kind == "pkcs11":
        from strongroom.broker.rootkey_pkcs11 import Pkcs11RootKey

        pin = keyfile.read(Path(config.pin_file), limit=_PIN_LIMIT).decode("utf-8", "replace").strip()
        return Pkcs11RootKey(config.module, config.token, config.key, pin=pin)
    if config.kind == "kms":
        from strongroom.broker.rootkey_kms import KmsRootKey

        return KmsRootKey.connect(config.key, region=config.region, endpoint=config.endpoint)
    return FileRootKey.open(Path(config.path))


def _location(config: BrokerConfig) -> tuple[Path, str]:
    if not config.store.startswith(POSTGRES):
        if config.epoch_keys:
            raise ConfigError(STORE_LOCATION, "epoch_keys is for a store in PostgreSQL only")
        return Path(config.store) if config.store else home() / "broker", ""
    if not config.epoch_keys:
        what = "a store in PostgreSQL needs epoch_keys"
        raise ConfigError(STORE_LOCATION, what, expected="a folder that all brokers share")
    return Path(config.epoch_keys), config.store


def _roots(config: BrokerConfig) -> list[RootKey]:
    if config.root is None:
        if config.old_root is not None:
            raise ConfigError(ROOT_KEY_CONFIG, "broker.old_root", expected="broker.root beside it")
        return []
    roots = [root_key(config.root, "broker.root")]
    if config.old_root is not None:
        roots.append(root_key(config.old_root, "broker.old_root"))
    return roots


def _check(config: RootConfig, table: str) -> None:
    """Every key that the kind needs is there, and none that it has no use for."""
    needed = _NEEDED[config.kind]
    given = {name for name in config.__struct_fields__ if name != "kind" and getattr(config, name)}
    kind = f'kind = "{config.kind}"'
    for name in sorted(needed - given):
        raise ConfigError(ROOT_KEY_CONFIG, table, expected=f"{name}, which {kind} needs")
    for name in sorted(given - needed - _POSSIBLE.get(config.kind, set())):
        raise ConfigError(ROOT_KEY_CONFIG, table, found=f"{name}, which {kind} has no use for")


def open_collateral(config: BrokerConfig) -> CollateralSource | None:
    """The source of collateral of a configured broker; None if it has none.

    Raises:
        ConfigError: `collateral-source-invalid`.
    """
    if not (config.collateral or config.pccs or config.kds):
        return None
    folder = Path(config.collateral) if config.collateral else home() / "collateral"
    return open_source(folder, pccs=config.pccs, kds=config.kds)
