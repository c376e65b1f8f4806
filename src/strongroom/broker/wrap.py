"""Wrapping of secrets at rest: AES-256-GCM, bound to what the secret is for.

A wrapped secret is `version (1 byte) || nonce (12) || ciphertext || tag (16)`. The context, for example
`model/default/model/lite0`, is authenticated but not stored, so that one wrapped secret cannot be put in the
place of another.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.broker.errors import SECRET_UNREADABLE
from strongroom.errors import BrokerError

KEY_BYTES: Final = 32
_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_DOMAIN: Final = b"strongroom-store/1\0"


class WrappingKey:
    """A 256-bit key under which other secrets are kept.

    Args:
        raw: 32 random bytes.
        rng: Source of the nonces.

    Raises:
        ValueError: `raw` is not 32 bytes.
    """

    __slots__ = ("_aead", "_rng")

    def __init__(self, raw: bytes, *, rng: Callable[[int], bytes] = os.urandom) -> None:
        if len(raw) != KEY_BYTES:
            raise ValueError("a wrapping key is 32 bytes")
        self._aead = AESGCM(raw)
        self._rng = rng

    def wrap(self, secret: bytes, context: str) -> bytes:
        """The secret, encrypted and bound to `context`. At most 2**32 calls for one key (random nonces)."""
        nonce = self._rng(_NONCE_BYTES)
        return _VERSION + nonce + self._aead.encrypt(nonce, secret, _DOMAIN + context.encode())

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """The secret that `wrap` got.

        Raises:
            BrokerError: `secret-unreadable`, another key, another context or changed bytes.
        """
        if len(wrapped) < 1 + _NONCE_BYTES + _TAG_BYTES or wrapped[:1] != _VERSION:
            raise BrokerError(SECRET_UNREADABLE, context)
        nonce, sealed = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
        try:
            return self._aead.decrypt(nonce, sealed, _DOMAIN + context.encode())
        except InvalidTag as error:
            raise BrokerError(SECRET_UNREADABLE, context) from error
