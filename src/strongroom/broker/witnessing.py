"""Cosignatures for the broker's log, before keys leave.

A release waits until its entry lies under a checkpoint that enough witnesses have cosigned. Releases that
come while the witnesses are being asked wait for the next round together, so that one round serves many, and
a round that fails fails them all at once. No transaction is open while a witness is asked.

1. The broker asks only for checkpoints that it has committed and signed.
2. A witness that has seen a larger log than the store holds stops every release: the store was put back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from strongroom.broker import log
from strongroom.broker.log_errors import WITNESS_AHEAD, WITNESS_MISSING
from strongroom.broker.receipt import Receipt
from strongroom.broker.store import Store
from strongroom.broker.witness_client import WitnessClient
from strongroom.codec import checkpoint, note
from strongroom.codec.note import Note, NoteSignature
from strongroom.codec.tlog import AddCheckpoint
from strongroom.crypto import merkle
from strongroom.errors import BrokerError, StrongroomError

_ATTEMPTS: Final = 4
"""How often a witness is asked in a round, and how often a round begins anew."""

_log = logging.getLogger("strongroom.broker")


@dataclass(frozen=True, slots=True)
class _Head:
    """A checkpoint with its signatures."""

    size: int
    signed: Note


class _AheadError(Exception):
    """A witness has cosigned a larger log than the one it was asked for."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class Witnessing:
    """The witnesses of a store's log. Safe to share between threads.

    Args:
        store: The store.
        witnesses: Who is asked; at least one.
        threshold: How many must cosign.

    Raises:
        ValueError: The threshold is not between 1 and the number of witnesses.
    """

    def __init__(self, store: Store, witnesses: Sequence[WitnessClient], threshold: int) -> None:
        if not 1 <= threshold <= len(witnesses):
            raise ValueError("the threshold is between 1 and the number of witnesses")
        self._store = store
        self._witnesses = tuple(witnesses)
        self._threshold = threshold
        self._sizes = [0] * len(self._witnesses)
        self._pool = ThreadPoolExecutor(max_workers=len(witnesses), thread_name_prefix="witness")
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._next: Future[_Head] | None = None
        self._covered: _Head | None = None

    def receipt(self, index: int) -> Receipt:
        """The receipt of a committed entry under a cosigned checkpoint.

        Raises:
            StrongroomError: `witness-missing`, `witness-ahead`, or a code of the store.
        """
        head = self._cover(index)
        with self._store.read() as db:
            return log.receipt(db, index, head.signed.render().encode(), head.size)

    def refresh(self) -> None:
        """Have the newest checkpoint cosigned, so that auditors see what happened since the last release.

        Raises:
            StrongroomError: As `receipt`.
        """
        with self._store.read() as db:
            size = log.size(db)
        if size > 0:
            self._cover(size - 1)

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(wait=True)
        for witness in self._witnesses:
            witness.close()

    def _cover(self, index: int) -> _Head:
        """A cosigned checkpoint over a committed entry."""
        with self._lock:
            if self._covered is not None and self._covered.size > index:
                return self._covered
            waited_for = self._next
            if waited_for is None:
                mine = self._next = Future()
        if waited_for is not None:
            return waited_for.result()
        with self._turn:
            with self._lock:
                self._next = None  # whoever comes from here on may not be in the checkpoint that is read now
            try:
                mine.set_result(self._round())
            except BaseException as error:  # whatever it is, nobody may wait for ever
                mine.set_exception(error)
        return mine.result()

    def _round(self) -> _Head:
        """Have the newest checkpoint cosigned."""
        for _ in range(_ATTEMPTS):
            signed = note.parse(log.newest(self._store))
            head = _Head(checkpoint.parse(signed.text).size, signed)
            if self._covered is not None and self._covered.size >= head.size:
                return self._covered
            try:
                cosigned = _Head(head.size, Note(signed.text, signed.signatures + self._cosignatures(head)))
            except _AheadError as error:
                with self._store.read() as db:
                    size = log.size(db)
                if error.size > size:
                    raise BrokerError(WITNESS_AHEAD, found=error.size, expected=f"at most {size}") from error
                continue  # another broker of this store was faster: ask for what it has written
            with self._store.write() as db:
                log.save_cosigned(db, cosigned.signed.render().encode())
            with self._lock:
                self._covered = cosigned
            return cosigned
        raise BrokerError(WITNESS_MISSING, "the log grows faster than the witnesses answer")

    def _cosignatures(self, head: _Head) -> tuple[NoteSignature, ...]:
        asked = [self._pool.submit(self._ask, number, head) for number in range(len(self._witnesses))]
        found: list[NoteSignature] = []
        ahead: _AheadError | None = None
        for future, witness in zip(asked, self._witnesses, strict=True):
            try:
                found.append(future.result())
            except StrongroomError as error:
                _log.warning("witness %s: %s", witness.key.name, error)
            except _AheadError as error:
                ahead = error
        if ahead is not None:
            raise ahead
        if len(found) < self._threshold:
            raise BrokerError(WITNESS_MISSING, found=len(found), expected=self._threshold)
        return tuple(found)

    def _ask(self, number: int, head: _Head) -> NoteSignature:
        witness = self._witnesses[number]
        for _ in range(_ATTEMPTS):
            old = self._sizes[number]
            if old > head.size:
                raise _AheadError(old)
            with self._store.read() as db:
                proof = merkle.consistency_proof(old, head.size, log.fetch(db))
            answer = witness.add(AddCheckpoint(old, proof, head.signed.render().encode()), head.signed.text)
            if isinstance(answer, NoteSignature):
                self._sizes[number] = head.size
                return answer
            self._sizes[number] = answer
        raise BrokerError(WITNESS_MISSING, f"{witness.key.name} names another size each time")
