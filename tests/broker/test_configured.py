"""Which store a configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from strongroom.broker import admin
from strongroom.broker.configured import open_store
from strongroom.broker.rootkey import FileRootKey
from strongroom.config import BrokerConfig, RootConfig


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def broker(**settings: Any) -> BrokerConfig:
    return BrokerConfig(url="http://127.0.0.1:8471", key="ed25519:AAAA", **settings)


def test_the_store_that_is_named(home) -> None:
    with home.open() as store:
        key = admin.signing_key_text(store)
    settings = (
        {"store": home.url, "epoch_keys": str(home.folder)} if home.url else {"store": str(home.folder)}
    )
    with open_store(broker(**settings), now=lambda: 7.0) as store:
        assert admin.signing_key_text(store) == key
        assert store.now() == 7.0


def test_without_a_name_it_is_in_the_state_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("STRONGROOM_HOME", str(tmp_path))
    open_store(broker()).close()
    assert (tmp_path / "broker" / "store.db").exists()


def test_postgresql_needs_a_folder_and_a_folder_needs_postgresql(tmp_path: Path, refused) -> None:
    with refused("store-location-invalid"):
        open_store(broker(store="postgresql://u@/keys?host=/run"))
    with refused("store-location-invalid"):
        open_store(broker(store=str(tmp_path), epoch_keys=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def file_root(path: Path, byte: int) -> RootConfig:
    path.write_bytes(bytes([byte]) * 32)
    path.chmod(0o600)
    return RootConfig(kind="file", path=str(path))


def test_the_root_key_that_is_named(tmp_path: Path, refused) -> None:
    one, two = (file_root(tmp_path / f"{number}.key", number) for number in (1, 2))
    store = str(tmp_path / "store")
    with open_store(broker(store=store, root=one)) as opened:
        assert opened.root.root_name == FileRootKey(bytes([1]) * 32).name
        assert opened.root.other_names == ()
    assert not (tmp_path / "store" / "root.key").exists()
    with refused("root-key-wrong"):
        open_store(broker(store=store, root=two))
    with open_store(broker(store=store, root=two, old_root=one)) as opened:
        assert opened.root.other_names == (FileRootKey(bytes([1]) * 32).name,)
    open_store(broker(store=store, root=two)).close()


def test_an_old_root_key_alone_is_a_mistake(tmp_path: Path, refused) -> None:
    with refused("root-key-config"):
        open_store(broker(store=str(tmp_path / "s"), old_root=file_root(tmp_path / "1.key", 1)))


def test_a_root_key_that_is_not_there_is_not_made(tmp_path: Path, refused) -> None:
    with refused("store-unusable"):
        open_store(
            broker(store=str(tmp_path / "s"), root=RootConfig(kind="file", path=str(tmp_path / "none")))
        )
    assert list(tmp_path.iterdir()) == []
