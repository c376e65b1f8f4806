"""Receipts: an entry of the log, what opens it, and the proof that it stands there.

    {"type": "strongroom-log-receipt/1", "entry": "{...}", "opening": {"salt": ..., "facts": {...}},
     "proof": "c2sp.org/tlog-proof@v1 ..."}

`entry` is the exact text of the entry, `proof` a tlog-proof (C2SP) with the checkpoint and its signatures.
Anybody can check a receipt offline with the log's key. A release carries one, and the worker checks it
(`strongroom.broker.envelope`); the owner of a service or model takes his from the broker's store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from strongroom.broker import log_entry
from strongroom.broker.log_entry import MAX_OPENING, Opening
from strongroom.broker.log_errors import LOG_UNWITNESSED, RECEIPT_INVALID
from strongroom.codec import checkpoint, jcs, note, tlog
from strongroom.codec.checkpoint import Checkpoint
from strongroom.codec.tiles import MAX_ENTRY
from strongroom.crypto import merkle
from strongroom.crypto.notes import NoteKey, cosigners
from strongroom.errors import BrokerError, CodecError

RECEIPT_TYPE: Final = "strongroom-log-receipt/1"
MAX_RECEIPT: Final = 2 * (MAX_ENTRY + MAX_OPENING + tlog.MAX_TEXT)
_NAMES: Final = {"type", "entry", "opening", "proof"}


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Which cosignatures a checkpoint must carry.

    Attributes:
        keys: Keys of the witnesses.
        threshold: How many of them; 0 asks for none.
    """

    keys: tuple[NoteKey, ...] = ()
    threshold: int = 0

    def check(self, signed: note.Note) -> None:
        """Refuse a checkpoint that too few have cosigned.

        Raises:
            BrokerError: `log-unwitnessed`.
            CryptoError: `signature-invalid`, of a known witness.
        """
        found = cosigners(signed, self.keys)
        if len(found) < self.threshold:
            raise BrokerError(LOG_UNWITNESSED, found=len(found), expected=self.threshold)


NO_WITNESSES: Final = Witnesses()


@dataclass(frozen=True, slots=True)
class Receipt:
    """An entry with its proof.

    Attributes:
        entry: The entry's exact bytes.
        opening: What opens it, if it hides anything.
        proof: Where it stands.
    """

    entry: bytes
    opening: Opening | None
    proof: tlog.InclusionProof

    def members(self) -> dict[str, Any]:
        """As JSON members."""
        return {
            "type": RECEIPT_TYPE,
            "entry": self.entry.decode(),
            "opening": None if self.opening is None else self.opening.members(),
            "proof": self.proof.render().decode(),
        }

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a receipt as JSON.

        Raises:
            BrokerError: `log-receipt-invalid`.
        """
        try:
            members = jcs.parse(data, limit=MAX_RECEIPT, what="receipt")
        except CodecError as error:
            raise BrokerError(RECEIPT_INVALID, str(error)) from error
        return cls.read(members)

    @classmethod
    def read(cls, members: Any) -> Self:
        """Read the members.

        Raises:
            BrokerError: `log-receipt-invalid`.
        """
        if not isinstance(members, dict) or members.keys() != _NAMES or members["type"] != RECEIPT_TYPE:
            raise BrokerError(RECEIPT_INVALID, "not a receipt", expected=RECEIPT_TYPE)
        entry, proof, opening = members["entry"], members["proof"], members["opening"]
        if not isinstance(entry, str) or not isinstance(proof, str):
            raise BrokerError(RECEIPT_INVALID, "entry or proof is not a text")
        try:
            parsed = tlog.parse_inclusion(proof.encode())
        except CodecError as error:
            raise BrokerError(RECEIPT_INVALID, str(error)) from error
        return cls(entry.encode(), None if opening is None else Opening.read(opening), parsed)

    def check(self, key: NoteKey, witnesses: Witnesses = NO_WITNESSES) -> dict[str, Any]:
        """Check everything that the receipt claims.

        Args:
            key: The log's key.
            witnesses: Which cosignatures it must have besides.

        Returns:
            All facts of the entry.

        Raises:
            BrokerError: `log-receipt-invalid` or `log-unwitnessed`.
            CryptoError: `note-unsigned`, `signature-invalid` or `merkle-proof-invalid`.
        """
        head = check_checkpoint(self.proof.checkpoint, key, witnesses)
        merkle.verify_inclusion(
            leaf=merkle.leaf_hash(self.entry),
            index=self.proof.index,
            size=head.size,
            proof=self.proof.hashes,
            root_hash=head.root,
        )
        return log_entry.opened(self.entry, self.opening)


def check_checkpoint(data: bytes, key: NoteKey, witnesses: Witnesses = NO_WITNESSES) -> Checkpoint:
    """Read a signed checkpoint of a log and check who signed it.

    Raises:
        BrokerError: `log-receipt-invalid`, it is malformed or of another log; `log-unwitnessed`.
        CryptoError: `note-unsigned` or `signature-invalid`.
    """
    try:
        signed = note.parse(data)
        key.check(signed)
        head = checkpoint.parse(signed.text)
    except CodecError as error:
        raise BrokerError(RECEIPT_INVALID, str(error)) from error
    if head.origin != key.name:
        raise BrokerError(RECEIPT_INVALID, "the checkpoint is of another log", expected=key.name)
    witnesses.check(signed)
    return head


def witnesses_of(texts: Sequence[str], threshold: int) -> Witnesses:
    """Witnesses from their keys in text.

    Raises:
        CryptoError: `note-key-invalid` or `signing-key-invalid`.
    """
    return Witnesses(tuple(map(NoteKey.parse, texts)), threshold)
