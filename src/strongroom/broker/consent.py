"""Consent: what the owner of a model has to have said before its key goes to workers of a service.

- A service of another tenant needs a *grant* for its tenant.
- A model can ask for the *approval* of k of n people. Each approves a statement of exact facts, by its
  digest, until a time. When model, policy or service change, the statement is another one, and nobody has
  approved it.

The functions at the top are pure; those below read and write rows inside a caller's transaction.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from strongroom.broker.admin_errors import (
    APPROVAL_MISSING,
    APPROVERS_INVALID,
    MODEL_NOT_GRANTED,
    RESOURCE_REVOKED,
)
from strongroom.broker.database import Connection
from strongroom.broker.policies import policy_of
from strongroom.broker.principal import Principal
from strongroom.broker.registry import ModelRecord, ServiceRecord
from strongroom.codec import jcs
from strongroom.errors import BrokerError

STATEMENT_TYPE: Final = "strongroom-approval/1"
MAX_APPROVERS: Final = 16


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's word.

    Attributes:
        approver: Who it is.
        statement: Digest of what he approved, `sha256:...`.
        until: Unix time at which it ends.
    """

    approver: str
    statement: str
    until: int


@dataclass(frozen=True, slots=True)
class Consent:
    """What was said about one model and one service.

    Attributes:
        granted: Whether the model was granted to the service's tenant.
        approvals: All approvals, also those of other statements and those that are over.
    """

    granted: bool = False
    approvals: tuple[Approval, ...] = ()

    def check(self, service: ServiceRecord, model: ModelRecord, now: int) -> None:
        """Refuse where the model's owner has not consented.

        Args:
            service: The service, as it is registered now.
            model: The model, as it is registered now.
            now: Unix time.

        Raises:
            BrokerError: `resource-revoked`, `model-not-granted` or `approval-missing`.
        """
        self.check_owner(service, model)
        found = len(self.approved(service, model, now)) if model.approvals else 0
        if found < model.approvals:
            raise BrokerError(
                APPROVAL_MISSING,
                model.resource,
                found=found,
                expected=f"{model.approvals} of {len(model.approvers)}",
            )

    def check_owner(self, service: ServiceRecord, model: ModelRecord) -> None:
        """Refuse where the model's owner has not let the service have it, apart from approvals.

        Raises:
            BrokerError: `resource-revoked` or `model-not-granted`.
        """
        if model.revoked:
            raise BrokerError(RESOURCE_REVOKED, model.resource)
        if model.tenant != service.tenant and not self.granted:
            raise BrokerError(MODEL_NOT_GRANTED, model.resource, found=f"tenant {service.tenant}")

    def approved(self, service: ServiceRecord, model: ModelRecord, now: int) -> list[str]:
        """Those of the model's approvers who approve the release as it would be now."""
        statement = statement_digest(service, model)
        return sorted(
            {
                each.approver
                for each in self.approvals
                if each.approver in model.approvers and each.statement == statement and now < each.until
            }
        )


def statement(service: ServiceRecord, model: ModelRecord) -> dict[str, str | None]:
    """What is approved: the key of this model, for this service, under these policies."""
    return {
        "type": STATEMENT_TYPE,
        "resource": model.uri,
        "version": model.version,
        "manifest": model.manifest,
        "sealed": model.sealed,
        "model_policy": None if model.policy is None else policy_of(model.policy).digest,
        "tenant": service.tenant,
        "service": service.name,
        "release_policy": policy_of(service.policy).digest,
    }


def statement_digest(service: ServiceRecord, model: ModelRecord) -> str:
    """`sha256:` and SHA-256 over the statement's canonical JSON, hex."""
    return f"sha256:{hashlib.sha256(jcs.canonical(statement(service, model))).hexdigest()}"


def check_approvers(approvers: tuple[str, ...], approvals: int) -> None:
    """Refuse a set of approvers that no release could satisfy, or that is no set.

    Raises:
        BrokerError: `approvers-invalid` or `principal-invalid`.
    """
    for each in approvers:
        Principal.parse(each)
    distinct = len(set(approvers)) == len(approvers) <= MAX_APPROVERS
    if not distinct or not (1 if approvers else 0) <= approvals <= len(approvers):
        raise BrokerError(
            APPROVERS_INVALID,
            found=f"{approvals} of {len(approvers)}",
            expected=f"1 to n of n different ones, at most {MAX_APPROVERS}",
        )


def of(db: Connection, service: ServiceRecord, model: ModelRecord) -> Consent:
    """All that was said about this model and this service."""
    granted = db.execute(
        "SELECT 1 FROM grants WHERE resource = ? AND tenant = ?", (model.resource, service.tenant)
    ).fetchone()
    rows = db.execute(
        "SELECT approver, statement, until FROM approvals WHERE resource = ? AND service = ?",
        (model.resource, service.name),
    )
    return Consent(granted is not None, tuple(Approval(*row) for row in rows))


def grant(db: Connection, resource: str, tenant: str) -> None:
    """Let services of another tenant have a model."""
    db.execute(
        "INSERT INTO grants (resource, tenant) VALUES (?, ?) ON CONFLICT DO NOTHING", (resource, tenant)
    )


def ungrant(db: Connection, resource: str, tenant: str) -> None:
    """Take a grant back."""
    db.execute("DELETE FROM grants WHERE resource = ? AND tenant = ?", (resource, tenant))


def grants(db: Connection, resource: str) -> list[str]:
    """The tenants that a model was granted to."""
    rows = db.execute("SELECT tenant FROM grants WHERE resource = ? ORDER BY tenant", (resource,))
    return [row[0] for row in rows]


def approve(db: Connection, resource: str, service: str, approval: Approval) -> None:
    """Keep an approval, in place of an earlier one of the same person."""
    db.execute(
        "INSERT INTO approvals (resource, service, approver, statement, until) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (resource, service, approver) DO UPDATE SET statement = excluded.statement,"
        " until = excluded.until",
        (resource, service, approval.approver, approval.statement, approval.until),
    )


def withdraw(db: Connection, resource: str, service: str, approver: str) -> None:
    """Take an approval back."""
    db.execute(
        "DELETE FROM approvals WHERE resource = ? AND service = ? AND approver = ?",
        (resource, service, approver),
    )
