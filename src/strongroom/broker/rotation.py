"""Rotation of a store's data key, while brokers serve from the store.

1. A new version is added in one transaction. From then on every broker wraps under it.
2. All that lies under an older version is wrapped anew, some rows in each transaction; releases go on.
3. When nothing is left under the older version, and every root key that opens the store opens the new one,
   the older version is deleted.

A rotation that was stopped, by a kill too, is taken up where it was by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from strongroom.broker import keyfile, log, registry
from strongroom.broker.database import Connection
from strongroom.broker.errors import ROOT_PENDING, SECRET_UNREADABLE
from strongroom.broker.keyring import HANDOVER, KeyRing, version_of
from strongroom.broker.log_entry import Event, Fact
from strongroom.broker.store import Store, secret_context
from strongroom.broker.wrap import KEY_BYTES
from strongroom.errors import BrokerError

BATCH: Final = 50
"""Rows in one transaction."""

_LOOK_SECONDS: Final = 0.5
_EPOCH_FILE_LIMIT: Final = 256

# Tables whose column `wrapped` lies under a data key, and their key. An epoch's lies under a key of its own.
_TABLES: Final = {"secrets": "name", "models": "resource"}


@dataclass(frozen=True, slots=True)
class Rotation:
    """How far a rotation is.

    Attributes:
        version: The version that wraps now.
        pending: Names of root keys that do not open it yet; while there are any, the older one is kept.
    """

    version: int
    pending: tuple[str, ...]


def rotate_root(store: Store, *, drop: Collection[str] = ()) -> Rotation:
    """Wrap the whole store under a new data key, and delete the old one where that can be done now.

    Where it cannot, because a broker with another root key has not taken the new data key yet, call
    `finish` until it can.

    Args:
        store: The store; its root key wraps the new data key.
        drop: Names of root keys that shall not open the store any more.

    Raises:
        BrokerError: A code of the store or its root key. Call again: it goes on from where it was.
    """
    _begin(store, drop)
    for table in _TABLES:
        while _rewrap_rows(store, table):
            pass
    _rewrap_files(store)
    return finish(store, drop=drop)


def finish(store: Store, *, drop: Collection[str] = ()) -> Rotation:
    """Delete the older data keys, unless a root key would then no longer open the store.

    Args:
        store: The store.
        drop: As for `rotate_root`.

    Raises:
        BrokerError: As `rotate_root`; `secret-unreadable`, something still lies under an older data key.
    """
    with store.write() as db:
        version = store.root.version
        older = [
            row[0] for row in db.execute("SELECT DISTINCT version FROM roots WHERE version < ?", (version,))
        ]
        pending = sorted(_enrolled(db) - _enrolled(db, version) - set(drop))
        if older and not pending:
            _check_nothing_left(store, db, version)
            db.execute("DELETE FROM roots WHERE version < ?", (version,))
            db.execute("DELETE FROM roots WHERE root LIKE ?", (f"{HANDOVER}%",))
            for name in drop:
                db.execute("DELETE FROM roots WHERE root = ? AND root <> ?", (name, store.root.root_name))
            facts: dict[str, Fact] = {"data_key": version, "roots": sorted(_enrolled(db, version))}
            now = int(store.now())
            log.append(store, db, time=now, event=Event.ROOT_ROTATED, facts=facts)
    store.checkpoint()
    with store.read():  # which lets go of what was deleted
        return Rotation(version, tuple(pending))


def finish_within(
    store: Store,
    seconds: float,
    *,
    drop: Collection[str] = (),
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Rotation:
    """Call `finish` until the other brokers have taken the new data key.

    Args:
        store: The store.
        seconds: For how long.
        drop: As for `rotate_root`.
        sleep: Waits between two looks.
        clock: Measures the time.

    Raises:
        BrokerError: `root-pending`, not all have in time; or as `finish`.
    """
    end = clock() + seconds
    while (rotation := finish(store, drop=drop)).pending:
        if clock() >= end:
            raise BrokerError(ROOT_PENDING, ", ".join(rotation.pending))
        sleep(_LOOK_SECONDS)
    return rotation


def _begin(store: Store, drop: Collection[str]) -> None:
    """Add a version, unless an earlier rotation has not come to its end."""
    with store.write() as db:
        (count,) = db.execute("SELECT count(DISTINCT version) FROM roots").fetchone()
        if count > 1:
            return
        raw = store.rng(KEY_BYTES)
        others = _enrolled(db) - {store.root.root_name} - set(drop)
        version = store.root.version + 1
        store.root.put(db, version, raw)
        if others:
            store.root.hand_over(db, version, raw)


def _enrolled(db: Connection, version: int | None = None) -> set[str]:
    """Names of the root keys that open a version, or any."""
    rows = db.execute("SELECT version, root FROM roots").fetchall()
    return {root for of, root in rows if of == (version or of) and not root.startswith(HANDOVER)}


def rewrap(db: Connection, before: KeyRing, after: KeyRing) -> None:
    """Wrap all rows under another ring: those of a backup, under that of the store that it is put into.

    Raises:
        BrokerError: `secret-unreadable`.
    """
    for table in _TABLES:
        _rewrap(db, table, _wrapped(db, table), before=before, after=after)


def _rewrap_rows(store: Store, table: str) -> bool:
    """Wrap some rows of a table anew. Says whether there may be more."""
    with store.write() as db:
        due = [row for row in _wrapped(db, table) if version_of(row[1]) != store.root.version][:BATCH]
        _rewrap(db, table, due, before=store.root, after=store.root)
    return bool(due)


def _wrapped(db: Connection, table: str) -> list[tuple[str, bytes]]:
    """Key and wrapped secret of each row."""
    select = f"SELECT {_TABLES[table]}, wrapped FROM {table}"  # noqa: S608 -- our own names
    rows: list[tuple[str, bytes]] = db.execute(select).fetchall()
    return rows


def _rewrap(
    db: Connection, table: str, rows: list[tuple[str, bytes]], *, before: KeyRing, after: KeyRing
) -> None:
    update = f"UPDATE {table} SET wrapped = ? WHERE {_TABLES[table]} = ?"  # noqa: S608 -- our own names
    for name, wrapped in rows:
        context = registry.identity_context(name) if table == "models" else secret_context(name)
        anew = after.wrap(before.unwrap(wrapped, context), context)
        db.execute(update, (anew, name))


def _rewrap_files(store: Store) -> None:
    """Wrap the epochs' wrapping keys anew: each under the write lock, so that nobody reads it meanwhile."""
    with store.read() as db:
        names = _epoch_files(store, db)
    for name in names:
        with store.write() as db:
            if name in _epoch_files(store, db):
                _rewrap_file(store, name)


def _rewrap_file(store: Store, name: str) -> None:
    path, context = store.epoch_key_path(name), f"epoch/{name}"
    wrapped = keyfile.read(path, limit=_EPOCH_FILE_LIMIT)
    if version_of(wrapped) != store.root.version:
        anew = store.root.wrap(store.root.unwrap(wrapped, context), context)
        keyfile.replace(path, anew, rng=store.rng)


def _check_nothing_left(store: Store, db: Connection, version: int) -> None:
    for table in _TABLES:
        for _, wrapped in _wrapped(db, table):
            if version_of(wrapped) != version:
                raise BrokerError(SECRET_UNREADABLE, f"{table}: older than the newest data key")
    for name in _epoch_files(store, db):
        if version_of(keyfile.read(store.epoch_key_path(name), limit=_EPOCH_FILE_LIMIT)) != version:
            raise BrokerError(SECRET_UNREADABLE, "epochs: older than the newest data key")


def _epoch_files(store: Store, db: Connection) -> list[str]:
    """Names of the key files of all epochs. One that is gone has nothing to be wrapped anew."""
    names = [row[0] for row in db.execute("SELECT key_file FROM epochs").fetchall()]
    return [name for name in names if store.epoch_key_path(name).exists()]
