"""Tenants: owners of services and models who share a broker, and their administrators.

A service belongs to the tenant that registered it. A model belongs to the tenant that its resource begins
with: `bank/model/credit` is the bank's. All functions take the connection of a transaction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from strongroom.attestation.fields import SERVICE_NAME
from strongroom.broker.admin_errors import ADMIN_FORBIDDEN, TENANT_UNKNOWN
from strongroom.broker.database import Connection
from strongroom.broker.principal import Principal
from strongroom.broker.registry import DEFAULT_TENANT
from strongroom.errors import BrokerError


@dataclass(frozen=True, slots=True)
class Tenant:
    """An owner of services and models.

    Attributes:
        name: As a service's: lower-case letters, digits and inner hyphens.
        administrators: Who may change what is its own, as texts of principals.
    """

    name: str
    administrators: tuple[str, ...] = ()


def start(db: Connection) -> None:
    """Make the tenant that every store has, inside the transaction that makes the store."""
    save(db, Tenant(DEFAULT_TENANT))


def find(db: Connection, name: str) -> Tenant | None:
    """The tenant of that name, if there is one."""
    if not SERVICE_NAME.fullmatch(name):
        return None
    row = db.execute("SELECT name, administrators FROM tenants WHERE name = ?", (name,)).fetchone()
    return None if row is None else _tenant(row)


def get(db: Connection, name: str) -> Tenant:
    """The tenant of that name.

    Raises:
        BrokerError: `tenant-unknown`.
    """
    tenant = find(db, name)
    if tenant is None:
        raise BrokerError(TENANT_UNKNOWN, found=name)
    return tenant


def check_administrator(db: Connection, name: str, by: Principal) -> None:
    """Refuse who may not change what is a tenant's own.

    Whether the tenant exists is told to the operator alone.

    Raises:
        BrokerError: `admin-forbidden`, or `tenant-unknown` for the operator.
    """
    if by.is_operator:
        get(db, name)
        return
    tenant = find(db, name)
    if tenant is None or by.text not in tenant.administrators:
        raise BrokerError(ADMIN_FORBIDDEN, f"tenant {name}", found=by.text)


def listed(db: Connection) -> list[Tenant]:
    """All tenants, by name."""
    return [_tenant(row) for row in db.execute("SELECT name, administrators FROM tenants ORDER BY name")]


def save(db: Connection, tenant: Tenant) -> None:
    """Insert a tenant or change it."""
    db.execute(
        "INSERT INTO tenants (name, administrators) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET administrators = excluded.administrators",
        (tenant.name, json.dumps(tenant.administrators)),
    )


def _tenant(row: tuple[str, str]) -> Tenant:
    return Tenant(row[0], tuple(json.loads(row[1])))
