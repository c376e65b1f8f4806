"""Entries of the release log: what everybody may read, and what only the owner can open.

    {"commitment": "...", "event": "released", "kind": "sgx", "measurement": "...", "tags": ["..."],
     "time": 1800000000, "type": "strongroom-log/2", ...}

Anyone who reads the log sees when which kind of event was, on what evidence, and why something was refused.
Names of services, resources and models, and all digests that they could be guessed from, are in no entry:

- `commitment` is SHA-256 over 32 random bytes and those facts. Salt and facts are the *opening*, which the
  store keeps and a receipt carries; without the salt no guess can be tried.
- `tags` has, for each service and resource that the event is about, a tag that only the holder of its *audit
  key* recognises: HMAC-SHA256 of the entry's number. So an owner finds all entries that are about him, and
  sees if one is missing among his receipts, while for others no two entries look related.

Pure: used by the broker, by workers and by auditors.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from strongroom.broker.log_errors import RECEIPT_INVALID
from strongroom.broker.resource import URI_PREFIX
from strongroom.codec import b64, jcs
from strongroom.codec.tiles import MAX_ENTRY
from strongroom.crypto.notes import NoteKey, NoteSigner, NoteType, hybrid_key
from strongroom.crypto.sign import SigningKey, VerifyingKey
from strongroom.errors import BrokerError, CodecError

ENTRY_TYPE: Final = "strongroom-log/2"
ORIGIN_PREFIX: Final = "strongroom-log/"
SALT_BYTES: Final = 32
AUDIT_KEY_BYTES: Final = 32
MAX_OPENING: Final = 64 * 1024

PUBLIC: Final = frozenset({"kind", "anchor", "measurement", "tcb_status", "code", "stage", "counts"})
"""Facts that stand in an entry for everybody to read."""

_HEAD: Final = frozenset({"type", "time", "event", "commitment", "tags"})
_COMMITMENT: Final = b"strongroom-log-commitment/1\0"
_NOTE_KEY: Final = b"strongroom-log-note-key/1"
_AUDIT: Final = b"strongroom-log-audit/1\0"
_TAG_BYTES: Final = 16

Fact = str | int | bool | list[str] | list[int] | dict[str, int] | None


class Event(StrEnum):
    """What a log entry tells of."""

    ATTESTED = "attested"
    RELEASED = "released"
    WITHHELD = "withheld"
    REFUSED = "refused"
    REFUSALS = "refusals"
    EPOCH_MINTED = "epoch-minted"
    EPOCH_DELETED = "epoch-deleted"
    SERVICE_REGISTERED = "service-registered"
    SERVICE_REVOKED = "service-revoked"
    MODEL_REGISTERED = "model-registered"
    SECRET_REGISTERED = "secret-registered"  # noqa: S105 -- an event
    MODEL_REVOKED = "model-revoked"
    MODEL_GRANTED = "model-granted"
    MODEL_UNGRANTED = "model-ungranted"
    TENANT_SET = "tenant-set"
    ROOT_ROTATED = "root-rotated"
    BACKUP_MADE = "backup-made"
    STORE_RESTORED = "store-restored"
    APPROVED = "approved"
    APPROVAL_WITHDRAWN = "approval-withdrawn"
    VALUES_PUBLISHED = "values-published"


@dataclass(frozen=True, slots=True)
class Opening:
    """What opens the commitment of an entry; for the owner only.

    Attributes:
        salt: 32 random bytes.
        facts: The facts that the entry does not show.
    """

    salt: bytes
    facts: Mapping[str, Any]

    def commitment(self) -> str:
        """SHA-256 over salt and facts, hex."""
        return hashlib.sha256(_COMMITMENT + self.salt + jcs.canonical(self.facts)).hexdigest()

    def members(self) -> dict[str, Any]:
        """As JSON members."""
        return {"salt": b64.encode_url(self.salt), "facts": dict(self.facts)}

    @classmethod
    def read(cls, members: Any) -> Self:
        """Read the members.

        Raises:
            BrokerError: `log-receipt-invalid`.
        """
        try:
            salt = b64.decode_url(members["salt"], limit=SALT_BYTES, what="salt")
            facts = members["facts"]
        except (CodecError, KeyError, TypeError):
            raise BrokerError(RECEIPT_INVALID, "the opening is malformed") from None
        if len(salt) != SALT_BYTES or not isinstance(facts, dict) or len(members) != 2:
            raise BrokerError(RECEIPT_INVALID, "the opening is malformed")
        return cls(salt, facts)


def log_key(broker_key: VerifyingKey) -> NoteKey:
    """The key of a broker's log: the broker's own, named after itself, so that a broker has one log only."""
    return hybrid_key(ORIGIN_PREFIX + b64.encode_url(broker_key.digest), broker_key)


def note_signer(signing_key: SigningKey) -> NoteSigner:
    """A key that signs the log's checkpoints too, for witnesses and auditors that know Ed25519 notes only.

    It is derived, so that it needs no place of its own, and is not the half of the broker's key: what it
    signs holds for nothing else.
    """
    seed = hmac.digest(signing_key.raw(), _NOTE_KEY, "sha256")
    return NoteSigner(log_key(signing_key.verifying_key).name, NoteType.ED25519, seed)


def audit_key(secret: bytes, subject: str) -> bytes:
    """The key with which the owner of a service or resource finds its entries.

    Args:
        secret: The broker's own secret.
        subject: As `service_subject` or `resource_subject` gives it.
    """
    return hmac.digest(secret, _AUDIT + subject.encode(), "sha256")


def tag(key: bytes, index: int) -> str:
    """The tag that an entry about the key's subject has at `index`."""
    return hmac.digest(key, index.to_bytes(8, "big"), "sha256")[:_TAG_BYTES].hex()


def service_subject(service: str) -> str:
    """What a service's audit key is made for."""
    return f"service/{service}"


def resource_subject(resource: str) -> str:
    """What a resource's audit key is made for; a path or a URI."""
    return f"resource/{resource.removeprefix(URI_PREFIX)}"


def make(
    *, event: Event, time: int, facts: Mapping[str, Fact], salt: bytes, index: int, secret: bytes
) -> tuple[bytes, Opening | None]:
    """An entry, and its opening where there are facts to hide.

    Raises:
        ValueError: A fact has a reserved name, or the entry is larger than 65,535 bytes.
    """
    if facts.keys() & _HEAD:
        raise ValueError("a fact has a reserved name")
    shown = {name: value for name, value in facts.items() if name in PUBLIC}
    hidden = {name: value for name, value in facts.items() if name not in PUBLIC}
    members: dict[str, Any] = {"type": ENTRY_TYPE, "time": time, "event": event.value, **shown}
    opening = Opening(salt, hidden) if hidden else None
    if opening is not None:
        members["commitment"] = opening.commitment()
        members["tags"] = [tag(audit_key(secret, subject), index) for subject in _subjects(hidden)]
    entry = jcs.canonical(members)
    if len(entry) > MAX_ENTRY or (opening and len(jcs.canonical(opening.members())) > MAX_OPENING):
        raise ValueError("a log entry is at most 65,535 bytes")
    return entry, opening


def read(entry: bytes) -> dict[str, Any]:
    """The members of an entry that everybody may read.

    Raises:
        BrokerError: `log-receipt-invalid`: it is no entry of this form.
    """
    try:
        members = jcs.parse(entry, limit=MAX_ENTRY, what="log entry")
    except CodecError as error:
        raise BrokerError(RECEIPT_INVALID, "a log entry is not JSON") from error
    if not isinstance(members, dict) or members.get("type") != ENTRY_TYPE:
        raise BrokerError(RECEIPT_INVALID, "a log entry is of another type", expected=ENTRY_TYPE)
    if not isinstance(members.get("event"), str) or type(members.get("time")) is not int:
        raise BrokerError(RECEIPT_INVALID, "a log entry has no event or no time")
    return members


def opened(entry: bytes, opening: Opening | None) -> dict[str, Any]:
    """All facts of an entry: those that it shows, and those that its opening proves.

    Raises:
        BrokerError: `log-receipt-invalid`: the opening is not the one that the entry commits to.
    """
    members = read(entry)
    found = None if opening is None else opening.commitment()
    if members.get("commitment") != found:
        raise BrokerError(RECEIPT_INVALID, "the opening is not that of the entry")
    hidden = {} if opening is None else opening.facts
    if hidden.keys() & members.keys():
        raise BrokerError(RECEIPT_INVALID, "a fact stands in entry and opening")
    shown = {name: value for name, value in members.items() if name not in {"commitment", "tags"}}
    return {**shown, **hidden}


def _subjects(facts: Mapping[str, Any]) -> list[str]:
    """What an entry is about: its service, its resource, the models of a service that is registered."""
    services = [facts["service"]] if "service" in facts else []
    resources = [facts["resource"]] if "resource" in facts else []
    return [
        *map(service_subject, services),
        *map(resource_subject, [*resources, *facts.get("models", [])]),
    ]
