"""The worker's one-time key: made for one attestation, opens what is released on it, then forgotten.

`HpkeKey` is what our workers use. `ClassicalKey` is for a broker that knows no other, such as Trustee; ours
takes it only where the release policy has `allow_classical_release = true`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from strongroom.broker import hpke_release, jwe, teekey
from strongroom.crypto.hpke import PrivateKey


class OneTimeKey(Protocol):
    """A one-time key of either kind."""

    @property
    def jwk(self) -> dict[str, str]:
        """The public key, as the evidence binds it."""

    @property
    def recipient(self) -> str:
        """The public key's thumbprint (RFC 7638)."""

    @property
    def classical(self) -> bool:
        """Whether what is released under this key has no post-quantum protection."""

    def open(self, document: bytes, resource: str) -> bytes:
        """Open the broker's answer for a resource.

        Raises:
            BrokerError: A code `hpke-release-...` or `jwe-...`.
        """


class HpkeKey:
    """An HPKE key, MLKEM768-X25519.

    Args:
        rng: Source of its 32-byte seed.
    """

    classical = False

    def __init__(self, rng: Callable[[int], bytes] = os.urandom) -> None:
        self._private = PrivateKey.generate(teekey.HPKE_SUITE.kem, rng)
        self.public_key = teekey.HpkePublicKey(self._private.public_bytes())

    @property
    def jwk(self) -> dict[str, str]:
        """The public key, as the evidence binds it."""
        return teekey.to_jwk(self.public_key)

    @property
    def recipient(self) -> str:
        """The public key's thumbprint (RFC 7638)."""
        return teekey.thumbprint(self.public_key)

    def open(self, document: bytes, resource: str) -> bytes:
        """Open the broker's answer for a resource.

        Raises:
            BrokerError: `hpke-release-invalid` or `hpke-release-open-failed`.
        """
        return hpke_release.open_sealed(self._private, document, resource=resource)


class ClassicalKey:
    """A P-256 key.

    Args:
        rng: Source of its scalar.
    """

    classical = True

    def __init__(self, rng: Callable[[int], bytes] = os.urandom) -> None:
        self._private = teekey.generate(rng)
        self.public_key = self._private.public_key()

    @property
    def jwk(self) -> dict[str, str]:
        """The public key, as the evidence binds it."""
        return teekey.to_jwk(self.public_key)

    @property
    def recipient(self) -> str:
        """The public key's thumbprint (RFC 7638)."""
        return teekey.thumbprint(self.public_key)

    def open(self, document: bytes, resource: str) -> bytes:  # noqa: ARG002 -- a JWE does not say of what it is
        """Open the broker's answer; what it is about stands in the signed document inside.

        Raises:
            BrokerError: `jwe-invalid` or `jwe-open-failed`.
        """
        return jwe.open_sealed(self._private, document)
