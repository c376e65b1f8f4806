"""The HPKE suites that Strongroom speaks, by their IANA numbers (RFC 9180, section 7)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from strongroom.crypto._kem import Kem
from strongroom.crypto.errors import HPKE_UNKNOWN_SUITE
from strongroom.errors import CryptoError

NONCE_SIZE: Final = 12
TAG_SIZE: Final = 16


class Kdf(IntEnum):
    """Key derivation functions."""

    HKDF_SHA256 = 0x0001


class Aead(IntEnum):
    """Ciphers; all have nonces of 12 bytes and tags of 16."""

    AES_128_GCM = 0x0001
    AES_256_GCM = 0x0002
    CHACHA20_POLY1305 = 0x0003

    @property
    def key_size(self) -> int:
        """Bytes of a key (Nk)."""
        return 16 if self is Aead.AES_128_GCM else 32

    def cipher(self, key: bytes) -> AESGCM | ChaCha20Poly1305:
        """The cipher under a key of `key_size` bytes."""
        return ChaCha20Poly1305(key) if self is Aead.CHACHA20_POLY1305 else AESGCM(key)


_NAMES: Final[dict[IntEnum, str]] = {
    Kem.X25519_HKDF_SHA256: "X25519",
    Kem.MLKEM768_X25519: "MLKEM768-X25519",
    Aead.AES_128_GCM: "AES-128-GCM",
    Aead.AES_256_GCM: "AES-256-GCM",
    Aead.CHACHA20_POLY1305: "ChaCha20Poly1305",
}


@dataclass(frozen=True, slots=True)
class Suite:
    """An HPKE suite. Plain numbers are accepted and become members of their enumerations.

    Raises:
        CryptoError: `hpke-unknown-suite`.
    """

    kem: Kem
    kdf: int
    aead: Aead

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "kem", Kem(self.kem))
            object.__setattr__(self, "kdf", Kdf(self.kdf))
            object.__setattr__(self, "aead", Aead(self.aead))
        except ValueError:
            found = f"KEM {self.kem:#06x}, KDF {self.kdf:#06x}, AEAD {self.aead:#06x}"
            raise CryptoError(HPKE_UNKNOWN_SUITE, found=found) from None

    @property
    def name(self) -> str:
        """For people and keysets, for example `MLKEM768-X25519/HKDF-SHA256/AES-256-GCM`."""
        return f"{_NAMES[self.kem]}/HKDF-SHA256/{_NAMES[self.aead]}"

    @property
    def suite_id(self) -> bytes:
        """The `suite_id` of the key schedule (RFC 9180, section 5.1)."""
        return b"HPKE" + self.kem.to_bytes(2) + self.kdf.to_bytes(2) + self.aead.to_bytes(2)


DEFAULT_SUITE: Final = Suite(Kem.MLKEM768_X25519, Kdf.HKDF_SHA256, Aead.AES_256_GCM)
CLASSICAL_SUITE: Final = Suite(Kem.X25519_HKDF_SHA256, Kdf.HKDF_SHA256, Aead.AES_256_GCM)
