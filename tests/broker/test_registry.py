"""Rows of the store as records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.attestation.keyset import KeysetModel
from strongroom.broker import registry
from strongroom.broker.registry import ModelRecord, ServiceRecord


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


SERVICE = ServiceRecord("pictures", "policy é", ("default/model/a", "default/model/b"), "Bank", 100, 10, 3)
MODEL = ModelRecord("default/model/a", "a", "1", "sha256:m", "sha256:s", None, 2)


def test_a_service_reads_back_and_changes_in_place(store) -> None:
    with store.write() as db:
        registry.save_service(db, SERVICE)
        registry.save_service(db, replace(SERVICE, name="another"))
        registry.save_service(db, replace(SERVICE, last_epoch=4, models=()))
        assert registry.service(db, "pictures") == replace(SERVICE, last_epoch=4, models=())
        assert [record.name for record in registry.services(db)] == ["another", "pictures"]


def test_a_service_that_is_not_there(store, refused) -> None:
    with store.read() as db:
        assert registry.find_service(db, "pictures") is None
        for name in ("pictures", "", "' OR 1=1 --", "%"):
            with refused("service-unknown"):
                registry.service(db, name)


def test_a_model_reads_back_and_changes_in_place(store, refused) -> None:
    with store.write() as db:
        registry.save_model(db, MODEL, b"one")
        registry.save_model(db, replace(MODEL, version="2", policy="text"), b"two")
        assert registry.models(db) == [replace(MODEL, version="2", policy="text")]
        assert registry.find_model(db, MODEL.resource) == registry.find_sealed(db, MODEL.sealed)
        assert registry.wrapped_identity(db, MODEL.resource) == b"two"
        assert registry.find_model(db, "default/model/b") is None
        assert registry.find_sealed(db, "sha256:x") is None
        with refused("model-unregistered"):
            registry.wrapped_identity(db, "default/model/b")


def test_the_database_refuses_one_sealed_file_under_two_resources(store, refused) -> None:
    with store.write() as db:
        registry.save_model(db, MODEL, b"one")
    with refused("store-unusable"), store.write() as db:
        registry.save_model(db, replace(MODEL, resource="default/model/b"), b"two")
    with store.read() as db:
        assert registry.models(db) == [MODEL]


def test_a_keyset_names_the_services_models(store, refused) -> None:
    with store.write() as db:
        registry.save_model(db, MODEL, b"")
        with refused("model-unregistered"):
            registry.keyset_models(db, SERVICE)
        registry.save_model(db, replace(MODEL, resource="default/model/b", name="b", sealed="sha256:t"), b"")
        found = registry.keyset_models(db, SERVICE)
    assert found == {"a": KeysetModel("1", "sha256:m"), "b": KeysetModel("1", "sha256:m")}


def test_a_models_uri() -> None:
    assert MODEL.uri == "kbs:///default/model/a"
