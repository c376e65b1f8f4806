"""Which store a configuration names."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.broker import admin
from strongroom.broker.configured import open_store
from strongroom.config import BrokerConfig


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def broker(**settings: str) -> BrokerConfig:
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
