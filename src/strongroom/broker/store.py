"""The key store: one database, one root key, one folder of the epochs' wrapping keys.

    folder/            0700
      root.key         0600  32 random bytes; keep it apart from copies of store.db, or the root key elsewhere
      store.db         0600  SQLite, write-ahead log, secure deletion; tells no key without the root key
      epochs/*.key     0600  wrapping keys of the service keys, one per epoch, destroyed with it; no backup
      store.id         0600  which store the folder belongs to
      lock             0600  taken only while a store is opened

With a database in PostgreSQL there is no store.db, and the folder is one that all brokers of the store share.

Several processes may hold the same store: nothing is cached but the broker's own signing key, which never
changes, and the data keys, which each transaction brings up to date. Every change is one transaction that
excludes other writers.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from strongroom.broker import keyfile, log, tenants
from strongroom.broker.database import BUSY_SECONDS, Connection, Database
from strongroom.broker.errors import KEY_FILE_EXPOSED, STORE_LOCATION, STORE_UNUSABLE
from strongroom.broker.keyring import KeyRing
from strongroom.broker.rootkey import FileRootKey, RootKey
from strongroom.broker.sqlite_database import SqliteDatabase
from strongroom.broker.wrap import KEY_BYTES
from strongroom.crypto.sign import SigningKey
from strongroom.errors import BrokerError, ConfigError

SCHEMA_VERSION: Final = 4
SIGNING_KEY: Final = "signing-key"
_STORE_ID_BYTES: Final = 16

# In SQLite's words; a database that has others translates them.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS store (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS roots (
    version INTEGER NOT NULL, root TEXT NOT NULL, wrapped BLOB NOT NULL, PRIMARY KEY (version, root)
) STRICT;
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, wrapped BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tenants (name TEXT PRIMARY KEY, administrators TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS services (
    name TEXT PRIMARY KEY, policy TEXT NOT NULL, models TEXT NOT NULL, custodian TEXT NOT NULL,
    lifetime INTEGER NOT NULL, grace INTEGER NOT NULL, last_epoch INTEGER NOT NULL,
    tenant TEXT NOT NULL REFERENCES tenants (name), revoked INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS epochs (
    service TEXT NOT NULL REFERENCES services (name), epoch INTEGER NOT NULL, key_file TEXT NOT NULL UNIQUE,
    wrapped BLOB NOT NULL, keyset BLOB NOT NULL, signature BLOB NOT NULL,
    minted INTEGER NOT NULL, honoured_until INTEGER NOT NULL, PRIMARY KEY (service, epoch)
) STRICT;
CREATE TABLE IF NOT EXISTS models (
    resource TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, manifest TEXT NOT NULL,
    sealed TEXT NOT NULL UNIQUE, wrapped BLOB NOT NULL, policy TEXT, version_floor INTEGER NOT NULL,
    approvers TEXT NOT NULL, approvals INTEGER NOT NULL, revoked INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS grants (
    resource TEXT NOT NULL REFERENCES models (resource), tenant TEXT NOT NULL REFERENCES tenants (name),
    PRIMARY KEY (resource, tenant)
) STRICT;
CREATE TABLE IF NOT EXISTS approvals (
    resource TEXT NOT NULL REFERENCES models (resource), service TEXT NOT NULL REFERENCES services (name),
    approver TEXT NOT NULL, statement TEXT NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (resource, service, approver)
) STRICT;
CREATE TABLE IF NOT EXISTS reference_values (
    publisher TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, document BLOB NOT NULL,
    PRIMARY KEY (publisher, name)
) STRICT;
CREATE TABLE IF NOT EXISTS log (
    seq INTEGER PRIMARY KEY, entry BLOB NOT NULL, opening BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS log_nodes (
    level INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, number)
) STRICT;
CREATE TABLE IF NOT EXISTS log_head (
    one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, frontier BLOB NOT NULL,
    mac BLOB NOT NULL, checkpoint BLOB NOT NULL, cosigned BLOB NOT NULL
) STRICT;
"""
TABLES: Final = tuple(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", _SCHEMA))
"""Names of the tables, each after those that it refers to."""


class Store:
    """An open key store. Make one with `Store.open`; safe to share between threads and processes.

    Attributes:
        folder: Where it lies.
        now: The clock, unix seconds.
        rng: The source of randomness.
        root: The data keys under which its secrets are wrapped.
        signing_key: The broker's signing key, the one that init-data and policies name.
    """

    def __init__(
        self,
        folder: Path,
        database: Database,
        root: KeyRing,
        *,
        now: Callable[[], float],
        rng: Callable[[int], bytes],
    ) -> None:
        self.folder = folder
        self.now = now
        self.rng = rng
        self.root = root
        self._database = database
        with database.write() as db:
            root.begin(db, self._claim_folder(db))
        self.signing_key = self._signing_key()

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        url: str = "",
        roots: Sequence[RootKey] = (),
        now: Callable[[], float] = time.time,
        rng: Callable[[int], bytes] = os.urandom,
        busy_seconds: float = BUSY_SECONDS,
    ) -> Self:
        """Open a store, and make it where there is none.

        Args:
            folder: Where its files lie.
            url: `postgresql://...`, the database; without it, `store.db` in the folder.
            roots: Root keys, of which the first guards the store from now on, and any may open it; without
                them, `root.key` in the folder.
            now: The clock, unix seconds.
            rng: The source of randomness.
            busy_seconds: How long a writer waits for another one.

        Raises:
            BrokerError: `key-file-exposed`, others may read or write it; `root-key-wrong`; `store-busy`;
                `store-unreachable`; `store-unusable`, anything else about files or database.
            ConfigError: `store-location-invalid`.
        """
        try:
            for path in (folder, folder / "epochs"):  # one by one: `mode` is for the last part of a path only
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_folder(folder)
            with _exclusive(folder / "lock"):
                root = KeyRing(roots or [_root_file(folder, rng)], rng=rng)
                database = _database(folder, url, busy_seconds)
                try:
                    database.prepare(_SCHEMA, SCHEMA_VERSION)
                    return cls(folder, database, root, now=now, rng=rng)
                except BaseException:
                    database.close()
                    raise
        except OSError as error:
            raise BrokerError(STORE_UNUSABLE, f"{folder}: {error.strerror}") from error

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write: committed and on disk when the block ends, undone when it raises.

        Raises:
            BrokerError: `store-busy`, `store-unreachable` or `store-unusable`; after a rotation of the root,
                `root-key-wrong` or a code of the root key.
        """
        with self._database.write() as db:
            self.root.refresh(db, writable=True)
            yield db

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that reads one consistent state.

        Raises:
            BrokerError: As `write`.
        """
        with self._database.read() as db:
            self.root.refresh(db, writable=False)
            yield db

    def secret(self, name: str, make: Callable[[], bytes]) -> bytes:
        """A secret of the broker's own, made at its first use and wrapped under the root key.

        Raises:
            BrokerError: `secret-unreadable`, `store-busy` or `store-unusable`.
        """
        with self.write() as db:
            row = db.execute("SELECT wrapped FROM secrets WHERE name = ?", (name,)).fetchone()
            if row is not None:
                return self.root.unwrap(row[0], secret_context(name))
            value = make()
            db.execute(
                "INSERT INTO secrets VALUES (?, ?)", (name, self.root.wrap(value, secret_context(name)))
            )
            return value

    def _signing_key(self) -> SigningKey:
        with self.write() as db:
            row = db.execute("SELECT wrapped FROM secrets WHERE name = ?", (SIGNING_KEY,)).fetchone()
            if row is None:
                key = SigningKey.generate(self.rng)
                wrapped = self.root.wrap(key.raw(), secret_context(SIGNING_KEY))
                db.execute("INSERT INTO secrets VALUES (?, ?)", (SIGNING_KEY, wrapped))
                log.start(db, key)
                tenants.start(db)
                return key
            return SigningKey.from_raw(self.root.unwrap(row[0], secret_context(SIGNING_KEY)))

    def epoch_key_path(self, key_file: str) -> Path:
        """Where the wrapping key of an epoch lies."""
        return self.folder / "epochs" / f"{key_file}.key"

    def epoch_key_files(self) -> list[Path]:
        """All files beside the epochs' wrapping keys, also what a killed process left behind.

        Raises:
            BrokerError: `store-unusable`.
        """
        try:
            return list((self.folder / "epochs").iterdir())
        except OSError as error:
            raise BrokerError(STORE_UNUSABLE, f"epochs: {error.strerror}") from error

    def checkpoint(self) -> bool:
        """Leave nothing of what was deleted in the database's files, as far as that is in our hands.

        Returns:
            False where another process was reading; call again later.

        Raises:
            BrokerError: As `write`.
        """
        return self._database.scrub()

    def _claim_folder(self, db: Connection) -> str:
        """The store's identifier, after a check that the folder is of the same store.

        Key files without an epoch are destroyed: those of another store must not be taken for such.
        """
        path = self.folder / "store.id"
        row = db.execute("SELECT id FROM store").fetchone()
        if not path.exists():
            keyfile.create(path, self.rng(_STORE_ID_BYTES).hex().encode(), rng=self.rng)
        found = keyfile.read(path, limit=2 * _STORE_ID_BYTES).decode("ascii", "replace")
        if row is None and not self.epoch_key_files():
            db.execute("INSERT INTO store VALUES (1, ?)", (found,))
        elif row != (found,):
            expected = "none, since the database is new" if row is None else row[0]
            what = f"{self.folder} has the epochs of another store"
            raise BrokerError(STORE_UNUSABLE, what, found=found, expected=expected)
        return found


def secret_context(name: str) -> str:
    """What a wrapped secret of the broker's own is bound to."""
    return f"secret/{name}"


def _database(folder: Path, url: str, busy_seconds: float) -> Database:
    if url:
        # Imported where it is used: psycopg is an extra.
        try:
            from strongroom.broker.postgres_database import PostgresDatabase
        except ImportError:
            raise ConfigError(STORE_LOCATION, "PostgreSQL", expected="strongroom[postgres]") from None
        return PostgresDatabase(url, busy_seconds=busy_seconds)
    database = SqliteDatabase.open(folder / "store.db", busy_seconds=busy_seconds)
    try:
        _check_private(folder / "store.db")
    except BaseException:
        database.close()
        raise
    return database


def _root_file(folder: Path, rng: Callable[[int], bytes]) -> RootKey:
    path = folder / "root.key"
    if not path.exists():
        if (folder / "store.db").exists() or (folder / "store.id").exists():
            raise BrokerError(STORE_UNUSABLE, f"{folder}: there is a store but no root.key")
        keyfile.create(path, rng(KEY_BYTES), rng=rng)
    return FileRootKey.open(path, rng=rng)


def _check_private(path: Path) -> None:
    status = path.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise BrokerError(
            KEY_FILE_EXPOSED, path.name, found=f"mode {status.st_mode & 0o7777:04o}", expected="0600"
        )


def _check_folder(folder: Path) -> None:
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        found = f"mode {status.st_mode & 0o7777:04o}"
        raise BrokerError(KEY_FILE_EXPOSED, f"others may change {folder}", found=found, expected="0700")


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
