"""A worker takes no key without the receipt of this very release."""

from __future__ import annotations

from typing import Any

import pytest

from strongroom.attestation.initdata import InitData
from strongroom.broker import log, log_entry, log_proof
from strongroom.broker.log_entry import Event
from strongroom.broker.log_proof import ANY_TERMS, Terms
from strongroom.broker.receipt import Witnesses
from strongroom.broker.release import open_model_key
from strongroom.broker.resource import Resource
from strongroom.broker.store import Store
from strongroom.codec import b64, jcs
from strongroom.crypto.notes import NoteSigner, NoteType

ME = "my-one-time-key"
RESOURCE = Resource.parse("default/model/lite0")
PAYLOAD = b"the document"
FACTS = {
    "recipient": ME,
    "resource": RESOURCE.path,
    "service": "pictures",
    "document": log_proof.document_digest(PAYLOAD),
}
WITNESS = NoteSigner("witness.example/w1", NoteType.COSIGNATURE_V1, b"\x01" * 32)
ENVELOPE = jcs.canonical({"payload": b64.encode_url(PAYLOAD), "signature": ""})


def release(store: Store, event: Event = Event.RELEASED, **changes: Any) -> bytes:
    with store.write() as db:
        index = log.append(store, db, time=1, event=event, facts={**FACTS, **changes})
        return log_proof.attach(ENVELOPE, log.receipt(db, index, log.sign(store, db), index + 1))


def check(store: Store, envelope: bytes, terms: Terms = ANY_TERMS) -> None:
    log_proof.check_release(envelope, store.signing_key.verifying_key, ME, RESOURCE, terms)


def test_a_release_with_its_entry_is_taken(store: Store) -> None:
    for _ in range(3):
        check(store, release(store), Terms("pictures"))


@pytest.mark.parametrize(
    "change",
    [
        {"event": Event.ATTESTED},
        {"event": Event.WITHHELD},
        {"recipient": "another-key"},
        {"resource": "default/model/other"},
        {"document": log_proof.document_digest(b"another document")},
        {"service": "sounds"},
    ],
    ids=repr,
)
def test_the_entry_of_another_release_is_refused(store: Store, refused, change: dict[str, Any]) -> None:
    with refused("release-unlogged"):
        check(store, release(store, **change), Terms("pictures"))


def test_no_service_is_asked_for_without_terms(store: Store) -> None:
    check(store, release(store, service="sounds"))


def test_without_a_receipt_there_is_no_key(store: Store, refused) -> None:
    with refused("release-unlogged"):
        check(store, ENVELOPE)


def test_a_malformed_envelope_or_receipt_is_refused(store: Store, refused) -> None:
    for data in (b"", b"[]", b"{}", b'{"payload":"!"}', b'{"payload":5}'):
        with refused("release-unlogged"):
            check(store, data)
    with refused("log-receipt-invalid"):
        check(store, jcs.canonical({"payload": b64.encode_url(PAYLOAD), "log": {}}))


def test_a_receipt_of_another_brokers_log_is_refused(store: Store, refused, tmp_path) -> None:
    with Store.open(tmp_path / "other") as other, refused("note-unsigned"):
        check(store, release(other))


def test_an_entry_that_is_not_in_the_log_is_refused(store: Store, refused) -> None:
    """A broker that makes an entry for the worker alone has no path for it."""
    with store.write() as db:
        index = log.append(store, db, time=1, event=Event.RELEASED, facts=FACTS)
        receipt = log.receipt(db, index, log.sign(store, db), 1)
    entry, opening = log_entry.make(
        event=Event.RELEASED, time=1, facts=FACTS, salt=bytes(32), index=0, secret=bytes(32)
    )
    forged = type(receipt)(entry, opening, receipt.proof)
    with refused("merkle-proof-invalid"):
        check(store, log_proof.attach(ENVELOPE, forged))


def test_the_witnesses_of_the_init_data_are_insisted_on(store: Store, refused) -> None:
    init_data = InitData(
        "pictures",
        store.signing_key.verifying_key.text,
        "sha256:" + "0" * 64,
        witnesses=(WITNESS.key.text,),
        witness_threshold=1,
    )
    terms = Terms.of(init_data)
    assert terms == Terms("pictures", Witnesses((WITNESS.key,), 1))
    with refused("log-unwitnessed"):
        check(store, release(store), terms)


def test_an_init_data_without_witnesses_asks_for_none(store: Store) -> None:
    init_data = InitData("pictures", store.signing_key.verifying_key.text, "sha256:" + "0" * 64)
    assert Terms.of(init_data) == Terms("pictures")
    check(store, release(store), Terms.of(init_data))


def test_the_entry_of_an_earlier_release_does_not_serve_for_a_later_one(rig, refused) -> None:
    """A broker that logs the first release only, and hands out something else with its receipt."""
    worker = rig.attester().attest()
    first, second = worker.fetch("default/model/lite0"), worker.fetch("pictures/service-key/current")
    members = jcs.parse(first, limit=10**6)
    swapped = jcs.canonical({**jcs.parse(second, limit=10**6), "log": members["log"]})
    check_of = (rig.broker_key, worker.recipient)
    log_proof.check_release(first, *check_of, RESOURCE, ANY_TERMS)
    with refused("release-unlogged"):
        log_proof.check_release(swapped, *check_of, RESOURCE, ANY_TERMS)


def test_a_foreign_guest_opens_the_envelope_as_before(rig) -> None:
    """Whoever knows nothing of the log reads payload and signature, and may ignore the rest."""
    worker = rig.attester().attest()
    envelope = worker.fetch("default/model/lite0")
    members = jcs.parse(envelope, limit=10**6)
    assert members.keys() == {"payload", "signature", "log"}
    del members["log"]
    key = open_model_key(jcs.canonical(members), rig.broker_key, worker.recipient, "default/model/lite0")
    assert key.identity == rig.identity
