"""The two KEMs: DHKEM(X25519, HKDF-SHA256), and MLKEM768-X25519, also known as X-Wing.

Sources: RFC 9180, section 4.1; draft-ietf-hpke-pq with draft-irtf-cfrg-concrete-hybrid-kems. Both refuse an
all-zero X25519 shared secret (RFC 9180, section 7.1.4), the hybrid too: no honest sender makes one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from hashlib import sha3_256, shake_256
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from strongroom.crypto._kdf import labeled_expand, labeled_extract
from strongroom.crypto.errors import HPKE_BAD_ENCAPSULATION, HPKE_BAD_KEY
from strongroom.errors import CryptoError, ErrorCode

SECRET_SIZE: Final = 32
SEED_SIZE: Final = 32

_X25519_SIZE: Final = 32
_MLKEM_PUBLIC_SIZE: Final = 1184
_MLKEM_CIPHERTEXT_SIZE: Final = 1088
_MLKEM_SEED_SIZE: Final = 64
_DHKEM_SUITE_ID: Final = b"KEM\x00\x20"
_HYBRID_LABEL: Final = b"\\.//^\\"


class Kem(IntEnum):
    """Key encapsulation mechanisms, by their IANA number."""

    X25519_HKDF_SHA256 = 0x0020
    MLKEM768_X25519 = 0x647A

    @property
    def public_key_size(self) -> int:
        """Bytes of a public key (Npk)."""
        return _X25519_SIZE if self is Kem.X25519_HKDF_SHA256 else _MLKEM_PUBLIC_SIZE + _X25519_SIZE

    @property
    def enc_size(self) -> int:
        """Bytes of an encapsulated key (Nenc)."""
        return _X25519_SIZE if self is Kem.X25519_HKDF_SHA256 else _MLKEM_CIPHERTEXT_SIZE + _X25519_SIZE


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A parsed public key; `mlkem` is None for DHKEM."""

    x25519: X25519PublicKey
    x25519_raw: bytes
    mlkem: MLKEM768PublicKey | None


@lru_cache(maxsize=64)
def parse_public_key(kem: Kem, raw: bytes) -> PublicKey:
    """Check and parse a serialized public key. Kept, because a client seals to one key again and again.

    Raises:
        CryptoError: `hpke-bad-key`: wrong length, or an ML-KEM coefficient out of range (FIPS 203, section
            7.2).
    """
    if len(raw) != kem.public_key_size:
        raise CryptoError(HPKE_BAD_KEY, "public key length", found=len(raw), expected=kem.public_key_size)
    x25519_raw = raw[-_X25519_SIZE:]
    x25519 = X25519PublicKey.from_public_bytes(x25519_raw)
    if kem is Kem.X25519_HKDF_SHA256:
        return PublicKey(x25519, x25519_raw, None)
    try:
        mlkem = MLKEM768PublicKey.from_public_bytes(raw[:-_X25519_SIZE])
    except ValueError as error:
        raise CryptoError(HPKE_BAD_KEY, "the ML-KEM-768 part of the public key") from error
    return PublicKey(x25519, x25519_raw, mlkem)


def encapsulate(kem: Kem, public_key: bytes, rng: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """Make a shared secret for the holder of `public_key`.

    The ephemeral X25519 key is 32 bytes of `rng`. ML-KEM's randomness is OpenSSL's own: the library takes
    none.

    Returns:
        The shared secret (32 bytes) and its encapsulation (`kem.enc_size` bytes).

    Raises:
        CryptoError: `hpke-bad-key`: the public key is malformed, or leads to an all-zero shared secret.
    """
    key = parse_public_key(kem, public_key)
    ephemeral = X25519PrivateKey.from_private_bytes(rng(SEED_SIZE))
    ephemeral_public = ephemeral.public_key().public_bytes_raw()
    secret_x = _exchange(ephemeral, key.x25519, HPKE_BAD_KEY)
    if key.mlkem is None:
        return _dhkem_secret(secret_x, ephemeral_public + key.x25519_raw), ephemeral_public
    secret_m, ciphertext = key.mlkem.encapsulate()
    return _combine(secret_m, secret_x, ephemeral_public, key.x25519_raw), ciphertext + ephemeral_public


class PrivateKey:
    """A KEM's private key, expanded once.

    Its serialized form is the 32 bytes of an X25519 key, or the 32-byte seed of 0x647a, which SHAKE256
    expands to the 64-byte ML-KEM seed and the X25519 key.
    """

    __slots__ = ("_mlkem", "_public", "_raw", "_x25519", "_x25519_public", "kem")

    def __init__(self, kem: Kem, raw: bytes) -> None:
        """Expand the serialized key.

        Raises:
            CryptoError: `hpke-bad-key`: wrong length.
        """
        if len(raw) != SEED_SIZE:
            raise CryptoError(HPKE_BAD_KEY, "private key length", found=len(raw), expected=SEED_SIZE)
        self.kem = kem
        self._raw = bytes(raw)
        self._mlkem: MLKEM768PrivateKey | None = None
        x25519_raw, mlkem_public = self._raw, b""
        if kem is Kem.MLKEM768_X25519:
            expanded = shake_256(self._raw).digest(_MLKEM_SEED_SIZE + _X25519_SIZE)
            self._mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_SIZE])
            x25519_raw, mlkem_public = (
                expanded[_MLKEM_SEED_SIZE:],
                self._mlkem.public_key().public_bytes_raw(),
            )
        self._x25519 = X25519PrivateKey.from_private_bytes(x25519_raw)
        self._x25519_public = self._x25519.public_key().public_bytes_raw()
        self._public = mlkem_public + self._x25519_public

    @classmethod
    def generate(cls, kem: Kem, rng: Callable[[int], bytes] = os.urandom) -> Self:
        """Make a new key from 32 bytes of `rng`."""
        return cls(kem, rng(SEED_SIZE))

    @classmethod
    def from_bytes(cls, kem: Kem, raw: bytes) -> Self:
        """Read a serialized key.

        Raises:
            CryptoError: `hpke-bad-key`: wrong length.
        """
        return cls(kem, raw)

    def raw(self) -> bytes:
        """The serialized private key, 32 bytes."""
        return self._raw

    def public_bytes(self) -> bytes:
        """The serialized public key, `kem.public_key_size` bytes."""
        return self._public

    def decapsulate(self, enc: bytes | memoryview, kem: Kem) -> bytes:
        """Recover the shared secret (32 bytes) that the sender encapsulated with `kem`.

        Raises:
            CryptoError: `hpke-bad-key`: this key is for another KEM. `hpke-bad-encapsulation`: wrong length,
                or an all-zero X25519 shared secret.
        """
        if kem is not self.kem:
            raise CryptoError(HPKE_BAD_KEY, "KEM of the private key", found=self.kem.name, expected=kem.name)
        if len(enc) != kem.enc_size:
            raise CryptoError(HPKE_BAD_ENCAPSULATION, "length", found=len(enc), expected=kem.enc_size)
        ephemeral_raw = bytes(enc[-_X25519_SIZE:])
        ephemeral = X25519PublicKey.from_public_bytes(ephemeral_raw)
        secret_x = _exchange(self._x25519, ephemeral, HPKE_BAD_ENCAPSULATION)
        if self._mlkem is None:
            return _dhkem_secret(secret_x, ephemeral_raw + self._public)
        secret_m = self._mlkem.decapsulate(enc[:-_X25519_SIZE])
        return _combine(secret_m, secret_x, ephemeral_raw, self._x25519_public)

    def __repr__(self) -> str:
        return f"PrivateKey({self.kem.name})"


def _exchange(private: X25519PrivateKey, public: X25519PublicKey, kind: ErrorCode) -> bytes:
    try:
        return private.exchange(public)
    except ValueError as error:  # the library's own check for the all-zero secret
        raise CryptoError(kind, "the X25519 shared secret is zero") from error


def _dhkem_secret(dh: bytes, kem_context: bytes) -> bytes:
    """ExtractAndExpand of RFC 9180, section 4.1."""
    prk = labeled_extract(_DHKEM_SUITE_ID, b"", b"eae_prk", dh)
    return labeled_expand(_DHKEM_SUITE_ID, prk, b"shared_secret", kem_context, SECRET_SIZE)


def _combine(secret_m: bytes, secret_x: bytes, ephemeral: bytes, public: bytes) -> bytes:
    """The combiner of X-Wing; ML-KEM binds its own ciphertext and key."""
    return sha3_256(secret_m + secret_x + ephemeral + public + _HYBRID_LABEL).digest()
