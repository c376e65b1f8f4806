"""A resource sealed to a worker's one-time key with HPKE (RFC 9180), KEM MLKEM768-X25519.

    {"alg": "HPKE-0x647a-0x0001-0x0002", "ciphertext": B64URL, "enc": B64URL}

`info` is the purpose; the associated data is the JCS object of `alg`, the recipient's thumbprint and the path
of the resource. So an answer opens for the resource that was asked for and for no other. It is the answer to
an HPKE one-time key (`teekey`) in the place where the KBS protocol has a JWE.

HPKE's base mode authenticates nobody: who made what is inside is for `strongroom.broker.release` to check.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from strongroom.broker import teekey
from strongroom.broker.errors import HPKE_RELEASE_INVALID, HPKE_RELEASE_OPEN_FAILED
from strongroom.codec import b64, jcs
from strongroom.crypto.hpke import TAG_SIZE, PrivateKey, setup_receiver, setup_sender
from strongroom.errors import BrokerError, CodecError, CryptoError

INFO: Final = b"strongroom-release/1"
MAX_PLAINTEXT: Final = 512 * 1024
MAX_DOCUMENT: Final = MAX_PLAINTEXT * 4 // 3 + 4096
"""Largest JSON form in bytes."""

_MEMBERS: Final = {"alg", "ciphertext", "enc"}
_ENC_BYTES: Final = teekey.HPKE_SUITE.kem.enc_size


def seal(
    key: teekey.HpkePublicKey, plaintext: bytes, *, resource: str, rng: Callable[[int], bytes] = os.urandom
) -> bytes:
    """Seal a resource to an attester's one-time key.

    Args:
        key: The key.
        plaintext: At most 512 KiB.
        resource: Its path, `repository/type/tag`.
        rng: Source of the ephemeral X25519 key. (ML-KEM draws its own randomness.)

    Returns:
        The JSON form.

    Raises:
        CryptoError: `hpke-bad-key`; never for a key that `teekey.parse_jwk` has let through.
        ValueError: `plaintext` is too long.
    """
    if len(plaintext) > MAX_PLAINTEXT:
        raise ValueError("a resource is at most 512 KiB")
    enc, sender = setup_sender(teekey.HPKE_SUITE, key.raw, INFO, rng=rng)
    ciphertext = sender.seal(plaintext, _bound(teekey.thumbprint(key), resource))
    return jcs.canonical(
        {"alg": teekey.HPKE_ALG, "ciphertext": b64.encode_url(ciphertext), "enc": b64.encode_url(enc)}
    )


def open_sealed(key: PrivateKey, document: bytes, *, resource: str) -> bytes:
    """Open a resource with the attester's one-time key.

    Args:
        key: The private key.
        document: The JSON form.
        resource: Path of the resource that was asked for.

    Raises:
        BrokerError: `hpke-release-invalid`, not of this form; `hpke-release-open-failed`, made for another
            key or another resource, or changed.
    """
    try:
        members = jcs.parse(document, limit=MAX_DOCUMENT, what="sealed resource")
        if not isinstance(members, dict) or members.keys() != _MEMBERS:
            raise BrokerError(HPKE_RELEASE_INVALID, "the members are not alg, ciphertext and enc")
        if members["alg"] != teekey.HPKE_ALG:
            raise BrokerError(HPKE_RELEASE_INVALID, "alg", expected=teekey.HPKE_ALG)
        enc = _bytes(members, "enc", _ENC_BYTES)
        ciphertext = _bytes(members, "ciphertext", MAX_PLAINTEXT + TAG_SIZE)
    except CodecError as error:
        raise BrokerError(HPKE_RELEASE_INVALID, str(error)) from error
    recipient = teekey.thumbprint(teekey.HpkePublicKey(key.public_bytes()))
    try:
        receiver = setup_receiver(teekey.HPKE_SUITE, enc, key, INFO)
        return receiver.open(ciphertext, _bound(recipient, resource))
    except CryptoError as error:
        raise BrokerError(HPKE_RELEASE_OPEN_FAILED) from error


def _bound(recipient: str, resource: str) -> bytes:
    return jcs.canonical({"alg": teekey.HPKE_ALG, "recipient": recipient, "resource": resource})


def _bytes(members: dict[str, Any], name: str, limit: int) -> bytes:
    return b64.decode_url(members[name], limit=limit, what=name)
