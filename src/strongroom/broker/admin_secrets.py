"""Administration of secrets: what attesters get as bytes, under the conditions of a model's key.

    register_secret(store, resource="bank/credential/database", content=b"...", policy_text=text)

Grants, approvals and revocations are those of models: `strongroom.broker.admin_consent`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from strongroom.attestation.policy import Policy
from strongroom.broker import consent
from strongroom.broker.admin import save_resource
from strongroom.broker.admin_errors import ADMIN_REQUEST
from strongroom.broker.errors import RESOURCE_PATH
from strongroom.broker.principal import OPERATOR, Principal
from strongroom.broker.registry import ModelRecord
from strongroom.broker.resource import MODEL_TYPE, SERVICE_KEY_TYPE, Resource
from strongroom.broker.store import Store
from strongroom.errors import BrokerError

MAX_SECRET: Final = 64 * 1024


def register_secret(
    store: Store,
    *,
    resource: str,
    content: bytes,
    policy_text: str | None = None,
    approvers: Sequence[str] = (),
    approvals: int = 0,
    by: Principal = OPERATOR,
) -> ModelRecord:
    """Put a secret into the store, or another one under the same resource.

    Attesters of services that have the resource get its bytes as they are, under the same conditions as the
    key of a model. No approval of the bytes before holds for these.

    Args:
        store: The store.
        resource: `repository/type/tag`, as a path or a `kbs:///` URI, of another type than `model` and
            `service-key`.
        content: 1 to 65,536 bytes.
        policy_text: A policy which an attester must satisfy besides the service's.
        approvers: Who can approve a release, `mtls:...` or `oidc:...`.
        approvals: How many of them have to.
        by: Who asks.

    Raises:
        BrokerError: `resource-path-invalid`, `admin-request-invalid`, `approvers-invalid`,
            `principal-invalid`, `admin-forbidden`, `tenant-unknown`, `resource-revoked`, `approvers-kept`, or
            a code of the store.
        ConfigError: `policy-invalid`.
    """
    parsed = Resource.parse(resource)
    if parsed.type in {MODEL_TYPE, SERVICE_KEY_TYPE}:
        expected = f"a type other than {MODEL_TYPE} and {SERVICE_KEY_TYPE}"
        raise BrokerError(RESOURCE_PATH, found=parsed.path, expected=expected)
    if not 1 <= len(content) <= MAX_SECRET:
        raise BrokerError(
            ADMIN_REQUEST, "secret", found=f"{len(content)} bytes", expected=f"1 to {MAX_SECRET}"
        )
    if policy_text is not None:
        Policy.parse(policy_text)
    consent.check_approvers(tuple(approvers), approvals)
    # Not a digest of the bytes: approvers see it, and a short secret could be guessed from it.
    stands_for = f"sha256:{store.rng(32).hex()}"
    record = ModelRecord(
        parsed.path,
        parsed.path,
        str(int(store.now())),
        stands_for,
        stands_for,
        policy_text,
        0,
        tuple(approvers),
        approvals,
    )
    return save_resource(store, record, content, by)
