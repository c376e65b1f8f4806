from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from strongroom.codec import b64
from strongroom.crypto.sign import PREFIX, SIGNATURE_SIZE, SigningKey, VerifyingKey

P = 2**255 - 19
PURPOSE = "strongroom-test/1"

# RFC 8032, section 7.1: secret key, public key
RFC8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    ),
]


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


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.from_raw(bytes(range(32)))


@pytest.mark.parametrize(("secret", "public"), RFC8032)
def test_public_key_follows_from_secret_as_in_rfc_8032(secret, public):
    key = SigningKey.from_raw(bytes.fromhex(secret))
    assert key.verifying_key.raw() == bytes.fromhex(public)
    assert key.raw() == bytes.fromhex(secret)


def test_what_is_signed_is_purpose_zero_payload(key):
    signature = key.sign(PURPOSE, b"payload")
    plain = Ed25519PublicKey.from_public_bytes(key.verifying_key.raw())
    plain.verify(signature, b"strongroom-test/1\0payload")  # raises if not
    assert len(signature) == SIGNATURE_SIZE


@given(payload=st.binary(max_size=300), seed=st.binary(min_size=32, max_size=32))
def test_signatures_hold_and_keys_survive_their_text(payload, seed):
    key = SigningKey.generate(lambda size: seed[:size])
    assert key.raw() == seed
    again = VerifyingKey.parse(key.verifying_key.text)
    again.verify(PURPOSE, payload, key.sign(PURPOSE, payload), what="document")
    assert again == key.verifying_key
    assert hash(again) == hash(key.verifying_key)


def test_generated_keys_differ():
    assert SigningKey.generate().raw() != SigningKey.generate().raw()


def test_keys_compare_by_value_only_with_keys(key):
    assert key.verifying_key != SigningKey.generate().verifying_key
    assert key.verifying_key != key.verifying_key.text


def test_every_flipped_bit_is_refused(key, refuses):
    payload = b"the exact bytes served"
    signature = key.sign(PURPOSE, payload)
    for at in range(len(signature) * 8):
        changed = bytearray(signature)
        changed[at // 8] ^= 1 << at % 8
        with refuses("signature-invalid"):
            key.verifying_key.verify(PURPOSE, payload, bytes(changed), what="document")
    for at in range(len(payload) * 8):
        changed = bytearray(payload)
        changed[at // 8] ^= 1 << at % 8
        with refuses("signature-invalid"):
            key.verifying_key.verify(PURPOSE, bytes(changed), signature, what="document")


@pytest.mark.parametrize("size", [*range(SIGNATURE_SIZE), SIGNATURE_SIZE + 1, 1000])
def test_signature_of_another_length_is_refused(key, refuses, size):
    signature = (key.sign(PURPOSE, b"x") + bytes(1000))[:size]
    with refuses("signature-invalid"):
        key.verifying_key.verify(PURPOSE, b"x", signature, what="document")


def test_signature_for_another_purpose_is_refused(key, refuses):
    signature = key.sign("strongroom-keyset/1", b"payload")
    with refuses("signature-invalid"):
        key.verifying_key.verify("strongroom-beacon/1", b"payload", signature, what="beacon")


def test_purpose_and_payload_cannot_trade_bytes(key, refuses):
    signature = key.sign("a", b"b\0c")
    with refuses("signature-invalid"):
        key.verifying_key.verify("ab", b"\0c", signature, what="document")


@pytest.mark.parametrize("purpose", ["", "a\0b"])
def test_ambiguous_purpose_cannot_be_used(key, purpose):
    with pytest.raises(ValueError, match="purpose"):
        key.sign(purpose, b"")
    with pytest.raises(ValueError, match="purpose"):
        key.verifying_key.verify(purpose, b"", bytes(64), what="document")


def test_signature_under_another_key_is_refused(key, refuses):
    signature = SigningKey.generate().sign(PURPOSE, b"payload")
    with refuses("signature-invalid"):
        key.verifying_key.verify(PURPOSE, b"payload", signature, what="document")


def test_malleated_signature_is_refused(key, refuses):
    order = 2**252 + 27742317777372353535851937790883648493
    signature = key.sign(PURPOSE, b"payload")
    s = int.from_bytes(signature[32:], "little") + order
    with refuses("signature-invalid"):
        key.verifying_key.verify(
            PURPOSE, b"payload", signature[:32] + s.to_bytes(32, "little"), what="document"
        )


def test_error_names_document_and_public_key_only(key):
    with pytest.raises(Exception, match="the beacon, under key ed25519:") as caught:
        key.verifying_key.verify(PURPOSE, b"canary-payload", bytes(64), what="the beacon")
    assert "canary" not in str(caught.value)
    assert key.verifying_key.text in str(caught.value)


def test_small_order_points_are_eight():
    assert len(set(small_order_points())) == 8


@pytest.mark.parametrize("point", small_order_points(), ids=lambda point: point.hex()[:8])
def test_key_under_which_anybody_can_forge_is_refused(point, refuses):
    # Without knowing any secret: R is the neutral element, S is zero, some message will do.
    plain = Ed25519PublicKey.from_public_bytes(point)
    forged = (1).to_bytes(32, "little") + bytes(32)
    assert any(_accepts(plain, forged, bytes([n])) for n in range(200))
    with refuses("signing-key-invalid"):
        VerifyingKey(point)


def _accepts(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("y", range(P, 2**255))
@pytest.mark.parametrize("sign", [0, 1])
def test_second_encoding_of_a_key_is_refused(y, sign, refuses):
    with refuses("signing-key-invalid"):
        VerifyingKey((y | sign << 255).to_bytes(32, "little"))


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_key_of_another_length_is_refused(size, refuses):
    with refuses("signing-key-invalid"):
        VerifyingKey(bytes([9] * size))
    with refuses("signing-key-invalid"):
        SigningKey.from_raw(bytes([9] * size))


def test_text_of_another_form_is_refused(key, refuses):
    text = key.verifying_key.text
    bare = text.removeprefix(PREFIX)
    changed = bare[:-1] + ("B" if bare[-1] == "A" else chr(ord(bare[-1]) + 1))
    for bad in (
        "",
        bare,
        "ED25519:" + bare,
        "x25519:" + bare,
        " " + text,
        text + "=",
        text + "\n",
        text[:-1],
        text + "A",
        PREFIX + changed,  # not the canonical text of its bytes
        PREFIX + b64.encode_url(bytes([9] * 31)),
        PREFIX + b64.encode_url(bytes([9] * 33)),
        PREFIX + "A" * 1_000_000,
        PREFIX + "é" * 43,
    ):
        with refuses("signing-key-invalid"):
            VerifyingKey.parse(bad)


@given(text=st.text(max_size=80))
def test_no_text_leads_to_a_foreign_error(code_of, text):
    assert code_of(VerifyingKey.parse, text) == "signing-key-invalid"
    assert code_of(VerifyingKey.parse, PREFIX + text) in {None, "signing-key-invalid"}


def test_repr_shows_no_secret(key):
    assert key.raw().hex() not in repr(key)
    assert b64.encode_url(key.raw()) not in repr(key)
    assert key.verifying_key.text in repr(key)
    assert repr(key.verifying_key) == f"VerifyingKey({key.verifying_key.text!r})"
