"""The log: whoever changes, drops, inserts or reorders entries without the broker's key is seen."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing

import pytest

from strongroom.broker import admin, log
from strongroom.broker.log import EMPTY, Event, LogHead, verify_log
from strongroom.broker.store import Store
from strongroom.codec import jcs
from strongroom.crypto.sign import SigningKey


def append(store: Store, count: int = 1, **facts: object) -> LogHead:
    head = EMPTY
    for index in range(count):
        with store.write() as db:
            members = {"service": f"s{index}", **facts}
            head = log.append(db, store.signing_key, time=1000 + index, event=Event.RELEASED, facts=members)
    return head


def rows(store: Store) -> list[tuple[int, bytes]]:
    with store.read() as db:
        return list(log.raw_entries(db))


def attack(store: Store, *statements: tuple[str, tuple[object, ...]]) -> None:
    """What someone with the database file, but without the root key, can do."""
    with closing(sqlite3.connect(store.folder / "store.db", isolation_level=None)) as db:
        for sql, values in statements:
            db.execute(sql, values)


def rehashed(entries: list[bytes]) -> list[bytes]:
    """The same chain with all links made right again; only the signature is beyond the attacker."""
    out: list[bytes] = []
    previous = log.GENESIS
    for seq, entry in enumerate(entries, 1):
        out.append(jcs.canonical({**json.loads(entry), "seq": seq, "prev": previous}))
        previous = hashlib.sha256(out[-1]).hexdigest()
    return out


def test_a_new_log_is_empty_and_holds(store: Store) -> None:
    assert verify_log(store) == EMPTY
    assert list(admin.log_entries(store)) == []


def test_entries_are_chained_in_order(store: Store) -> None:
    head = append(store, 3, code=None, epochs=[2, 1], simulated=True)
    entries = list(admin.log_entries(store))
    assert [entry["seq"] for entry in entries] == [1, 2, 3]
    assert entries[0]["prev"] == log.GENESIS
    for (_, raw), following in zip(rows(store), entries[1:], strict=False):
        assert following["prev"] == hashlib.sha256(raw).hexdigest()
    assert entries[2] == {
        "type": "strongroom-log/1",
        "seq": 3,
        "prev": entries[2]["prev"],
        "time": 1002,
        "event": "released",
        "service": "s2",
        "code": None,
        "epochs": [2, 1],
        "simulated": True,
    }
    assert verify_log(store) == head == LogHead(3, hashlib.sha256(rows(store)[2][1]).hexdigest())
    assert [entry["seq"] for entry in admin.log_entries(store, after=2)] == [3]


def test_an_append_that_is_undone_leaves_no_gap(store: Store) -> None:
    append(store)
    with store.write() as db:
        log.append(db, store.signing_key, time=1, event=Event.REFUSED, facts={})
        db.execute("ROLLBACK")
        db.execute("BEGIN")
    append(store)
    assert verify_log(store).size == 2


@pytest.mark.parametrize("name", ["type", "seq", "prev", "time", "event"])
def test_a_fact_cannot_take_a_reserved_name(store: Store, name: str) -> None:
    with store.write() as db, pytest.raises(ValueError, match="reserved"):
        log.append(db, store.signing_key, time=1, event=Event.REFUSED, facts={name: 1})


def test_an_entry_is_bounded(store: Store) -> None:
    with store.write() as db, pytest.raises(ValueError, match="64 KiB"):
        log.append(db, store.signing_key, time=1, event=Event.REFUSED, facts={"x": "a" * log.MAX_ENTRY})


def test_an_edited_entry_is_seen(store: Store, refused) -> None:
    append(store, 4)
    edited = rows(store)[1][1].replace(b'"s1"', b'"sX"')
    attack(store, ("UPDATE log SET entry = ? WHERE seq = 2", (edited,)))
    with refused("log-broken"):
        verify_log(store)


def test_an_edited_last_entry_is_seen(store: Store, refused) -> None:
    append(store, 4)
    edited = rows(store)[3][1].replace(b'"s3"', b'"sX"')
    attack(store, ("UPDATE log SET entry = ? WHERE seq = 4", (edited,)))
    with refused("log-broken"):
        verify_log(store)


@pytest.mark.parametrize("seq", [1, 2, 4])
def test_a_deleted_entry_is_seen(store: Store, refused, seq: int) -> None:
    append(store, 4)
    attack(store, ("DELETE FROM log WHERE seq = ?", (seq,)))
    with refused("log-broken"):
        verify_log(store)


def test_swapped_entries_are_seen(store: Store, refused) -> None:
    append(store, 4)
    second, third = rows(store)[1][1], rows(store)[2][1]
    attack(
        store,
        ("UPDATE log SET entry = ? WHERE seq = 2", (third,)),
        ("UPDATE log SET entry = ? WHERE seq = 3", (second,)),
    )
    with refused("log-broken"):
        verify_log(store)


@pytest.mark.parametrize("attacked", ["edit", "delete", "reorder", "insert", "cut"])
def test_a_chain_made_anew_without_the_key_is_seen(store: Store, refused, attacked: str) -> None:
    append(store, 4)
    entries = [entry for _, entry in rows(store)]
    changed = {
        "edit": [entries[0], entries[1].replace(b'"s1"', b'"sX"'), *entries[2:]],
        "delete": [entries[0], *entries[2:]],
        "reorder": [entries[1], entries[0], *entries[2:]],
        "insert": [*entries, entries[0]],
        "cut": entries[:2],
    }[attacked]
    chain = rehashed(changed)
    digest = hashlib.sha256(chain[-1]).hexdigest()
    attack(
        store,
        ("DELETE FROM log", ()),
        *(("INSERT INTO log VALUES (?, ?)", pair) for pair in enumerate(chain, 1)),
        ("UPDATE log_head SET size = ?, digest = ?", (len(chain), digest)),
    )
    with refused("log-broken"):
        verify_log(store)


def test_a_head_signed_by_another_key_is_seen(store: Store, refused) -> None:
    head = append(store, 2)
    signature = SigningKey.generate().sign(log.HEAD_TYPE, head.payload())
    attack(store, ("UPDATE log_head SET signature = ?", (signature,)))
    with refused("log-broken"):
        verify_log(store)


def test_a_log_that_is_wiped_is_seen(store: Store, refused) -> None:
    append(store, 2)
    attack(store, ("DELETE FROM log", ()), ("DELETE FROM log_head", ()))
    with refused("log-broken"):
        verify_log(store)
    with refused("log-broken"):
        append(store)


def test_no_entry_is_appended_over_another(store: Store, refused) -> None:
    append(store, 2)
    attack(store, ("UPDATE log_head SET size = 1", ()))
    with refused("log-broken"):
        append(store)


def test_an_entry_that_is_no_entry_is_seen(store: Store, refused) -> None:
    for raw in (b"", b"[]", b"{}", b"not JSON", b'{"type":"strongroom-log/1","seq":1}'):
        with store.write() as db:
            db.execute("DELETE FROM log")
            db.execute("INSERT INTO log VALUES (1, ?)", (raw,))
        with refused("log-broken"):
            verify_log(store)


def test_an_older_copy_is_seen_by_who_kept_a_head(store: Store, refused) -> None:
    append(store, 2)
    with closing(sqlite3.connect(store.folder / "store.db")) as db:
        saved = list(db.execute("SELECT * FROM log_head"))
    later = append(store, 2)
    attack(
        store,
        ("DELETE FROM log WHERE seq > 2", ()),
        ("DELETE FROM log_head", ()),
        ("INSERT INTO log_head VALUES (?, ?, ?, ?)", saved[0]),
    )
    assert verify_log(store).size == 2
    with refused("log-broken"):
        verify_log(store, since=later)


def test_a_head_noted_earlier_is_found_again(store: Store) -> None:
    noted = append(store, 2)
    later = append(store, 3)
    assert verify_log(store, since=noted) == later
    assert verify_log(store, since=later) == later
