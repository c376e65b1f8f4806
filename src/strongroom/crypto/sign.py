"""Signatures with ML-DSA-65 and Ed25519 together, under keys that are named by their digest.

    key = SigningKey.generate()
    signature = key.sign("strongroom-keyset/2", payload)
    VerifyingKey.parse(text).verify("strongroom-keyset/2", payload, signature, what="keyset")

What a policy or an init-data pins must be short, and an ML-DSA key has 1952 bytes. So a key in text is
`ed25519+mldsa65:` and SHA-256 of both public keys in base64url, and the public keys travel in front of each
signature. They are believed only if they have the pinned digest.

A signature holds if both of its halves do (`_composite`). The purpose is the signature's context, so that one
made for one kind of document never holds for another. There is no signature of one half alone, and no way to
ask for less than both.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Final, Self

from strongroom.codec import b64
from strongroom.crypto._composite import (
    MAX_CONTEXT,
    PUBLIC_SIZE,
    SECRET_SIZE,
    SUITE,
    PrivateKey,
    PublicKey,
    parse_public_key,
)
from strongroom.crypto._composite import SIGNATURE_SIZE as _COMPOSITE_SIZE
from strongroom.crypto.errors import SIGNATURE_INVALID, SIGNING_KEY_INVALID
from strongroom.errors import CodecError, CryptoError

__all__ = ["DIGEST_SIZE", "PREFIX", "SECRET_SIZE", "SIGNATURE_SIZE", "SUITE", "SigningKey", "VerifyingKey"]

DIGEST_SIZE: Final = 32
SIGNATURE_SIZE: Final = PUBLIC_SIZE + _COMPOSITE_SIZE
"""Bytes of a signature: the public keys and both halves, 5357."""

PREFIX: Final = "ed25519+mldsa65:"


def _context(purpose: str) -> bytes:
    context = purpose.encode()
    if not 0 < len(context) <= MAX_CONTEXT:
        raise ValueError(f"a signing purpose is a text of 1 to {MAX_CONTEXT} bytes")
    return context


class VerifyingKey:
    """The digest of a pair of public keys: all that is needed to check what they signed."""

    __slots__ = ("_digest",)

    def __init__(self, digest: bytes) -> None:
        """Take the 32 bytes of the digest.

        Raises:
            CryptoError: `signing-key-invalid`: wrong length.
        """
        if len(digest) != DIGEST_SIZE:
            raise CryptoError(SIGNING_KEY_INVALID, "digest", found=len(digest), expected=DIGEST_SIZE)
        self._digest = bytes(digest)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key from its text.

        Raises:
            CryptoError: `signing-key-invalid`.
        """
        if not text.startswith(PREFIX):
            raise CryptoError(SIGNING_KEY_INVALID, f"the text does not begin with {PREFIX}")
        try:
            digest = b64.decode_url(text.removeprefix(PREFIX), limit=DIGEST_SIZE, what="digest of the keys")
        except CodecError as error:
            raise CryptoError(SIGNING_KEY_INVALID, "the text after the prefix is not base64url") from error
        return cls(digest)

    @property
    def text(self) -> str:
        """`ed25519+mldsa65:` and the digest in base64url without padding."""
        return PREFIX + b64.encode_url(self._digest)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the ML-DSA-65 public key followed by the Ed25519 one, 32 bytes."""
        return self._digest

    def verify(self, purpose: str, payload: bytes, signature: bytes, *, what: str) -> None:
        """Check a signature over `payload` for `purpose`.

        Args:
            purpose: The kind of document, for example `strongroom-keyset/2`.
            payload: The exact bytes that were signed.
            signature: 5357 bytes: the public keys and both halves.
            what: The document's name, for the error.

        Raises:
            CryptoError: `signature-invalid`; or `signing-key-invalid`, the pinned key itself is none.
        """
        context = _context(purpose)
        public_key = self._public_key(signature)
        if public_key is None or not public_key.accepts(context, payload, signature[PUBLIC_SIZE:]):
            raise CryptoError(SIGNATURE_INVALID, f"{what}, under key {self.text}")

    def _public_key(self, signature: bytes) -> PublicKey | None:
        """The public keys in front of a signature, if they are the pinned ones."""
        raw = bytes(signature[:PUBLIC_SIZE])
        if hashlib.sha256(raw).digest() != self._digest:
            return None
        return parse_public_key(raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyingKey) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return f"VerifyingKey({self.text!r})"


class SigningKey:
    """The private keys, and the digest of the public ones."""

    __slots__ = ("_key", "verifying_key")

    def __init__(self, raw: bytes) -> None:
        """Take the 64 secret bytes: the seed of the ML-DSA-65 key, then that of the Ed25519 key.

        Raises:
            CryptoError: `signing-key-invalid`: wrong length.
        """
        self._key = PrivateKey(raw)
        self.verifying_key = VerifyingKey(hashlib.sha256(self._key.public_key.raw).digest())

    @classmethod
    def generate(cls, rng: Callable[[int], bytes] = os.urandom) -> Self:
        """Make a new key from 64 bytes of `rng`."""
        return cls(rng(SECRET_SIZE))

    @classmethod
    def from_raw(cls, raw: bytes) -> Self:
        """Take the 64 secret bytes.

        Raises:
            CryptoError: `signing-key-invalid`: wrong length.
        """
        return cls(raw)

    def raw(self) -> bytes:
        """The 64 secret bytes."""
        return self._key.raw()

    def sign(self, purpose: str, payload: bytes) -> bytes:
        """Sign `payload` for `purpose`; 5357 bytes, the public keys in front. No two are alike."""
        return self._key.public_key.raw + self._key.sign(_context(purpose), payload)

    def __repr__(self) -> str:
        return f"SigningKey(public={self.verifying_key.text!r})"
