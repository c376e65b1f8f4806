"""One-time keys as JWKs: exactly the two forms of the protocol; thumbprints as RFC 7638 says."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc.jwk import ECKey, RSAKey

from strongroom.broker import jwe, onetime, teekey
from strongroom.codec import b64

EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


def rsa_jwk(key: rsa.RSAPrivateKey = RSA_KEY) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    n, e = (b64.encode_url(value.to_bytes((value.bit_length() + 7) // 8)) for value in (numbers.n, numbers.e))
    return {"kty": "RSA", "alg": "RSA-OAEP-256", "n": n, "e": e}


def test_a_p256_key_reads_back() -> None:
    jwk = teekey.to_jwk(EC_KEY.public_key())
    assert set(jwk) == {"kty", "crv", "alg", "x", "y"}
    assert teekey.parse_jwk(jwk).public_numbers() == EC_KEY.public_key().public_numbers()


def test_an_rsa_key_reads_back() -> None:
    assert teekey.parse_jwk(rsa_jwk()).public_numbers() == RSA_KEY.public_key().public_numbers()


def test_the_ephemeral_key_is_in_the_order_of_the_protocol() -> None:
    assert list(teekey.coordinates(EC_KEY.public_key())) == ["crv", "kty", "x", "y"]


def test_thumbprint_of_rfc_7638_section_3_1() -> None:
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3o"
        "knjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHz"
        "u6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8"
        "awapJzKnqDKgw"
    )
    key = teekey.parse_jwk({"kty": "RSA", "alg": "RSA-OAEP-256", "n": n, "e": "AQAB"})
    assert teekey.thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_thumbprints_agree_with_joserfc() -> None:
    for key, jwk in ((EC_KEY, teekey.to_jwk(EC_KEY.public_key())), (RSA_KEY, rsa_jwk())):
        theirs = (ECKey if jwk["kty"] == "EC" else RSAKey).import_key(jwk).thumbprint()
        assert teekey.thumbprint(key.public_key()) == theirs


def test_keys_come_from_the_given_source() -> None:
    seeds: list[int] = []

    def rng(size: int) -> bytes:
        seeds.append(size)
        return b"\xff" * size

    first, second = teekey.generate(rng), teekey.generate(rng)
    assert first.private_numbers() == second.private_numbers()
    assert seeds == [40, 40]
    assert teekey.generate(bytes).private_numbers().private_value == 1  # even from zeros, a usable key


def test_fresh_keys_differ() -> None:
    assert len({teekey.thumbprint(teekey.generate().public_key()) for _ in range(20)}) == 20


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "OKP"},
        {"crv": "P-384"},
        {"alg": "ECDH-ES"},
        {"alg": "RSA-OAEP-256"},
        {"x": ""},
        {"x": "AA"},
        {"y": "AAAA"},
        {"x": "A" * 43},
        {"x": "A" * 44},
        {"x": 1},
        {"x": None},
        {"y": ["A"]},
        {"x": "+" * 43},
        {"d": "AAAA"},
        {"kid": "1"},
        {"x": None, "y": None},
    ],
)
def test_other_ec_keys_are_refused(refused, change: dict[str, object]) -> None:
    with refused("tee-key-unsupported"):
        teekey.parse_jwk({**teekey.to_jwk(EC_KEY.public_key()), **change})


@pytest.mark.parametrize("name", ["x", "y"])
def test_a_coordinate_without_its_leading_zero_is_refused(refused, name: str) -> None:
    """RFC 7518, 6.2.1.2: 32 bytes, always. One key would have two forms, and two thumbprints."""
    keys = (ec.derive_private_key(number, ec.SECP256R1()).public_key() for number in range(1, 10_000))
    jwk = next(jwk for jwk in map(teekey.to_jwk, keys) if b64.decode_url(jwk[name], limit=32)[0] == 0)
    teekey.parse_jwk(jwk)
    short = b64.encode_url(b64.decode_url(jwk[name], limit=32)[1:])
    with refused("tee-key-unsupported"):
        teekey.parse_jwk({**jwk, name: short})


def test_a_point_off_the_curve_is_refused(refused) -> None:
    jwk = teekey.to_jwk(EC_KEY.public_key())
    y = bytearray(b64.decode_url(jwk["y"], limit=32))
    y[-1] ^= 1
    with refused("tee-key-unsupported"):
        teekey.parse_jwk({**jwk, "y": b64.encode_url(bytes(y))})


@pytest.mark.parametrize("missing", ["kty", "crv", "alg", "x", "y"])
def test_a_member_cannot_be_missing(refused, missing: str) -> None:
    jwk = teekey.to_jwk(EC_KEY.public_key())
    del jwk[missing]
    with refused("tee-key-unsupported"):
        teekey.parse_jwk(jwk)


@pytest.mark.parametrize("value", [None, "", [], 1, "jwk", [["kty", "EC"]]])
def test_what_is_no_object_is_refused(refused, value: object) -> None:
    with refused("tee-key-unsupported"):
        teekey.parse_jwk(value)


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "RSA-OAEP"},
        {"kty": "EC"},
        {"n": ""},
        {"n": "AQAB"},
        {"n": b64.encode_url(b"\xff" * 513)},
        {"n": b64.encode_url(b"\xff" * 255 + b"\xfe")},
        {"e": ""},
        {"e": "AQ"},
        {"e": "Ag"},
        {"e": "AQAAAAE"},
        {"e": "AQAAAAAB"},
        {"e": "===="},
    ],
)
def test_other_rsa_keys_are_refused(refused, change: dict[str, str]) -> None:
    with refused("tee-key-unsupported"):
        teekey.parse_jwk({**rsa_jwk(), **change})


@pytest.mark.parametrize("bits", [1024, 2047])
def test_a_short_rsa_key_is_refused(refused, bits: int) -> None:
    n = (1 << bits - 1) | 1
    with refused("tee-key-unsupported"):
        teekey.parse_jwk({**rsa_jwk(), "n": b64.encode_url(n.to_bytes((bits + 7) // 8))})


def test_the_thumbprint_is_over_the_required_members_only() -> None:
    jwk = teekey.to_jwk(EC_KEY.public_key())
    required = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(required, sort_keys=True, separators=(",", ":")).encode()).digest()
    assert teekey.thumbprint(EC_KEY.public_key()) == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_whatever_rsa_key_is_accepted_can_be_sealed_to() -> None:
    for tail in range(1, 40, 2):
        jwk = {**rsa_jwk(), "n": b64.encode_url(b"\xc1" * 255 + bytes([tail]))}
        assert jwe.seal(teekey.parse_jwk(jwk), b"key")


# HPKE keys.


def hpke_jwk() -> dict[str, str]:
    return onetime.HpkeKey(lambda size: bytes(range(size))).jwk


def test_an_hpke_key_reads_back() -> None:
    jwk = hpke_jwk()
    assert jwk == {"alg": "HPKE-0x647a-0x0001-0x0002", "kty": "AKP", "pub": jwk["pub"]}
    key = teekey.parse_jwk(jwk)
    assert isinstance(key, teekey.HpkePublicKey)
    assert len(key.raw) == 1216
    assert teekey.to_jwk(key) == jwk


def test_the_thumbprint_of_an_hpke_key_is_over_all_members() -> None:
    jwk = hpke_jwk()
    digest = hashlib.sha256(json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode()).digest()
    assert teekey.thumbprint(teekey.parse_jwk(jwk)) == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "OKP"},
        {"kty": "EC"},
        {"alg": "HPKE-0x0020-0x0001-0x0002"},
        {"alg": "HPKE-0x647A-0x0001-0x0002"},
        {"alg": "HPKE-10"},
        {"alg": "ECDH-ES+A256KW"},
        {"pub": ""},
        {"pub": "===="},
        {"pub": 5},
        {"pub": b64.encode_url(bytes(32))},
        {"pub": b64.encode_url(bytes(1215))},
        {"pub": b64.encode_url(bytes(1217))},
        {"pub": b64.encode_url(b"\xff" * 1216)},
        {"priv": "AAAA"},
        {"kid": "1"},
    ],
    ids=repr,
)
def test_other_hpke_keys_are_refused(refused, change: dict[str, object]) -> None:
    with refused("tee-key-unsupported"):
        teekey.parse_jwk({**hpke_jwk(), **change})


@pytest.mark.parametrize("missing", ["kty", "alg", "pub"])
def test_a_member_of_an_hpke_key_cannot_be_missing(refused, missing: str) -> None:
    jwk = hpke_jwk()
    del jwk[missing]
    with refused("tee-key-unsupported"):
        teekey.parse_jwk(jwk)


@pytest.mark.parametrize("point", [0, 1], ids=["zero", "one"])
def test_an_hpke_key_to_which_nothing_can_be_sealed_is_refused(refused, point: int) -> None:
    """Its X25519 half is of small order: sealing would fail, and after the release was logged."""
    raw = b64.decode_url(hpke_jwk()["pub"], limit=1216)[:-32] + point.to_bytes(32, "little")
    with refused("tee-key-unsupported"):
        teekey.parse_jwk({**hpke_jwk(), "pub": b64.encode_url(raw)})
