"""Ed25519 signatures with domain separation (RFC 8032).

What is signed is `purpose || 0x00 || payload`, so that a signature made for one kind of document never holds
for another. A key in text is `ed25519:` and its 32 bytes in base64url.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from strongroom.codec import b64
from strongroom.crypto.errors import SIGNATURE_INVALID, SIGNING_KEY_INVALID
from strongroom.errors import CodecError, CryptoError

KEY_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64
PREFIX: Final = "ed25519:"

_FIELD_PRIME: Final = 2**255 - 19
_ORDER_8_Y: Final = 55188659117513257062467267217118295137698188065244968500265048394206261417927
# The y coordinates of the eight points of small order. Under such a key anybody can forge.
_SMALL_ORDER: Final = frozenset({0, 1, _FIELD_PRIME - 1, _ORDER_8_Y, _FIELD_PRIME - _ORDER_8_Y})


def _message(purpose: str, payload: bytes) -> bytes:
    if not purpose or "\0" in purpose:
        raise ValueError("a signing purpose is a non-empty text without NUL")
    return purpose.encode() + b"\0" + payload


class VerifyingKey:
    """An Ed25519 public key."""

    __slots__ = ("_key", "_raw")

    def __init__(self, raw: bytes) -> None:
        """Check the key's 32 bytes.

        Raises:
            CryptoError: `signing-key-invalid`: wrong length, not the canonical encoding of a coordinate, or a
                point of small order, for which signatures prove nothing.
        """
        if len(raw) != KEY_SIZE:
            raise CryptoError(SIGNING_KEY_INVALID, "length", found=len(raw), expected=KEY_SIZE)
        y = int.from_bytes(raw, "little") & (2**255 - 1)
        if y >= _FIELD_PRIME:
            raise CryptoError(SIGNING_KEY_INVALID, "the encoding is not canonical")
        if y in _SMALL_ORDER:
            raise CryptoError(SIGNING_KEY_INVALID, "the point is of small order")
        self._raw = bytes(raw)
        self._key = Ed25519PublicKey.from_public_bytes(self._raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key from its text.

        Raises:
            CryptoError: `signing-key-invalid`.
        """
        if not text.startswith(PREFIX):
            raise CryptoError(SIGNING_KEY_INVALID, f"the text does not begin with {PREFIX}")
        try:
            raw = b64.decode_url(text.removeprefix(PREFIX), limit=KEY_SIZE, what="Ed25519 key")
        except CodecError as error:
            raise CryptoError(SIGNING_KEY_INVALID, "the text after the prefix is not base64url") from error
        return cls(raw)

    @property
    def text(self) -> str:
        """`ed25519:` and the key in base64url without padding."""
        return PREFIX + b64.encode_url(self._raw)

    def raw(self) -> bytes:
        """The key's 32 bytes."""
        return self._raw

    def verify(self, purpose: str, payload: bytes, signature: bytes, *, what: str) -> None:
        """Check a signature over `payload` for `purpose`.

        Args:
            purpose: The kind of document, for example `strongroom-keyset/1`.
            payload: The exact bytes that were signed.
            signature: 64 bytes.
            what: The document's name, for the error.

        Raises:
            CryptoError: `signature-invalid`.
        """
        try:
            self._key.verify(signature, _message(purpose, payload))
        except InvalidSignature as error:
            raise CryptoError(SIGNATURE_INVALID, f"{what}, under key {self.text}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyingKey) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self._raw)

    def __repr__(self) -> str:
        return f"VerifyingKey({self.text!r})"


class SigningKey:
    """An Ed25519 private key."""

    __slots__ = ("_key", "_raw", "verifying_key")

    def __init__(self, raw: bytes) -> None:
        """Take the key's 32 secret bytes.

        Raises:
            CryptoError: `signing-key-invalid`: wrong length.
        """
        if len(raw) != KEY_SIZE:
            raise CryptoError(SIGNING_KEY_INVALID, "length", found=len(raw), expected=KEY_SIZE)
        self._raw = bytes(raw)
        self._key = Ed25519PrivateKey.from_private_bytes(self._raw)
        self.verifying_key = VerifyingKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, rng: Callable[[int], bytes] = os.urandom) -> Self:
        """Make a new key from 32 bytes of `rng`."""
        return cls(rng(KEY_SIZE))

    @classmethod
    def from_raw(cls, raw: bytes) -> Self:
        """Take the key's 32 secret bytes.

        Raises:
            CryptoError: `signing-key-invalid`: wrong length.
        """
        return cls(raw)

    def raw(self) -> bytes:
        """The key's 32 secret bytes."""
        return self._raw

    def sign(self, purpose: str, payload: bytes) -> bytes:
        """Sign `payload` for `purpose`; 64 bytes."""
        return self._key.sign(_message(purpose, payload))

    def __repr__(self) -> str:
        return f"SigningKey(public={self.verifying_key.text!r})"
