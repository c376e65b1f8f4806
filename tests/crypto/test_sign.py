"""Signing keys that are named by a digest: purposes, pins, texts."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.codec import b64
from strongroom.crypto._composite import PUBLIC_SIZE, PrivateKey, representative
from strongroom.crypto.sign import PREFIX, SECRET_SIZE, SIGNATURE_SIZE, SigningKey, VerifyingKey

PURPOSE = "strongroom-test/1"


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.from_raw(bytes(range(64)))


def test_the_text_is_the_digest_of_both_public_keys(key):
    public = PrivateKey(bytes(range(64))).public_key.raw
    assert len(public) == PUBLIC_SIZE
    assert key.verifying_key.digest == hashlib.sha256(public).digest()
    assert key.verifying_key.text == PREFIX + b64.encode_url(key.verifying_key.digest)
    assert len(key.verifying_key.text) == 59


def test_a_signature_is_the_public_keys_and_a_composite_signature_for_the_purpose(key):
    signature = key.sign(PURPOSE, b"payload")
    public_key = PrivateKey(bytes(range(64))).public_key
    assert len(signature) == SIGNATURE_SIZE
    assert signature[:PUBLIC_SIZE] == public_key.raw
    assert public_key.accepts(PURPOSE.encode(), b"payload", signature[PUBLIC_SIZE:])


@settings(max_examples=30, deadline=None)
@given(payload=st.binary(max_size=300), seed=st.binary(min_size=64, max_size=64))
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


def test_flipped_bits_are_refused(key, refuses):
    payload = b"the exact bytes served"
    signature = key.sign(PURPOSE, payload)
    rng = random.Random(7)
    for at in [*range(64), *rng.sample(range(len(signature) * 8), 1500)]:
        changed = bytearray(signature)
        changed[at // 8] ^= 1 << at % 8
        with refuses("signature-invalid"):
            key.verifying_key.verify(PURPOSE, payload, bytes(changed), what="document")
    for at in range(len(payload) * 8):
        changed = bytearray(payload)
        changed[at // 8] ^= 1 << at % 8
        with refuses("signature-invalid"):
            key.verifying_key.verify(PURPOSE, bytes(changed), signature, what="document")


@pytest.mark.parametrize(
    "size", [0, 32, 64, PUBLIC_SIZE, PUBLIC_SIZE + 64, SIGNATURE_SIZE - 1, SIGNATURE_SIZE + 1, 10_000]
)
def test_signature_of_another_length_is_refused(key, refuses, size):
    signature = (key.sign(PURPOSE, b"x") + bytes(10_000))[:size]
    with refuses("signature-invalid"):
        key.verifying_key.verify(PURPOSE, b"x", signature, what="document")


def test_signature_for_another_purpose_is_refused(key, refuses):
    signature = key.sign("strongroom-keyset/2", b"payload")
    with refuses("signature-invalid"):
        key.verifying_key.verify("strongroom-beacon/1", b"payload", signature, what="beacon")


def test_purpose_and_payload_cannot_trade_bytes(key, refuses):
    signature = key.sign("a", b"bc")
    for purpose, payload in (("ab", b"c"), ("a", b"b"), ("abc", b"")):
        with refuses("signature-invalid"):
            key.verifying_key.verify(purpose, payload, signature, what="document")


@pytest.mark.parametrize("purpose", ["", "a" * 256, "\u00e9" * 128])
def test_a_purpose_is_a_text_of_1_to_255_bytes(key, purpose):
    with pytest.raises(ValueError, match="purpose"):
        key.sign(purpose, b"")
    with pytest.raises(ValueError, match="purpose"):
        key.verifying_key.verify(purpose, b"", bytes(SIGNATURE_SIZE), what="document")


def test_signature_under_another_key_is_refused(key, refuses):
    signature = SigningKey.generate().sign(PURPOSE, b"payload")
    with refuses("signature-invalid"):
        key.verifying_key.verify(PURPOSE, b"payload", signature, what="document")


def test_a_good_signature_behind_the_pinned_keys_of_another_is_refused(key, refuses):
    """The pin decides which keys count; those that made the signature are not asked."""
    pinned, other = key.sign(PURPOSE, b"payload"), SigningKey.generate().sign(PURPOSE, b"payload")
    with refuses("signature-invalid"):
        key.verifying_key.verify(
            PURPOSE, b"payload", pinned[:PUBLIC_SIZE] + other[PUBLIC_SIZE:], what="document"
        )


@pytest.mark.parametrize("part", [slice(0, 1952), slice(1952, 1984)])
def test_a_key_of_which_one_half_was_swapped_is_refused(key, refuses, part):
    """One who has broken one scheme puts in a half of his own; the digest is over both."""
    other = SigningKey.generate()
    mixed = bytearray(key.sign(PURPOSE, b"payload"))
    foreign = other.sign(PURPOSE, b"payload")
    mixed[part] = foreign[part]
    with refuses("signature-invalid"):
        key.verifying_key.verify(PURPOSE, b"payload", bytes(mixed), what="document")


def test_a_pinned_key_that_is_none_is_refused(key, refuses):
    """Only its owner can pin such a key: under the neutral element as Ed25519 half anybody can forge."""
    weak = key.sign(PURPOSE, b"")[:1952] + (1).to_bytes(32, "little")
    pin = VerifyingKey(hashlib.sha256(weak).digest())
    with refuses("signing-key-invalid"):
        pin.verify(PURPOSE, b"", weak + bytes(SIGNATURE_SIZE - PUBLIC_SIZE), what="document")


def test_error_names_document_and_public_key_only(key):
    with pytest.raises(Exception, match=r"the beacon, under key ed25519\+mldsa65:") as caught:
        key.verifying_key.verify(PURPOSE, b"canary-payload", bytes(SIGNATURE_SIZE), what="the beacon")
    assert "canary" not in str(caught.value)
    assert key.verifying_key.text in str(caught.value)


def test_what_is_signed_is_bound_to_the_construction(key):
    """Both halves sign bytes that begin with the name of the composite."""
    assert representative(PURPOSE.encode(), b"payload").startswith(
        b"CompositeAlgorithmSignatures2025COMPSIG-"
    )


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_digest_of_another_length_is_refused(size, refuses):
    with refuses("signing-key-invalid"):
        VerifyingKey(bytes([9] * size))


@pytest.mark.parametrize("size", [0, 32, SECRET_SIZE - 1, SECRET_SIZE + 1])
def test_secret_of_another_length_is_refused(size, refuses):
    with refuses("signing-key-invalid"):
        SigningKey.from_raw(bytes([9] * size))


def test_text_of_another_form_is_refused(key, refuses):
    text = key.verifying_key.text
    bare = text.removeprefix(PREFIX)
    changed = bare[:-1] + ("B" if bare[-1] == "A" else chr(ord(bare[-1]) + 1))
    for bad in (
        "",
        bare,
        "ed25519:" + bare,
        "mldsa65:" + bare,
        "ED25519+MLDSA65:" + bare,
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
