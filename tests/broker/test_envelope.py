"""The envelope: a worker takes no document without the receipt of its release."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from release_log import released
from strongroom.attestation.initdata import InitData
from strongroom.broker import envelope, log_entry
from strongroom.broker.envelope import MAX_ENVELOPE, Opened, Terms, open_envelope
from strongroom.broker.log_entry import Event
from strongroom.broker.receipt import NO_WITNESSES, Receipt, Witnesses
from strongroom.broker.resource import Resource
from strongroom.codec import b64, jcs, note
from strongroom.crypto.notes import NoteSigner, NoteType
from strongroom.crypto.sign import SigningKey

BROKER = SigningKey.generate()
ME = "my-one-time-key"
RESOURCE = Resource.parse("default/model/lite0")
DOCUMENT = {"type": "of some kind", "recipient": ME}
PAYLOAD = jcs.canonical(DOCUMENT)
FACTS = {"recipient": ME, "resource": RESOURCE.path, "service": "pictures"}
WITNESS = NoteSigner("witness.example/w1", NoteType.COSIGNATURE_V1, b"\x01" * 32)


def release(key: SigningKey = BROKER, payload: bytes = PAYLOAD, **changes: Any) -> bytes:
    return released(payload, key, **{**FACTS, **changes})


def opened(data: bytes, witnesses: Witnesses = NO_WITNESSES) -> Opened:
    return open_envelope(data, BROKER.verifying_key, ME, witnesses)


def test_a_release_with_its_entry_is_taken() -> None:
    found = opened(release())
    assert found.document == DOCUMENT
    assert found.facts["service"] == "pictures"
    found.check_entry(RESOURCE, "pictures")
    found.check_entry(RESOURCE, None)


@pytest.mark.parametrize(
    "change",
    [
        {"event": Event.ATTESTED},
        {"event": Event.WITHHELD},
        {"document": envelope.document_digest(b"another document")},
        {"document": None},
    ],
    ids=repr,
)
def test_the_entry_of_another_release_is_refused(refused, change: dict[str, Any]) -> None:
    with refused("release-unlogged"):
        opened(release(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"recipient": "another"},
        {"recipient": "your key"},
        {"resource": "a/b/c"},
        {"resource": "x/y/z"},
        {"service": "music"},
        {"service": "sounds"},
    ],
)
def test_an_entry_that_hides_what_it_was_of_is_refused(refused, change: dict[str, Any]) -> None:
    found = opened(release(**change))
    with refused("release-unlogged"):
        found.check_entry(RESOURCE, "pictures")
    if "service" in change:
        found.check_entry(RESOURCE, None)


def test_without_a_receipt_there_is_no_document(refused) -> None:
    for rest in ({}, {"log": None}):
        with refused("release-unlogged"):
            opened(jcs.canonical({"payload": b64.encode_url(PAYLOAD), **rest}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"payload":1}',
        b'{"payload":"="}',
        b'{"payload":"","extra":1}',
        b'{"payload":"","signature":""}',
        b'{"payload":"","payload":""}',
        b"x" * (MAX_ENVELOPE + 1),
    ],
)
def test_what_is_no_envelope_is_refused(refused, data: bytes) -> None:
    with refused("release-invalid"):
        opened(data)


def test_a_malformed_receipt_is_refused(refused) -> None:
    for receipt in ({}, [], "text", 5, {**json.loads(release())["log"], "type": "other"}):
        with refused("log-receipt-invalid"):
            opened(jcs.canonical({"payload": b64.encode_url(PAYLOAD), "log": receipt}))


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"not JSON"])
def test_a_payload_that_is_no_document_is_refused(refused, payload: bytes) -> None:
    with refused("release-invalid"):
        opened(release(payload=payload))


@pytest.mark.parametrize("payload", [b"{}", b'{"recipient":null}', b'{"recipient":"another key"}'])
def test_a_document_for_somebody_else_is_refused(refused, payload: bytes) -> None:
    with refused("release-foreign-recipient"):
        opened(release(payload=payload))


def test_a_receipt_of_another_brokers_log_is_refused(refused) -> None:
    with refused("release-foreign-broker"):
        opened(release(SigningKey.generate()))


def test_a_checkpoint_under_the_brokers_name_that_it_did_not_sign_is_refused(refused) -> None:
    members = json.loads(release())
    foreign = json.loads(release(payload=b"other"))
    text, _, lines = members["log"]["proof"].rpartition("\n\n")
    members["log"]["proof"] = text + "\n\n" + foreign["log"]["proof"].rpartition("\n\n")[2]
    assert members["log"]["proof"].endswith(lines) is False
    with refused("release-foreign-broker"):
        opened(jcs.canonical(members))


def test_an_entry_that_is_not_in_the_log_is_refused(refused) -> None:
    """A broker that makes an entry for the worker alone has no path for it."""
    data = release()
    receipt = Receipt.read(json.loads(data)["log"])
    facts = {**FACTS, "document": envelope.document_digest(PAYLOAD)}
    entry, opening = log_entry.make(
        event=Event.RELEASED, time=2, facts=facts, salt=bytes(32), index=0, secret=bytes(32)
    )
    forged = Receipt(entry, opening, receipt.proof)
    with refused("merkle-proof-invalid"):
        opened(envelope.seal(PAYLOAD, forged))


def test_the_witnesses_of_the_init_data_are_insisted_on(refused) -> None:
    init_data = InitData(
        "pictures",
        BROKER.verifying_key.text,
        "sha256:" + "0" * 64,
        witnesses=(WITNESS.key.text,),
        witness_threshold=1,
    )
    terms = Terms.of(init_data)
    assert terms == Terms("pictures", Witnesses((WITNESS.key,), 1))
    with refused("log-unwitnessed"):
        opened(release(), terms.witnesses)
    assert opened(cosigned(release(), WITNESS), terms.witnesses).document == DOCUMENT
    other = NoteSigner(WITNESS.key.name, NoteType.COSIGNATURE_V1, b"\x02" * 32)
    with refused("log-unwitnessed"):
        opened(cosigned(release(), other), terms.witnesses)


def cosigned(data: bytes, witness: NoteSigner) -> bytes:
    members = json.loads(data)
    receipt = Receipt.read(members["log"])
    signed = note.parse(receipt.proof.checkpoint)
    line = note.Note("", (witness.sign(signed.text),)).render().removeprefix("\n")
    members["log"]["proof"] += line
    return jcs.canonical(members)


def test_an_init_data_without_witnesses_asks_for_none() -> None:
    init_data = InitData("pictures", BROKER.verifying_key.text, "sha256:" + "0" * 64)
    assert Terms.of(init_data) == Terms("pictures")


def test_the_entry_of_an_earlier_release_does_not_serve_for_a_later_one(rig, refused) -> None:
    """A broker that logs the first release only, and hands out something else with its receipt."""
    worker = rig.attester().attest()
    first, second = worker.fetch("default/model/lite0"), worker.fetch("pictures/service-key/current")
    members = jcs.parse(first, limit=10**6)
    assert members.keys() == {"payload", "log"}
    swapped = jcs.canonical({**jcs.parse(second, limit=10**6), "log": members["log"]})
    open_envelope(first, rig.broker_key, worker.recipient)
    with refused("release-unlogged"):
        open_envelope(swapped, rig.broker_key, worker.recipient)


@pytest.mark.slow
def test_mutants(mutants, survey) -> None:
    def plain(value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")

    def inputs() -> Iterator[bytes]:
        yield from mutants(json.loads(release()), plain, 20_000, 1)

    outcomes = survey(opened, inputs())
    assert sum(outcomes.values()) == 20_000
    assert outcomes.keys() <= {
        "ok",
        "release-invalid",
        "release-foreign-broker",
        "release-unlogged",
        "log-receipt-invalid",
        "merkle-proof-invalid",
    }
