"""A root key in a PKCS#11 module: AES-256-GCM inside the HSM. Needs the extra `pkcs11`.

The key must be there, and must never be able to leave: sensitive, not extractable. A wrapped secret is
`nonce (12 bytes) || ciphertext || tag (16)`; the context is the additional data.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

from strongroom.broker.errors import ROOT_KEY_CONFIG, ROOT_KEY_UNAVAILABLE, SECRET_UNREADABLE
from strongroom.errors import BrokerError, ConfigError

_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32


class Pkcs11RootKey:
    """A secret key in a token.

    Args:
        module: Path of the module's library.
        token: Label of the token.
        key: Label of the key: AES, 256 bits.
        pin: PIN of the token's user.
        rng: Source of the nonces.

    Raises:
        ConfigError: `root-key-config`: the extra is not installed, or the key is not such a key.
        BrokerError: `root-key-unavailable`.
    """

    def __init__(
        self, module: str, token: str, key: str, *, pin: str, rng: Callable[[int], bytes] = os.urandom
    ) -> None:
        try:
            import pkcs11
        except ImportError:
            raise ConfigError(ROOT_KEY_CONFIG, "pkcs11", expected="strongroom[pkcs11]") from None
        self._pkcs11 = pkcs11
        self._module = module
        self._token = token
        self._label = key
        self._pin = pin
        self._rng = rng
        self.name = f"pkcs11:{token}/{key}"
        with self._key() as found:
            attribute = pkcs11.Attribute
            if found[attribute.EXTRACTABLE] or not found[attribute.SENSITIVE]:
                what = f"{self.name} could be read out of the module"
                raise ConfigError(ROOT_KEY_CONFIG, what, expected="sensitive, not extractable")
            if found[attribute.VALUE_LEN] != _KEY_BYTES:
                raise ConfigError(ROOT_KEY_CONFIG, self.name, expected="an AES key of 256 bits")

    def wrap(self, secret: bytes, context: str) -> bytes:
        """As `RootKey.wrap`."""
        nonce = self._rng(_NONCE_BYTES)
        with self._key() as key:
            sealed: bytes = key.encrypt(secret, **self._gcm(nonce, context))
        return nonce + sealed

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """As `RootKey.unwrap`."""
        if len(wrapped) < _NONCE_BYTES + _TAG_BYTES:
            raise BrokerError(SECRET_UNREADABLE, context)
        nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        refusals = (
            # What modules say of a tag that does not match; SoftHSM says "general error".
            self._pkcs11.EncryptedDataInvalid,
            self._pkcs11.EncryptedDataLenRange,
            self._pkcs11.GeneralError,
        )
        with self._key() as key:
            try:
                secret: bytes = key.decrypt(sealed, **self._gcm(nonce, context))
            except refusals as error:
                raise BrokerError(SECRET_UNREADABLE, context) from error
        return secret

    def _gcm(self, nonce: bytes, context: str) -> dict[str, Any]:
        parameters = self._pkcs11.GCMParams(nonce, context.encode(), 8 * _TAG_BYTES)
        return {"mechanism": self._pkcs11.Mechanism.AES_GCM, "mechanism_param": parameters}

    @contextlib.contextmanager
    def _key(self) -> Iterator[Any]:
        """The key, in a session of its own: one that was left open may have been closed by the module."""
        failures = (self._pkcs11.PKCS11Error, OSError, RuntimeError)
        try:
            token = self._pkcs11.lib(self._module).get_token(token_label=self._token)
            with token.open(user_pin=self._pin) as session:
                yield session.get_key(
                    object_class=self._pkcs11.ObjectClass.SECRET_KEY,
                    key_type=self._pkcs11.KeyType.AES,
                    label=self._label,
                )
        except failures as error:
            what = f"{self.name}: {type(error).__name__} {error}".rstrip()
            raise BrokerError(ROOT_KEY_UNAVAILABLE, what) from error
