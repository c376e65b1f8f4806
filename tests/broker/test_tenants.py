"""Tenants and who may change what is theirs."""

from __future__ import annotations

import pytest

from strongroom.broker import tenants
from strongroom.broker.principal import OPERATOR, Principal
from strongroom.broker.tenants import Tenant

ALICE = Principal("mtls:" + "a" * 64)
BOB = Principal("oidc:https://login.example#bob")


def test_a_new_store_has_one_tenant(rig) -> None:
    with rig.store.read() as db:
        assert tenants.listed(db) == [Tenant("default")]


def test_a_tenant_is_kept(rig, refused) -> None:
    with rig.store.write() as db:
        tenants.save(db, Tenant("hospital", (ALICE.text,)))
        tenants.save(db, Tenant("bank", (ALICE.text, BOB.text)))
        tenants.save(db, Tenant("hospital", (BOB.text,)))
    with rig.store.read() as db:
        assert [each.name for each in tenants.listed(db)] == ["bank", "default", "hospital"]
        assert tenants.get(db, "hospital") == Tenant("hospital", (BOB.text,))
        assert tenants.find(db, "school") is None
        assert tenants.find(db, "\0") is None
        with refused("tenant-unknown"):
            tenants.get(db, "school")


@pytest.mark.parametrize(
    ("name", "by", "code"),
    [
        ("bank", ALICE, None),
        ("bank", OPERATOR, None),
        ("default", OPERATOR, None),
        ("bank", BOB, "admin-forbidden"),
        ("default", ALICE, "admin-forbidden"),
        ("school", ALICE, "admin-forbidden"),
        ("school", OPERATOR, "tenant-unknown"),
        ("bank", Principal("operator"), "admin-forbidden"),
    ],
)
def test_who_may_change_what(rig, refused, name: str, by: Principal, code: str | None) -> None:
    with rig.store.write() as db:
        tenants.save(db, Tenant("bank", (ALICE.text,)))
        if code is None:
            tenants.check_administrator(db, name, by)
        else:
            with refused(code):
                tenants.check_administrator(db, name, by)
