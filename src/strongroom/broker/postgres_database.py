"""A key store's database in PostgreSQL, which several brokers share. Needs the extra `postgres`.

    postgresql://strongroom@db.example.org/keys?sslrootcert=/etc/strongroom/db-ca.crt&passfile=/etc/strongroom/db.pass
    postgresql://strongroom@/keys?host=/run/postgresql

One transaction writes at a time, over all brokers: it holds an advisory lock, which the server lets go of
when the transaction ends or its client dies. A connection that was lost is made anew for the next
transaction; the one in which it was lost fails, and is undone by the server unless its commit had arrived.
"""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg import conninfo

from strongroom.broker.database import BUSY_SECONDS, Conflict, Value
from strongroom.broker.errors import STORE_BUSY, STORE_LOCATION, STORE_UNREACHABLE, STORE_UNUSABLE
from strongroom.errors import BrokerError, ConfigError

CONNECT_SECONDS: Final = 5
STATEMENT_SECONDS: Final = 30.0
"""Longest statement, and longest pause inside a transaction: a broker that hangs lets the others go on."""

_LOCK: Final = 0x7374726F6E67726D
"""Number of the advisory lock that a writer holds: "strongrm"."""

_UNREACHABLE: Final = frozenset({"08", "53", "57"})
"""Classes of SQLSTATE: no connection, no room for one, the server is going down or has cut us off."""

_WORDS: Final = {"BLOB": "BYTEA", "INTEGER": "BIGINT", " STRICT": ""}
_WORD: Final = re.compile(r"\bBLOB\b|\bINTEGER\b| STRICT\b")
_PARAMETERS: Final = frozenset(
    {"host", "port", "user", "dbname", "passfile", "sslmode", "sslrootcert", "sslcert", "sslkey"}
)


def connection_settings(url: str) -> dict[str, Any]:
    """What libpq is told, from the store's URL. A password is not among it.

    libpq reads the password from the file that `passfile` names, or from PGPASSFILE or PGPASSWORD.

    Raises:
        ConfigError: `store-location-invalid`: no such URL, one with a password, or one that would send keys
            over a network without checking who is at the other end.
    """
    try:
        has_password = urlsplit(url).password is not None or "password" in parse_qs(urlsplit(url).query)
        found = conninfo.conninfo_to_dict(url)
    except (ValueError, psycopg.ProgrammingError):
        raise ConfigError(STORE_LOCATION, "it is no URL of a PostgreSQL database") from None
    if has_password or "password" in found:
        raise ConfigError(STORE_LOCATION, "it has a password in it", expected="passfile=FILE or PGPASSWORD")
    unknown = found.keys() - _PARAMETERS
    if unknown:
        raise ConfigError(STORE_LOCATION, "parameter", found=", ".join(sorted(unknown)))
    hosts = str(found.get("host") or "").split(",")
    if not all(hosts):
        raise ConfigError(
            STORE_LOCATION, "it names no host", expected="a host, or host=/folder/of/the/socket"
        )
    local = {host.startswith("/") for host in hosts}
    if local == {True}:
        return {**found, **_SETTINGS}
    if local != {False} or found.get("sslmode", "verify-full") != "verify-full":
        mode = found.get("sslmode", "a socket and a host")
        raise ConfigError(STORE_LOCATION, "over a network", found=mode, expected="sslmode=verify-full")
    return {**found, **_SETTINGS, "sslmode": "verify-full", "gssencmode": "disable"}


_SETTINGS: Final[dict[str, Any]] = {
    "connect_timeout": CONNECT_SECONDS,
    "application_name": "strongroom",
    "target_session_attrs": "read-write",  # of several hosts, the one that is no standby
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "client_encoding": "UTF8",
}


class _Transaction:
    """The connection as a transaction sees it."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self._db = db

    def execute(self, sql: str, parameters: Sequence[Value] = (), /) -> Any:
        """Run one statement."""
        try:
            return self._db.execute(_translate(sql), parameters)
        except psycopg.IntegrityError as error:
            raise Conflict(_primary(error)) from error


class PostgresDatabase:
    """The database that a URL names. It connects at the first use.

    Args:
        url: `postgresql://...`.
        busy_seconds: How long a writer waits for another.

    Raises:
        ConfigError: `store-location-invalid`.
    """

    def __init__(self, url: str, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._settings = connection_settings(url)
        self._busy_seconds = busy_seconds
        self._lock = threading.Lock()
        self._db: psycopg.Connection[Any] | None = None
        self._closed = False

    def prepare(self, schema: str, version: int) -> None:
        """As `Database.prepare`."""
        with self.write() as db:
            db.execute("CREATE TABLE IF NOT EXISTS strongroom_schema (version INTEGER NOT NULL)")
            row = db.execute("SELECT version FROM strongroom_schema").fetchone()
            if row is None:
                db.execute("INSERT INTO strongroom_schema VALUES (?)", (version,))
                for statement in filter(str.strip, schema.split(";")):
                    db.execute(_WORD.sub(lambda word: _WORDS[word[0]], statement))
            elif row[0] != version:
                raise BrokerError(STORE_UNUSABLE, "made by another version", found=row[0], expected=version)

    @contextlib.contextmanager
    def write(self) -> Iterator[_Transaction]:
        """As `Database.write`."""
        # READ COMMITTED sees what the writer before wrote; a snapshot from before the lock would not.
        with self._transaction("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE") as db:
            db.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
            yield db

    @contextlib.contextmanager
    def read(self) -> Iterator[_Transaction]:
        """As `Database.read`."""
        with self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as db:
            yield db

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[_Transaction]:
        with self._lock, _translated():
            db = self._begin(begin)
            try:
                yield _Transaction(db)
                db.execute("COMMIT")
            finally:
                self._end(db)

    def _begin(self, begin: str) -> psycopg.Connection[Any]:
        if self._closed:
            raise BrokerError(STORE_UNUSABLE, "it was closed")
        if self._db is not None and not self._db.closed:
            try:
                self._db.execute(begin)
            except psycopg.OperationalError:
                self._db.close()  # the server was restarted meanwhile; nothing was done yet
            else:
                return self._db
        self._db = self._connect()
        self._db.execute(begin)
        return self._db

    def _end(self, db: psycopg.Connection[Any]) -> None:
        """Leave no transaction behind, and no connection in a state that is not known."""
        if db.closed or db.info.transaction_status is psycopg.pq.TransactionStatus.IDLE:
            return
        try:
            db.execute("ROLLBACK")
        except psycopg.Error:
            db.close()

    def _connect(self) -> psycopg.Connection[Any]:
        db = psycopg.connect(autocommit=True, prepare_threshold=None, **self._settings)
        try:
            for name, value in (
                ("lock_timeout", int(self._busy_seconds * 1000)),
                ("statement_timeout", int(STATEMENT_SECONDS * 1000)),
                ("idle_in_transaction_session_timeout", int(STATEMENT_SECONDS * 1000)),
            ):
                db.execute("SELECT set_config(%s, %s, false)", (name, str(value)))
            db.execute("SET synchronous_commit = on")
            row = db.execute("SHOW fsync").fetchone()
            if row != ("on",):
                raise BrokerError(STORE_UNUSABLE, "the database may lose what it acknowledged: fsync is off")
        except BaseException:
            db.close()
            raise
        return db

    def scrub(self) -> bool:
        """Nothing: what PostgreSQL keeps of deleted rows, in tables and in its log, is not in our hands.

        So no secret may rest on it: each is wrapped under a key that lies elsewhere and can be destroyed.
        """
        return True

    def close(self) -> None:
        """As `Database.close`."""
        with self._lock:
            self._closed = True
            if self._db is not None:
                self._db.close()


@functools.lru_cache(maxsize=256)
def _translate(sql: str) -> bytes:
    return sql.replace("%", "%%").replace("?", "%s").encode()


def _primary(error: psycopg.Error) -> str:
    """The server's message, without the values that it may quote in its details."""
    return error.diag.message_primary or str(error).partition("\n")[0] or type(error).__name__


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Conflict as error:
        raise BrokerError(STORE_UNUSABLE, str(error)) from error
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise BrokerError(STORE_BUSY) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        if (error.sqlstate or "08")[:2] in _UNREACHABLE:
            raise BrokerError(STORE_UNREACHABLE, _primary(error)) from error
        raise BrokerError(STORE_UNUSABLE, _primary(error)) from error
    except psycopg.Error as error:
        raise BrokerError(STORE_UNUSABLE, _primary(error)) from error
