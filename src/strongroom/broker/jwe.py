"""The encrypted resource of the KBS protocol: a flattened JWE (RFC 7516) with A256GCM.

    {"protected": B64URL, "encrypted_key": B64URL, "iv": B64URL, "ciphertext": B64URL, "tag": B64URL}

Attesters in Rust rebuild the additional data by serialising the protected header anew, so the header must be
compact JSON in the order alg, enc, epk, and the ephemeral key in the order crv, kty, x, y. No JOSE library
here writes it so; hence this module, on `cryptography` alone (the worker's code path stays small too). Tests
check it against joserfc in both directions.

KEK of ECDH-ES+A256KW: Concat KDF with SHA-256 (RFC 7518, 4.6.2), AlgorithmID the name, PartyUInfo and
PartyVInfo empty.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from strongroom.broker import teekey
from strongroom.broker.errors import JWE_INVALID, JWE_OPEN_FAILED
from strongroom.codec import b64, jcs
from strongroom.errors import BrokerError, CodecError

MAX_PLAINTEXT: Final = 512 * 1024
MAX_DOCUMENT: Final = MAX_PLAINTEXT * 4 // 3 + 4096
"""Largest JSON form in bytes."""

_CEK_BYTES: Final = 32
_IV_BYTES: Final = 12
_TAG_BYTES: Final = 16
_WRAPPED_BYTES: Final = _CEK_BYTES + 8
_MAX_HEADER: Final = 1024
_MEMBERS: Final = {"protected", "encrypted_key", "iv", "ciphertext", "tag"}


def seal(key: teekey.ClassicalKey, plaintext: bytes, *, rng: Callable[[int], bytes] = os.urandom) -> bytes:
    """Encrypt a resource to an attester's one-time key.

    Args:
        key: P-256 or RSA.
        plaintext: At most 512 KiB.
        rng: Source of the content key, the nonce and the ephemeral key. (RSA-OAEP's seed is OpenSSL's own.)

    Returns:
        The JSON form.

    Raises:
        ValueError: `plaintext` is too long.
    """
    if len(plaintext) > MAX_PLAINTEXT:
        raise ValueError("a resource is at most 512 KiB")
    cek, iv = rng(_CEK_BYTES), rng(_IV_BYTES)
    header: dict[str, object]
    if isinstance(key, ec.EllipticCurvePublicKey):
        ephemeral = teekey.generate(rng)
        header = {"alg": teekey.EC_ALG, "enc": "A256GCM", "epk": teekey.coordinates(ephemeral.public_key())}
        wrapped = aes_key_wrap(_kek(ephemeral.exchange(ec.ECDH(), key)), cek)
    else:
        header = {"alg": teekey.RSA_ALG, "enc": "A256GCM"}
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        wrapped = key.encrypt(cek, oaep)
    protected = b64.encode_url(json.dumps(header, separators=(",", ":")).encode())
    sealed = AESGCM(cek).encrypt(iv, plaintext, protected.encode())
    document = {
        "protected": protected,
        "encrypted_key": b64.encode_url(wrapped),
        "iv": b64.encode_url(iv),
        "ciphertext": b64.encode_url(sealed[:-_TAG_BYTES]),
        "tag": b64.encode_url(sealed[-_TAG_BYTES:]),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def open_sealed(key: ec.EllipticCurvePrivateKey, document: bytes) -> bytes:
    """Decrypt a resource with the attester's one-time key.

    Raises:
        BrokerError: `jwe-invalid`, not of this form; `jwe-open-failed`, made for another key or changed.
    """
    try:
        members = jcs.parse(document, limit=MAX_DOCUMENT, what="JWE")
        if not isinstance(members, dict) or members.keys() != _MEMBERS:
            raise BrokerError(JWE_INVALID, "the members are not those of a flattened JWE")
        epk = _ephemeral(members["protected"])
        wrapped = _exactly(members, "encrypted_key", _WRAPPED_BYTES)
        iv, tag = _exactly(members, "iv", _IV_BYTES), _exactly(members, "tag", _TAG_BYTES)
        ciphertext = _bytes(members["ciphertext"], MAX_PLAINTEXT, "ciphertext")
    except CodecError as error:
        raise BrokerError(JWE_INVALID, str(error)) from error
    try:
        cek = aes_key_unwrap(_kek(key.exchange(ec.ECDH(), epk)), wrapped)
        return AESGCM(cek).decrypt(iv, ciphertext + tag, members["protected"].encode())
    except (InvalidUnwrap, InvalidTag) as error:
        raise BrokerError(JWE_OPEN_FAILED) from error


def _ephemeral(protected: Any) -> ec.EllipticCurvePublicKey:
    header = jcs.parse(_bytes(protected, _MAX_HEADER, "protected"), limit=_MAX_HEADER, what="JWE header")
    if not isinstance(header, dict) or header.keys() != {"alg", "enc", "epk"}:
        raise BrokerError(JWE_INVALID, "the header's members are not alg, enc and epk")
    if header["alg"] != teekey.EC_ALG or header["enc"] != "A256GCM":
        raise BrokerError(JWE_INVALID, "not ECDH-ES+A256KW with A256GCM")
    epk = header["epk"]
    if not isinstance(epk, dict) or epk.keys() != {"crv", "kty", "x", "y"}:
        raise BrokerError(JWE_INVALID, "the ephemeral key's members are not crv, kty, x and y")
    if (epk["crv"], epk["kty"]) != ("P-256", "EC") or not all(isinstance(epk[name], str) for name in "xy"):
        raise BrokerError(JWE_INVALID, "the ephemeral key is not on P-256")
    try:
        return teekey.parse_point(epk)
    except BrokerError as error:
        raise BrokerError(JWE_INVALID, error.detail) from error


def _exactly(members: dict[str, Any], name: str, size: int) -> bytes:
    raw = _bytes(members[name], size, name)
    if len(raw) != size:
        raise BrokerError(JWE_INVALID, name, found=f"{len(raw)} bytes", expected=size)
    return raw


def _bytes(value: Any, limit: int, what: str) -> bytes:
    return b64.decode_url(value, limit=limit, what=what)


def _kek(shared: bytes) -> bytes:
    algorithm = teekey.EC_ALG.encode()
    info = struct.pack(">I", len(algorithm)) + algorithm + bytes(8) + struct.pack(">I", 8 * _CEK_BYTES)
    return ConcatKDFHash(hashes.SHA256(), _CEK_BYTES, info).derive(shared)
