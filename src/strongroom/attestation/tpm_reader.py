"""What all structures of a TPM 2.0 are made of: numbers, buffers, and codes of algorithms.

Source: TCG, "Trusted Platform Module Library, Part 2: Structures", revision 1.59; each class and function
names its structure there. Numbers are big-endian. A buffer `TPM2B_...` is a length of two bytes and as many
bytes. Whatever the input, only `EvidenceError` is raised.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Final, TypeVar

from strongroom.attestation.errors import EVIDENCE_ALGORITHM, EVIDENCE_TOO_LARGE
from strongroom.attestation.reader import Reader
from strongroom.errors import EvidenceError

MAX_STRUCTURE: Final = 2048
"""Most bytes of one structure; the largest that is accepted, the public area of an RSA-4096 key, has 600."""

_NULL: Final = 0x0010

_Code = TypeVar("_Code", bound=IntEnum)


class TpmHash(IntEnum):
    """Hash algorithms that are accepted (TPM_ALG_ID, section 6.3). SHA-1, above all, is not."""

    SHA256 = 0x000B
    SHA384 = 0x000C

    @property
    def label(self) -> str:
        """`sha256` or `sha384`."""
        return self.name.lower()

    @property
    def size(self) -> int:
        """Length of a digest in bytes."""
        return hashlib.new(self.label).digest_size

    def digest(self, data: bytes) -> bytes:
        """The digest of some bytes."""
        return hashlib.new(self.label, data).digest()


class TpmScheme(IntEnum):
    """Signature schemes that are accepted (TPM_ALG_ID, section 6.3)."""

    RSASSA = 0x0014
    RSAPSS = 0x0016
    ECDSA = 0x0018


class TpmReader(Reader):
    """Reads the members of one structure, at most 2048 bytes.

    Raises:
        EvidenceError: `evidence-too-large`.
    """

    def __init__(self, data: bytes, what: str) -> None:
        if len(data) > MAX_STRUCTURE:
            raise EvidenceError(
                EVIDENCE_TOO_LARGE, what, found=f"{len(data)} bytes", expected=f"at most {MAX_STRUCTURE}"
            )
        super().__init__(data, what, "big")

    def buffer(self, most: int) -> bytes:
        """A TPM2B.

        Raises:
            EvidenceError: `evidence-malformed`.
        """
        size = self.number(2)
        if size > most:
            raise self.error(f"a member of {size} bytes, at most {most} are allowed")
        return self.take(size)

    def code(self, codes: type[_Code], what: str) -> _Code:
        """One of the algorithms that are accepted.

        Raises:
            EvidenceError: `evidence-algorithm`, or as `take`.
        """
        found = self.number(2)
        try:
            return codes(found)
        except ValueError:
            expected = ", ".join(each.name for each in codes)
            raise EvidenceError(
                EVIDENCE_ALGORITHM, f"{self._what}: {what}", found=f"{found:#06x}", expected=expected
            ) from None

    def null(self) -> bool:
        """Whether TPM_ALG_NULL comes next, which is then read."""
        found = self.peek(2) == _NULL.to_bytes(2)
        self.position += 2 * found
        return found
