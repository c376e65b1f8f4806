"""Receipts: they hold offline, and each part that is changed refuses alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.broker import log, log_entry
from strongroom.broker.log_entry import Event, Opening
from strongroom.broker.receipt import Receipt, Witnesses, check_checkpoint, witnesses_of
from strongroom.broker.store import Store
from strongroom.codec import note
from strongroom.codec.checkpoint import Checkpoint
from strongroom.codec.note import Note
from strongroom.crypto.notes import NoteKey, NoteSigner, NoteType, sign_hybrid

W1 = NoteSigner("witness.example/w1", NoteType.COSIGNATURE_V1, b"\x01" * 32)
W2 = NoteSigner("witness.example/w2", NoteType.COSIGNATURE_V1, b"\x02" * 32)


@pytest.fixture
def key(store: Store) -> NoteKey:
    return log_entry.log_key(store.signing_key.verifying_key)


@pytest.fixture
def receipts(store: Store) -> list[Receipt]:
    for index in range(5):
        with store.write() as db:
            log.append(store, db, time=index, event=Event.RELEASED, facts={"service": f"s{index}"})
    head = log.newest(store)
    with store.read() as db:
        return [log.receipt(db, index, head, 5) for index in range(5)]


def with_note(receipt: Receipt, signed: Note) -> Receipt:
    return replace(receipt, proof=replace(receipt.proof, checkpoint=signed.render().encode()))


def cosigned(receipt: Receipt, *signers: NoteSigner) -> Receipt:
    signed = note.parse(receipt.proof.checkpoint)
    return with_note(
        receipt, Note(signed.text, signed.signatures + tuple(each.sign(signed.text, 5) for each in signers))
    )


def test_receipts_hold_and_read_back(receipts: list[Receipt], key: NoteKey) -> None:
    for index, receipt in enumerate(receipts):
        again = Receipt.parse(json.dumps(receipt.members()).encode())
        assert again == receipt
        assert again.check(key)["service"] == f"s{index}"


def test_another_entry_is_refused(receipts: list[Receipt], key: NoteKey, refused) -> None:
    with refused("merkle-proof-invalid"):
        replace(receipts[1], entry=receipts[2].entry, opening=receipts[2].opening).check(key)


def test_another_place_is_refused(receipts: list[Receipt], key: NoteKey, refused) -> None:
    with refused("merkle-proof-invalid"):
        replace(receipts[1], proof=replace(receipts[1].proof, index=0)).check(key)


def test_another_opening_is_refused(receipts: list[Receipt], key: NoteKey, refused) -> None:
    opening = receipts[1].opening
    assert opening is not None
    with refused("log-receipt-invalid"):
        replace(receipts[1], opening=Opening(opening.salt, {"service": "s2"})).check(key)
    with refused("log-receipt-invalid"):
        replace(receipts[1], opening=None).check(key)


def test_a_checkpoint_that_the_log_did_not_sign_is_refused(receipts, key: NoteKey, refused) -> None:
    signed = note.parse(receipts[1].proof.checkpoint)
    forged = NoteSigner(key.name, NoteType.ED25519, b"\x09" * 32)
    with refused("note-unsigned"):
        with_note(receipts[1], Note(signed.text, (forged.sign(signed.text),))).check(key)
    with refused("signature-invalid"):
        with_note(receipts[1], Note(signed.text.replace("\n5\n", "\n6\n"), signed.signatures)).check(key)


def test_a_checkpoint_of_another_log_under_the_same_key_is_refused(
    store: Store, key: NoteKey, refused
) -> None:
    """A broker with two logs, one for the witness and one for workers: each names its own origin."""
    text = Checkpoint("another-log", 0, bytes(32)).text()
    line = sign_hybrid(key.name, store.signing_key, text)
    with refused("log-receipt-invalid"):
        check_checkpoint(Note(text, (line,)).render().encode(), key)


def test_the_line_of_the_derived_key_alone_is_not_enough(store: Store, key: NoteKey, refused) -> None:
    """Whoever forges Ed25519 one day has no checkpoint that a worker takes."""
    signed = note.parse(log.newest(store))
    assert check_checkpoint(Note(signed.text, signed.signatures[:1]).render().encode(), key).size >= 0
    with refused("note-unsigned"):
        check_checkpoint(Note(signed.text, signed.signatures[1:]).render().encode(), key)


def test_a_note_that_is_no_checkpoint_is_refused(store: Store, key: NoteKey, refused) -> None:
    line = sign_hybrid(key.name, store.signing_key, "hello\n")
    with refused("log-receipt-invalid"):
        check_checkpoint(Note("hello\n", (line,)).render().encode(), key)
    with refused("log-receipt-invalid"):
        check_checkpoint(b"hello", key)


@pytest.mark.parametrize(
    ("signers", "threshold", "enough"),
    [
        ((), 0, True),
        ((), 1, False),
        ((W1,), 1, True),
        ((W1,), 2, False),
        ((W1, W2), 2, True),
        ((W1, W1), 2, False),
    ],
)
def test_cosignatures_are_counted(
    receipts: list[Receipt], key: NoteKey, refused, signers: Any, threshold: int, enough: bool
) -> None:
    witnesses = Witnesses((W1.key, W2.key), threshold)
    receipt = cosigned(receipts[0], *signers)
    if enough:
        receipt.check(key, witnesses)
    else:
        with refused("log-unwitnessed"):
            receipt.check(key, witnesses)


def test_a_cosignature_of_somebody_else_does_not_count(
    receipts: list[Receipt], key: NoteKey, refused
) -> None:
    with refused("log-unwitnessed"):
        cosigned(receipts[0], W2).check(key, Witnesses((W1.key,), 1))


def test_a_cosignature_of_another_checkpoint_does_not_count(receipts, key: NoteKey, refused) -> None:
    signed = note.parse(receipts[0].proof.checkpoint)
    other = W1.sign(signed.text.replace("\n5\n", "\n6\n"), 5)
    with refused("signature-invalid"):
        with_note(receipts[0], Note(signed.text, (*signed.signatures, other))).check(
            key, Witnesses((W1.key,), 1)
        )


def test_witnesses_in_text(refused) -> None:
    assert witnesses_of([W1.key.text], 1) == Witnesses((W1.key,), 1)
    with refused("note-key-invalid"):
        witnesses_of(["x"], 1)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "strongroom-log-receipt/2"},
        {"entry": 5},
        {"proof": 5},
        {"proof": "x"},
        {"opening": []},
        {"more": 1},
    ],
    ids=repr,
)
def test_other_receipts_are_refused(receipts: list[Receipt], refused, change: dict[str, Any]) -> None:
    with refused("log-receipt-invalid"):
        Receipt.read({**receipts[0].members(), **change})


def test_a_receipt_has_all_its_members(receipts: list[Receipt], refused) -> None:
    for name in receipts[0].members():
        members = receipts[0].members()
        del members[name]
        with refused("log-receipt-invalid"):
            Receipt.read(members)
    for data in (b"", b"[]", b"5", b"{"):
        with refused("log-receipt-invalid"):
            Receipt.parse(data)


def test_no_mutant_proves_anything_else(
    receipts: list[Receipt], key: NoteKey, mutants: Callable[..., Any], survey: Callable[..., Any], json_bytes
) -> None:
    genuine = receipts[3].check(key)

    def check(data: bytes) -> None:
        assert Receipt.parse(data).check(key) == genuine

    outcomes = survey(check, mutants(receipts[3].members(), json_bytes, 10_000, seed=4))
    assert set(outcomes) <= {
        "ok",
        "log-receipt-invalid",
        "merkle-proof-invalid",
        "note-unsigned",
        "signature-invalid",
        "json-not-representable",
    }
    assert outcomes.total() - outcomes["ok"] > 8_000
