"""A witness of logs (C2SP tlog-witness): cosigns what has only grown since it last looked.

    witness = Witness.open(Path("/var/lib/witness"), signer, [log_key], now=time.time)
    lines = witness.add_checkpoint(body)

It stands alone: its own key, its own folder, and nothing of a log but its key and the last checkpoint.

1. It cosigns a checkpoint only if the log's key has signed it, and a proof leads to it from the last one.
2. What it is about to cosign is on disk before the cosignature is made: after a kill, a power cut or in
   another process it goes on from there, and never signs an older or another state.
3. Two roots for one size are refused and kept, both signed by the log: evidence that it forked. So is a
   newer checkpoint to which no proof leads.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from strongroom.broker.log_errors import (
    WITNESS_CONFLICT,
    WITNESS_FORK,
    WITNESS_OLD_SIZE,
    WITNESS_ORIGIN,
    WITNESS_PROOF,
    WITNESS_SIGNATURE,
    WITNESS_STATE,
)
from strongroom.codec import checkpoint, note, tlog
from strongroom.codec.checkpoint import Checkpoint
from strongroom.codec.tlog import AddCheckpoint
from strongroom.crypto import merkle
from strongroom.crypto.notes import NoteKey, NoteSigner, NoteType
from strongroom.errors import BrokerError, CryptoError

MAX_EVIDENCE: Final = 64
"""Checkpoints of a log that are kept as evidence."""

_BUSY_SECONDS: Final = 10.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS logs (
    origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS refused (
    origin TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL,
    cosigned BLOB NOT NULL, time INTEGER NOT NULL, PRIMARY KEY (origin, size, root)
) STRICT;
"""


class SizeConflict(BrokerError):  # noqa: N818 -- an answer of the protocol, not a fault
    """The witness has cosigned another size last.

    Attributes:
        size: That size.
    """

    def __init__(self, size: int) -> None:
        super().__init__(WITNESS_CONFLICT, expected=size)
        self.size = size


class Fork(BrokerError):  # noqa: N818 -- as above
    """The log shows two roots for one size.

    Attributes:
        evidence: The two checkpoints, each signed by the log.
    """

    def __init__(self, cosigned: bytes, other: bytes) -> None:
        super().__init__(WITNESS_FORK)
        self.evidence = (cosigned, other)


class Witness:
    """A witness. Make one with `Witness.open`; safe to share between threads and processes.

    Args:
        db: Its state.
        signer: Its key, for cosignatures.
        logs: The logs that it knows, each named as its key.
        now: The clock, unix seconds.

    Raises:
        ValueError: The key is not one for cosignatures.
    """

    def __init__(
        self, db: sqlite3.Connection, signer: NoteSigner, logs: Sequence[NoteKey], now: Callable[[], float]
    ) -> None:
        if signer.type is not NoteType.COSIGNATURE_V1:
            raise ValueError("a witness's key is one for cosignatures")
        self._db = db
        self._signer = signer
        self._logs = {key.name: key for key in logs}
        self._now = now
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls, folder: Path, signer: NoteSigner, logs: Sequence[NoteKey], *, now: Callable[[], float]
    ) -> Self:
        """Open the state in `folder`, and make it where there is none.

        Raises:
            BrokerError: `witness-state-unusable`.
        """
        with _translated():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = folder / "witness.db"
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                for pragma in ("journal_mode = WAL", "synchronous = FULL", "trusted_schema = OFF"):
                    db.execute(f"PRAGMA {pragma}").fetchall()
                db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            except BaseException:
                db.close()
                raise
        return cls(db, signer, logs, now)

    def close(self) -> None:
        """Close the state."""
        with self._lock:
            self._db.close()

    def add_checkpoint(self, body: bytes) -> bytes:
        """Cosign a checkpoint.

        Args:
            body: The request, as the protocol has it.

        Returns:
            The signature line.

        Raises:
            CodecError: The request is malformed.
            BrokerError: `witness-origin-unknown`, `witness-log-signature`, `witness-old-size`,
                `witness-conflict` (`SizeConflict`), `witness-fork` (`Fork`), `witness-proof` or
                `witness-state-unusable`.
        """
        request = tlog.parse_add_checkpoint(body)
        text, new = self._read(request.checkpoint)
        if request.old > new.size:
            raise BrokerError(WITNESS_OLD_SIZE, found=request.old, expected=f"at most {new.size}")
        with self._transaction() as db:
            time = int(self._now())  # not later than that of any larger checkpoint
            refusal = self._record(db, request, new)
        if refusal is not None:  # after the commit, so that the evidence is kept
            raise refusal
        return self._signer.sign(text, time).line().encode()

    def evidence(self) -> list[tuple[bytes, bytes]]:
        """What was refused though a log had signed it: the checkpoint cosigned last, and the refused one."""
        with self._transaction() as db:
            rows = db.execute("SELECT cosigned, note FROM refused ORDER BY time, origin, size").fetchall()
        return [(bytes(cosigned), bytes(other)) for cosigned, other in rows]

    def _read(self, data: bytes) -> tuple[str, Checkpoint]:
        signed = note.parse(data)
        new = checkpoint.parse(signed.text)
        key = self._logs.get(new.origin)
        if key is None:
            raise BrokerError(WITNESS_ORIGIN)
        try:
            key.check(signed)
        except CryptoError as error:
            raise BrokerError(WITNESS_SIGNATURE, error.code) from error
        return signed.text, new

    def _record(self, db: sqlite3.Connection, request: AddCheckpoint, new: Checkpoint) -> BrokerError | None:
        """Check a checkpoint against the last one and put it in its place, or say why not."""
        row = db.execute("SELECT size, root, note FROM logs WHERE origin = ?", (new.origin,)).fetchone()
        size, root, last = (0, merkle.EMPTY_ROOT, b"") if row is None else row
        if request.old != size:
            return SizeConflict(size)
        if new.size == size and new.root != root:
            self._keep(db, request.checkpoint, new, last)
            return Fork(last, request.checkpoint)
        try:
            merkle.verify_consistency(
                old=size, old_root=root, size=new.size, root_hash=new.root, proof=request.hashes
            )
        except CryptoError as error:
            self._keep(db, request.checkpoint, new, last)
            return BrokerError(WITNESS_PROOF, error.detail)
        db.execute(
            "INSERT INTO logs (origin, size, root, note) VALUES (?, ?, ?, ?) ON CONFLICT (origin)"
            " DO UPDATE SET size = excluded.size, root = excluded.root, note = excluded.note",
            (new.origin, new.size, new.root, request.checkpoint),
        )
        return None

    def _keep(self, db: sqlite3.Connection, refused: bytes, new: Checkpoint, last: bytes) -> None:
        (kept,) = db.execute("SELECT count(*) FROM refused WHERE origin = ?", (new.origin,)).fetchone()
        if kept < MAX_EVIDENCE:
            db.execute(
                "INSERT INTO refused (origin, size, root, note, cosigned, time) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (new.origin, new.size, new.root, refused, last, int(self._now())),
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise BrokerError(WITNESS_STATE, str(error)) from error
