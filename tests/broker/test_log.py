"""The log: whoever changes, drops, inserts or reorders entries without the broker's key is seen."""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from strongroom.broker import admin, log, log_entry
from strongroom.broker.database import Connection, Cursor, Value
from strongroom.broker.log import verify_log
from strongroom.broker.log_entry import Event
from strongroom.broker.receipt import check_checkpoint
from strongroom.broker.store import Store
from strongroom.codec import note
from strongroom.codec.checkpoint import Checkpoint
from strongroom.codec.note import Note
from strongroom.crypto import merkle
from strongroom.crypto.merkle import Frontier, Place, leaf_hash
from strongroom.crypto.notes import NoteSigner, NoteType
from strongroom.crypto.sign import PREFIX


def append(store: Store, count: int = 1, **facts: object) -> Checkpoint:
    for index in range(count):
        with store.write() as db:
            members = {"service": f"s{index}", **facts}
            log.append(store, db, time=1000 + index, event=Event.RELEASED, facts=members)
    return state(store)


def state(store: Store) -> Checkpoint:
    return check_checkpoint(log.newest(store), log_entry.log_key(store.signing_key.verifying_key))


def rows(store: Store) -> list[bytes]:
    with store.read() as db:
        return [entry for _, entry, _ in log.entries(db)]


def attack(store: Store, *statements: tuple[str, tuple[object, ...]]) -> None:
    """What someone with the database file, but without the root key, can do."""
    with closing(sqlite3.connect(store.folder / "store.db", isolation_level=None)) as db:
        for sql, values in statements:
            db.execute(sql, values)


def rewrite(store: Store, entries: list[bytes], signer: NoteSigner | None = None) -> None:
    """Put another log in the place of this one, with all hashes right; only the signature is out of reach."""
    origin = log_entry.log_key(store.signing_key.verifying_key).name
    frontier = Frontier()
    nodes = [node for entry in entries for node in frontier.add(leaf_hash(entry))]
    text = Checkpoint(origin, frontier.size, frontier.root()).text()
    signer = signer or NoteSigner(origin, NoteType.ED25519, b"\x09" * 32)
    signed = Note(text, (signer.sign(text),)).render().encode()
    attack(
        store,
        ("DELETE FROM log", ()),
        ("DELETE FROM log_nodes", ()),
        *(("INSERT INTO log VALUES (?, ?, ?)", (at, entry, b"")) for at, entry in enumerate(entries)),
        *(("INSERT INTO log_nodes VALUES (?, ?, ?)", (*node.place, node.hash)) for node in nodes),
        (
            "UPDATE log_head SET size = ?, frontier = ?, mac = ?, checkpoint = ?",
            (frontier.size, b"".join(frontier.hashes), hmac.digest(bytes(64), b"", "sha256"), signed),
        ),
    )


def test_a_new_log_is_empty_and_holds(store: Store) -> None:
    assert (verify_log(store).size, verify_log(store).root) == (0, merkle.EMPTY_ROOT)
    assert list(admin.log_entries(store)) == []


def test_entries_in_order_with_all_their_facts(store: Store) -> None:
    head = append(store, 3, code=None, epochs=[2, 1], simulated=True)
    entries = list(admin.log_entries(store))
    assert [entry["index"] for entry in entries] == [0, 1, 2]
    assert entries[2] == {
        "index": 2,
        "type": "strongroom-log/2",
        "time": 1002,
        "event": "released",
        "service": "s2",
        "code": None,
        "epochs": [2, 1],
        "simulated": True,
    }
    assert verify_log(store) == head
    assert (head.size, head.origin) == (3, log_entry.log_key(store.signing_key.verifying_key).name)
    assert [entry["index"] for entry in admin.log_entries(store, first=2)] == [2]


def test_the_root_is_that_of_the_entries(store: Store) -> None:
    head = append(store, 13)
    frontier = Frontier()
    for entry in rows(store):
        frontier.add(leaf_hash(entry))
    assert head.root == frontier.root()


def test_an_append_that_is_undone_leaves_no_gap(store: Store) -> None:
    append(store)
    with store.write() as db:
        log.append(store, db, time=1, event=Event.REFUSED, facts={})
        db.execute("ROLLBACK")
        db.execute("BEGIN")
    append(store)
    assert verify_log(store).size == 2


@pytest.mark.parametrize("name", ["type", "time", "event", "commitment", "tags"])
def test_a_fact_cannot_take_a_reserved_name(store: Store, name: str) -> None:
    with store.write() as db, pytest.raises(ValueError, match="reserved"):
        log.append(store, db, time=1, event=Event.REFUSED, facts={name: 1})


@pytest.mark.parametrize("name", ["code", "hidden"])
def test_an_entry_and_its_opening_are_bounded(store: Store, name: str) -> None:
    with store.write() as db, pytest.raises(ValueError, match="65,535"):
        log.append(store, db, time=1, event=Event.REFUSED, facts={name: "a" * 2**16})


class Counting:
    """A transaction that counts its statements."""

    def __init__(self, db: Connection) -> None:
        self.db = db
        self.count = 0

    def execute(self, sql: str, parameters: Sequence[Value] = (), /) -> Cursor:
        self.count += 1
        return self.db.execute(sql, parameters)


def test_an_append_reads_and_writes_a_few_rows_whatever_the_size(store: Store) -> None:
    append(store, 300)
    with store.write() as db:
        counting = Counting(db)
        log.append(store, counting, time=1, event=Event.REFUSED, facts={})
    assert counting.count <= 3 + (300).bit_length()


@pytest.mark.parametrize("size", [1, 2, 7, 8, 255, 257])
def test_receipts_under_every_later_size(store: Store, size: int) -> None:
    append(store, size)
    key = log_entry.log_key(store.signing_key.verifying_key)
    head = log.newest(store)
    with store.read() as db:
        for index in {0, size // 2, size - 1}:
            receipt = log.receipt(db, index, head, size)
            assert receipt.check(key)["service"] == f"s{index}"


def test_there_is_no_receipt_of_what_is_not_there(store: Store, refused) -> None:
    append(store, 2)
    head = log.newest(store)
    with store.read() as db:
        for index, size in ((2, 3), (-1, 2), (1, 1)):
            with refused("log-entry-unknown"):
                log.receipt(db, index, head, size)


def test_a_node_that_is_gone_is_said(store: Store, refused) -> None:
    append(store, 4)
    attack(store, ("DELETE FROM log_nodes WHERE level = 1 AND number = 1", ()))
    head = log.newest(store)
    with store.read() as db, refused("log-broken"):
        log.receipt(db, 0, head, 4)


def test_many_nodes_are_read_in_order(store: Store) -> None:
    append(store, 200)
    places = [Place(0, number) for number in reversed(range(200))]
    with store.read() as db:
        assert log.fetch(db)(places) == [leaf_hash(entry) for entry in rows_in(db)][::-1]


def rows_in(db: sqlite3.Connection) -> list[bytes]:
    return [entry for _, entry, _ in log.entries(db)]


# Attacks on the database. Each is one change, and each is seen.

EDITED = b'{"event":"released","time":1,"type":"strongroom-log/2"}'


@pytest.mark.parametrize(
    "statement",
    [
        ("UPDATE log SET entry = ? WHERE seq = 1", (EDITED,)),
        ("UPDATE log SET entry = ? WHERE seq = 3", (EDITED,)),
        ("UPDATE log SET entry = ? WHERE seq = 1", (b"not JSON",)),
        ("UPDATE log SET opening = (SELECT opening FROM log WHERE seq = 2) WHERE seq = 1", ()),
        ("UPDATE log SET opening = ? WHERE seq = 1", (b"",)),
        ("UPDATE log SET opening = ? WHERE seq = 1", (b"[]",)),
        ("DELETE FROM log WHERE seq = 0", ()),
        ("DELETE FROM log WHERE seq = 2", ()),
        ("DELETE FROM log WHERE seq = 3", ()),
        ("UPDATE log SET seq = 9 WHERE seq = 3", ()),
        ("INSERT INTO log SELECT 4, entry, opening FROM log WHERE seq = 3", ()),
        ("INSERT INTO log SELECT -1, entry, opening FROM log WHERE seq = 3", ()),
        ("UPDATE log_nodes SET hash = zeroblob(32) WHERE level = 0 AND number = 2", ()),
        ("UPDATE log_nodes SET hash = zeroblob(32) WHERE level = 2", ()),
        ("DELETE FROM log_nodes WHERE level = 1 AND number = 0", ()),
        ("INSERT INTO log_nodes VALUES (0, 4, zeroblob(32))", ()),
        ("UPDATE log_head SET size = 3", ()),
        ("UPDATE log_head SET frontier = zeroblob(32)", ()),
        ("UPDATE log_head SET frontier = x'00'", ()),
        ("UPDATE log_head SET mac = x'00'", ()),
        ("UPDATE log_head SET checkpoint = x'00'", ()),
        ("UPDATE log_head SET size = -4", ()),
        ("UPDATE log_head SET size = 9223372036854775807", ()),
        ("DELETE FROM log_head", ()),
    ],
    ids=lambda statement: statement[0][:60],
)
def test_a_change_is_seen(store: Store, refused, statement: tuple[str, tuple[object, ...]]) -> None:
    append(store, 4)
    verify_log(store)
    attack(store, statement)
    with refused("log-broken"):
        verify_log(store)


def test_swapped_entries_are_seen(store: Store, refused) -> None:
    append(store, 4)
    attack(
        store,
        ("UPDATE log SET seq = 9 WHERE seq = 1", ()),
        ("UPDATE log SET seq = 1 WHERE seq = 2", ()),
        ("UPDATE log SET seq = 2 WHERE seq = 9", ()),
    )
    with refused("log-broken"):
        verify_log(store)


def test_a_log_made_anew_without_the_key_is_seen_and_not_gone_on_with(store: Store, refused) -> None:
    append(store, 4)
    rewrite(store, [EDITED])
    with refused("log-broken"):
        verify_log(store)
    with refused("log-broken"):
        append(store)


def test_the_mac_of_another_tree_is_seen(store: Store, refused) -> None:
    append(store, 2)
    with closing(sqlite3.connect(store.folder / "store.db")) as db:
        (mac,) = db.execute("SELECT mac FROM log_head").fetchone()
    append(store, 2)
    attack(store, ("UPDATE log_head SET mac = ?", (mac,)))
    for use in (verify_log, append):
        with refused("log-broken"):
            use(store)
    with store.write() as db, refused("log-broken"):
        log.sign(store, db)


def test_a_checkpoint_of_another_tree_is_seen(store: Store, tmp_path: Path, refused) -> None:
    append(store, 2)
    frontier = Frontier()
    frontier.add(leaf_hash(EDITED))
    signed = log.signed_checkpoint(store.signing_key, frontier)
    with Store.open(tmp_path / "other") as other:
        foreign = log.newest(other)
    for planted in (signed, foreign):
        attack(store, ("UPDATE log_head SET checkpoint = ?", (planted,)))
        with refused("log-broken"):
            verify_log(store)


def test_a_checkpoint_that_cannot_be_read_is_signed_anew(store: Store) -> None:
    head = append(store, 2)
    attack(store, ("UPDATE log_head SET checkpoint = x'00'", ()))
    assert state(store) == head
    verify_log(store)


def test_a_checkpoint_is_signed_when_somebody_is_to_see_it(store: Store) -> None:
    first = log.newest(store)
    assert log.newest(store) == first
    with store.write() as db:
        log.append(store, db, time=1, event=Event.REFUSED, facts={})
    with closing(sqlite3.connect(store.folder / "store.db")) as db:
        assert db.execute("SELECT checkpoint FROM log_head").fetchone() == (first,)
    assert verify_log(store).size == 1
    second = log.newest(store)
    assert state(store).size == 1
    assert log.newest(store) == second


def test_a_log_that_is_wiped_is_seen(store: Store, refused) -> None:
    append(store, 2)
    for table in ("log", "log_nodes", "log_head"):
        attack(store, (f"DELETE FROM {table}", ()))
    with refused("log-broken"):
        verify_log(store)
    with refused("log-broken"):
        append(store)
    for read in (log.newest, log.published):
        with refused("log-broken"):
            read(store)
    with store.read() as db, refused("log-broken"):
        log.size(db)
    with store.write() as db, refused("log-broken"):
        log.sign(store, db)


def test_no_entry_is_appended_over_another(store: Store, refused) -> None:
    append(store, 2)
    with closing(sqlite3.connect(store.folder / "store.db")) as db:
        saved = db.execute("SELECT size, frontier, mac, checkpoint FROM log_head").fetchone()
    append(store, 1)
    attack(store, ("UPDATE log_head SET size = ?, frontier = ?, mac = ?, checkpoint = ?", saved))
    with refused("log-broken"):
        append(store)


def test_an_older_copy_is_seen_by_who_kept_a_checkpoint(store: Store, refused) -> None:
    append(store, 2)
    with closing(sqlite3.connect(store.folder / "store.db")) as db:
        saved = db.execute("SELECT size, frontier, mac, checkpoint FROM log_head").fetchone()
    later = append(store, 2)
    attack(
        store,
        ("DELETE FROM log WHERE seq > 1", ()),
        ("DELETE FROM log_nodes WHERE (number + 1) << level > 2", ()),
        ("UPDATE log_head SET size = ?, frontier = ?, mac = ?, checkpoint = ?", saved),
    )
    assert verify_log(store).size == 2
    with refused("log-broken"):
        verify_log(store, since=later)


def test_a_checkpoint_kept_earlier_is_found_again(store: Store) -> None:
    empty = state(store)
    kept = append(store, 2)
    later = append(store, 3)
    for since in (empty, kept, later):
        assert verify_log(store, since=since) == later


def test_another_root_of_a_size_is_not_found(store: Store, refused) -> None:
    append(store, 3)
    for size in (0, 2, 3):
        with refused("log-broken"):
            verify_log(store, since=Checkpoint("x", size, b"\x01" * 32))


def test_what_is_published_is_what_witnesses_have_cosigned(store: Store) -> None:
    append(store, 1)
    assert log.published(store) == log.newest(store)
    with store.write() as db:
        log.save_cosigned(db, b"a note")
    assert log.published(store) == b"a note"
    assert log.newest(store) != b"a note"


def test_the_broker_signs_under_its_own_name(store: Store) -> None:
    append(store, 1)
    signed = note.parse(log.newest(store))
    key = log_entry.log_key(store.signing_key.verifying_key)
    assert key.check(signed) == 0
    assert key.name == "strongroom-log/" + store.signing_key.verifying_key.text.removeprefix(PREFIX)
    assert log_entry.note_signer(store.signing_key).key.check(signed) == 0
    assert len(signed.signatures) == 2
