"""Texts with Merkle hashes: proofs of inclusion (C2SP tlog-proof), requests to a witness (tlog-witness).

A proof begins with `c2sp.org/tlog-proof@v1` and `index 73894`, a request with `old 20852014`. Both go on with
hashes, one a line, an empty line, and the checkpoint's signed note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.codec import b64
from strongroom.codec.checkpoint import HASH_BYTES, parse_size
from strongroom.codec.errors import ADD_CHECKPOINT_MALFORMED, LOG_PROOF_MALFORMED, VALUE_TOO_LARGE
from strongroom.codec.note import MAX_NOTE
from strongroom.errors import CodecError, ErrorCode

MAX_HASHES: Final = 63
MAX_TEXT: Final = MAX_NOTE + 4096
_HEADER: Final = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """Where an entry stands in a log. It proves nothing until note and hashes are checked.

    Attributes:
        index: Number of the entry, from 0.
        hashes: The path from the entry's sibling to the root's child.
        checkpoint: The signed note of the log's checkpoint.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes

    def render(self) -> bytes:
        """The proof as it is published."""
        lines = [_HEADER, f"index {self.index}", *map(b64.encode_std, self.hashes), ""]
        return "".join(f"{line}\n" for line in lines).encode() + self.checkpoint


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """What a log asks a witness to cosign.

    Attributes:
        old: Size of the checkpoint that the witness cosigned last.
        hashes: The proof that the log has only grown since.
        checkpoint: The signed note of the new checkpoint.
    """

    old: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes

    def render(self) -> bytes:
        """The body of the request."""
        lines = [f"old {self.old}", *map(b64.encode_std, self.hashes), ""]
        return "".join(f"{line}\n" for line in lines).encode() + self.checkpoint


def parse_inclusion(data: bytes) -> InclusionProof:
    """Read a proof of inclusion; a line with extra data is skipped, nothing signs it.

    Raises:
        CodecError: `value-too-large`, `log-proof-malformed` or `base64-invalid`.
    """
    lines, checkpoint = _split(data, LOG_PROOF_MALFORMED)
    if not lines or lines.pop(0) != _HEADER:
        raise CodecError(LOG_PROOF_MALFORMED, "another first line", expected=_HEADER)
    if lines and lines[0].startswith("extra "):
        del lines[0]
    index = _number(lines, "index", LOG_PROOF_MALFORMED)
    return InclusionProof(index, _hashes(lines, LOG_PROOF_MALFORMED), checkpoint)


def parse_add_checkpoint(data: bytes) -> AddCheckpoint:
    """Read a request to a witness.

    Raises:
        CodecError: `value-too-large`, `add-checkpoint-malformed` or `base64-invalid`.
    """
    lines, checkpoint = _split(data, ADD_CHECKPOINT_MALFORMED)
    old = _number(lines, "old", ADD_CHECKPOINT_MALFORMED)
    return AddCheckpoint(old, _hashes(lines, ADD_CHECKPOINT_MALFORMED), checkpoint)


def _split(data: bytes, kind: ErrorCode) -> tuple[list[str], bytes]:
    """The lines before the first empty one, and what stands behind it."""
    if len(data) > MAX_TEXT:
        raise CodecError(VALUE_TOO_LARGE, found=f"{len(data)} bytes", expected=f"at most {MAX_TEXT}")
    head, separator, rest = data.partition(b"\n\n")
    if not separator or not head.isascii():
        raise CodecError(kind, "no empty line, or a head that is not ASCII")
    return head.decode("ascii").split("\n"), rest


def _number(lines: list[str], name: str, kind: ErrorCode) -> int:
    word, _, digits = (lines.pop(0) if lines else "").partition(" ")
    number = parse_size(digits)
    if word != name or number is None:
        raise CodecError(kind, "a line has another form", expected=f"{name} NUMBER")
    return number


def _hashes(lines: Sequence[str], kind: ErrorCode) -> tuple[bytes, ...]:
    if len(lines) > MAX_HASHES:
        raise CodecError(kind, "too many hashes", expected=f"at most {MAX_HASHES}")
    hashes = tuple(b64.decode_std(line, limit=HASH_BYTES, what="hash") for line in lines)
    if any(len(each) != HASH_BYTES for each in hashes):
        raise CodecError(kind, "a hash is too short", expected=f"{HASH_BYTES} bytes")
    return hashes
