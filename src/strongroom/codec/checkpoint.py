"""Checkpoints: the text of a log's signed tree head (C2SP tlog-checkpoint).

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.codec import b64
from strongroom.codec.errors import CHECKPOINT_MALFORMED
from strongroom.errors import CodecError

HASH_BYTES: Final = 32
MAX_SIZE: Final = 2**53 - 1
"""Most entries of a log: what JSON carries exactly."""

_MAX_LINE: Final = 1024
_MAX_EXTENSIONS: Final = 16
_DECIMAL: Final = re.compile(r"(0|[1-9][0-9]{0,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log.

    Attributes:
        origin: Which log.
        size: Number of entries.
        root: Merkle tree hash of the entries (RFC 6962, section 2.1).
        extensions: Further lines, which mean nothing here but are signed too.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """What the log and its witnesses sign."""
        lines = (self.origin, str(self.size), b64.encode_std(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse_size(text: str) -> int | None:
    """A number of entries in decimal without leading zeros, or None."""
    size = int(text) if _DECIMAL.fullmatch(text) else None
    return None if size is None or size > MAX_SIZE else size


def parse(text: str) -> Checkpoint:
    """Read the text of a note as a checkpoint.

    Raises:
        CodecError: `checkpoint-malformed`, `base64-invalid` or `value-too-large`.
    """
    if not text.endswith("\n"):
        raise CodecError(CHECKPOINT_MALFORMED, "no newline at the end")
    lines = text[:-1].split("\n", 3 + _MAX_EXTENSIONS)
    if not 3 <= len(lines) <= 3 + _MAX_EXTENSIONS or not all(0 < len(line) <= _MAX_LINE for line in lines):
        raise CodecError(CHECKPOINT_MALFORMED, "an empty, long or missing line")
    size = parse_size(lines[1])
    if size is None:
        raise CodecError(
            CHECKPOINT_MALFORMED, "the size is not a decimal number", expected=f"0 to {MAX_SIZE}"
        )
    root = b64.decode_std(lines[2], limit=HASH_BYTES, what="root hash")
    if len(root) != HASH_BYTES:
        raise CodecError(CHECKPOINT_MALFORMED, "the root hash is too short", expected=f"{HASH_BYTES} bytes")
    return Checkpoint(lines[0], size, root, tuple(lines[3:]))
