"""Composite signatures of ML-DSA-65 and Ed25519: `id-MLDSA65-Ed25519-SHA512`.

Source: draft-ietf-lamps-pq-composite-sigs, sections 3 and 4; FIPS 204; RFC 8032. Both halves sign the same
message representative

    M' = "CompositeAlgorithmSignatures2025" || Label || len(ctx) || ctx || SHA-512(M)

and a signature holds only if both halves do. The label is ML-DSA's context string as well, so that neither
half, cut out of a composite signature, is a signature over M, nor one of another composite.

Keys and signatures are serialized as the draft does it: the ML-DSA part first, then the Ed25519 part.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha512
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from strongroom.crypto.errors import SIGNING_KEY_INVALID
from strongroom.errors import CryptoError

SUITE: Final = "MLDSA65-Ed25519-SHA512"
SEED_SIZE: Final = 32
SECRET_SIZE: Final = 2 * SEED_SIZE
PUBLIC_SIZE: Final = 1952 + 32
SIGNATURE_SIZE: Final = 3309 + 64
MAX_CONTEXT: Final = 255

_PREFIX: Final = b"CompositeAlgorithmSignatures2025"
_LABEL: Final = b"COMPSIG-MLDSA65-Ed25519-SHA512"
_ED25519_PUBLIC: Final = 32
_ED25519_SIGNATURE: Final = 64
_FIELD_PRIME: Final = 2**255 - 19
_ORDER_8_Y: Final = 55188659117513257062467267217118295137698188065244968500265048394206261417927
# The y coordinates of the eight points of small order. Under such a key anybody can forge.
_SMALL_ORDER: Final = frozenset({0, 1, _FIELD_PRIME - 1, _ORDER_8_Y, _FIELD_PRIME - _ORDER_8_Y})


def representative(context: bytes, message: bytes) -> bytes:
    """The bytes that both halves sign.

    Raises:
        ValueError: `context` has more than 255 bytes.
    """
    if len(context) > MAX_CONTEXT:
        raise ValueError(f"a signature's context is at most {MAX_CONTEXT} bytes")
    return _PREFIX + _LABEL + len(context).to_bytes(1) + context + sha512(message).digest()


def parse_ed25519(raw: bytes) -> Ed25519PublicKey:
    """Check and parse an Ed25519 public key.

    Raises:
        CryptoError: `signing-key-invalid`: wrong length, not the canonical encoding of a coordinate, or a
            point of small order, for which signatures prove nothing.
    """
    if len(raw) != _ED25519_PUBLIC:
        raise CryptoError(SIGNING_KEY_INVALID, "Ed25519 key", found=len(raw), expected=_ED25519_PUBLIC)
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _FIELD_PRIME:
        raise CryptoError(SIGNING_KEY_INVALID, "the encoding of the Ed25519 key is not canonical")
    if y in _SMALL_ORDER:
        raise CryptoError(SIGNING_KEY_INVALID, "the point of the Ed25519 key is of small order")
    return Ed25519PublicKey.from_public_bytes(raw)


class PublicKey:
    """Both public keys. Make one with `parse_public_key`.

    Attributes:
        raw: The ML-DSA-65 key (1952 bytes) and the Ed25519 key (32 bytes).
    """

    __slots__ = ("_ed25519", "_mldsa", "raw")

    def __init__(self, raw: bytes) -> None:
        """Check the key's 1984 bytes; every ML-DSA-65 key of the right length is well formed.

        Raises:
            CryptoError: `signing-key-invalid`: wrong length, an Ed25519 key that is not the canonical
                encoding of a coordinate, or one of small order, for which signatures prove nothing.
        """
        if len(raw) != PUBLIC_SIZE:
            raise CryptoError(SIGNING_KEY_INVALID, "public key", found=len(raw), expected=PUBLIC_SIZE)
        self._ed25519 = parse_ed25519(raw[-_ED25519_PUBLIC:])
        self.raw = bytes(raw)
        self._mldsa = MLDSA65PublicKey.from_public_bytes(raw[:-_ED25519_PUBLIC])

    def accepts(self, context: bytes, message: bytes, signature: bytes) -> bool:
        """Whether both halves of a signature hold.

        Args:
            context: What the signature is for, at most 255 bytes.
            message: What was signed.
            signature: The ML-DSA-65 signature (3309 bytes) and the Ed25519 signature (64 bytes).
        """
        if len(signature) != SIGNATURE_SIZE:
            return False
        signed = representative(context, message)
        try:
            self._ed25519.verify(signature[-_ED25519_SIGNATURE:], signed)
            self._mldsa.verify(signature[:-_ED25519_SIGNATURE], signed, _LABEL)
        except InvalidSignature:
            return False
        return True


@lru_cache(maxsize=32)
def parse_public_key(raw: bytes) -> PublicKey:
    """Parse a public key. Kept, because a client checks one broker's signatures again and again.

    Raises:
        CryptoError: `signing-key-invalid`.
    """
    return PublicKey(raw)


class PrivateKey:
    """Both private keys."""

    __slots__ = ("_ed25519", "_mldsa", "_raw", "public_key")

    def __init__(self, raw: bytes) -> None:
        """Take the seed of the ML-DSA-65 key and that of the Ed25519 key, 32 secret bytes each.

        Raises:
            CryptoError: `signing-key-invalid`: wrong length.
        """
        if len(raw) != SECRET_SIZE:
            raise CryptoError(SIGNING_KEY_INVALID, "private key", found=len(raw), expected=SECRET_SIZE)
        self._raw = bytes(raw)
        self._mldsa = MLDSA65PrivateKey.from_seed_bytes(self._raw[:SEED_SIZE])
        self._ed25519 = Ed25519PrivateKey.from_private_bytes(self._raw[SEED_SIZE:])
        public = self._mldsa.public_key().public_bytes_raw() + self._ed25519.public_key().public_bytes_raw()
        self.public_key = parse_public_key(public)

    def raw(self) -> bytes:
        """The 64 secret bytes."""
        return self._raw

    def sign(self, context: bytes, message: bytes) -> bytes:
        """Sign with both; 3373 bytes. The randomness of ML-DSA is OpenSSL's own: the library takes none.

        Raises:
            ValueError: `context` has more than 255 bytes.
        """
        signed = representative(context, message)
        return self._mldsa.sign(signed, _LABEL) + self._ed25519.sign(signed)

    def __repr__(self) -> str:
        return "PrivateKey(...)"
