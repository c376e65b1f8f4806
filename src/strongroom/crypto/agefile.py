"""Sealed files: age files for one X25519 recipient (age-encryption.org/v1), through pyrage.

An age file is authenticated from end to end under a key that only the identity can open, but it does not say
who sealed it: anyone who knows the recipient can make one. Whoever opens one must know its digest from a
signed source.
"""

from __future__ import annotations

from typing import Final

import pyrage

from strongroom.crypto.errors import AGE_KEY_INVALID, AGE_OPEN_FAILED, AGE_OVERSIZE
from strongroom.errors import CryptoError

HEADER_LIMIT: Final = 4096
_LINES: Final = 40
_WORDS: Final = 128
_MAGIC: Final = b"age-encryption.org/v1\n"
_END: Final = b"\n--- "
_CHUNK: Final = 64 * 1024
_TAG: Final = 16
_KEY_TEXT_LIMIT: Final = 128


def generate_identity() -> str:
    """Make a new identity: `AGE-SECRET-KEY-1...`. The randomness is the age library's own."""
    return str(pyrage.x25519.Identity.generate())


def recipient_of(identity: str) -> str:
    """The recipient (`age1...`) to which files for `identity` are sealed.

    Raises:
        CryptoError: `age-key-invalid`.
    """
    return str(_identity(identity).to_public())


def seal(data: bytes, recipient: str) -> bytes:
    """Seal `data` to `recipient` (`age1...`) as a binary age file.

    Raises:
        CryptoError: `age-key-invalid`.
    """
    if len(recipient) > _KEY_TEXT_LIMIT:
        raise CryptoError(AGE_KEY_INVALID, "the recipient is too long")
    try:
        key = pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError as error:
        raise CryptoError(AGE_KEY_INVALID, "the recipient is not an age X25519 recipient") from error
    sealed: bytes = pyrage.encrypt(data, [key])
    return sealed


def open_sealed(data: bytes, identity: str, *, limit: int) -> bytes:
    """Open an age file.

    Args:
        data: The whole file.
        identity: `AGE-SECRET-KEY-1...`.
        limit: Most bytes of plaintext to accept. Larger files are refused before they are parsed.

    Raises:
        CryptoError: `age-oversize`, `age-key-invalid`, or `age-open-failed` when the file is changed, cut,
            not an age file or sealed to another identity.
    """
    if len(data) > sealed_size_limit(limit):
        raise CryptoError(AGE_OVERSIZE, found=f"{len(data)} bytes", expected=f"at most {limit} of content")
    key = _identity(identity)
    _check_header(data)
    try:
        plain: bytes = pyrage.decrypt(data, [key])
    except pyrage.DecryptError as error:
        raise CryptoError(AGE_OPEN_FAILED) from error
    if len(plain) > limit:
        raise CryptoError(AGE_OVERSIZE, found=f"{len(plain)} bytes", expected=f"at most {limit}")
    return plain


def sealed_size_limit(limit: int) -> int:
    """Most bytes that an age file of `limit` bytes of content can have, with up to 4 KiB of header."""
    return HEADER_LIMIT + limit + _TAG * (limit // _CHUNK + 1)


def _check_header(data: bytes) -> None:
    """Refuse a header that is longer than one for a dozen recipients.

    The library looks for the header's end in the whole file, in the square of what is before it.
    """
    if not data.startswith(_MAGIC):  # the library would also read the ASCII armor, which has many spellings
        raise CryptoError(AGE_OPEN_FAILED, "it is not a binary age file")
    end = data.find(_END, 0, HEADER_LIMIT)
    if end < 0 or data.count(b"\n", 0, end) > _LINES or data.count(b" ", 0, end) > _WORDS:
        raise CryptoError(
            AGE_OPEN_FAILED,
            "the header is not one that is opened here",
            expected=f"at most {HEADER_LIMIT} bytes, {_LINES} lines and {_WORDS} words",
        )


def _identity(text: str) -> pyrage.x25519.Identity:
    if len(text) > _KEY_TEXT_LIMIT:
        raise CryptoError(AGE_KEY_INVALID, "the identity is too long")
    try:
        return pyrage.x25519.Identity.from_str(text)
    except pyrage.IdentityError:
        # from None: the library's message is about a secret
        raise CryptoError(AGE_KEY_INVALID, "the identity is not an age X25519 identity") from None
