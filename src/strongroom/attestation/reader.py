"""Reading members of a binary structure one after the other, never beyond its end."""

from __future__ import annotations

from typing import Literal

from strongroom.attestation.errors import EVIDENCE_MALFORMED
from strongroom.errors import EvidenceError


class Reader:
    """A position in a structure.

    Args:
        data: The structure; its bound is the caller's to check.
        what: What it is, for errors.
        order: Of the bytes of numbers.
    """

    def __init__(self, data: bytes, what: str, order: Literal["little", "big"]) -> None:
        self._data = bytes(data)
        self._what = what
        self._order = order
        self.position = 0

    def error(self, detail: str) -> EvidenceError:
        """That the structure is malformed."""
        return EvidenceError(EVIDENCE_MALFORMED, f"{self._what}: {detail}")

    @property
    def rest(self) -> bytes:
        """All that has not been read."""
        return self._data[self.position :]

    def peek(self, size: int) -> bytes:
        """The next bytes, or as many as there are; they stay to be read."""
        return self._data[self.position : self.position + size]

    def take(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            EvidenceError: `evidence-malformed`: there are fewer.
        """
        part = self.peek(size)
        if len(part) != size:
            raise self.error("truncated")
        self.position += size
        return part

    def number(self, size: int) -> int:
        """The next bytes as an unsigned number.

        Raises:
            EvidenceError: As `take`.
        """
        return int.from_bytes(self.take(size), self._order)

    def end(self) -> None:
        """Refuse a structure that goes on.

        Raises:
            EvidenceError: `evidence-malformed`.
        """
        if self.peek(1):
            raise self.error("bytes after its end")
