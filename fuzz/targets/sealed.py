"""What is opened with a key: oblivious HTTP, HPKE and age files. The keys are fixed and protect nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fuzz.material import Material
from fuzz.target import MAX_INPUT, Parser
from strongroom.crypto import agefile
from strongroom.crypto._kem import parse_public_key
from strongroom.crypto.hpke import Aead, Kem, PrivateKey, setup_sender
from strongroom.crypto.ohttp import (
    Gateway,
    GatewayKey,
    KeyConfig,
    decode_key_configs,
    encode_key_configs,
    seal_request,
)
from strongroom.crypto.sign import VerifyingKey

_HKDF_SHA256: Final = 1
_SUITES: Final = ((_HKDF_SHA256, Aead.AES_256_GCM), (_HKDF_SHA256, Aead.CHACHA20_POLY1305))
_IDENTITY: Final = "AGE-SECRET-KEY-19X4A8H7EMGRPZDTZ67N2NA9TX58THFKT6T2FFQ555DTPEPJJYC3SHDX8MY"


def _zeros(size: int) -> bytes:
    return b"\x01" * size


def _key(number: int, kem: Kem) -> GatewayKey:
    private = PrivateKey.generate(kem, _zeros)
    return GatewayKey(KeyConfig(number, kem, private.public_bytes(), _SUITES), private)


_KEYS: Final = (_key(1, Kem.MLKEM768_X25519), _key(2, Kem.X25519_HKDF_SHA256))
_GATEWAY: Final = Gateway(_KEYS)
_REQUEST: Final = seal_request(_KEYS[1].config, None, b"request", rng=_zeros)


def _configs(data: bytes) -> None:
    """A configuration that is read must be one that can be sealed to."""
    for config in decode_key_configs(data):
        setup_sender(config.suite(0), config.public_key, b"", rng=_zeros)


def _open_request(data: bytes) -> None:
    _GATEWAY.open_request(data)


def _open_response(data: bytes) -> None:
    _REQUEST.open_response(data, limit=MAX_INPUT)


def _open_age(data: bytes) -> None:
    agefile.open_sealed(data, _IDENTITY, limit=MAX_INPUT)


def _public_key(data: bytes) -> None:
    kem = Kem.X25519_HKDF_SHA256
    parse_public_key(kem if len(data) == kem.public_key_size else Kem.MLKEM768_X25519, data)


def _key_text(data: bytes) -> None:
    VerifyingKey.parse(data.decode("latin-1"))


def _config_seeds(_: Material) -> Iterator[bytes]:
    yield encode_key_configs([key.config for key in _KEYS])
    yield from (encode_key_configs([key.config]) for key in _KEYS)


def _requests(_: Material) -> Iterator[bytes]:
    for key in _KEYS:
        for kdf, aead in _SUITES:
            sealed = seal_request(key.config, None, b"request" * 20, rng=_zeros).data
            yield sealed[:3] + kdf.to_bytes(2) + int(aead).to_bytes(2) + sealed[7:]


def _responses(_: Material) -> Iterator[bytes]:
    yield _GATEWAY.open_request(_REQUEST.data).seal_response(b"answer", rng=_zeros)


def _age_files(_: Material) -> Iterator[bytes]:
    yield agefile.seal(b"content" * 100, agefile.recipient_of(_IDENTITY))
    head = b"age-encryption.org/v1\n"
    yield head + b"-> X25519 " + b"A" * 43 + b"\n" + b"B" * 43 + b"\n--- " + b"C" * 43 + b"\n" + bytes(64)
    yield head + b"-> scrypt " + b"A" * 22 + b" 30\n" + b"B" * 43 + b"\n--- " + b"C" * 43 + b"\n" + bytes(64)
    yield head + b"-> x\n\n" * 9_000


def _public_keys(_: Material) -> Iterator[bytes]:
    yield from (key.config.public_key for key in _KEYS)


def _key_texts(_: Material) -> Iterator[bytes]:
    yield b"ed25519+mldsa65:iffjhqshZ_usEmhQjkiFq97k1MlfLj2S1Orce0N4wTg"


PARSERS: Final = (
    Parser("OHTTP key configurations", _configs, _config_seeds),
    Parser("encapsulated request", _open_request, _requests),
    Parser("encapsulated response", _open_response, _responses),
    Parser("age file", _open_age, _age_files),
    Parser("public key of a KEM", _public_key, _public_keys),
    Parser("name of a signing key", _key_text, _key_texts),
)
