"""The envelope of a released document: the document, and the receipt of its release in the broker's log.

    {"payload": B64URL, "log": {...}}

The receipt is what makes the document authentic: the entry names the document's digest, and the checkpoint
over the entry has the broker's signature. So there is no release without an entry. A worker opens an envelope
only if

1. the checkpoint is of the log of the broker that the worker's init-data names, and signed by it: a rogue
   broker's keys are refused;
2. enough of the witnesses that the init-data names, if it names any, have cosigned it: then a broker that
   lies about its log must lie to the witness, and through it to every auditor, in the same way;
3. the entry stands in that log;
4. it is the entry of a release of exactly this document;
5. the document is for the worker's one-time key: an answer to another worker, or to an earlier attestation,
   is refused;
6. the entry names the one-time key, the resource asked for and the service, so that their owners find it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final, Self

from strongroom.attestation.initdata import InitData
from strongroom.broker.errors import RELEASE_INVALID, RELEASE_RECIPIENT, RELEASE_UNSIGNED
from strongroom.broker.log_entry import Event, log_key
from strongroom.broker.log_errors import RELEASE_UNLOGGED
from strongroom.broker.receipt import NO_WITNESSES, Receipt, Witnesses, witnesses_of
from strongroom.broker.release_forms import EnvelopeForm, convert
from strongroom.broker.resource import Resource
from strongroom.codec import b64, jcs, note
from strongroom.crypto.errors import NOTE_UNSIGNED, SIGNATURE_INVALID
from strongroom.crypto.sign import VerifyingKey
from strongroom.errors import BrokerError, CodecError, CryptoError

MAX_ENVELOPE: Final = 384 * 1024


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


@dataclass(frozen=True, slots=True)
class Opened:
    """A document that the broker has released to this worker.

    Attributes:
        document: Its members; they name the worker's one-time key as `recipient`.
        facts: Those of its entry in the log.
    """

    document: dict[str, Any]
    facts: dict[str, Any]

    def check_entry(self, resource: Resource, service: str | None) -> None:
        """Refuse a release whose entry hides what it was of (rule 6).

        Args:
            resource: What was asked for.
            service: The service that it must be for; None asks for none in particular.

        Raises:
            BrokerError: `release-unlogged`.
        """
        expected = {"recipient": self.document["recipient"], "resource": resource.path}
        if service is not None:
            expected["service"] = service
        for name, value in expected.items():
            if self.facts.get(name) != value:
                raise BrokerError(RELEASE_UNLOGGED, f"the entry has another {name}")


def document_digest(payload: bytes) -> str:
    """How the entry of a release names the document."""
    return f"sha256:{hashlib.sha256(payload).hexdigest()}"


def seal(payload: bytes, receipt: Receipt) -> bytes:
    """The envelope of a document in JCS with the receipt of its release."""
    return jcs.canonical({"payload": b64.encode_url(payload), "log": receipt.members()})


def open_envelope(
    data: bytes, broker_key: VerifyingKey, recipient: str, witnesses: Witnesses = NO_WITNESSES
) -> Opened:
    """Open an envelope under rules 1 to 5 of this module.

    Args:
        data: The envelope, at most 384 KiB.
        broker_key: The key that the worker's init-data names.
        recipient: Thumbprint of the worker's one-time key.
        witnesses: Who must have cosigned.

    Returns:
        The document. What it is about is for the caller to check, and then rule 6.

    Raises:
        BrokerError: `release-invalid`, `release-foreign-broker`, `release-foreign-recipient`,
            `release-unlogged`, `log-receipt-invalid` or `log-unwitnessed`.
        CryptoError: `merkle-proof-invalid`; `signature-invalid`, of a witness.
    """
    try:
        form = convert(jcs.parse(data, limit=MAX_ENVELOPE, what="release"), EnvelopeForm)
        payload = b64.decode_url(form.payload, limit=MAX_ENVELOPE, what="payload")
    except CodecError as error:
        raise BrokerError(RELEASE_INVALID, str(error)) from error
    if form.log is None:
        raise BrokerError(RELEASE_UNLOGGED, "there is no receipt")
    facts = _checked(Receipt.read(form.log), broker_key, witnesses)
    if facts.get("event") != Event.RELEASED.value:
        raise BrokerError(RELEASE_UNLOGGED, "the entry is not that of a release")
    if facts.get("document") != document_digest(payload):
        raise BrokerError(RELEASE_UNLOGGED, "the entry has another document")
    try:
        document = jcs.parse(payload, limit=MAX_ENVELOPE, what="release payload")
    except CodecError as error:
        raise BrokerError(RELEASE_INVALID, str(error)) from error
    if not isinstance(document, dict):
        raise BrokerError(RELEASE_INVALID, "the payload is not an object")
    if document.get("recipient") != recipient:
        raise BrokerError(RELEASE_RECIPIENT, expected=recipient)
    return Opened(document, facts)


def _checked(receipt: Receipt, broker_key: VerifyingKey, witnesses: Witnesses) -> dict[str, Any]:
    """The facts of a receipt that the broker and enough witnesses have signed."""
    try:
        facts = receipt.check(log_key(broker_key))
    except CryptoError as error:
        if error.kind in {NOTE_UNSIGNED, SIGNATURE_INVALID}:
            raise BrokerError(RELEASE_UNSIGNED, expected=broker_key.text) from error
        raise
    witnesses.check(note.parse(receipt.proof.checkpoint))
    return facts
