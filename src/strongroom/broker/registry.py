"""What the broker knows of services and models: rows of the store as typed records.

All functions take the connection of a transaction (`Store.read`, `Store.write`), so that a caller sees and
changes one consistent state.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from strongroom.attestation.fields import SERVICE_NAME
from strongroom.attestation.keyset import KeysetModel
from strongroom.broker.database import Connection
from strongroom.broker.errors import MODEL_UNKNOWN, SERVICE_UNKNOWN
from strongroom.broker.resource import MODEL_TYPE, URI_PREFIX
from strongroom.errors import BrokerError

DEFAULT_TENANT: Final = "default"


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """A registered service.

    Attributes:
        name: Its name.
        policy: Text of its release policy.
        models: Paths of the resources that hold the keys of its models.
        custodian: Who runs this broker, in words for people.
        lifetime: Seconds for which a new epoch's keyset is valid.
        grace: Seconds for which an epoch is honoured after a rotation that names no other time.
        last_epoch: The newest epoch; 0 before the first.
        tenant: Whose it is.
        revoked: Whether it was revoked, which is final.
    """

    name: str
    policy: str
    models: tuple[str, ...]
    custodian: str
    lifetime: int
    grace: int
    last_epoch: int
    tenant: str = DEFAULT_TENANT
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A registered model without its key, or a registered secret without its bytes.

    Of a secret `name` is its resource, `version` the Unix time at which it was registered, and `manifest` and
    `sealed` are a random digest that stands for its bytes.

    Attributes:
        resource: Path of its resource, for example `default/model/lite0`.
        name: Name that requests use.
        version: Version in its manifest.
        manifest: Digest of its manifest, `sha256:...`.
        sealed: Digest of the sealed file, `sha256:...`.
        policy: Text of a policy of its own, which a worker must satisfy besides the service's.
        version_floor: Lowest version number that may still be registered under this resource.
        approvers: Who can approve a release of its key, as texts of principals.
        approvals: How many of them must have approved; 0 where none need to.
        revoked: Whether it was revoked, which is final.
    """

    resource: str
    name: str
    version: str
    manifest: str
    sealed: str
    policy: str | None
    version_floor: int
    approvers: tuple[str, ...] = ()
    approvals: int = 0
    revoked: bool = False

    @property
    def tenant(self) -> str:
        """Whose it is: the first part of its resource."""
        return self.resource.partition("/")[0]

    @property
    def is_model(self) -> bool:
        """Whether it is a model; else it is a secret, whose bytes are released as they are."""
        return self.resource.split("/")[1] == MODEL_TYPE

    @property
    def uri(self) -> str:
        """The resource as init-data names it."""
        return URI_PREFIX + self.resource


_SERVICE = (
    "SELECT name, policy, models, custodian, lifetime, grace, last_epoch, tenant, revoked FROM services"
)
_MODEL = (
    "SELECT resource, name, version, manifest, sealed, policy, version_floor, approvers, approvals, revoked"
    " FROM models"
)


def find_service(db: Connection, name: str) -> ServiceRecord | None:
    """The service of that name, if it is registered."""
    if not SERVICE_NAME.fullmatch(name):
        return None  # such a name is never registered, and not every database takes any text
    row = db.execute(f"{_SERVICE} WHERE name = ?", (name,)).fetchone()
    return None if row is None else _service(row)


def service(db: Connection, name: str) -> ServiceRecord:
    """The service of that name.

    Raises:
        BrokerError: `service-unknown`.
    """
    record = find_service(db, name)
    if record is None:
        raise BrokerError(SERVICE_UNKNOWN)
    return record


def services(db: Connection) -> list[ServiceRecord]:
    """All services, by name."""
    return [_service(row) for row in db.execute(f"{_SERVICE} ORDER BY name")]


def save_service(db: Connection, record: ServiceRecord) -> None:
    """Insert a service or change it."""
    db.execute(
        "INSERT INTO services"
        " (name, policy, models, custodian, lifetime, grace, last_epoch, tenant, revoked)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET policy = excluded.policy,"
        " models = excluded.models, custodian = excluded.custodian, lifetime = excluded.lifetime,"
        " grace = excluded.grace, last_epoch = excluded.last_epoch, tenant = excluded.tenant,"
        " revoked = excluded.revoked",
        (
            record.name,
            record.policy,
            json.dumps(record.models),
            record.custodian,
            record.lifetime,
            record.grace,
            record.last_epoch,
            record.tenant,
            int(record.revoked),
        ),
    )


def find_model(db: Connection, resource: str) -> ModelRecord | None:
    """The model under that resource path, if it is registered."""
    row = db.execute(f"{_MODEL} WHERE resource = ?", (resource,)).fetchone()
    return None if row is None else _model(row)


def model(db: Connection, resource: str) -> ModelRecord:
    """The model under that resource path.

    Raises:
        BrokerError: `model-unregistered`.
    """
    record = find_model(db, resource)
    if record is None:
        raise BrokerError(MODEL_UNKNOWN, resource)
    return record


def find_sealed(db: Connection, sealed: str) -> ModelRecord | None:
    """The model whose sealed file has that digest (`sha256:...`), if it is registered."""
    row = db.execute(f"{_MODEL} WHERE sealed = ?", (sealed,)).fetchone()
    return None if row is None else _model(row)


def models(db: Connection) -> list[ModelRecord]:
    """All models, by resource."""
    return [_model(row) for row in db.execute(f"{_MODEL} ORDER BY resource")]


def wrapped_identity(db: Connection, resource: str) -> bytes:
    """The wrapped age identity of a model.

    Raises:
        BrokerError: `model-unregistered`.
    """
    row = db.execute("SELECT wrapped FROM models WHERE resource = ?", (resource,)).fetchone()
    if row is None:
        raise BrokerError(MODEL_UNKNOWN, resource)
    wrapped: bytes = row[0]
    return wrapped


def save_model(db: Connection, record: ModelRecord, wrapped: bytes) -> None:
    """Insert a model or change it.

    Args:
        db: A write transaction.
        record: The model.
        wrapped: Its age identity, wrapped for `identity_context(record.resource)`.
    """
    db.execute(
        "INSERT INTO models"
        " (resource, name, version, manifest, sealed, policy, version_floor, approvers, approvals, revoked,"
        " wrapped) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (resource) DO UPDATE SET"
        " name = excluded.name, version = excluded.version, manifest = excluded.manifest,"
        " sealed = excluded.sealed, policy = excluded.policy, version_floor = excluded.version_floor,"
        " approvers = excluded.approvers, approvals = excluded.approvals, revoked = excluded.revoked,"
        " wrapped = excluded.wrapped",
        (
            record.resource,
            record.name,
            record.version,
            record.manifest,
            record.sealed,
            record.policy,
            record.version_floor,
            json.dumps(record.approvers),
            record.approvals,
            int(record.revoked),
            wrapped,
        ),
    )


def identity_context(resource: str) -> str:
    """What the wrapped identity of a model is bound to."""
    return f"model/{resource}"


def keyset_models(db: Connection, record: ServiceRecord) -> dict[str, KeysetModel]:
    """The models of a service as its keyset names them.

    Raises:
        BrokerError: `model-unregistered`.
    """
    found: dict[str, KeysetModel] = {}
    for resource in record.models:
        record_of = model(db, resource)
        if record_of.is_model:
            found[record_of.name] = KeysetModel(record_of.version, record_of.manifest)
    return found


def _service(row: tuple[Any, ...]) -> ServiceRecord:
    name, policy, listed, custodian, lifetime, grace, last_epoch, tenant, revoked = row
    models = tuple(json.loads(listed))
    return ServiceRecord(name, policy, models, custodian, lifetime, grace, last_epoch, tenant, bool(revoked))


def _model(row: tuple[Any, ...]) -> ModelRecord:
    resource, name, version, manifest, sealed, policy, floor, listed, approvals, revoked = row
    approvers = tuple(json.loads(listed))
    return ModelRecord(
        resource, name, version, manifest, sealed, policy, floor, approvers, approvals, bool(revoked)
    )
