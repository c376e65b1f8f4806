"""Administrative requests: one JSON object for each thing that can be asked, and what answers it.

The command line on the broker's machine and administrators elsewhere ask in the same words. The forms stand
in docs/reference/administration.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Final

import msgspec

from strongroom.broker import admin, admin_consent, admin_secrets, tenants
from strongroom.broker.admin_errors import ADMIN_REQUEST
from strongroom.broker.principal import Principal
from strongroom.broker.registry import DEFAULT_TENANT, ModelRecord, ServiceRecord
from strongroom.broker.store import Store
from strongroom.codec import b64, jcs
from strongroom.errors import BrokerError, CodecError
from strongroom.forms import ready

MAX_REQUEST: Final = 512 * 1024

_Seconds = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


@ready
class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="ask"):
    """What all requests have: the member `ask` says which one it is."""


class ListRequest(Request, tag="list", frozen=True):
    """The tenants that one administers, with their services and models."""


class TenantRequest(Request, tag="tenant", frozen=True):
    """Make a tenant, or put others in place of its administrators."""

    tenant: str
    administrators: tuple[str, ...] = ()


class ModelRequest(Request, tag="model", frozen=True):
    """Register the key of a sealed model. Members as in `admin.register_model`."""

    resource: str
    name: str
    version: str
    manifest: str
    sealed: str
    identity: str
    policy: str | None = None
    version_floor: _Seconds = 0
    approvers: tuple[str, ...] = ()
    approvals: _Seconds = 0


class SecretRequest(Request, tag="secret", frozen=True):
    """Register a secret. Members as in `admin_secrets.register_secret`; `content` is base64url."""

    resource: str
    content: str
    policy: str | None = None
    approvers: tuple[str, ...] = ()
    approvals: _Seconds = 0


class ServiceRequest(Request, tag="service", frozen=True):
    """Register a service or change it. Members as in `admin.register_service`."""

    service: str
    policy: str
    models: tuple[str, ...]
    custodian: str
    tenant: str = DEFAULT_TENANT
    lifetime: _Seconds = admin.DEFAULT_LIFETIME
    grace: _Seconds = admin.DEFAULT_GRACE


class RotateRequest(Request, tag="rotate", frozen=True):
    """Begin a new epoch of a service."""

    service: str
    grace: _Seconds | None = None


class GrantRequest(Request, tag="grant", frozen=True):
    """Let services of another tenant have a model, or no longer."""

    resource: str
    tenant: str
    granted: bool = True


class StatementRequest(Request, tag="statement", frozen=True):
    """Read what there is to approve."""

    resource: str
    service: str


class ApproveRequest(Request, tag="approve", frozen=True):
    """Approve a statement, by its digest."""

    resource: str
    service: str
    statement: str
    seconds: _Seconds = admin_consent.DEFAULT_APPROVAL


class WithdrawRequest(Request, tag="withdraw", frozen=True):
    """Take one's own approval back."""

    resource: str
    service: str


class RevokeModelRequest(Request, tag="revoke-model", frozen=True):
    """Never release a model's key again."""

    resource: str


class RevokeServiceRequest(Request, tag="revoke-service", frozen=True):
    """End a service."""

    service: str


AnyRequest = (
    ListRequest
    | TenantRequest
    | ModelRequest
    | SecretRequest
    | ServiceRequest
    | RotateRequest
    | GrantRequest
    | StatementRequest
    | ApproveRequest
    | WithdrawRequest
    | RevokeModelRequest
    | RevokeServiceRequest
)


ready(AnyRequest)


def parse(data: bytes) -> AnyRequest:
    """Read a request.

    Args:
        data: JSON, at most 512 KiB.

    Raises:
        BrokerError: `admin-request-invalid`; the message names the member, never its value.
    """
    try:
        value = jcs.parse(data, limit=MAX_REQUEST, what="administrative request")
        return msgspec.convert(value, AnyRequest)  # type: ignore[no-any-return]  # of a union it says Any
    except CodecError as error:
        raise BrokerError(ADMIN_REQUEST, error.kind.title, expected="one JSON object") from None
    except msgspec.ValidationError as error:
        raise BrokerError(ADMIN_REQUEST, str(error)) from None


def render(request: AnyRequest) -> bytes:
    """A request as JSON that `parse` reads."""
    return msgspec.json.encode(request)


def perform(store: Store, request: AnyRequest, by: Principal) -> dict[str, Any]:
    """Do what is asked, if `by` may.

    Returns:
        The answer, as JSON members.

    Raises:
        StrongroomError: A code of `strongroom.broker.admin` or `strongroom.broker.admin_consent`.
    """
    return _ACTIONS[type(request)](store, request, by)


def _list(store: Store, _request: ListRequest, by: Principal) -> dict[str, Any]:
    mine = admin_consent.tenants_of(store, by)
    names = {tenant.name for tenant in mine}
    models = [_model(store, each) for each in admin.models(store) if each.tenant in names]
    services = [_service(each) for each in admin.services(store) if each.tenant in names]
    return {
        "you": by.text,
        "tenants": [asdict(each) for each in mine],
        "services": services,
        "models": models,
    }


def _tenant(store: Store, request: TenantRequest, by: Principal) -> dict[str, Any]:
    made: tenants.Tenant = admin_consent.set_tenant(store, request.tenant, request.administrators, by=by)
    return asdict(made)


def _register_model(store: Store, request: ModelRequest, by: Principal) -> dict[str, Any]:
    record = admin.register_model(
        store,
        resource=request.resource,
        name=request.name,
        version=request.version,
        manifest_digest=request.manifest,
        sealed_sha256=request.sealed,
        identity=request.identity,
        policy_text=request.policy,
        version_floor=request.version_floor,
        approvers=request.approvers,
        approvals=request.approvals,
        by=by,
    )
    return _model(store, record)


def _register_secret(store: Store, request: SecretRequest, by: Principal) -> dict[str, Any]:
    try:
        content = b64.decode_url(request.content, limit=admin_secrets.MAX_SECRET, what="secret")
    except CodecError as error:
        raise BrokerError(ADMIN_REQUEST, f"secret: {error.kind.title}") from None
    record = admin_secrets.register_secret(
        store,
        resource=request.resource,
        content=content,
        policy_text=request.policy,
        approvers=request.approvers,
        approvals=request.approvals,
        by=by,
    )
    return _model(store, record)


def _register_service(store: Store, request: ServiceRequest, by: Principal) -> dict[str, Any]:
    record = admin.register_service(
        store,
        request.service,
        request.policy,
        request.models,
        request.custodian,
        lifetime=request.lifetime,
        grace=request.grace,
        tenant=request.tenant,
        by=by,
    )
    return {**_service(record), "broker_key": admin.signing_key_text(store)}


def _rotate(store: Store, request: RotateRequest, by: Principal) -> dict[str, Any]:
    epoch = admin.rotate(store, request.service, request.grace, by=by)
    return {"service": request.service, "epoch": epoch}


def _grant(store: Store, request: GrantRequest, by: Principal) -> dict[str, Any]:
    admin_consent.set_grant(store, request.resource, request.tenant, granted=request.granted, by=by)
    return {"resource": request.resource, "granted": admin_consent.grants(store, request.resource)}


def _statement(store: Store, request: StatementRequest, by: Principal) -> dict[str, Any]:
    return asdict(admin_consent.statement(store, request.resource, request.service, by=by))


def _approve(store: Store, request: ApproveRequest, by: Principal) -> dict[str, Any]:
    made = admin_consent.approve(
        store, request.resource, request.service, request.statement, seconds=request.seconds, by=by
    )
    return asdict(made)


def _withdraw(store: Store, request: WithdrawRequest, by: Principal) -> dict[str, Any]:
    return asdict(admin_consent.withdraw(store, request.resource, request.service, by=by))


def _revoke_model(store: Store, request: RevokeModelRequest, by: Principal) -> dict[str, Any]:
    admin_consent.revoke_model(store, request.resource, by=by)
    return {"resource": request.resource, "revoked": True}


def _revoke_service(store: Store, request: RevokeServiceRequest, by: Principal) -> dict[str, Any]:
    admin_consent.revoke_service(store, request.service, by=by)
    return {"service": request.service, "revoked": True}


def _model(store: Store, record: ModelRecord) -> dict[str, Any]:
    return {
        "resource": record.uri,
        "name": record.name,
        "version": record.version,
        "manifest": record.manifest,
        "sealed": record.sealed,
        "approvers": list(record.approvers),
        "approvals": record.approvals,
        "granted": admin_consent.grants(store, record.resource),
        "revoked": record.revoked,
    }


def _service(record: ServiceRecord) -> dict[str, Any]:
    return {
        "service": record.name,
        "tenant": record.tenant,
        "models": list(record.models),
        "custodian": record.custodian,
        "epoch": record.last_epoch,
        "revoked": record.revoked,
    }


_ACTIONS: Final[dict[type[Request], Callable[[Store, Any, Principal], dict[str, Any]]]] = {
    ListRequest: _list,
    TenantRequest: _tenant,
    ModelRequest: _register_model,
    SecretRequest: _register_secret,
    ServiceRequest: _register_service,
    RotateRequest: _rotate,
    GrantRequest: _grant,
    StatementRequest: _statement,
    ApproveRequest: _approve,
    WithdrawRequest: _withdraw,
    RevokeModelRequest: _revoke_model,
    RevokeServiceRequest: _revoke_service,
}
