"""Administration: what is registered, what a change begins, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from strongroom.attestation.keyset import Keyset, KeysetModel
from strongroom.broker import admin, registry
from strongroom.broker.log import verify_log
from strongroom.crypto import agefile

MODEL = "default/model/lite0"


def numbers(rig: Any, service: str = "pictures") -> list[int]:
    return [record.epoch for record in admin.epochs(rig.store, service)]


def keyset(rig: Any) -> Keyset:
    return Keyset.parse(admin.epochs(rig.store, "pictures")[0].keyset)


def test_a_model_is_found_by_its_sealed_file(rig) -> None:
    for text in ("22" * 32, "sha256:" + "22" * 32):
        found = admin.find_model(rig.store, text)
        assert (found.resource, found.uri, found.name) == (MODEL, "kbs:///" + MODEL, "lite0")
        assert (found.version, found.manifest, found.sealed) == (
            "1",
            "sha256:" + "11" * 32,
            "sha256:" + "22" * 32,
        )
    assert admin.find_model(rig.store, "33" * 32) is None
    assert [model.resource for model in admin.models(rig.store)] == [MODEL]


def test_a_models_identity_is_wrapped_for_its_resource(rig, refused) -> None:
    with rig.store.read() as db:
        wrapped = registry.wrapped_identity(db, MODEL)
    assert rig.identity.encode() not in wrapped
    assert rig.store.root.unwrap(wrapped, registry.identity_context(MODEL)) == rig.identity.encode()
    with refused("secret-unreadable"):
        rig.store.root.unwrap(wrapped, registry.identity_context("default/model/other"))
    with rig.store.read() as db, refused("model-unregistered"):
        registry.wrapped_identity(db, "default/model/other")


def test_a_uri_is_a_resource_too(rig) -> None:
    record = rig.register_model(resource="kbs:///default/model/two", name="two", sealed_sha256="33" * 32)
    assert record.resource == "default/model/two"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"resource": "default/service-key/current"}, "resource-path-invalid"),
        ({"resource": "model/lite0"}, "resource-path-invalid"),
        ({"resource": "../model/lite0"}, "resource-path-invalid"),
        ({"name": ""}, "broker-name-invalid"),
        ({"name": "a/b"}, "broker-name-invalid"),
        ({"name": "x" * 129}, "broker-name-invalid"),
        ({"version": ""}, "broker-name-invalid"),
        ({"version": "1 2"}, "broker-name-invalid"),
        ({"manifest_digest": "11" * 32}, "broker-name-invalid"),
        ({"manifest_digest": "sha256:" + "AA" * 32}, "broker-name-invalid"),
        ({"sealed_sha256": "sha256:22"}, "broker-name-invalid"),
        ({"sealed_sha256": "22" * 32 + "\n"}, "broker-name-invalid"),
        ({"identity": "AGE-SECRET-KEY-1"}, "age-key-invalid"),
        ({"policy_text": "version = 1"}, "policy-invalid"),
    ],
)
def test_a_model_that_is_not_registered(rig, refused, changes: dict[str, Any], code: str) -> None:
    before = list(admin.log_entries(rig.store))
    with refused(code):
        rig.register_model(**changes)
    assert list(admin.log_entries(rig.store)) == before


def test_one_sealed_file_has_one_resource(rig, refused) -> None:
    with refused("model-registered-elsewhere"):
        rig.register_model(resource="default/model/two")
    assert admin.find_model(rig.store, "22" * 32).resource == MODEL


def test_registering_the_same_again_begins_no_epoch(rig) -> None:
    rig.register_model()
    assert numbers(rig) == [1]


def test_a_new_version_under_the_resource_begins_an_epoch_that_names_it(rig) -> None:
    identity = agefile.generate_identity()
    changes = {"version": "2", "manifest_digest": "sha256:" + "44" * 32, "sealed_sha256": "55" * 32}
    rig.register_model(**changes, identity=identity)
    assert numbers(rig) == [2, 1]
    assert dict(keyset(rig).models) == {"lite0": KeysetModel("2", "sha256:" + "44" * 32)}
    assert admin.find_model(rig.store, "22" * 32) is None
    assert admin.epochs(rig.store, "pictures")[1].honoured_until == int(rig.clock()) + admin.DEFAULT_GRACE


def test_only_services_with_the_model_get_a_new_epoch(rig) -> None:
    rig.register_model(resource="default/model/two", name="two", sealed_sha256="33" * 32)
    admin.register_service(rig.store, "sounds", rig.policy_text, ["default/model/two"], "Example Bank")
    rig.register_model(
        resource="default/model/two",
        name="two",
        sealed_sha256="33" * 32,
        manifest_digest="sha256:" + "66" * 32,
    )
    assert numbers(rig, "sounds") == [2, 1]
    assert numbers(rig) == [1]


def test_the_version_floor_only_rises(rig, refused) -> None:
    assert rig.register_model(version="5", version_floor=4).version_floor == 4
    assert rig.register_model(version="4").version_floor == 4
    for version in ("3", "v9", "0"):
        with refused("model-version-older"):
            rig.register_model(version=version)
    with refused("model-version-older"):
        rig.register_model(version="5", version_floor=6)
    assert rig.register_model(version="10", version_floor=2).version_floor == 4
    assert rig.register_model(version="10", version_floor=-5).version_floor == 4


def test_services_are_listed(rig) -> None:
    (service,) = admin.services(rig.store)
    assert (service.name, service.models, service.custodian) == ("pictures", (MODEL,), "Example Bank")
    assert (service.policy, service.last_epoch) == (rig.policy_text, 1)


def test_registering_a_service_again_unchanged_does_nothing(rig) -> None:
    before = list(admin.log_entries(rig.store))
    record = admin.register_service(rig.store, "pictures", rig.policy_text, [MODEL], "Example Bank")
    assert record.last_epoch == 1
    assert list(admin.log_entries(rig.store)) == before


def test_another_policy_begins_an_epoch_and_ends_the_others_at_once(rig) -> None:
    """A worker that only the new policy admits must not open what was sealed under the old one."""
    admin.rotate(rig.store, "pictures")
    assert numbers(rig) == [2, 1]
    rig.change_service(rig.policy(max_evidence_age=500))
    assert numbers(rig) == [3]
    assert len(list((rig.folder / "epochs").iterdir())) == 1


def test_other_models_begin_an_epoch_and_honour_the_others(rig) -> None:
    rig.register_model(resource="default/model/two", name="two", sealed_sha256="33" * 32)
    record = admin.register_service(
        rig.store,
        "pictures",
        rig.policy_text,
        [MODEL, "kbs:///default/model/two", MODEL],
        "Example Bank",
        grace=60,
    )
    assert record.models == (MODEL, "default/model/two")
    assert numbers(rig) == [2, 1]
    assert set(keyset(rig).models) == {"lite0", "two"}
    assert admin.epochs(rig.store, "pictures")[1].honoured_until == int(rig.clock()) + 60


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"service": "Pictures"}, "broker-name-invalid"),
        ({"service": ""}, "broker-name-invalid"),
        ({"service": "a/b"}, "broker-name-invalid"),
        ({"service": "x" * 64}, "broker-name-invalid"),
        ({"custodian": ""}, "broker-name-invalid"),
        ({"custodian": "a\nb"}, "broker-name-invalid"),
        ({"models": []}, "service-invalid"),
        ({"models": ["x"]}, "resource-path-invalid"),
        ({"models": ["default/model/unknown"]}, "model-unregistered"),
        ({"lifetime": 59}, "service-invalid"),
        ({"lifetime": 367 * 86400}, "service-invalid"),
        ({"grace": -1}, "service-invalid"),
        ({"lifetime": 100, "grace": 101}, "service-invalid"),
        ({"release_policy_text": "kinds = []"}, "policy-invalid"),
    ],
)
def test_a_service_that_is_not_registered(rig, refused, changes: dict[str, Any], code: str) -> None:
    members = {
        "service": "sounds",
        "release_policy_text": rig.policy_text,
        "models": [MODEL],
        "custodian": "Example Bank",
    }
    before = list(admin.log_entries(rig.store))
    with refused(code):
        admin.register_service(rig.store, **{**members, **changes})
    assert [service.name for service in admin.services(rig.store)] == ["pictures"]
    assert list(admin.log_entries(rig.store)) == before


def test_a_policy_of_another_service_is_refused(rig, refused) -> None:
    with refused("service-invalid"):
        admin.register_service(rig.store, "sounds", rig.policy(service="pictures"), [MODEL], "Example Bank")
    assert (
        admin.register_service(rig.store, "sounds", rig.policy(service="sounds"), [MODEL], "B").last_epoch
        == 1
    )


def test_two_models_of_a_service_have_two_names(rig, refused) -> None:
    rig.register_model(resource="default/model/two", sealed_sha256="33" * 32)
    with refused("service-invalid"):
        rig.change_service(models=[MODEL, "default/model/two"])
    rig.register_model(resource="default/model/two", name="two", sealed_sha256="33" * 32)
    rig.change_service(models=[MODEL, "default/model/two"])
    with refused("service-invalid"):
        rig.register_model(resource="default/model/two", sealed_sha256="33" * 32)
    assert set(keyset(rig).models) == {"lite0", "two"}


@pytest.mark.parametrize("grace", [-1, admin.DEFAULT_LIFETIME + 1])
def test_a_grace_out_of_bounds_is_refused(rig, refused, grace: int) -> None:
    with refused("service-invalid"):
        admin.rotate(rig.store, "pictures", grace=grace)


def test_an_unknown_service_is_told(rig, refused) -> None:
    with refused("service-unknown"):
        admin.rotate(rig.store, "sounds")
    with refused("service-unknown"):
        admin.epochs(rig.store, "sounds")


def test_the_signing_key_is_the_one_in_the_keyset(rig) -> None:
    assert admin.signing_key_text(rig.store) == keyset(rig).broker_key
    assert admin.signing_key_text(rig.store).startswith("ed25519+mldsa65:")


def test_each_change_is_logged(rig) -> None:
    rig.register_model(version="2")
    rig.change_service(rig.policy(max_evidence_age=500))
    events = [entry["event"] for entry in admin.log_entries(rig.store)]
    assert events == [
        "model-registered",
        "service-registered",
        "epoch-minted",
        "model-registered",
        "epoch-minted",
        "service-registered",
        "epoch-minted",
        "epoch-deleted",
        "epoch-deleted",
    ]
    model = next(iter(admin.log_entries(rig.store)))
    assert (model["resource"], model["model"], model["version"]) == ("kbs:///" + MODEL, "lite0", "1")
    verify_log(rig.store)
