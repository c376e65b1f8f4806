"""What the key store needs of a database: transactions, and SQL that SQLite and PostgreSQL both understand.

Statements are written once, with `?` for parameters. Values are text, bytes, integers below 2**63 and None.
Writers exclude each other, also between processes; a reader sees one consistent state and waits for nobody.
What a transaction wrote is on disk when its block ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

Value = str | bytes | int | None

BUSY_SECONDS: Final = 10.0
"""How long a writer waits for another one."""


class Conflict(Exception):  # noqa: N818 -- it says what happened, and whoever catches it decides
    """A statement would break a rule of the schema: a key that is taken, a value that is missing."""


class Cursor(Protocol):
    """The rows of one statement."""

    def fetchone(self) -> Any:
        """The next row as a tuple, or None."""

    def fetchall(self) -> list[Any]:
        """All rows that are left, as tuples."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A transaction of a database."""

    def execute(self, sql: str, parameters: Sequence[Value] = (), /) -> Cursor:
        """Run one statement.

        Raises:
            Conflict: It breaks a rule of the schema. The transaction can only be undone then.
        """


class Database(Protocol):
    """An open database. Safe to share between threads: one transaction at a time."""

    def prepare(self, schema: str, version: int) -> None:
        """Make the tables where there are none.

        Args:
            schema: Statements that make tables, in SQLite's words, with `STRICT`.
            version: Version of the schema.

        Raises:
            BrokerError: `store-unusable`, tables of another version are there.
        """

    def write(self) -> AbstractContextManager[Connection]:
        """A transaction that may write: committed when the block ends, undone when it raises.

        Raises:
            BrokerError: `store-busy`, `store-unreachable` or `store-unusable`.
        """

    def read(self) -> AbstractContextManager[Connection]:
        """A transaction that reads one consistent state.

        Raises:
            BrokerError: As `write`.
        """

    def scrub(self) -> bool:
        """Leave nothing of deleted rows in the database's files, as far as that is in our hands.

        Returns:
            False where another process was in the way; call again later.

        Raises:
            BrokerError: As `write`.
        """

    def close(self) -> None:
        """Let go of it."""
