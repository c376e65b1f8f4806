"""The log's part of a released document: the broker attaches a receipt, the worker insists on it.

A worker takes a key only if the envelope carries the receipt of this very release:

1. a checkpoint of the broker's one log, signed with the key that the worker's init-data names;
2. enough cosignatures of the witnesses that the init-data names, if it names any: then a broker that lies
   about its log must lie to the witness, and through it to every auditor, in the same way;
3. a proof that the entry stands in that log;
4. an entry of a release, to this recipient, of this resource, for this service, of exactly this document.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final, Self

from strongroom.attestation.initdata import InitData
from strongroom.broker.log_entry import Event, log_key
from strongroom.broker.log_errors import RELEASE_UNLOGGED
from strongroom.broker.receipt import NO_WITNESSES, Receipt, Witnesses, witnesses_of
from strongroom.broker.release import MAX_ENVELOPE
from strongroom.broker.resource import Resource
from strongroom.codec import b64, jcs
from strongroom.crypto.sign import VerifyingKey
from strongroom.errors import BrokerError, CodecError

MEMBER: Final = "log"
"""Member of the envelope that holds the receipt."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker's init-data asks of the log.

    Attributes:
        service: The service that a release must be for; None asks for none in particular.
        witnesses: Who must have cosigned.
    """

    service: str | None = None
    witnesses: Witnesses = NO_WITNESSES

    @classmethod
    def of(cls, init_data: InitData) -> Self:
        """The terms of an init-data.

        Raises:
            CryptoError: `note-key-invalid` or `signing-key-invalid`, of a witness.
        """
        return cls(init_data.service, witnesses_of(init_data.witnesses, init_data.witness_threshold))


ANY_TERMS: Final = Terms()


def document_digest(payload: bytes) -> str:
    """How the entry of a release names the document."""
    return f"sha256:{hashlib.sha256(payload).hexdigest()}"


def attach(envelope: bytes, receipt: Receipt) -> bytes:
    """The envelope with the receipt of its release."""
    members = jcs.parse(envelope, limit=MAX_ENVELOPE, what="release")
    return jcs.canonical({**members, MEMBER: receipt.members()})


def check_release(
    envelope: bytes, broker_key: VerifyingKey, recipient: str, resource: Resource, terms: Terms
) -> None:
    """Refuse a release that does not show its entry in the log. The document itself is checked elsewhere.

    Args:
        envelope: What `open_release` accepted.
        broker_key: The key that the worker's init-data names.
        recipient: Thumbprint of the worker's one-time key.
        resource: What was asked for.
        terms: What the init-data asks.

    Raises:
        BrokerError: `release-unlogged`, `log-receipt-invalid` or `log-unwitnessed`.
        CryptoError: `note-unsigned`, `signature-invalid` or `merkle-proof-invalid`.
    """
    try:
        members = jcs.parse(envelope, limit=MAX_ENVELOPE, what="release")
        payload = b64.decode_url(members["payload"], limit=MAX_ENVELOPE, what="payload")
        attached = members.get(MEMBER)
    except (CodecError, KeyError, TypeError, AttributeError):
        raise BrokerError(RELEASE_UNLOGGED, "the envelope is malformed") from None
    if attached is None:
        raise BrokerError(RELEASE_UNLOGGED, "there is no receipt")
    facts = Receipt.read(attached).check(log_key(broker_key), terms.witnesses)
    expected: dict[str, Any] = {
        "event": Event.RELEASED.value,
        "recipient": recipient,
        "resource": resource.path,
        "document": document_digest(payload),
    }
    if terms.service is not None:
        expected["service"] = terms.service
    for name, value in expected.items():
        if facts.get(name) != value:
            raise BrokerError(RELEASE_UNLOGGED, f"the entry has another {name}")
