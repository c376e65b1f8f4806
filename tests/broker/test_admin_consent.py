"""Administration by tenants: who may do what, grants, approvals, revocations; each with its log entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from strongroom.broker import admin, admin_consent, registry
from strongroom.broker.log import verify_log
from strongroom.broker.principal import OPERATOR, Principal
from strongroom.broker.tenants import Tenant
from strongroom.crypto import agefile

MODEL = "default/model/lite0"
ALICE = Principal("mtls:" + "a" * 64)
BOB = Principal("oidc:https://login.example#bob")
CAROL = Principal("mtls:" + "c" * 64)
STRANGER = Principal("mtls:" + "e" * 64)


def last_entry(rig: Any) -> dict[str, Any]:
    verify_log(rig.store)
    entry: dict[str, Any] = list(admin.log_entries(rig.store))[-1]
    return entry


@pytest.fixture
def bank(rig) -> Any:
    """A tenant with a service of its own model."""
    admin_consent.set_tenant(rig.store, "bank", [ALICE.text])
    rig.register_model(resource="bank/model/credit", name="credit", sealed_sha256="33" * 32, by=ALICE)
    register(rig, by=ALICE)
    return rig


def register(rig: Any, service: str = "loans", models: Any = ("bank/model/credit",), **changes: Any) -> Any:
    settings = {"tenant": "bank", "by": OPERATOR} | changes
    return admin.register_service(rig.store, service, rig.policy_text, models, "Example Bank", **settings)


def approvable(rig: Any, **changes: Any) -> Any:
    """The bank's model again, now with approvers."""
    settings = {"approvers": [BOB.text, CAROL.text], "approvals": 2, "by": ALICE} | changes
    return rig.register_model(
        resource="bank/model/credit", name="credit", sealed_sha256="33" * 32, **settings
    )


def test_only_the_operator_makes_tenants(rig, refused) -> None:
    made = admin_consent.set_tenant(rig.store, "bank", [ALICE.text, BOB.text, ALICE.text])
    assert made == Tenant("bank", (ALICE.text, BOB.text))
    entry = last_entry(rig)
    assert (entry["event"], entry["tenant"], entry["administrators"], entry["by"]) == (
        "tenant-set",
        "bank",
        [ALICE.text, BOB.text],
        "operator",
    )
    for name in ("bank", "school"):
        with refused("admin-forbidden"):
            admin_consent.set_tenant(rig.store, name, [STRANGER.text], by=ALICE)
    assert admin_consent.tenants_of(rig.store, OPERATOR) == [made, Tenant("default")]
    assert admin_consent.tenants_of(rig.store, ALICE) == [made]
    assert admin_consent.tenants_of(rig.store, STRANGER) == []


@pytest.mark.parametrize(
    ("name", "people", "code"),
    [
        ("", [], "broker-name-invalid"),
        ("Bank", [], "broker-name-invalid"),
        ("bank/model", [], "broker-name-invalid"),
        ("bank", ["alice"], "principal-invalid"),
        ("bank", ["operator"], "principal-invalid"),
        ("bank", [f"mtls:{n:064x}" for n in range(65)], "admin-request-invalid"),
    ],
)
def test_a_tenant_that_is_not_made(rig, refused, name: str, people: list[str], code: str) -> None:
    with refused(code):
        admin_consent.set_tenant(rig.store, name, people)
    assert admin_consent.tenants_of(rig.store, OPERATOR) == [Tenant("default")]


ACTIONS: dict[str, Callable[[Any, Principal], Any]] = {
    "register a model": lambda rig, by: approvable(rig, approvers=(), approvals=0, by=by),
    "register a service": lambda rig, by: register(rig, by=by),
    "rotate": lambda rig, by: admin.rotate(rig.store, "loans", 0, by=by),
    "grant": lambda rig, by: admin_consent.set_grant(rig.store, "bank/model/credit", "default", by=by),
    "take back": lambda rig, by: admin_consent.set_grant(
        rig.store, "bank/model/credit", "default", granted=False, by=by
    ),
    "read a statement": lambda rig, by: admin_consent.statement(
        rig.store, "bank/model/credit", "loans", by=by
    ),
    "revoke a model": lambda rig, by: admin_consent.revoke_model(rig.store, "bank/model/credit", by=by),
    "revoke a service": lambda rig, by: admin_consent.revoke_service(rig.store, "loans", by=by),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_an_administrator_does_what_is_his_tenants(bank, action: str) -> None:
    ACTIONS[action](bank, ALICE)
    verify_log(bank.store)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("by", [STRANGER, BOB, Principal("operator")])
def test_nobody_else_does(bank, refused, action: str, by: Principal) -> None:
    admin_consent.set_tenant(bank.store, "school", [BOB.text])
    before = list(admin.log_entries(bank.store))
    with refused("admin-forbidden"):
        ACTIONS[action](bank, by)
    assert list(admin.log_entries(bank.store)) == before


def test_what_is_missing_is_told_to_the_operator_alone(bank, refused) -> None:
    for by, of_model, of_service in (
        (OPERATOR, "model-unregistered", "service-unknown"),
        (ALICE, "model-unregistered", "admin-forbidden"),
        (STRANGER, "admin-forbidden", "admin-forbidden"),
    ):
        with refused(of_model):
            admin_consent.revoke_model(bank.store, "bank/model/none", by=by)
        with refused(of_service):
            admin_consent.revoke_service(bank.store, "none", by=by)
    with refused("tenant-unknown"):
        register(bank, "other", tenant="school")
    with refused("admin-forbidden"):
        register(bank, "other", tenant="school", by=ALICE)


def test_a_service_stays_its_tenants(bank, refused) -> None:
    with refused("service-taken"):
        register(bank, "loans", models=[MODEL], tenant="default")
    with refused("service-taken"):
        register(bank, "pictures", by=ALICE)


def test_a_model_of_another_tenant_needs_a_grant(bank, refused) -> None:
    both = ["bank/model/credit", MODEL]
    with refused("model-not-granted"):
        register(bank, models=both, by=ALICE)
    admin_consent.set_grant(bank.store, MODEL, "bank")
    assert (last_entry(bank)["event"], last_entry(bank)["tenant"]) == ("model-granted", "bank")
    assert admin_consent.grants(bank.store, MODEL) == ["bank"]
    assert register(bank, models=both, by=ALICE).models == tuple(both)
    admin_consent.set_grant(bank.store, MODEL, "bank", granted=False)
    assert last_entry(bank)["event"] == "model-ungranted"
    assert admin_consent.grants(bank.store, MODEL) == []
    with refused("tenant-unknown"):
        admin_consent.set_grant(bank.store, MODEL, "school")


def test_approvals_are_counted(bank, refused) -> None:
    approvable(bank)
    seen = admin_consent.statement(bank.store, "bank/model/credit", "loans", by=BOB)
    assert (seen.needed, seen.approvers, seen.approved) == (2, (BOB.text, CAROL.text), ())
    assert seen.facts["service"] == "loans"
    one = admin_consent.approve(bank.store, "bank/model/credit", "loans", seen.digest, seconds=60, by=BOB)
    assert one.approved == (BOB.text,)
    entry = last_entry(bank)
    assert (entry["event"], entry["by"], entry["statement"], entry["until"]) == (
        "approved",
        BOB.text,
        seen.digest,
        int(bank.clock()) + 60,
    )
    two = admin_consent.approve(bank.store, "bank/model/credit", "loans", seen.digest, by=CAROL)
    assert two.approved == (CAROL.text, BOB.text)
    bank.clock.turn(61)
    assert admin_consent.statement(bank.store, "bank/model/credit", "loans").approved == (CAROL.text,)
    gone = admin_consent.withdraw(bank.store, "bank/model/credit", "loans", by=CAROL)
    assert gone.approved == ()
    assert last_entry(bank)["event"] == "approval-withdrawn"


@pytest.mark.parametrize("by", [ALICE, STRANGER, OPERATOR])
def test_only_an_approver_approves(bank, refused, by: Principal) -> None:
    """Neither the administrator nor the operator can in another's name."""
    approvable(bank)
    digest = admin_consent.statement(bank.store, "bank/model/credit", "loans").digest
    with refused("admin-forbidden"):
        admin_consent.approve(bank.store, "bank/model/credit", "loans", digest, by=by)
    with refused("admin-forbidden"):
        admin_consent.withdraw(bank.store, "bank/model/credit", "loans", by=by)
    with refused("admin-forbidden"):
        admin_consent.approve(bank.store, "bank/model/none", "loans", digest, by=by)


def test_only_what_was_read_is_approved(bank, refused) -> None:
    approvable(bank)
    digest = admin_consent.statement(bank.store, "bank/model/credit", "loans").digest
    approvable(bank, version="2", manifest_digest="sha256:" + "44" * 32)
    with refused("statement-changed"):
        admin_consent.approve(bank.store, "bank/model/credit", "loans", digest, by=BOB)


@pytest.mark.parametrize("seconds", [0, -1, 366 * 86400 + 1])
def test_an_approval_has_an_end(bank, refused, seconds: int) -> None:
    approvable(bank)
    digest = admin_consent.statement(bank.store, "bank/model/credit", "loans").digest
    with refused("admin-request-invalid"):
        admin_consent.approve(bank.store, "bank/model/credit", "loans", digest, seconds=seconds, by=BOB)


@pytest.mark.parametrize(
    "changes",
    [
        {"approvers": (), "approvals": 0},
        {"approvals": 1},
        {"approvers": [BOB.text, STRANGER.text]},
        {"approvers": [BOB.text, CAROL.text, STRANGER.text]},
    ],
)
def test_an_administrator_cannot_do_without_approvals(bank, refused, changes: dict[str, Any]) -> None:
    approvable(bank)
    with refused("approvers-kept"):
        approvable(bank, **changes)
    approvable(bank, approvers=[CAROL.text, BOB.text], version="2")  # the same, in another order
    assert approvable(bank, **changes, by=OPERATOR).resource == "bank/model/credit"


def test_a_revoked_model_stays_revoked(bank, refused) -> None:
    approvable(bank)
    digest = admin_consent.statement(bank.store, "bank/model/credit", "loans").digest
    admin_consent.revoke_model(bank.store, "bank/model/credit", by=ALICE)
    assert last_entry(bank)["event"] == "model-revoked"
    with bank.store.read() as db:
        assert registry.model(db, "bank/model/credit").revoked
    with refused("resource-revoked"):
        approvable(bank, identity=agefile.generate_identity(), by=OPERATOR)
    with refused("resource-revoked"):
        register(bank, "other", by=ALICE)
    with refused("resource-revoked"):
        admin_consent.approve(bank.store, "bank/model/credit", "loans", digest, by=BOB)
    with refused("model-registered-elsewhere"):
        bank.register_model(resource="default/model/again", name="credit", sealed_sha256="33" * 32)


def test_a_revoked_service_has_no_keys_and_gets_none(bank, refused) -> None:
    files = set(bank.store.epoch_key_files())
    approvable(bank)
    digest = admin_consent.statement(bank.store, "bank/model/credit", "loans").digest
    admin_consent.revoke_service(bank.store, "loans", by=ALICE)
    assert "service-revoked" in [each["event"] for each in admin.log_entries(bank.store)]
    assert admin.epochs(bank.store, "loans") == []
    assert len(bank.store.epoch_key_files()) == len(files) - 1
    bank.broker.maintain()
    approvable(bank, version="2")
    assert admin.epochs(bank.store, "loans") == []
    for act in (
        lambda: admin.rotate(bank.store, "loans", by=ALICE),
        lambda: register(bank, by=ALICE),
        lambda: register(bank),
        lambda: admin_consent.approve(bank.store, "bank/model/credit", "loans", digest, by=BOB),
    ):
        with refused("service-revoked"):
            act()
    with refused("epoch-missing"):
        bank.broker.beacon("loans")
    assert admin.epochs(bank.store, "pictures")


def test_a_worker_gets_the_key_when_enough_have_approved(bank, refused) -> None:
    approvable(bank)
    worker = bank.attester(service="loans", models=("kbs:///bank/model/credit",)).attest()
    seen = admin_consent.statement(bank.store, "bank/model/credit", "loans")
    admin_consent.approve(bank.store, "bank/model/credit", "loans", seen.digest, by=BOB)
    with refused("approval-missing"):
        worker.fetch("bank/model/credit")
    entry = last_entry(bank)
    assert (entry["event"], entry["code"]) == ("refused", "approval-missing")
    admin_consent.approve(bank.store, "bank/model/credit", "loans", seen.digest, by=CAROL)
    assert worker.fetch("bank/model/credit")
    approvable(bank, version="2", manifest_digest="sha256:" + "44" * 32)
    with refused("approval-missing"):
        worker.fetch("bank/model/credit")


def test_a_running_worker_gets_nothing_after_a_revocation(bank, refused) -> None:
    worker = bank.attester(service="loans", models=("kbs:///bank/model/credit",)).attest()
    assert worker.fetch("bank/model/credit")
    admin_consent.revoke_model(bank.store, "bank/model/credit")
    with refused("resource-revoked"):
        worker.fetch("bank/model/credit")
    assert worker.fetch("loans/service-key/current")
    admin_consent.revoke_service(bank.store, "loans")
    with refused("service-revoked"):
        worker.fetch("loans/service-key/current")
