"""What guards a key store: a root key in a file, a TPM, a PKCS#11 module or AWS KMS.

A root key wraps little: the store's data key of each version (`strongroom.broker.keyring`), and that only
when the store is opened or its root is rotated. So it may be slow, and may say no.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

from strongroom.broker import keyfile
from strongroom.broker.errors import STORE_UNUSABLE
from strongroom.broker.wrap import KEY_BYTES, WrappingKey
from strongroom.errors import BrokerError


class RootKey(Protocol):
    """A key that wraps a store's data keys."""

    @property
    def name(self) -> str:
        """What tells it from every other root key. It stands in the database, and is no secret."""

    def wrap(self, secret: bytes, context: str) -> bytes:
        """The secret, at most 64 bytes, wrapped and bound to `context`.

        Raises:
            BrokerError: `root-key-unavailable`.
        """

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """The secret that `wrap` got.

        Raises:
            BrokerError: `root-key-unavailable`: it does not answer, or refuses; `secret-unreadable`: another
                key, another context or changed bytes.
        """


class FileRootKey:
    """32 random bytes in a file of mode 0600.

    Args:
        raw: The bytes.
        rng: Source of the nonces.
    """

    def __init__(self, raw: bytes, *, rng: Callable[[int], bytes] = os.urandom) -> None:
        self._key = WrappingKey(raw, rng=rng)
        self.name = "file:" + hashlib.sha256(b"strongroom-root-name/1\0" + raw).hexdigest()[:16]

    @classmethod
    def open(cls, path: Path, *, rng: Callable[[int], bytes] = os.urandom) -> Self:
        """Read the file.

        Raises:
            BrokerError: `key-file-exposed`; `store-unusable`, it is missing or cut short.
        """
        raw = keyfile.read(path, limit=KEY_BYTES)
        if len(raw) != KEY_BYTES:
            raise BrokerError(STORE_UNUSABLE, f"{path.name} is cut short", found=len(raw), expected=KEY_BYTES)
        return cls(raw, rng=rng)

    def wrap(self, secret: bytes, context: str) -> bytes:
        """As `RootKey.wrap`."""
        return self._key.wrap(secret, context)

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """As `RootKey.unwrap`."""
        return self._key.unwrap(wrapped, context)
