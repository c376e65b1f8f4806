"""The attester's one-time key as a JSON Web Key (RFC 7517), and its thumbprint (RFC 7638).

The KBS protocol binds this key into the evidence by its JSON, so a key has exactly the members below:

    {"kty": "AKP", "alg": "HPKE-0x647a-0x0001-0x0002", "pub": B64URL}
    {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": B64URL, "y": B64URL}
    {"kty": "RSA", "alg": "RSA-OAEP-256", "n": B64URL, "e": B64URL}

Our own workers use the first form: HPKE with MLKEM768-X25519, HKDF-SHA256 and AES-256-GCM, by their numbers,
since no name is registered for that suite; `AKP` and `pub` are as draft-ietf-cose-dilithium has them. The
others are there for other attesters, and are classical: a recorded answer can be opened once a quantum
computer exists.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from strongroom.broker.errors import TEE_KEY_UNSUPPORTED
from strongroom.codec import b64, jcs
from strongroom.crypto.hpke import DEFAULT_SUITE, Suite, setup_sender
from strongroom.errors import BrokerError, CodecError, CryptoError

HPKE_SUITE: Final[Suite] = DEFAULT_SUITE
HPKE_ALG: Final = f"HPKE-{HPKE_SUITE.kem:#06x}-{HPKE_SUITE.kdf:#06x}-{HPKE_SUITE.aead:#06x}"
HPKE_PUBLIC_BYTES: Final = HPKE_SUITE.kem.public_key_size
EC_ALG: Final = "ECDH-ES+A256KW"
RSA_ALG: Final = "RSA-OAEP-256"
COORDINATE_BYTES: Final = 32
_RSA_BITS: Final = range(2048, 4097)
_EXPONENT_BYTES: Final = 4
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class HpkePublicKey:
    """An HPKE public key for MLKEM768-X25519, 1216 bytes."""

    raw: bytes


ClassicalKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PublicKey = HpkePublicKey | ClassicalKey


def generate(rng: Callable[[int], bytes] = os.urandom) -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key. The scalar comes from 320 random bits (FIPS 186-5, A.2.1)."""
    scalar = int.from_bytes(rng(40)) % (_P256_ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP256R1())


def coordinates(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """The point as JWK members, in the order that the KBS wants for an ephemeral key: crv, kty, x, y."""
    numbers = key.public_numbers()
    x, y = (b64.encode_url(value.to_bytes(COORDINATE_BYTES)) for value in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def to_jwk(key: HpkePublicKey | ec.EllipticCurvePublicKey) -> dict[str, str]:
    """A worker's key as the KBS protocol sends it."""
    if isinstance(key, HpkePublicKey):
        return {"alg": HPKE_ALG, "kty": "AKP", "pub": b64.encode_url(key.raw)}
    return {"alg": EC_ALG, **coordinates(key)}


def parse_jwk(jwk: object) -> PublicKey:
    """Read a one-time key.

    Raises:
        BrokerError: `tee-key-unsupported`, another kind of key, other members, or not a usable public key.
    """
    if not isinstance(jwk, dict) or not all(isinstance(value, str) for value in jwk.values()):
        raise BrokerError(TEE_KEY_UNSUPPORTED, "not a JSON object of strings")
    if jwk.keys() == {"kty", "alg", "pub"}:
        if (jwk["kty"], jwk["alg"]) != ("AKP", HPKE_ALG):
            raise BrokerError(TEE_KEY_UNSUPPORTED, f"not AKP for {HPKE_ALG}")
        return _parse_hpke(jwk["pub"])
    if jwk.keys() == {"kty", "crv", "alg", "x", "y"}:
        if (jwk["kty"], jwk["crv"], jwk["alg"]) != ("EC", "P-256", EC_ALG):
            raise BrokerError(TEE_KEY_UNSUPPORTED, "not P-256 for ECDH-ES+A256KW")
        return parse_point(jwk)
    if jwk.keys() == {"kty", "alg", "n", "e"}:
        if (jwk["kty"], jwk["alg"]) != ("RSA", RSA_ALG):
            raise BrokerError(TEE_KEY_UNSUPPORTED, "not RSA for RSA-OAEP-256")
        return _parse_rsa(jwk)
    raise BrokerError(TEE_KEY_UNSUPPORTED, "the members are not those of an HPKE, P-256 or RSA key")


def parse_point(jwk: Mapping[str, str]) -> ec.EllipticCurvePublicKey:
    """The P-256 point of `x` and `y`.

    Raises:
        BrokerError: `tee-key-unsupported`, not a point of the curve.
    """
    x, y = (_integer(jwk[name], COORDINATE_BYTES, exact=True) for name in ("x", "y"))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError as error:
        raise BrokerError(TEE_KEY_UNSUPPORTED, "not a point of P-256") from error


def thumbprint(key: PublicKey) -> str:
    """The JWK thumbprint (RFC 7638) with SHA-256, base64url. That of an AKP key is over all three members."""
    if isinstance(key, HpkePublicKey):
        required = to_jwk(key)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        required = coordinates(key)
    else:
        numbers = key.public_numbers()
        n, e = (
            b64.encode_url(value.to_bytes((value.bit_length() + 7) // 8)) for value in (numbers.n, numbers.e)
        )
        required = {"e": e, "kty": "RSA", "n": n}
    return b64.encode_url(hashlib.sha256(jcs.canonical(required)).digest())


def _parse_hpke(text: str) -> HpkePublicKey:
    try:
        raw = b64.decode_url(text, limit=HPKE_PUBLIC_BYTES, what="HPKE key")
        setup_sender(HPKE_SUITE, raw, b"")  # some keys are well formed, and yet nothing can be sealed to them
    except (CodecError, CryptoError) as error:
        raise BrokerError(TEE_KEY_UNSUPPORTED, "not an HPKE public key for MLKEM768-X25519") from error
    return HpkePublicKey(raw)


def _parse_rsa(jwk: Mapping[str, str]) -> rsa.RSAPublicKey:
    n = _integer(jwk["n"], _RSA_BITS[-1] // 8)
    e = _integer(jwk["e"], _EXPONENT_BYTES)
    if n.bit_length() not in _RSA_BITS:
        raise BrokerError(TEE_KEY_UNSUPPORTED, found=f"RSA of {n.bit_length()} bits", expected="2048 to 4096")
    if n % 2 == 0:  # the library takes such a modulus, and fails only when it encrypts
        raise BrokerError(TEE_KEY_UNSUPPORTED, "not an RSA modulus")
    try:
        return rsa.RSAPublicNumbers(e, n).public_key()
    except ValueError as error:
        raise BrokerError(TEE_KEY_UNSUPPORTED, "not an RSA key") from error


def _integer(text: str, size: int, *, exact: bool = False) -> int:
    try:
        raw = b64.decode_url(text, limit=size, what="JWK number")
    except CodecError as error:
        raise BrokerError(TEE_KEY_UNSUPPORTED, "a number is not base64url or too long") from error
    if exact and len(raw) != size:
        raise BrokerError(TEE_KEY_UNSUPPORTED, "a coordinate has the wrong length")
    return int.from_bytes(raw)
