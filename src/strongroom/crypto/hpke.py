"""Hybrid Public Key Encryption, base mode, with contexts and export (RFC 9180).

    enc, sender = setup_sender(DEFAULT_SUITE, public_key, info)
    receiver = setup_receiver(DEFAULT_SUITE, enc, private_key, info)
    receiver.open(sender.seal(b"text", aad), aad)

Texts may be memoryviews and are not copied on their way into the cipher. All inputs are bounded: texts and
associated data by 1 GiB, `info` and exporter contexts by 64 KiB.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag

from strongroom.crypto._kdf import MAX_EXPAND, labeled_expand, labeled_extract
from strongroom.crypto._kem import Kem, PrivateKey, encapsulate
from strongroom.crypto._suite import CLASSICAL_SUITE, DEFAULT_SUITE, NONCE_SIZE, TAG_SIZE, Aead, Kdf, Suite
from strongroom.crypto.errors import (
    HPKE_EXPORT_LENGTH,
    HPKE_OPEN_FAILED,
    HPKE_OVERSIZE,
    HPKE_SEQUENCE_OVERFLOW,
)
from strongroom.errors import CryptoError

__all__ = [
    "CLASSICAL_SUITE",
    "DEFAULT_SUITE",
    "MAX_INFO",
    "MAX_TEXT",
    "NONCE_SIZE",
    "TAG_SIZE",
    "Aead",
    "Kdf",
    "Kem",
    "PrivateKey",
    "ReceiverContext",
    "SenderContext",
    "Suite",
    "setup_receiver",
    "setup_sender",
]

MAX_TEXT: Final = 1 << 30
MAX_INFO: Final = 1 << 16
# RFC 9180, section 5.2: the last number is never used.
_SEQUENCE_LIMIT: Final = (1 << 8 * NONCE_SIZE) - 1
_MODE_BASE: Final = b"\x00"


def setup_sender(
    suite: Suite, public_key: bytes, info: bytes, *, rng: Callable[[int], bytes] = os.urandom
) -> tuple[bytes, SenderContext]:
    """Set up a context to the holder of `public_key` (SetupBaseS, RFC 9180, section 5.1.1).

    Args:
        suite: Both sides' suite.
        public_key: `suite.kem.public_key_size` bytes.
        info: Both sides' context, at most 64 KiB.
        rng: Gives the ephemeral X25519 key. ML-KEM draws its own randomness.

    Returns:
        The encapsulated key, `suite.kem.enc_size` bytes, and the context.

    Raises:
        CryptoError: `hpke-bad-key`, `hpke-oversize`.
    """
    _check_size(len(info), MAX_INFO, "info")
    secret, enc = encapsulate(suite.kem, public_key, rng)
    return enc, SenderContext(suite, secret, info)


def setup_receiver(
    suite: Suite, enc: bytes | memoryview, private_key: PrivateKey, info: bytes
) -> ReceiverContext:
    """Set up the context of a sender from its encapsulated key (SetupBaseR, RFC 9180, section 5.1.1).

    Raises:
        CryptoError: `hpke-bad-key` (a key for another KEM), `hpke-bad-encapsulation`, `hpke-oversize`.
    """
    _check_size(len(info), MAX_INFO, "info")
    return ReceiverContext(suite, private_key.decapsulate(enc, suite.kem), info)


class _Context:
    """What both sides share: the key schedule, the sequence number, the export."""

    __slots__ = ("_base_nonce", "_cipher", "_exporter_secret", "_lock", "_sequence", "_suite_id")

    def __init__(self, suite: Suite, shared_secret: bytes, info: bytes) -> None:
        """Run the key schedule (RFC 9180, section 5.1)."""
        suite_id = suite.suite_id
        context = _schedule_context(suite_id, bytes(info))
        secret = labeled_extract(suite_id, shared_secret, b"secret", b"")
        key = labeled_expand(suite_id, secret, b"key", context, suite.aead.key_size)
        nonce = labeled_expand(suite_id, secret, b"base_nonce", context, NONCE_SIZE)
        self._suite_id = suite_id
        self._cipher = suite.aead.cipher(key)
        self._base_nonce = int.from_bytes(nonce)
        self._exporter_secret = labeled_expand(suite_id, secret, b"exp", context, 32)
        self._sequence = 0
        self._lock = threading.Lock()

    def export(self, context: bytes, length: int) -> bytes:
        """Derive `length` bytes (0 to 8160) that both sides share (RFC 9180, section 5.3).

        Raises:
            CryptoError: `hpke-export-length`, `hpke-oversize`.
        """
        if not 0 <= length <= MAX_EXPAND:
            raise CryptoError(HPKE_EXPORT_LENGTH, found=length, expected=f"0 to {MAX_EXPAND}")
        _check_size(len(context), MAX_INFO, "exporter context")
        return labeled_expand(self._suite_id, self._exporter_secret, b"sec", context, length)

    def _nonce(self) -> bytes:
        """The nonce of the present sequence number; the caller holds the lock."""
        if self._sequence >= _SEQUENCE_LIMIT:
            raise CryptoError(HPKE_SEQUENCE_OVERFLOW)
        return (self._base_nonce ^ self._sequence).to_bytes(NONCE_SIZE)


class SenderContext(_Context):
    """Seals texts one after the other. Safe to share between threads: no number is used twice."""

    __slots__ = ()

    def seal(self, plaintext: bytes | memoryview, aad: bytes = b"") -> bytes:
        """Seal the next text; the result is 16 bytes longer.

        Raises:
            CryptoError: `hpke-oversize`, `hpke-sequence-overflow`.
        """
        _check_size(len(plaintext), MAX_TEXT, "plaintext")
        _check_size(len(aad), MAX_TEXT, "associated data")
        with self._lock:
            nonce = self._nonce()
            self._sequence += 1
        return self._cipher.encrypt(nonce, plaintext, aad)


class ReceiverContext(_Context):
    """Opens texts in the order in which they were sealed."""

    __slots__ = ()

    def open(self, ciphertext: bytes | memoryview, aad: bytes = b"") -> bytes:
        """Open the next text. One that does not open leaves the context as it was.

        Raises:
            CryptoError: `hpke-open-failed`, `hpke-oversize`, `hpke-sequence-overflow`.
        """
        _check_size(len(ciphertext), MAX_TEXT + TAG_SIZE, "ciphertext")
        _check_size(len(aad), MAX_TEXT, "associated data")
        with self._lock:
            nonce = self._nonce()
            try:
                plaintext = self._cipher.decrypt(nonce, ciphertext, aad)
            except InvalidTag as error:
                raise CryptoError(HPKE_OPEN_FAILED) from error
            self._sequence += 1
        return plaintext


@lru_cache(maxsize=64)
def _schedule_context(suite_id: bytes, info: bytes) -> bytes:
    """`key_schedule_context` of base mode. Kept, because a service uses one `info` for each of its keys."""
    psk_id_hash = labeled_extract(suite_id, b"", b"psk_id_hash", b"")
    return _MODE_BASE + psk_id_hash + labeled_extract(suite_id, b"", b"info_hash", info)


def _check_size(size: int, limit: int, what: str) -> None:
    if size > limit:
        raise CryptoError(HPKE_OVERSIZE, what, found=f"{size} bytes", expected=f"at most {limit}")
