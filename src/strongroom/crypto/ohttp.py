"""Oblivious HTTP: sealed requests and responses (RFC 9458, sections 4.3 and 4.4).

    sealed = seal_request(config, None, request)            # client
    opened = Gateway([GatewayKey(config, key)]).open_request(sealed.data)
    answer = opened.seal_response(response)                 # worker
    sealed.open_response(answer)                            # client

A `SealedRequest` is immutable: a retry resends its `data`, so one encapsulated key never seals two texts.
Every response has a fresh random nonce from which its key is derived, so a request may be answered twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from strongroom.crypto._kdf import expand, extract
from strongroom.crypto._keyconfig import (
    KeyConfig,
    decode_key_configs,
    encode_key_configs,
)
from strongroom.crypto.errors import (
    OHTTP_DUPLICATE_KEY,
    OHTTP_KEY_MISMATCH,
    OHTTP_MALFORMED,
    OHTTP_OPEN_FAILED,
    OHTTP_OVERSIZE,
    OHTTP_RESPONSE_FAILED,
    OHTTP_UNKNOWN_KEY,
    OHTTP_UNKNOWN_SUITE,
)
from strongroom.crypto.hpke import NONCE_SIZE, TAG_SIZE, Aead, PrivateKey, Suite, setup_receiver, setup_sender
from strongroom.errors import CryptoError

__all__ = [
    "MAX_MESSAGE",
    "Gateway",
    "GatewayKey",
    "KeyConfig",
    "OpenedRequest",
    "RequestHeader",
    "SealedRequest",
    "decode_key_configs",
    "encode_key_configs",
    "peek_key_id",
    "seal_request",
]

MAX_MESSAGE: Final = 64 << 20
"""Most bytes of a plaintext request or response, unless the caller says otherwise."""
HEADER_SIZE: Final = 7

_REQUEST_LABEL: Final = b"message/bhttp request"
_RESPONSE_LABEL: Final = b"message/bhttp response"


class RequestHeader(NamedTuple):
    """The clear head of an encapsulated request, as numbers that nobody has checked."""

    key_id: int
    kem: int
    kdf: int
    aead: int


def peek_key_id(data: bytes | memoryview) -> RequestHeader:
    """Read the head of an encapsulated request, all that an untrusted part can and need know of it.

    Raises:
        CryptoError: `ohttp-malformed`: there are not 7 bytes.
    """
    if len(data) < HEADER_SIZE:
        raise CryptoError(OHTTP_MALFORMED, "request", found=f"{len(data)} bytes")
    kem, kdf, aead = (int.from_bytes(data[at : at + 2]) for at in (1, 3, 5))
    return RequestHeader(data[0], kem, kdf, aead)


@dataclass(frozen=True, slots=True)
class _Exchange:
    """What seals and opens the responses to one request."""

    suite: Suite
    enc: bytes
    secret: bytes = field(repr=False)

    @property
    def nonce_size(self) -> int:
        """Bytes of the response nonce, and of the secret: max(Nn, Nk)."""
        return secret_size(self.suite)

    def cipher(self, response_nonce: bytes) -> tuple[AESGCM | ChaCha20Poly1305, bytes]:
        """The cipher and AEAD nonce of the response with this response nonce."""
        prk = extract(self.enc + response_nonce, self.secret)
        key = expand(prk, b"key", self.suite.aead.key_size)
        return self.suite.aead.cipher(key), expand(prk, b"nonce", NONCE_SIZE)


def secret_size(suite: Suite) -> int:
    """Bytes of the exported secret and of the response nonce: max(Nn, Nk)."""
    return max(NONCE_SIZE, suite.aead.key_size)


@dataclass(frozen=True, slots=True)
class SealedRequest:
    """A request on its way. To retry, send the same `data` again.

    Attributes:
        data: The encapsulated request (`message/ohttp-req`).
    """

    data: bytes = field(repr=False)
    _exchange: _Exchange = field(repr=False)

    def open_response(self, data: bytes | memoryview, *, limit: int = MAX_MESSAGE) -> bytes:
        """Open an encapsulated response (`message/ohttp-res`) to this request. May be called again.

        Args:
            data: The whole response.
            limit: Most bytes of plaintext to accept.

        Raises:
            CryptoError: `ohttp-malformed` (too short), `ohttp-oversize`, or `ohttp-response-failed`.
        """
        start = self._exchange.nonce_size
        _check_size("response", len(data), start + TAG_SIZE, limit)
        cipher, nonce = self._exchange.cipher(bytes(data[:start]))
        try:
            return cipher.decrypt(nonce, memoryview(data)[start:], b"")
        except InvalidTag as error:
            raise CryptoError(OHTTP_RESPONSE_FAILED) from error


def seal_request(
    config: KeyConfig,
    suite: Suite | None,
    plaintext: bytes | memoryview,
    *,
    rng: Callable[[int], bytes] = os.urandom,
    limit: int = MAX_MESSAGE,
) -> SealedRequest:
    """Seal a binary HTTP request to a gateway.

    Args:
        config: The gateway's key configuration, from a keyset that was appraised.
        suite: One of the configuration's suites; None for its first.
        plaintext: The binary HTTP message.
        rng: Gives the ephemeral X25519 key.
        limit: Most bytes of plaintext.

    Raises:
        CryptoError: `ohttp-oversize`, or `ohttp-unknown-suite`: the configuration does not offer the suite.
    """
    chosen = config.suite(0) if suite is None else suite
    if chosen.kem is not config.kem or (chosen.kdf, chosen.aead) not in config.suites:
        raise CryptoError(OHTTP_UNKNOWN_SUITE, found=chosen.name)
    _check_size("request", len(plaintext), 0, limit)
    header = config.header(chosen)
    enc, context = setup_sender(chosen, config.public_key, _REQUEST_LABEL + b"\0" + header, rng=rng)
    secret = context.export(_RESPONSE_LABEL, secret_size(chosen))
    data = b"".join((header, enc, context.seal(plaintext)))
    return SealedRequest(data, _Exchange(chosen, enc, secret))


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A key configuration with its private key.

    Raises:
        CryptoError: `ohttp-key-mismatch`: they do not belong together.
    """

    config: KeyConfig
    private_key: PrivateKey

    def __post_init__(self) -> None:
        key = self.private_key
        if (key.kem, key.public_bytes()) != (self.config.kem, self.config.public_key):
            raise CryptoError(OHTTP_KEY_MISMATCH, f"key id {self.config.key_id}")


@dataclass(frozen=True, slots=True)
class OpenedRequest:
    """A request that was sealed to the gateway.

    Attributes:
        plaintext: The binary HTTP message.
        key_id: Of the key that opened it.
    """

    plaintext: bytes = field(repr=False)
    key_id: int
    _exchange: _Exchange = field(repr=False)

    def seal_response(
        self,
        plaintext: bytes | memoryview,
        *,
        rng: Callable[[int], bytes] = os.urandom,
        limit: int = MAX_MESSAGE,
    ) -> bytes:
        """Seal a binary HTTP response (`message/ohttp-res`) to the sender of this request.

        Args:
            plaintext: The binary HTTP message.
            rng: Gives the response nonce, which must be fresh at every call: the key follows from it.
            limit: Most bytes of plaintext.

        Raises:
            CryptoError: `ohttp-oversize`.
        """
        _check_size("response", len(plaintext), 0, limit)
        response_nonce = rng(self._exchange.nonce_size)
        cipher, nonce = self._exchange.cipher(response_nonce)
        return response_nonce + cipher.encrypt(nonce, plaintext, b"")


class Gateway:
    """Opens requests with the keys that are in use. Immutable: make a new one when keys change."""

    __slots__ = ("_keys", "_limit")

    def __init__(self, keys: Iterable[GatewayKey], *, limit: int = MAX_MESSAGE) -> None:
        """Take the keys and the most bytes of plaintext to accept.

        Raises:
            CryptoError: `ohttp-duplicate-key`.
        """
        listed = tuple(keys)
        self._keys = {key.config.key_id: key for key in listed}
        self._limit = limit
        if len(self._keys) != len(listed):
            raise CryptoError(OHTTP_DUPLICATE_KEY)

    def open_request(self, data: bytes | memoryview) -> OpenedRequest:
        """Open an encapsulated request (`message/ohttp-req`). Cheap checks come first.

        Raises:
            CryptoError: `ohttp-malformed` (too short), `ohttp-unknown-key`, `ohttp-unknown-suite`,
                `ohttp-oversize` or `ohttp-open-failed`.
        """
        head = peek_key_id(data)
        key = self._keys.get(head.key_id)
        if key is None:
            raise CryptoError(OHTTP_UNKNOWN_KEY, found=head.key_id)
        config = key.config
        if head.kem != config.kem or (head.kdf, head.aead) not in config.suites:
            raise CryptoError(OHTTP_UNKNOWN_SUITE, f"key id {head.key_id}")
        suite = Suite(config.kem, head.kdf, Aead(head.aead))
        start = HEADER_SIZE + suite.kem.enc_size
        _check_size("request", len(data), start + TAG_SIZE, self._limit)
        view = memoryview(data)
        enc = bytes(view[HEADER_SIZE:start])
        info = _REQUEST_LABEL + b"\0" + config.header(suite)
        try:
            context = setup_receiver(suite, enc, key.private_key, info)
            plaintext = context.open(view[start:])
        except CryptoError:
            # One code for all: whether the key or the text was wrong is not for the sender to learn.
            raise CryptoError(OHTTP_OPEN_FAILED, f"key id {head.key_id}") from None
        secret = context.export(_RESPONSE_LABEL, secret_size(suite))
        return OpenedRequest(plaintext, head.key_id, _Exchange(suite, enc, secret))


def _check_size(what: str, size: int, overhead: int, limit: int) -> None:
    """A message of `overhead` bytes and up to `limit` of text."""
    if size < overhead:
        raise CryptoError(OHTTP_MALFORMED, what, found=f"{size} bytes", expected=f"at least {overhead}")
    if size > overhead + limit:
        raise CryptoError(OHTTP_OVERSIZE, what, found=f"{size} bytes", expected=f"at most {overhead + limit}")
