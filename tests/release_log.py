"""Envelopes of released documents as a broker makes them, under any key and with any entry in its log."""

from __future__ import annotations

from typing import Any

from strongroom.broker import envelope, log, log_entry
from strongroom.broker.log_entry import Event
from strongroom.broker.receipt import Receipt
from strongroom.broker.release import SERVICE_KEY_TYPE
from strongroom.codec import jcs
from strongroom.codec.tlog import InclusionProof
from strongroom.crypto.merkle import Frontier, leaf_hash
from strongroom.crypto.sign import SigningKey


def released(payload: bytes, key: SigningKey, *, event: Event = Event.RELEASED, **facts: Any) -> bytes:
    """The envelope of a payload whose entry stands alone in the log of `key`."""
    entry, opening = log_entry.make(
        event=event,
        time=1,
        facts={"document": envelope.document_digest(payload), **facts},
        salt=bytes(32),
        index=0,
        secret=key.raw(),
    )
    tree = Frontier()
    tree.add(leaf_hash(entry))
    checkpoint = log.signed_checkpoint(key, tree)
    return envelope.seal(payload, Receipt(entry, opening, InclusionProof(0, (), checkpoint)))


def released_document(document: dict[str, Any], key: SigningKey) -> bytes:
    """The envelope of a document, with the entry that an honest broker writes of it."""
    if document.get("type") == SERVICE_KEY_TYPE:
        resource = f"{document.get('service')}/service-key/current"
    else:
        resource = str(document.get("resource")).removeprefix("kbs:///")
    return released(jcs.canonical(document), key, recipient=document.get("recipient"), resource=resource)
