"""The log of releases and refusals: an append-only Merkle tree whose checkpoint the broker signs.

Entries (`strongroom.broker.log_entry`), their openings and the tree's nodes lie in the store. An append is
one insert of an entry, two of nodes on average, and a new head with its MAC, all in the caller's transaction.
Nothing is ever changed again. A checkpoint, which is a signed head, is made when somebody is to see it: for
the receipt of a release, in its transaction, and when it is asked for.

Who writes the database but has no root key can neither edit, drop, insert nor reorder entries, nor cut the
end off, without `verify_log` seeing it; an append refuses to go on from a head that the broker did not make.
Putting back an older copy of the whole store is seen by whoever kept a later checkpoint: an auditor, a
witness.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strongroom.broker import log_entry
from strongroom.broker.database import Connection
from strongroom.broker.errors import LOG_BROKEN
from strongroom.broker.log_entry import MAX_OPENING, SALT_BYTES, Event, Fact, Opening
from strongroom.broker.log_errors import LOG_ENTRY_UNKNOWN
from strongroom.broker.receipt import Receipt, check_checkpoint
from strongroom.codec import checkpoint, jcs
from strongroom.codec import note as codec_note
from strongroom.codec.checkpoint import Checkpoint
from strongroom.codec.note import Note
from strongroom.codec.tlog import InclusionProof
from strongroom.crypto import merkle
from strongroom.crypto.merkle import HASH_BYTES, Fetch, Frontier, Node, Place
from strongroom.crypto.notes import sign_hybrid
from strongroom.crypto.sign import SigningKey
from strongroom.errors import BrokerError, CodecError, StrongroomError

if TYPE_CHECKING:
    from strongroom.broker.store import Store  # the store begins the log, so it imports this module

_MOST_PLACES: Final = 100
"""Nodes that one query asks for."""

_BATCH: Final = 256
"""Entries that are verified at a time."""

_HEAD_MAC: Final = b"strongroom-log-head/1\0"


def start(db: Connection, signing_key: SigningKey) -> None:
    """Begin an empty log, inside the transaction that makes the store."""
    empty = Frontier()
    db.execute(
        "INSERT INTO log_head (one, size, frontier, mac, checkpoint, cosigned) VALUES (1, 0, ?, ?, ?, ?)",
        (b"", _mac(signing_key, empty), signed_checkpoint(signing_key, empty), b""),
    )


def append(
    store: Store,
    db: Connection,
    *,
    time: int,
    event: Event,
    facts: Mapping[str, Fact],
    signing_key: SigningKey | None = None,
) -> int:
    """Append an entry inside the caller's write transaction. The caller sees to it that no fact is a secret.

    Args:
        store: The store.
        db: The transaction.
        time: Unix time.
        event: What happened.
        facts: What is to be known of it.
        signing_key: The log's, where it is not the store's: while a store is being restored.

    Returns:
        The entry's number, from 0.

    Raises:
        BrokerError: `log-broken`, there is no head to go on from, or it does not fit the entries.
        ValueError: The entry would be larger than 65,535 bytes or a fact has a reserved name.
    """
    key = signing_key or store.signing_key
    # The first statement: from here on other writers of a shared database wait for this transaction.
    row = db.execute(
        "UPDATE log_head SET size = size + 1 WHERE one = 1 RETURNING size - 1, frontier, mac"
    ).fetchone()
    if row is None:
        raise BrokerError(LOG_BROKEN, "the head is gone")
    frontier = _checked_frontier(key, *row)
    index = frontier.size
    entry, opening = log_entry.make(
        event=event,
        time=time,
        facts=facts,
        salt=store.rng(SALT_BYTES),
        index=index,
        secret=key.raw(),
    )
    kept = b"" if opening is None else jcs.canonical(opening.members())
    done = db.execute(
        # Not the database's own error for a second row, which differs from one database to another.
        "INSERT INTO log (seq, entry, opening) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING seq",
        (index, entry, kept),
    ).fetchone()
    if done is None:
        raise BrokerError(LOG_BROKEN, "the head is behind the entries", found=index)
    for node in frontier.add(merkle.leaf_hash(entry)):
        db.execute("INSERT INTO log_nodes (level, number, hash) VALUES (?, ?, ?)", (*node.place, node.hash))
    db.execute(
        "UPDATE log_head SET frontier = ?, mac = ? WHERE one = 1",
        (b"".join(frontier.hashes), _mac(key, frontier)),
    )
    return index


def sign(store: Store, db: Connection) -> bytes:
    """Sign the head and keep the checkpoint, inside the caller's write transaction.

    Returns:
        The checkpoint, a note with the broker's signatures alone.

    Raises:
        BrokerError: `log-broken`.
    """
    head = _head(db)
    frontier = _checked_frontier(store.signing_key, head.size, head.frontier, head.mac)
    note = signed_checkpoint(store.signing_key, frontier)
    db.execute("UPDATE log_head SET checkpoint = ? WHERE one = 1", (note,))
    return note


def newest(store: Store) -> bytes:
    """The checkpoint of the whole log, signed now if entries have come since the last one.

    Raises:
        BrokerError: `log-broken` or a code of the store.
    """
    with store.read() as db:
        head = _head(db)
    if _covers(head):
        return head.checkpoint
    with store.write() as db:
        return sign(store, db)


def published(store: Store) -> bytes:
    """The checkpoint to show: the newest that the broker's witnesses have cosigned, else the newest.

    Raises:
        BrokerError: `log-broken` or a code of the store.
    """
    with store.read() as db:
        cosigned = _head(db).cosigned
    return cosigned or newest(store)


def save_cosigned(db: Connection, note: bytes) -> None:
    """Keep a checkpoint with its cosignatures; nothing asks for none any more."""
    db.execute("UPDATE log_head SET cosigned = ? WHERE one = 1", (note,))


def size(db: Connection) -> int:
    """Number of entries.

    Raises:
        BrokerError: `log-broken`.
    """
    return _head(db).size


def receipt(db: Connection, index: int, note: bytes, tree_size: int) -> Receipt:
    """The receipt of an entry under a checkpoint.

    Args:
        db: The transaction.
        index: Number of the entry.
        note: The checkpoint with its signatures.
        tree_size: Its size.

    Raises:
        BrokerError: `log-entry-unknown` or `log-broken`.
    """
    row = db.execute("SELECT entry, opening FROM log WHERE seq = ?", (index,)).fetchone()
    if row is None or not 0 <= index < tree_size:
        raise BrokerError(LOG_ENTRY_UNKNOWN, found=index, expected=f"0 to {tree_size - 1}")
    proof = merkle.inclusion_proof(index, tree_size, fetch(db))
    return Receipt(bytes(row[0]), _opening(row[1]), InclusionProof(index, proof, note))


def entries(
    db: Connection, *, first: int = 0, count: int | None = None
) -> Iterator[tuple[int, bytes, Opening | None]]:
    """Number, bytes and opening of entries, in order.

    Raises:
        BrokerError: `log-broken`, an opening is malformed.
    """
    query = "SELECT seq, entry, opening FROM log WHERE seq >= ?"
    values = [first]
    if count is not None:
        query, values = f"{query} AND seq < ?", [first, first + count]
    for seq, entry, opening in db.execute(f"{query} ORDER BY seq", values):
        yield seq, bytes(entry), _opening(opening)


def hashes(db: Connection, level: int, first: int, count: int) -> list[bytes]:
    """Hashes of stored nodes of one level, as many as there are, at most `count`."""
    rows = db.execute(
        "SELECT hash FROM log_nodes WHERE level = ? AND number >= ? AND number < ? ORDER BY number",
        (level, first, first + count),
    )
    return [bytes(row[0]) for row in rows]


def fetch(db: Connection) -> Fetch:
    """How to read nodes of the tree inside a transaction.

    Raises:
        BrokerError: `log-broken`, by the function: a node is gone.
    """

    def read(places: Sequence[Place]) -> list[bytes]:
        found: dict[Place, bytes] = {}
        for at in range(0, len(places), _MOST_PLACES):
            part = places[at : at + _MOST_PLACES]
            where = " OR ".join(["(level = ? AND number = ?)"] * len(part))
            values = [value for place in part for value in place]
            for level, number, value in db.execute(
                f"SELECT level, number, hash FROM log_nodes WHERE {where}",  # noqa: S608 -- no values in it
                values,
            ):
                found[Place(level, number)] = bytes(value)
        if len(found) != len(set(places)):
            raise BrokerError(LOG_BROKEN, "a node of the tree is gone")
        return [found[place] for place in places]

    return read


def verify_log(store: Store, *, since: Checkpoint | None = None) -> Checkpoint:
    """Check every entry, opening and node of the store's log, and the signature over its head.

    Args:
        store: The store whose log it is.
        since: A checkpoint that was kept earlier; the log must have grown from it.

    Returns:
        The present checkpoint: keep it elsewhere, and a later call sees whether the log was put back.

    Raises:
        BrokerError: `log-broken`, with the number of the first entry that does not hold.
    """
    with store.read() as db:
        kept_head = _head(db)
        head = _checked_frontier(store.signing_key, kept_head.size, kept_head.frontier, kept_head.mac)
        wanted = [_own_checkpoint(store.signing_key, kept_head.checkpoint)]
        if since is not None:
            wanted.append(since)
        frontier = Frontier()
        wanted = [state for state in wanted if not _is_state(frontier, state)]
        while rows := list(entries(db, first=frontier.size, count=_BATCH)):
            nodes: list[Node] = []
            for seq, entry, opening in rows:
                _check_entry(seq, entry, opening, expected=frontier.size)
                nodes += frontier.add(merkle.leaf_hash(entry))
                wanted = [state for state in wanted if not _is_state(frontier, state)]
            _check_nodes(db, nodes)
        (rest,) = db.execute(
            "SELECT count(*) FROM log WHERE seq < 0 OR seq >= ?", (frontier.size,)
        ).fetchone()
        (kept,) = db.execute("SELECT count(*) FROM log_nodes").fetchone()
    if rest or (frontier.size, frontier.root()) != (head.size, head.root()):
        raise BrokerError(
            LOG_BROKEN, "the entries are not those of the head", found=frontier.size, expected=head.size
        )
    if kept != 2 * frontier.size - frontier.size.bit_count():
        raise BrokerError(LOG_BROKEN, "the tree has nodes without entries", found=kept)
    if wanted:
        raise BrokerError(LOG_BROKEN, "the log did not grow from a checkpoint made earlier")
    return Checkpoint(log_entry.log_key(store.signing_key.verifying_key).name, head.size, head.root())


def signed_checkpoint(signing_key: SigningKey, frontier: Frontier) -> bytes:
    """The checkpoint of a tree in the log of a broker, a note with the signatures of the broker."""
    name = log_entry.log_key(signing_key.verifying_key).name
    text = Checkpoint(name, frontier.size, frontier.root()).text()
    lines = (sign_hybrid(name, signing_key, text), log_entry.note_signer(signing_key).sign(text))
    return Note(text, lines).render().encode()


def _is_state(frontier: Frontier, state: Checkpoint) -> bool:
    return frontier.size == state.size and frontier.root() == state.root


def _check_entry(seq: int, entry: bytes, opening: Opening | None, *, expected: int) -> None:
    if seq != expected:
        raise BrokerError(LOG_BROKEN, "an entry is missing", found=seq, expected=expected)
    try:
        log_entry.opened(entry, opening)
    except BrokerError as error:
        raise BrokerError(LOG_BROKEN, f"entry {seq}: {error.detail}") from error


def _check_nodes(db: Connection, nodes: Sequence[Node]) -> None:
    for node, stored in zip(nodes, fetch(db)([node.place for node in nodes]), strict=True):
        if stored != node.hash:
            place = f"{node.place.level}/{node.place.number}"
            raise BrokerError(LOG_BROKEN, f"node {place} of the tree is not the hash of its entries")


@dataclass(frozen=True, slots=True)
class _Head:
    """What is kept of the whole log, not checked."""

    size: int
    frontier: bytes
    mac: bytes
    checkpoint: bytes
    cosigned: bytes


def _head(db: Connection) -> _Head:
    row = db.execute(
        "SELECT size, frontier, mac, checkpoint, cosigned FROM log_head WHERE one = 1"
    ).fetchone()
    if row is None:
        raise BrokerError(LOG_BROKEN, "the head is gone")
    return _Head(row[0], *map(bytes, row[1:]))


def _covers(head: _Head) -> bool:
    """Whether the checkpoint is one of all entries."""
    try:
        return checkpoint.parse(codec_note.parse(head.checkpoint).text).size == head.size
    except CodecError:
        return False


def _checked_frontier(signing_key: SigningKey, size: int, joined: bytes, mac: bytes) -> Frontier:
    """The tree to go on from, if it is the one that a broker of this store made last.

    Args:
        signing_key: The broker's.
        size: Number of entries.
        joined: The hashes of its frontier, one after the other.
        mac: As `_mac` made it.
    """
    hashes = [bytes(joined[at : at + HASH_BYTES]) for at in range(0, len(joined), HASH_BYTES)]
    try:
        frontier = Frontier(size, hashes)
    except StrongroomError as error:
        raise BrokerError(LOG_BROKEN, "the head is not the one that was made") from error
    if not hmac.compare_digest(bytes(mac), _mac(signing_key, frontier)):
        raise BrokerError(LOG_BROKEN, "the head is not the one that was made")
    return frontier


def _mac(signing_key: SigningKey, frontier: Frontier) -> bytes:
    """What proves to the brokers of a store, and to nobody else, that one of them has made this head."""
    state = frontier.size.to_bytes(8, "big", signed=True) + b"".join(frontier.hashes)
    return hmac.digest(signing_key.raw(), _HEAD_MAC + state, "sha256")


def _own_checkpoint(signing_key: SigningKey, note: bytes) -> Checkpoint:
    try:
        return check_checkpoint(note, log_entry.log_key(signing_key.verifying_key))
    except StrongroomError as error:
        raise BrokerError(LOG_BROKEN, "the checkpoint is not one that was signed") from error


def _opening(kept: bytes) -> Opening | None:
    try:
        members = jcs.parse(bytes(kept), limit=MAX_OPENING, what="opening") if kept else None
        return None if members is None else Opening.read(members)
    except StrongroomError as error:
        raise BrokerError(LOG_BROKEN, "an opening is malformed") from error
