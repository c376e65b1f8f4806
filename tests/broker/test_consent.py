"""Consent: grants and approvals, in the store and judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from strongroom.attestation.policy import Policy
from strongroom.broker import consent, registry, tenants
from strongroom.broker.consent import Approval, Consent
from strongroom.broker.registry import ModelRecord, ServiceRecord
from strongroom.broker.tenants import Tenant

PEOPLE = tuple(f"mtls:{digit * 64}" for digit in "abc")
NOW = 1_800_000_000


@pytest.fixture
def service(rig) -> ServiceRecord:
    with rig.store.read() as db:
        return registry.service(db, "pictures")


@pytest.fixture
def model(rig) -> ModelRecord:
    with rig.store.read() as db:
        return replace(registry.model(db, "default/model/lite0"), approvers=PEOPLE, approvals=2)


def test_the_statement_has_every_fact_that_decides(service, model) -> None:
    facts = consent.statement(service, model)
    assert facts == {
        "type": "strongroom-approval/1",
        "resource": "kbs:///default/model/lite0",
        "version": "1",
        "manifest": "sha256:" + "11" * 32,
        "sealed": "sha256:" + "22" * 32,
        "model_policy": None,
        "tenant": "default",
        "service": "pictures",
        "release_policy": Policy.parse(service.policy).digest,
    }


@pytest.mark.parametrize(
    ("of_service", "of_model"),
    [
        ({"name": "sounds"}, {}),
        ({"tenant": "hospital"}, {}),
        ({"policy": "+"}, {}),
        ({}, {"resource": "default/model/lite1"}),
        ({}, {"version": "2"}),
        ({}, {"manifest": "sha256:" + "12" * 32}),
        ({}, {"sealed": "sha256:" + "12" * 32}),
        ({}, {"policy": "+"}),
    ],
)
def test_a_change_makes_another_statement(
    service, model, of_service: dict[str, Any], of_model: dict[str, Any]
) -> None:
    longer = service.policy + "# more\n"
    changed_service = replace(service, **{k: longer if k == "policy" else v for k, v in of_service.items()})
    changed_model = replace(model, **{k: longer if k == "policy" else v for k, v in of_model.items()})
    assert consent.statement_digest(changed_service, changed_model) != consent.statement_digest(
        service, model
    )


def test_who_approves_the_present_statement(service, model) -> None:
    digest = consent.statement_digest(service, model)
    said = Consent(
        approvals=(
            Approval(PEOPLE[0], digest, NOW + 1),
            Approval(PEOPLE[0], digest, NOW + 2),
            Approval(PEOPLE[1], digest, NOW),  # over
            Approval(PEOPLE[2], "sha256:" + "00" * 32, NOW + 1),  # of another statement
            Approval("mtls:" + "d" * 64, digest, NOW + 1),  # no approver
        )
    )
    assert said.approved(service, model, NOW) == [PEOPLE[0]]


@pytest.mark.parametrize(
    ("approvers", "needed", "code"),
    [
        ((), 0, None),
        (PEOPLE, 1, None),
        (PEOPLE, 3, None),
        ((), 1, "approvers-invalid"),
        (PEOPLE, 0, "approvers-invalid"),
        (PEOPLE, 4, "approvers-invalid"),
        (PEOPLE, -1, "approvers-invalid"),
        ((PEOPLE[0], PEOPLE[0]), 1, "approvers-invalid"),
        (tuple(f"mtls:{n:064x}" for n in range(16)), 16, None),
        (tuple(f"mtls:{n:064x}" for n in range(17)), 1, "approvers-invalid"),
        (("alice",), 1, "principal-invalid"),
        (("operator",), 1, "principal-invalid"),
    ],
)
def test_sets_of_approvers(refused, approvers: tuple[str, ...], needed: int, code: str | None) -> None:
    if code is None:
        consent.check_approvers(approvers, needed)
    else:
        with refused(code):
            consent.check_approvers(approvers, needed)


@pytest.mark.parametrize("count", [2, 3])
def test_more_approvals_than_needed_do_no_harm(service, model, count: int) -> None:
    digest = consent.statement_digest(service, model)
    said = Consent(approvals=tuple(Approval(each, digest, NOW + 1) for each in PEOPLE[:count]))
    said.check(service, model, NOW)


@pytest.mark.parametrize("late", [0, 1])
def test_an_approval_that_is_over_counts_no_more(refused, service, model, late: int) -> None:
    digest = consent.statement_digest(service, model)
    said = Consent(approvals=tuple(Approval(each, digest, NOW) for each in PEOPLE))
    with refused("approval-missing"):
        said.check(service, model, NOW + late)


@pytest.mark.parametrize("tenant", ["a", "hospital"])
def test_a_service_of_any_other_tenant_needs_a_grant(refused, service, model, tenant: str) -> None:
    other, free = replace(service, tenant=tenant), replace(model, approvals=0)
    with refused("model-not-granted"):
        Consent().check(other, free, NOW)
    Consent(granted=True).check(other, free, NOW)


def test_nobody_can_owe_approvals(refused) -> None:
    with refused("approvers-invalid"):
        consent.check_approvers((), -1)


def test_what_is_said_is_kept_and_can_be_taken_back(rig, service, model) -> None:
    others = replace(service, tenant="hospital")
    with rig.store.write() as db:
        tenants.save(db, Tenant("hospital"))
        assert consent.of(db, others, model) == Consent()
        consent.grant(db, model.resource, "hospital")
        consent.grant(db, model.resource, "hospital")
        consent.approve(db, model.resource, "pictures", Approval(PEOPLE[0], "sha256:1", 5))
        consent.approve(db, model.resource, "pictures", Approval(PEOPLE[0], "sha256:2", 6))
        consent.approve(db, model.resource, "pictures", Approval(PEOPLE[1], "sha256:2", 7))
    with rig.store.read() as db:
        assert consent.grants(db, model.resource) == ["hospital"]
        said = consent.of(db, others, model)
        assert not consent.of(db, service, model).granted
    assert said.granted
    assert {(each.approver, each.statement, each.until) for each in said.approvals} == {
        (PEOPLE[0], "sha256:2", 6),
        (PEOPLE[1], "sha256:2", 7),
    }
    with rig.store.write() as db:
        consent.ungrant(db, model.resource, "hospital")
        consent.withdraw(db, model.resource, "pictures", PEOPLE[0])
        said = consent.of(db, others, model)
    assert not said.granted
    assert [each.approver for each in said.approvals] == [PEOPLE[1]]
