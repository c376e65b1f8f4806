"""The composite construction: its official vector, and what each half may and may not do alone."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto._composite import (
    PUBLIC_SIZE,
    SIGNATURE_SIZE,
    PrivateKey,
    PublicKey,
    parse_ed25519,
    parse_public_key,
    representative,
)

LABEL = b"COMPSIG-MLDSA65-Ed25519-SHA512"
SEED = bytes(range(64))
P = 2**255 - 19


@pytest.fixture(scope="module")
def vector() -> dict[str, Any]:
    path = Path(__file__).parent / "data" / "composite.json"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey(SEED)


def small_order_points() -> list[bytes]:
    """The eight points of small order, computed here from the curve: x and y in affine coordinates."""
    d = -121665 * pow(121666, -1, P) % P
    root = pow(2, (P - 1) // 4, P)  # a square root of -1

    def encode(x: int, y: int) -> bytes:
        return (y | (x & 1) << 255).to_bytes(32, "little")

    points = [encode(0, 1), encode(0, P - 1), encode(root, 0), encode(P - root, 0)]
    # The double of a point of order 8 has y = 0. On -x^2 + y^2 = 1 + d x^2 y^2 that means x^2 = -y^2, hence
    # d y^4 + 2 y^2 - 1 = 0.
    for sign in (1, -1):
        discriminant = _sqrt(1 + d)
        assert discriminant is not None
        y = _sqrt((sign * discriminant - 1) * pow(d, -1, P))
        if y is None:
            continue
        for y_signed in (y, P - y):
            points += [encode(root * y % P, y_signed), encode(P - root * y % P, y_signed)]
    return points


def _sqrt(value: int) -> int | None:
    candidate = pow(value % P, (P + 3) // 8, P)
    for root in (candidate, candidate * pow(2, (P - 1) // 4, P) % P):
        if root * root % P == value % P:
            return root
    return None


def test_the_official_signature_holds(vector) -> None:
    public_key = PrivateKey(base64.b64decode(vector["sk"])).public_key
    signature = base64.b64decode(vector["s"], validate=True)
    assert len(signature) == SIGNATURE_SIZE
    assert public_key.accepts(b"", vector["m"].encode(), signature)
    assert not public_key.accepts(b"other", vector["m"].encode(), signature)
    assert not public_key.accepts(b"", vector["m"].encode() + b" ", signature)


def test_the_representative_is_as_the_draft_has_it() -> None:
    expected = (
        b"CompositeAlgorithmSignatures2025" + LABEL + b"\x03ctx" + hashlib.sha512(b"a message").digest()
    )
    assert representative(b"ctx", b"a message") == expected


def test_context_and_message_cannot_trade_bytes() -> None:
    made = {
        representative(context, message) for context, message in ((b"a", b"b"), (b"ab", b""), (b"", b"ab"))
    }
    assert len(made) == 3


def test_a_context_has_at_most_255_bytes(key) -> None:
    assert key.public_key.accepts(bytes(255), b"", key.sign(bytes(255), b""))
    with pytest.raises(ValueError, match="255"):
        key.sign(bytes(256), b"")
    with pytest.raises(ValueError, match="255"):
        key.public_key.accepts(bytes(256), b"", bytes(SIGNATURE_SIZE))


def test_the_halves_are_fips_204_and_rfc_8032(key) -> None:
    """Each half, checked with the library alone, is a signature over the representative."""
    signature, signed = key.sign(b"ctx", b"m"), representative(b"ctx", b"m")
    mldsa = MLDSA65PrivateKey.from_seed_bytes(SEED[:32]).public_key()
    ed25519 = Ed25519PrivateKey.from_private_bytes(SEED[32:]).public_key()
    assert key.public_key.raw == mldsa.public_bytes_raw() + ed25519.public_bytes_raw()
    mldsa.verify(signature[:3309], signed, LABEL)  # raises if not
    ed25519.verify(signature[3309:], signed)


@pytest.mark.parametrize("message", [b"m", representative(b"ctx", b"m")])
@pytest.mark.parametrize("context", [None, b"", b"ctx"])
def test_a_half_cut_out_is_no_signature_of_its_own(key, message: bytes, context: bytes | None) -> None:
    """Stripped of the other half, neither holds for the message, under any context of a plain use."""
    signature = key.sign(b"ctx", b"m")
    with pytest.raises(InvalidSignature):
        MLDSA65PublicKey.from_public_bytes(key.public_key.raw[:1952]).verify(
            signature[:3309], message, context
        )
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(key.public_key.raw[1952:]).verify(signature[3309:], b"m")


def test_one_half_alone_does_not_do(key) -> None:
    """Whoever breaks one of the two schemes makes its half at will; the other half then refuses."""
    good, other = key.sign(b"ctx", b"m"), PrivateKey(bytes(64)).sign(b"ctx", b"m")
    assert key.public_key.accepts(b"ctx", b"m", good)
    assert not key.public_key.accepts(b"ctx", b"m", good[:3309] + other[3309:])
    assert not key.public_key.accepts(b"ctx", b"m", other[:3309] + good[3309:])
    assert not key.public_key.accepts(b"ctx", b"m", good[:3309] + bytes(64))
    assert not key.public_key.accepts(b"ctx", b"m", bytes(3309) + good[3309:])


def test_halves_of_two_messages_do_not_make_a_signature(key) -> None:
    first, second = key.sign(b"ctx", b"1"), key.sign(b"ctx", b"2")
    for message in (b"1", b"2"):
        assert not key.public_key.accepts(b"ctx", message, first[:3309] + second[3309:])


def test_every_flipped_byte_is_refused(key) -> None:
    signature = key.sign(b"ctx", b"m")
    for at in range(len(signature)):
        changed = bytearray(signature)
        changed[at] ^= 1 << at % 8
        assert not key.public_key.accepts(b"ctx", b"m", bytes(changed)), at


@pytest.mark.parametrize("size", [0, 64, 3309, SIGNATURE_SIZE - 1, SIGNATURE_SIZE + 1, 10_000])
def test_a_signature_of_another_length_is_refused(key, size: int) -> None:
    signature = (key.sign(b"ctx", b"m") + bytes(10_000))[:size]
    assert not key.public_key.accepts(b"ctx", b"m", signature)


def test_a_malleated_signature_is_refused(key) -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    signature = key.sign(b"ctx", b"m")
    s = int.from_bytes(signature[-32:], "little") + order
    assert not key.public_key.accepts(b"ctx", b"m", signature[:-32] + s.to_bytes(32, "little"))


@settings(max_examples=30, deadline=None)
@given(context=st.binary(max_size=255), message=st.binary(max_size=300))
def test_what_is_signed_holds_for_its_context_only(key, context: bytes, message: bytes) -> None:
    signature = key.sign(context, message)
    assert key.public_key.accepts(context, message, signature)
    assert not key.public_key.accepts(context[:-1] if context else b"x", message, signature)


def test_no_two_signatures_are_alike(key) -> None:
    assert key.sign(b"ctx", b"m") != key.sign(b"ctx", b"m")


def test_small_order_points_are_eight() -> None:
    assert len(set(small_order_points())) == 8


@pytest.mark.parametrize("point", small_order_points(), ids=lambda point: point.hex()[:8])
def test_a_key_under_which_anybody_can_forge_is_refused(key, point: bytes, refuses) -> None:
    # Without knowing any secret: R is the neutral element, S is zero, some message will do.
    plain = Ed25519PublicKey.from_public_bytes(point)
    forged = (1).to_bytes(32, "little") + bytes(32)
    assert any(_accepts(plain, forged, bytes([n])) for n in range(200))
    with refuses("signing-key-invalid"):
        PublicKey(key.public_key.raw[:-32] + point)


def _accepts(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


@pytest.mark.parametrize("y", range(P, 2**255))
@pytest.mark.parametrize("sign", [0, 1])
def test_a_second_encoding_of_a_key_is_refused(key, y: int, sign: int, refuses) -> None:
    with refuses("signing-key-invalid"):
        PublicKey(key.public_key.raw[:-32] + (y | sign << 255).to_bytes(32, "little"))


@pytest.mark.parametrize("size", [0, 32, 1952, PUBLIC_SIZE - 1, PUBLIC_SIZE + 1])
def test_a_public_key_of_another_length_is_refused(size: int, refuses) -> None:
    with refuses("signing-key-invalid"):
        parse_public_key(bytes([9] * size))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_an_ed25519_key_of_another_length_is_refused(size: int, refuses) -> None:
    with refuses("signing-key-invalid"):
        parse_ed25519(bytes([9] * size))


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_a_private_key_of_another_length_is_refused(size: int, refuses) -> None:
    with refuses("signing-key-invalid"):
        PrivateKey(bytes([9] * size))


def test_repr_shows_no_secret(key) -> None:
    assert key.raw() == SEED
    assert SEED.hex() not in repr(key)
    assert repr(SEED) not in repr(key)
