"""The log of releases and refusals: an append-only hash chain whose head the broker signs.

An entry is the JCS bytes of an object with `type`, `seq` (from 1), `prev` (SHA-256 of the entry before, as
hex; zeros for the first), `time` (unix seconds), `event` and the facts of the event. The head is the number
of entries and the digest of the last one, signed; it changes in the transaction that appends. So whoever can
write the database but has no root key can neither edit, drop, insert nor reorder entries, nor cut the end
off, without `verify_log` seeing it. Putting back an older copy of the whole database is seen only by someone
who kept a later head.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from strongroom.broker.errors import LOG_BROKEN
from strongroom.codec import jcs
from strongroom.crypto.sign import SigningKey
from strongroom.errors import BrokerError, CodecError, CryptoError

if TYPE_CHECKING:
    from strongroom.broker.store import Store  # the store begins the log, so it imports this module

ENTRY_TYPE: Final = "strongroom-log/1"
HEAD_TYPE: Final = "strongroom-log-head/1"
GENESIS: Final = "0" * 64
MAX_ENTRY: Final = 64 * 1024

Fact = str | int | bool | list[str] | list[int] | dict[str, int] | None


class Event(StrEnum):
    """What a log entry tells of."""

    ATTESTED = "attested"
    RELEASED = "released"
    REFUSED = "refused"
    REFUSALS = "refusals"
    EPOCH_MINTED = "epoch-minted"
    EPOCH_DELETED = "epoch-deleted"
    SERVICE_REGISTERED = "service-registered"
    MODEL_REGISTERED = "model-registered"


@dataclass(frozen=True, slots=True)
class LogHead:
    """The state of a log.

    Attributes:
        size: Number of entries.
        digest: SHA-256 of the last entry, hex; zeros where there is none.
    """

    size: int
    digest: str

    def payload(self) -> bytes:
        """The bytes that the broker signs."""
        return jcs.canonical({"type": HEAD_TYPE, "size": self.size, "digest": self.digest})


EMPTY: Final = LogHead(0, GENESIS)


def start(db: sqlite3.Connection, signing_key: SigningKey) -> None:
    """Begin an empty log, inside the transaction that makes the store."""
    _sign_head(db, signing_key, EMPTY)


def append(
    db: sqlite3.Connection, signing_key: SigningKey, *, time: int, event: Event, facts: Mapping[str, Fact]
) -> LogHead:
    """Append an entry inside the caller's write transaction. The caller sees to it that no fact is a secret.

    Raises:
        BrokerError: `log-broken`, there is no head to go on from, though there are entries.
        ValueError: The entry would be larger than 64 KiB or a fact has a reserved name.
    """
    if facts.keys() & {"type", "seq", "prev", "time", "event"}:
        raise ValueError("a fact has a reserved name")
    row = db.execute("SELECT size, digest FROM log_head").fetchone()
    if row is None:
        raise BrokerError(LOG_BROKEN, "the head is gone")
    head = LogHead(*row)
    seq = head.size + 1
    entry = jcs.canonical(
        {"type": ENTRY_TYPE, "seq": seq, "prev": head.digest, "time": time, "event": event.value, **facts}
    )
    if len(entry) > MAX_ENTRY:
        raise ValueError("a log entry is at most 64 KiB")
    try:
        db.execute("INSERT INTO log VALUES (?, ?)", (seq, entry))
    except sqlite3.IntegrityError as error:
        raise BrokerError(LOG_BROKEN, "the head is behind the entries", found=head.size) from error
    return _sign_head(db, signing_key, LogHead(seq, hashlib.sha256(entry).hexdigest()))


def _sign_head(db: sqlite3.Connection, signing_key: SigningKey, head: LogHead) -> LogHead:
    signature = signing_key.sign(HEAD_TYPE, head.payload())
    db.execute("INSERT OR REPLACE INTO log_head VALUES (1, ?, ?, ?)", (head.size, head.digest, signature))
    return head


def raw_entries(db: sqlite3.Connection, *, after: int = 0) -> Iterator[tuple[int, bytes]]:
    """Row number and bytes of the entries with a number above `after`, in order."""
    return iter(db.execute("SELECT seq, entry FROM log WHERE seq > ? ORDER BY seq", (after,)))


def verify_log(store: Store, *, since: LogHead = EMPTY) -> LogHead:
    """Check the whole chain and the signature over its head.

    Args:
        store: The store whose log it is.
        since: A head that was noted earlier; the chain must contain it.

    Returns:
        The present head: keep it elsewhere, and a later call sees whether the log was put back.

    Raises:
        BrokerError: `log-broken`, with the number of the first entry that does not hold.
    """
    with store.read() as db:
        head = EMPTY
        found = since == EMPTY
        for seq, entry in raw_entries(db):
            _check_link(seq, entry, head)
            head = LogHead(seq, hashlib.sha256(entry).hexdigest())
            found = found or head == since
        row = db.execute("SELECT size, digest, signature FROM log_head").fetchone()
    if not found:
        raise BrokerError(
            LOG_BROKEN, "the chain does not contain the head noted earlier", expected=since.size
        )
    _check_head(store, head, row)
    return head


def _check_link(seq: int, entry: bytes, before: LogHead) -> None:
    if seq != before.size + 1:
        raise BrokerError(LOG_BROKEN, "an entry is missing", found=seq, expected=before.size + 1)
    try:
        members: dict[str, Any] = jcs.parse(entry, limit=MAX_ENTRY, what="log entry")
        link = (members["type"], members["seq"], members["prev"])
    except (CodecError, KeyError, TypeError) as error:
        raise BrokerError(LOG_BROKEN, f"entry {seq} is malformed") from error
    if link != (ENTRY_TYPE, seq, before.digest):
        raise BrokerError(LOG_BROKEN, f"entry {seq} does not follow from the one before it")


def _check_head(store: Store, head: LogHead, row: tuple[int, str, bytes] | None) -> None:
    if row is None:
        raise BrokerError(LOG_BROKEN, "the head is gone")
    if row[:2] != (head.size, head.digest):
        raise BrokerError(
            LOG_BROKEN, "the end of the chain is not the signed head", found=head.size, expected=row[0]
        )
    try:
        store.signing_key.verifying_key.verify(HEAD_TYPE, head.payload(), row[2], what="log head")
    except CryptoError as error:
        raise BrokerError(LOG_BROKEN, "the signature over the head does not hold") from error
