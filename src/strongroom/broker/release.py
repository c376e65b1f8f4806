"""Released documents: keys of a service or a model, made for one recipient.

They travel in an envelope (`strongroom.broker.envelope`), whose rules say that this broker has released them
to this worker. Besides, a worker takes a document only if

1. it is about the resource asked for: nobody between worker and broker can swap answers;
2. for a service key: the private keys and the other fields make, byte for byte, a keyset that the broker
   signed;
3. and no keyset says that its keys travel under HPKE only, where they came under a classical key.

Both halves are here, pure and without I/O: `service_document` and `model_document` for the broker,
`open_service_key` and `open_model_key` for the worker. The forms are in docs/reference/broker.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.attestation.keyset import CLASSICAL_RELEASE, KEYSET_TYPE, Keyset, KeysetModel, SignedKeyset
from strongroom.broker.envelope import ANY_TERMS, Terms, open_envelope
from strongroom.broker.errors import (
    RELEASE_DOWNGRADED,
    RELEASE_INVALID,
    RELEASE_KEYSET,
    RELEASE_SUBJECT,
)
from strongroom.broker.release_forms import (
    EpochForm,
    Form,
    KeyForm,
    ModelDocumentForm,
    ServiceDocumentForm,
    convert,
)
from strongroom.broker.resource import Resource
from strongroom.codec import b64
from strongroom.crypto.hpke import Aead, Kem, PrivateKey
from strongroom.crypto.ohttp import GatewayKey, KeyConfig, encode_key_configs
from strongroom.crypto.sign import SIGNATURE_SIZE, VerifyingKey
from strongroom.errors import BrokerError, CodecError, CryptoError, EvidenceError

SERVICE_KEY_TYPE: Final = "strongroom-service-key/1"
MODEL_KEY_TYPE: Final = "strongroom-model-key/1"
_PRIVATE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class ServiceEpoch:
    """The keys of a service for one epoch.

    Attributes:
        keyset: What clients are told.
        signature: The broker's, over the keyset's payload.
        keys: The OHTTP keys, in the order of the keyset's configurations.
        honoured_until: Unix time by the broker's clock after which it has deleted these keys.
    """

    keyset: Keyset
    signature: bytes
    keys: tuple[GatewayKey, ...] = field(repr=False)
    honoured_until: int

    @property
    def epoch(self) -> int:
        """The epoch's number."""
        return self.keyset.epoch

    @property
    def signed(self) -> SignedKeyset:
        """The keyset as it is served to clients."""
        return SignedKeyset(self.keyset.payload(), self.signature)


@dataclass(frozen=True, slots=True)
class ModelKey:
    """The key of a model.

    Attributes:
        resource: Its URI, for example `kbs:///default/model/lite0`.
        identity: The age identity that opens the sealed bundle. Secret.
        manifest: Digest of the only manifest to accept, `sha256:...`.
        sealed: Digest of the sealed file, `sha256:...`.
        version_floor: No version with a lower number was released after this one.
    """

    resource: str
    identity: str = field(repr=False)
    manifest: str
    sealed: str
    version_floor: int


def service_document(service: str, recipient: str, epochs: Sequence[ServiceEpoch]) -> dict[str, Any]:
    """The payload that releases a service key, newest epoch first."""
    return {
        "type": SERVICE_KEY_TYPE,
        "recipient": recipient,
        "service": service,
        "epochs": [_epoch_members(epoch) for epoch in sorted(epochs, key=lambda e: e.epoch, reverse=True)],
    }


def model_document(recipient: str, model: ModelKey) -> dict[str, Any]:
    """The payload that releases a model key."""
    return {
        "type": MODEL_KEY_TYPE,
        "recipient": recipient,
        "resource": model.resource,
        "identity": model.identity,
        "manifest": model.manifest,
        "sealed": model.sealed,
        "version_floor": model.version_floor,
    }


def open_service_key(
    data: bytes,
    broker_key: VerifyingKey,
    recipient: str,
    service: str,
    *,
    terms: Terms = ANY_TERMS,
    classical: bool = False,
) -> tuple[ServiceEpoch, ...]:
    """Open a released service key under all rules of envelope and document.

    Args:
        data: The envelope.
        broker_key: The key that the worker's init-data names.
        recipient: Thumbprint of the worker's one-time key.
        service: Name of the service asked for.
        terms: What the init-data asks of the log.
        classical: Whether the one-time key is a classical one.

    Returns:
        The epochs that are honoured, newest first; at least one.

    Raises:
        BrokerError: As `open_envelope`; `release-foreign-subject`, `release-unlogged`, `release-keyset` or
            `release-downgraded`.
        CryptoError: As `open_envelope`.
    """
    opened = open_envelope(data, broker_key, recipient, terms.witnesses)
    document = _typed(opened.document, SERVICE_KEY_TYPE, ServiceDocumentForm)
    if document.service != service:
        raise BrokerError(RELEASE_SUBJECT, found=document.service, expected=service)
    opened.check_entry(Resource.service_key(service), terms.service)
    numbers = [entry.epoch for entry in document.epochs]
    if numbers != sorted(set(numbers), reverse=True):
        raise BrokerError(RELEASE_INVALID, "the epochs are not in order")
    epochs = tuple(_rebuild(service, entry, broker_key) for entry in document.epochs)
    for epoch in epochs:
        if classical and epoch.keyset.key_release != CLASSICAL_RELEASE:
            raise BrokerError(RELEASE_DOWNGRADED, f"epoch {epoch.epoch}", found=epoch.keyset.key_release)
    key_ids = [key.config.key_id for epoch in epochs for key in epoch.keys]
    if len(set(key_ids)) != len(key_ids):
        raise BrokerError(RELEASE_INVALID, "two keys have one identifier")
    return epochs


def open_model_key(
    data: bytes, broker_key: VerifyingKey, recipient: str, resource: str, *, terms: Terms = ANY_TERMS
) -> ModelKey:
    """Open a released model key under all rules of envelope and document.

    Args:
        data: The envelope.
        broker_key: The key that the worker's init-data names.
        recipient: Thumbprint of the worker's one-time key.
        resource: URI or path of the resource asked for.
        terms: What the init-data asks of the log.

    Raises:
        BrokerError: As `open_envelope`; `release-foreign-subject` or `release-unlogged`.
        CryptoError: As `open_envelope`.
    """
    opened = open_envelope(data, broker_key, recipient, terms.witnesses)
    document = _typed(opened.document, MODEL_KEY_TYPE, ModelDocumentForm)
    expected = Resource.parse(resource)
    if document.resource != expected.uri:
        raise BrokerError(RELEASE_SUBJECT, "another model", expected=expected.uri)
    opened.check_entry(expected, terms.service)
    return ModelKey(
        document.resource, document.identity, document.manifest, document.sealed, document.version_floor
    )


def _typed(document: dict[str, Any], kind: str, form: type[Form]) -> Form:
    if document.get("type") != kind:
        raise BrokerError(RELEASE_SUBJECT, "another kind of resource", expected=kind)
    return convert(document, form)


def _epoch_members(epoch: ServiceEpoch) -> dict[str, Any]:
    keyset = epoch.keyset
    return {
        "epoch": keyset.epoch,
        "honoured_until": epoch.honoured_until,
        "keys": [
            {
                "key_id": key.config.key_id,
                "kem": int(key.config.kem),
                "private_key": b64.encode_url(key.private_key.raw()),
                "suites": [{"kdf": int(kdf), "aead": int(aead)} for kdf, aead in key.config.suites],
            }
            for key in epoch.keys
        ],
        "keyset": {
            "release_policy": keyset.release_policy,
            "models": {
                name: {"version": model.version, "manifest": model.manifest}
                for name, model in keyset.models.items()
            },
            "not_before": keyset.not_before,
            "not_after": keyset.not_after,
            "broker_key": keyset.broker_key,
            "key_custodian": keyset.key_custodian,
            "key_release": keyset.key_release,
        },
        "keyset_signature": b64.encode_url(epoch.signature),
    }


def _rebuild(service: str, entry: EpochForm, broker_key: VerifyingKey) -> ServiceEpoch:
    fields = entry.keyset
    try:
        keys = tuple(_gateway_key(key) for key in entry.keys)
        keyset = Keyset(
            service=service,
            epoch=entry.epoch,
            keys=encode_key_configs(key.config for key in keys),
            release_policy=fields.release_policy,
            models={name: KeysetModel(m.version, m.manifest) for name, m in fields.models.items()},
            not_before=fields.not_before,
            not_after=fields.not_after,
            broker_key=fields.broker_key,
            key_custodian=fields.key_custodian,
            key_release=fields.key_release,
        )
        signature = b64.decode_url(entry.keyset_signature, limit=SIGNATURE_SIZE, what="keyset signature")
        payload = keyset.payload()
    except (CodecError, CryptoError, EvidenceError, ValueError) as error:
        # from None: what is wrong may stand beside a private key
        raise BrokerError(RELEASE_INVALID, f"epoch {entry.epoch}: {type(error).__name__}") from None
    if keyset.broker_key != broker_key.text:
        raise BrokerError(RELEASE_KEYSET, "it names another broker", expected=broker_key.text)
    try:
        broker_key.verify(KEYSET_TYPE, payload, signature, what="keyset")
    except CryptoError as error:
        raise BrokerError(RELEASE_KEYSET, f"epoch {entry.epoch}") from error
    return ServiceEpoch(keyset, signature, keys, entry.honoured_until)


def _gateway_key(key: KeyForm) -> GatewayKey:
    raw = b64.decode_url(key.private_key, limit=_PRIVATE_BYTES, what="private key")
    private = PrivateKey.from_bytes(Kem(key.kem), raw)
    suites = tuple((suite.kdf, Aead(suite.aead)) for suite in key.suites)
    return GatewayKey(KeyConfig(key.key_id, private.kem, private.public_bytes(), suites), private)
