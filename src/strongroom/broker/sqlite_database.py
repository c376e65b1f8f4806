"""A key store's database in one SQLite file: write-ahead log, full synchronisation, secure deletion."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from strongroom.broker.database import BUSY_SECONDS, Conflict, Value
from strongroom.broker.errors import STORE_BUSY, STORE_UNUSABLE
from strongroom.errors import BrokerError

_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
    "foreign_keys = ON",
    "trusted_schema = OFF",
)


class _Transaction:
    """The connection as a transaction sees it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def execute(self, sql: str, parameters: Sequence[Value] = (), /) -> Any:
        """Run one statement."""
        try:
            return self._db.execute(sql, parameters)
        except sqlite3.IntegrityError as error:
            raise Conflict(str(error)) from error


class SqliteDatabase:
    """The database in a file. Make one with `SqliteDatabase.open`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> Self:
        """Open the file, and make it with mode 0600 where there is none. Its folder is the caller's to check.

        Args:
            path: The file.
            busy_seconds: How long a writer waits for another.

        Raises:
            BrokerError: `store-unusable`.
            OSError: The file cannot be made.
        """
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with _translated():
            db = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
            try:
                for pragma in _PRAGMAS:
                    db.execute(f"PRAGMA {pragma}").fetchall()
            except BaseException:
                db.close()
                raise
        return cls(db)

    def prepare(self, schema: str, version: int) -> None:
        """As `Database.prepare`."""
        with self._lock, _translated():
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found not in {0, version}:
                raise BrokerError(STORE_UNUSABLE, "made by another version", found=found, expected=version)
            if found == 0:
                self._db.executescript(f"BEGIN IMMEDIATE; {schema} PRAGMA user_version = {version}; COMMIT;")

    @contextlib.contextmanager
    def write(self) -> Iterator[_Transaction]:
        """As `Database.write`."""
        with self._transaction("BEGIN IMMEDIATE") as db:
            yield db

    @contextlib.contextmanager
    def read(self) -> Iterator[_Transaction]:
        """As `Database.read`."""
        with self._transaction("BEGIN") as db:
            yield db

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[_Transaction]:
        with self._lock, _translated():
            self._db.execute(begin)
            try:
                yield _Transaction(self._db)
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def scrub(self) -> bool:
        """Move the write-ahead log into the file and truncate it, so that nothing deleted stays in it."""
        with self._lock, _translated():
            busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

    def close(self) -> None:
        """As `Database.close`."""
        with self._lock:
            self._db.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise BrokerError(STORE_BUSY) from error
        raise BrokerError(STORE_UNUSABLE, str(error)) from error
    except (sqlite3.Error, Conflict) as error:
        raise BrokerError(STORE_UNUSABLE, str(error)) from error
