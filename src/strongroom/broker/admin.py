"""Administration of services and models. Tenants, grants and approvals: `strongroom.broker.admin_consent`.

    with Store.open(Path("/var/lib/strongroom/broker")) as store:
        register_model(store, resource="default/model/lite0", name="lite0", version="1", ...)
        register_service(store, "pictures", policy_text, ["default/model/lite0"], "Example Bank")
        rotate(store, "pictures", grace=3600)

Each call is one transaction with its log entry in it; a server on the same store sees the change at its next
request. `by` is who asks: the operator, on the broker's own machine, may do everything, an administrator what
is his tenant's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from strongroom.attestation.fields import MODEL_NAME, PLAIN_TEXT, SERVICE_NAME, SHA256, VERSION
from strongroom.attestation.policy import Policy
from strongroom.broker import consent, log, log_entry, registry, tenants
from strongroom.broker import epochs as epochs_of
from strongroom.broker.admin_errors import (
    ADMIN_FORBIDDEN,
    APPROVERS_KEPT,
    RESOURCE_REVOKED,
    SERVICE_REVOKED,
    SERVICE_TAKEN,
)
from strongroom.broker.database import Connection
from strongroom.broker.epochs import EpochRecord
from strongroom.broker.errors import (
    MODEL_OLDER,
    MODEL_TAKEN,
    NAME_INVALID,
    RESOURCE_PATH,
    SERVICE_INVALID,
)
from strongroom.broker.log_entry import Event, Fact
from strongroom.broker.principal import OPERATOR, Principal
from strongroom.broker.registry import DEFAULT_TENANT, ModelRecord, ServiceRecord
from strongroom.broker.resource import MODEL_TYPE, Resource
from strongroom.broker.store import Store
from strongroom.crypto import agefile
from strongroom.errors import BrokerError

DEFAULT_LIFETIME: Final = 30 * 86400
DEFAULT_GRACE: Final = 3600
MAX_LIFETIME: Final = 366 * 86400
MIN_LIFETIME: Final = 60


def register_model(
    store: Store,
    *,
    resource: str,
    name: str,
    version: str,
    manifest_digest: str,
    sealed_sha256: str,
    identity: str,
    policy_text: str | None = None,
    version_floor: int = 0,
    approvers: Sequence[str] = (),
    approvals: int = 0,
    by: Principal = OPERATOR,
) -> ModelRecord:
    """Put the key of a sealed model into the store, or of a newer version under the same resource.

    Services that have the resource get a new epoch, because their keyset names the model's digest; older
    epochs are honoured for the service's grace period.

    Args:
        store: The store.
        resource: `repository/model/tag`, as a path or a `kbs:///` URI.
        name: Name that requests use.
        version: Version in the manifest.
        manifest_digest: `sha256:...` of the manifest; a worker accepts no other.
        sealed_sha256: SHA-256 of the sealed file, hex, with or without `sha256:`.
        identity: The age identity that opens it.
        policy_text: A policy which a worker must satisfy besides the service's.
        version_floor: From now on, refuse versions with a lower number under this resource.
        approvers: Who can approve a release, `mtls:...` or `oidc:...`.
        approvals: How many of them have to.
        by: Who asks.

    Raises:
        BrokerError: `resource-path-invalid`, `broker-name-invalid`, `approvers-invalid`, `principal-invalid`,
            `admin-forbidden`, `tenant-unknown`, `model-version-older`, `model-registered-elsewhere`,
            `resource-revoked`, `approvers-kept`, or a code of the store.
        ConfigError: `policy-invalid`.
        CryptoError: `age-key-invalid`.
    """
    parsed = Resource.parse(resource)
    if parsed.type != MODEL_TYPE:
        raise BrokerError(RESOURCE_PATH, found=parsed.path, expected="repository/model/tag")
    sealed = f"sha256:{sealed_sha256.removeprefix('sha256:')}"
    for what, value, form in (
        ("model name", name, MODEL_NAME),
        ("version", version, VERSION),
        ("manifest digest", manifest_digest, SHA256),
        ("digest of the sealed file", sealed, SHA256),
    ):
        _check(what, value, form)
    agefile.recipient_of(identity)
    if policy_text is not None:
        Policy.parse(policy_text)
    consent.check_approvers(tuple(approvers), approvals)
    record = ModelRecord(
        parsed.path,
        name,
        version,
        manifest_digest,
        sealed,
        policy_text,
        max(0, version_floor),
        tuple(approvers),
        approvals,
    )
    return save_resource(store, record, identity.encode(), by)


def save_resource(store: Store, record: ModelRecord, content: bytes, by: Principal) -> ModelRecord:
    """Put the key of a model, or a secret, into the store, if `by` may. Its parts have been checked.

    Raises:
        BrokerError: `admin-forbidden`, `tenant-unknown`, `model-version-older`, `model-registered-elsewhere`,
            `resource-revoked`, `approvers-kept`, or a code of the store.
    """
    now = int(store.now())
    event = Event.MODEL_REGISTERED if record.is_model else Event.SECRET_REGISTERED
    with store.write() as db:
        tenants.check_administrator(db, record.tenant, by)
        before = registry.find_model(db, record.resource)
        if before is not None:
            _check_successor(record, before, by)
        record = _with_floor(record, before)
        _check_untaken(db, record)
        wrapped = store.root.wrap(content, registry.identity_context(record.resource))
        registry.save_model(db, record, wrapped)
        _log(store, db, now, event, {**_model_facts(record), "by": by.text})
        if record.is_model and (before is None or _keyset_part(before) != _keyset_part(record)):
            for service in registry.services(db):
                if record.resource in service.models and not service.revoked:
                    _check_names(db, service.models)
                    epochs_of.mint(store, db, service, grace=service.grace, now=now)
    return record


def find_model(store: Store, sealed_sha256: str) -> ModelRecord | None:
    """The model whose sealed file has that SHA-256 (hex, with or without `sha256:`), if it is registered."""
    with store.read() as db:
        return registry.find_sealed(db, f"sha256:{sealed_sha256.removeprefix('sha256:')}")


def models(store: Store) -> list[ModelRecord]:
    """All registered models, by resource."""
    with store.read() as db:
        return registry.models(db)


def register_service(
    store: Store,
    service: str,
    release_policy_text: str,
    models: Sequence[str],
    custodian: str,
    *,
    lifetime: int = DEFAULT_LIFETIME,
    grace: int = DEFAULT_GRACE,
    tenant: str = DEFAULT_TENANT,
    by: Principal = OPERATOR,
) -> ServiceRecord:
    """Register a service or change it.

    The first registration and every change begin an epoch. After a change of the policy the older epochs end
    at once: what was sealed under the old policy must not be opened by a worker that only the new one admits.
    After a change of models they are honoured for `grace` seconds.

    Args:
        store: The store.
        service: Its name: lower-case letters, digits and inner hyphens.
        release_policy_text: The policy under which its keys are released, exact text.
        models: Resources of its models, as paths or `kbs:///` URIs; all registered.
        custodian: Who runs this broker, in words for people; clients see it.
        lifetime: Seconds for which a keyset is valid; a new epoch begins when a quarter is left.
        grace: Seconds for which an older epoch is honoured after that.
        tenant: Whose it is, and stays.
        by: Who asks.

    Raises:
        BrokerError: `broker-name-invalid`, `service-invalid`, `admin-forbidden`, `tenant-unknown`,
            `service-taken`, `service-revoked`, `model-unregistered`, `resource-revoked`, `model-not-granted`,
            `epochs-full`, or a code of the store.
        ConfigError: `policy-invalid`.
    """
    _check("service name", service, SERVICE_NAME)
    _check("name of the custodian", custodian, PLAIN_TEXT)
    policy = Policy.parse(release_policy_text)
    if policy.service not in {None, service}:
        raise BrokerError(SERVICE_INVALID, "the policy is of another service", found=policy.service)
    if not MIN_LIFETIME <= lifetime <= MAX_LIFETIME or not 0 <= grace <= lifetime:
        raise BrokerError(SERVICE_INVALID, "lifetime or grace is out of bounds")
    paths = tuple(dict.fromkeys(Resource.parse(model).path for model in models))
    if not paths:
        raise BrokerError(SERVICE_INVALID, "it has no model")
    now = int(store.now())
    with store.write() as db:
        tenants.check_administrator(db, tenant, by)
        before = registry.find_service(db, service)
        if before is not None and before.tenant != tenant:
            raise BrokerError(SERVICE_TAKEN, service)
        if before is not None and before.revoked:
            raise BrokerError(SERVICE_REVOKED, service)
        last = 0 if before is None else before.last_epoch
        record = ServiceRecord(
            service, release_policy_text, paths, custodian, lifetime, grace, last, tenant=tenant
        )
        if record == before:
            return record
        _check_usable(db, record)
        _check_names(db, paths)
        registry.save_service(db, record)
        facts: dict[str, Fact] = {"service": service, "policy": policy.digest, "models": list(paths)}
        facts |= {"custodian": custodian, "tenant": tenant, "by": by.text}
        _log(store, db, now, Event.SERVICE_REGISTERED, facts)
        same_policy = before is None or before.policy == release_policy_text
        epoch = epochs_of.mint(store, db, record, grace=grace if same_policy else 0, now=now)
    if not same_policy:
        epochs_of.delete_expired(store, now)
    return replace(record, last_epoch=epoch)


def services(store: Store) -> list[ServiceRecord]:
    """All registered services, by name."""
    with store.read() as db:
        return registry.services(db)


def rotate(store: Store, service: str, grace: int | None = None, *, by: Principal = OPERATOR) -> int:
    """Begin a new epoch of a service. Older ones are honoured for `grace` seconds and then deleted.

    Args:
        store: The store.
        service: Its name.
        grace: At most the service's lifetime; 0 deletes the older epochs at once; None takes the service's
            own.
        by: Who asks.

    Returns:
        The new epoch.

    Raises:
        BrokerError: `service-unknown`, `admin-forbidden`, `service-revoked`, `service-invalid`,
            `epochs-full`, or a code of the store.
    """
    now = int(store.now())
    with store.write() as db:
        record = own_service(db, service, by)
        if record.revoked:
            raise BrokerError(SERVICE_REVOKED, service)
        seconds = record.grace if grace is None else grace
        if not 0 <= seconds <= record.lifetime:
            raise BrokerError(SERVICE_INVALID, "grace is out of bounds", expected=f"0 to {record.lifetime} s")
        epoch = epochs_of.mint(store, db, record, grace=seconds, now=now)
    epochs_of.delete_expired(store, now)
    return epoch


def epochs(store: Store, service: str) -> list[EpochRecord]:
    """The epochs of a service that are in the store, newest first.

    Raises:
        BrokerError: `service-unknown`.
    """
    with store.read() as db:
        registry.service(db, service)
        return epochs_of.listed(db, service)


def signing_key_text(store: Store) -> str:
    """The broker's public key, `ed25519+mldsa65:...`: what policies and init-data pin."""
    return store.signing_key.verifying_key.text


def log_entries(store: Store, *, first: int = 0) -> Iterator[dict[str, Any]]:
    """The entries of the release log from number `first`, with all facts. `verify_log` verifies them.

    Raises:
        BrokerError: A code of the store; `log-receipt-invalid`, an entry is not one.
    """
    with store.read() as db:
        rows = list(log.entries(db, first=first))
    for index, entry, opening in rows:
        yield {"index": index, **log_entry.opened(entry, opening)}


def own_service(db: Connection, name: str, by: Principal) -> ServiceRecord:
    """A service that `by` may change.

    Raises:
        BrokerError: `admin-forbidden`, also where there is no such service; `service-unknown` for the
            operator.
    """
    if by.is_operator:
        return registry.service(db, name)
    record = registry.find_service(db, name)
    if record is None:
        raise BrokerError(ADMIN_FORBIDDEN, f"service {name}", found=by.text)
    tenants.check_administrator(db, record.tenant, by)
    return record


def _check_successor(record: ModelRecord, before: ModelRecord, by: Principal) -> None:
    """One administrator alone must not be able to do without the approvals of others."""
    if before.revoked:
        raise BrokerError(RESOURCE_REVOKED, record.resource)
    if not by.is_operator and before.approvals and _approvers(before) != _approvers(record):
        raise BrokerError(
            APPROVERS_KEPT, record.resource, expected=f"{before.approvals} of {len(before.approvers)}"
        )


def _approvers(record: ModelRecord) -> tuple[int, frozenset[str]]:
    return record.approvals, frozenset(record.approvers)


def _check_usable(db: Connection, service: ServiceRecord) -> None:
    for path in service.models:
        model = registry.model(db, path)
        consent.of(db, service, model).check_owner(service, model)


def _check(what: str, value: str, form: re.Pattern[str]) -> None:
    if not form.fullmatch(value):
        raise BrokerError(NAME_INVALID, what, expected=form.pattern)


def _with_floor(record: ModelRecord, before: ModelRecord | None) -> ModelRecord:
    floor = max(record.version_floor, 0 if before is None else before.version_floor)
    number = int(record.version) if record.version.isdecimal() else 0
    if number < floor:
        raise BrokerError(MODEL_OLDER, record.resource, found=record.version, expected=f"at least {floor}")
    return replace(record, version_floor=floor)


def _check_untaken(db: Connection, record: ModelRecord) -> None:
    other = registry.find_sealed(db, record.sealed)
    if other is not None and other.resource != record.resource:
        raise BrokerError(MODEL_TAKEN, found=other.resource)


def _check_names(db: Connection, paths: Iterable[str]) -> None:
    found = [model.name for path in paths if (model := registry.find_model(db, path)) is not None]
    if len(set(found)) != len(found):
        raise BrokerError(SERVICE_INVALID, "two of its models have one name")


def _keyset_part(record: ModelRecord) -> tuple[str, str, str]:
    return record.name, record.version, record.manifest


def _model_facts(record: ModelRecord) -> dict[str, Fact]:
    return {
        "resource": record.uri,
        "model": record.name,
        "version": record.version,
        "manifest": record.manifest,
        "sealed": record.sealed,
        "version_floor": record.version_floor,
    }


def _log(store: Store, db: Connection, now: int, event: Event, facts: dict[str, Fact]) -> None:
    log.append(store, db, time=now, event=event, facts=facts)
