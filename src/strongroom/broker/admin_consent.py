"""Administration of tenants and of consent: grants, approvals, revocations.

As in `strongroom.broker.admin`, each call is one transaction with its log entry in it, and `by` is who asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from strongroom.attestation.fields import SERVICE_NAME
from strongroom.broker import consent, log, registry, tenants
from strongroom.broker import epochs as epochs_of
from strongroom.broker.admin import own_service
from strongroom.broker.admin_errors import (
    ADMIN_FORBIDDEN,
    ADMIN_REQUEST,
    RESOURCE_REVOKED,
    SERVICE_REVOKED,
    STATEMENT_CHANGED,
)
from strongroom.broker.consent import Approval
from strongroom.broker.database import Connection
from strongroom.broker.errors import NAME_INVALID
from strongroom.broker.log_entry import Event, Fact
from strongroom.broker.principal import OPERATOR, Principal
from strongroom.broker.registry import ModelRecord, ServiceRecord
from strongroom.broker.resource import Resource
from strongroom.broker.store import Store
from strongroom.broker.tenants import Tenant
from strongroom.errors import BrokerError

MAX_ADMINISTRATORS: Final = 64
DEFAULT_APPROVAL: Final = 90 * 86400
MAX_APPROVAL: Final = 366 * 86400


@dataclass(frozen=True, slots=True)
class Statement:
    """What there is to approve about a model and a service.

    Attributes:
        facts: The facts that an approval covers.
        digest: Digest of the facts, `sha256:...`.
        approvers: Who can approve.
        needed: How many of them have to.
        approved: Who approves these facts now.
    """

    facts: dict[str, str | None]
    digest: str
    approvers: tuple[str, ...]
    needed: int
    approved: tuple[str, ...]


def set_tenant(
    store: Store, name: str, administrators: Sequence[str] = (), *, by: Principal = OPERATOR
) -> Tenant:
    """Make a tenant, or put others in place of its administrators. Only the operator may.

    Raises:
        BrokerError: `admin-forbidden`, `broker-name-invalid`, `principal-invalid`,
            `admin-request-invalid`, or a code of the store.
    """
    if not by.is_operator:
        raise BrokerError(ADMIN_FORBIDDEN, "tenants", found=by.text, expected="the operator")
    if not SERVICE_NAME.fullmatch(name):
        raise BrokerError(NAME_INVALID, "tenant", expected=SERVICE_NAME.pattern)
    if len(administrators) > MAX_ADMINISTRATORS:
        raise BrokerError(
            ADMIN_REQUEST, "administrators", found=len(administrators), expected=f"up to {MAX_ADMINISTRATORS}"
        )
    texts = tuple(dict.fromkeys(Principal.parse(each).text for each in administrators))
    tenant = Tenant(name, texts)
    with store.write() as db:
        tenants.save(db, tenant)
        _log(store, db, Event.TENANT_SET, {"tenant": name, "administrators": list(texts), "by": by.text})
    return tenant


def tenants_of(store: Store, by: Principal) -> list[Tenant]:
    """The tenants that `by` administers, by name; all of them for the operator.

    Raises:
        BrokerError: A code of the store.
    """
    with store.read() as db:
        return [each for each in tenants.listed(db) if by.is_operator or by.text in each.administrators]


def set_grant(
    store: Store, resource: str, tenant: str, *, granted: bool = True, by: Principal = OPERATOR
) -> None:
    """Let services of another tenant have a model, or no longer.

    Raises:
        BrokerError: `resource-path-invalid`, `admin-forbidden`, `tenant-unknown`, `model-unregistered`, or a
            code of the store.
    """
    path = Resource.parse(resource)
    with store.write() as db:
        tenants.check_administrator(db, path.repository, by)
        model = registry.model(db, path.path)
        tenants.get(db, tenant)
        facts: dict[str, Fact] = {"resource": model.uri, "tenant": tenant, "by": by.text}
        if granted:
            consent.grant(db, model.resource, tenant)
            _log(store, db, Event.MODEL_GRANTED, facts)
        else:
            consent.ungrant(db, model.resource, tenant)
            _log(store, db, Event.MODEL_UNGRANTED, facts)


def grants(store: Store, resource: str) -> list[str]:
    """The tenants that a model was granted to.

    Raises:
        BrokerError: `resource-path-invalid` or a code of the store.
    """
    with store.read() as db:
        return consent.grants(db, Resource.parse(resource).path)


def statement(store: Store, resource: str, service: str, *, by: Principal = OPERATOR) -> Statement:
    """What there is to approve.

    It is for the model's approvers, the administrators of its tenant, and the operator.

    Raises:
        BrokerError: `resource-path-invalid`, `admin-forbidden`, or a code of the store; for the operator
            `model-unregistered` or `service-unknown`.
    """
    with store.read() as db:
        model = _model_for(db, resource, by)
        record = registry.service(db, service)
        said = consent.of(db, record, model)
        return Statement(
            consent.statement(record, model),
            consent.statement_digest(record, model),
            model.approvers,
            model.approvals,
            tuple(said.approved(record, model, int(store.now()))),
        )


def approve(
    store: Store,
    resource: str,
    service: str,
    digest: str,
    *,
    seconds: int = DEFAULT_APPROVAL,
    by: Principal,
) -> Statement:
    """Approve the release of a model's key to a service, as the statement with this digest has it.

    Args:
        store: The store.
        resource: The model.
        service: The service.
        digest: Of the statement that was read, `sha256:...`.
        seconds: For how long.
        by: Who approves: one of the model's approvers, and nobody in his name.

    Raises:
        BrokerError: `resource-path-invalid`, `admin-forbidden`, `service-unknown`, `resource-revoked`,
            `service-revoked`, `statement-changed`, `admin-request-invalid`, or a code of the store.
    """
    if not 1 <= seconds <= MAX_APPROVAL:
        raise BrokerError(ADMIN_REQUEST, "seconds", found=seconds, expected=f"1 to {MAX_APPROVAL}")
    now = int(store.now())
    with store.write() as db:
        model, record = _to_approve(db, resource, service, by)
        present = consent.statement_digest(record, model)
        if digest != present:
            raise BrokerError(STATEMENT_CHANGED, model.resource, found=digest[:80], expected=present)
        approval = Approval(by.text, digest, now + seconds)
        consent.approve(db, model.resource, record.name, approval)
        facts = _approval_facts(model, record, by)
        _log(store, db, Event.APPROVED, {**facts, "statement": digest, "until": approval.until})
    return statement(store, resource, service, by=by)


def withdraw(store: Store, resource: str, service: str, *, by: Principal) -> Statement:
    """Take one's own approval back.

    Raises:
        BrokerError: As `approve`, without `statement-changed`.
    """
    with store.write() as db:
        model, record = _to_approve(db, resource, service, by)
        consent.withdraw(db, model.resource, record.name, by.text)
        _log(store, db, Event.APPROVAL_WITHDRAWN, _approval_facts(model, record, by))
    return statement(store, resource, service, by=by)


def revoke_model(store: Store, resource: str, *, by: Principal = OPERATOR) -> None:
    """Never release the key of a model again, under this resource or another. This is final.

    Workers that have the key keep it while they run; to end that, revoke the services that have the model.

    Raises:
        BrokerError: `resource-path-invalid`, `admin-forbidden`, `tenant-unknown`, `model-unregistered`, or a
            code of the store.
    """
    parsed = Resource.parse(resource)
    with store.write() as db:
        tenants.check_administrator(db, parsed.repository, by)
        record = registry.model(db, parsed.path)
        registry.save_model(db, replace(record, revoked=True), registry.wrapped_identity(db, record.resource))
        facts: dict[str, Fact] = {"resource": record.uri, "by": by.text}
        _log(store, db, Event.MODEL_REVOKED, facts)


def revoke_service(store: Store, service: str, *, by: Principal = OPERATOR) -> None:
    """End a service: its keys are deleted at once, and none is released any more. This is final.

    Workers that run hold their keys until they ask the broker again, or are stopped; clients refuse them
    when their policy's `max_evidence_age` is over, since the broker signs no new beacon.

    Raises:
        BrokerError: `service-unknown`, `admin-forbidden`, or a code of the store.
    """
    now = int(store.now())
    with store.write() as db:
        record = own_service(db, service, by)
        registry.save_service(db, replace(record, revoked=True))
        epochs_of.end(db, service, now)
        _log(store, db, Event.SERVICE_REVOKED, {"service": service, "by": by.text})
    epochs_of.delete_expired(store, now)


def _to_approve(
    db: Connection, resource: str, service: str, by: Principal
) -> tuple[ModelRecord, ServiceRecord]:
    model = registry.find_model(db, Resource.parse(resource).path)
    if model is None or by.text not in model.approvers:
        raise BrokerError(ADMIN_FORBIDDEN, "approval", found=by.text, expected="an approver of the model")
    if model.revoked:
        raise BrokerError(RESOURCE_REVOKED, model.resource)
    record = registry.service(db, service)
    if record.revoked:
        raise BrokerError(SERVICE_REVOKED, service)
    return model, record


def _model_for(db: Connection, resource: str, by: Principal) -> ModelRecord:
    """A model that `by` may read the statements of."""
    path = Resource.parse(resource)
    model = registry.find_model(db, path.path)
    if model is None or by.text not in model.approvers:
        tenants.check_administrator(db, path.repository, by)
        return registry.model(db, path.path)
    return model


def _approval_facts(model: ModelRecord, service: ServiceRecord, by: Principal) -> dict[str, Fact]:
    return {"resource": model.uri, "service": service.name, "by": by.text}


def _log(store: Store, db: Connection, event: Event, facts: dict[str, Fact]) -> None:
    log.append(store, db, time=int(store.now()), event=event, facts=facts)
