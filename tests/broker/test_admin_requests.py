"""Administrative requests: their form, and that each does what it says."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.broker import admin, admin_requests
from strongroom.broker.admin_requests import AnyRequest, ListRequest, perform
from strongroom.broker.principal import OPERATOR, Principal
from strongroom.errors import BrokerError

ALICE = Principal("mtls:" + "a" * 64)
BOB = Principal("mtls:" + "b" * 64)
MODEL = "default/model/lite0"
SECRET = "AGE-SECRET-KEY-1" + "Q" * 58


def ask(rig: Any, by: Principal = OPERATOR, **members: Any) -> dict[str, Any]:
    request = admin_requests.parse(json.dumps(members).encode())
    assert admin_requests.parse(admin_requests.render(request)) == request
    return perform(rig.store, request, by)


def test_every_request_has_an_action() -> None:
    assert set(get_args(AnyRequest)) == set(admin_requests._ACTIONS)


@pytest.mark.parametrize(
    "members",
    [
        None,
        [],
        {},
        {"ask": "everything"},
        {"ask": 1},
        {"ask": "list", "more": 1},
        {"ask": "tenant"},
        {"ask": "tenant", "tenant": 1},
        {"ask": "tenant", "tenant": "a", "administrators": "b"},
        {"ask": "rotate", "service": "a", "grace": -1},
        {"ask": "rotate", "service": "a", "grace": 1.5},
        {"ask": "grant", "resource": "r", "tenant": "t", "granted": 1},
    ],
)
def test_what_is_no_request(members: Any, refused) -> None:
    with refused("admin-request-invalid"):
        admin_requests.parse(json.dumps(members).encode())


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"ask":"list"}x', b'{"ask":"list","ask":"list"}', b"\xff", b"[" * 9999]
)
def test_what_is_no_json(data: bytes, refused) -> None:
    with refused("admin-request-invalid"):
        admin_requests.parse(data)


def test_a_request_is_bounded(refused) -> None:
    data = json.dumps({"ask": "tenant", "tenant": "x" * admin_requests.MAX_REQUEST}).encode()
    with refused("admin-request-invalid"):
        admin_requests.parse(data)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        admin_requests.parse(data)
    except BrokerError as error:
        assert error.code == "admin-request-invalid"  # noqa: PT017 -- any other is a failure


def test_no_secret_is_repeated() -> None:
    members = {"ask": "model", "resource": 1, "identity": SECRET, "name": "n", "version": "1"}
    with pytest.raises(BrokerError) as caught:
        admin_requests.parse(json.dumps(members).encode())
    assert SECRET not in str(caught.value)
    members = {"ask": "model", "identity": [SECRET]}
    with pytest.raises(BrokerError) as caught:
        admin_requests.parse(json.dumps(members).encode())
    assert SECRET not in str(caught.value)


def test_a_bank_begins(rig, refused) -> None:
    """A tenant, its model with approvers, its service; then approvals, a grant, the end."""
    made = ask(rig, ask="tenant", tenant="bank", administrators=[ALICE.text])
    assert made == {"name": "bank", "administrators": (ALICE.text,)}
    model = ask(
        rig,
        ALICE,
        ask="model",
        resource="bank/model/credit",
        name="credit",
        version="1",
        manifest="sha256:" + "33" * 32,
        sealed="44" * 32,
        identity=rig.identity,
        approvers=[BOB.text],
        approvals=1,
    )
    assert (model["resource"], model["approvals"]) == ("kbs:///bank/model/credit", 1)
    assert rig.identity not in json.dumps(model)
    service = ask(
        rig,
        ALICE,
        ask="service",
        service="loans",
        tenant="bank",
        policy=rig.policy_text,
        models=["bank/model/credit"],
        custodian="Example Bank",
    )
    assert (service["epoch"], service["broker_key"]) == (1, rig.broker_key.text)
    assert ask(rig, ALICE, ask="rotate", service="loans", grace=0) == {"service": "loans", "epoch": 2}
    about = {"resource": "bank/model/credit", "service": "loans"}
    seen = ask(rig, BOB, ask="statement", **about)
    approved = ask(rig, BOB, ask="approve", **about, statement=seen["digest"], seconds=60)
    assert approved["approved"] == (BOB.text,)
    assert ask(rig, BOB, ask="withdraw", **about)["approved"] == ()
    assert ask(rig, ALICE, ask="grant", resource="bank/model/credit", tenant="default")["granted"] == [
        "default"
    ]
    listed = ask(rig, ALICE, ask="list")
    assert listed["you"] == ALICE.text
    assert [each["name"] for each in listed["tenants"]] == ["bank"]
    assert [each["service"] for each in listed["services"]] == ["loans"]
    assert [(each["resource"], each["granted"]) for each in listed["models"]] == [
        ("kbs:///bank/model/credit", ["default"])
    ]
    ungranted = ask(rig, ALICE, ask="grant", resource="bank/model/credit", tenant="default", granted=False)
    assert ungranted["granted"] == []
    assert ask(rig, ALICE, ask="revoke-model", resource="bank/model/credit")["revoked"]
    assert ask(rig, ALICE, ask="revoke-service", service="loans")["revoked"]
    assert admin.epochs(rig.store, "loans") == []
    for by in (BOB, ALICE):
        with refused("admin-forbidden"):
            ask(rig, by, ask="tenant", tenant="bank", administrators=[by.text])


def test_who_administers_nothing_sees_nothing(rig) -> None:
    nothing = {"you": BOB.text, "tenants": [], "services": [], "models": []}
    assert perform(rig.store, ListRequest(), BOB) == nothing
    everything = perform(rig.store, ListRequest(), OPERATOR)
    assert [each["service"] for each in everything["services"]] == ["pictures"]
    assert [each["resource"] for each in everything["models"]] == ["kbs:///" + MODEL]


def test_a_secret_is_registered(rig, refused) -> None:
    answer = ask(rig, ask="secret", resource="default/credential/x", content="c2VjcmV0")
    assert answer["resource"] == "kbs:///default/credential/x"
    assert "c2VjcmV0" not in json.dumps(answer)
    for content in ("c2VjcmV0=", "?", "A" * 100_000):
        with refused("admin-request-invalid"):
            ask(rig, ask="secret", resource="default/credential/x", content=content)
