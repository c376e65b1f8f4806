from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.codec.b64 import decode_std, decode_url, encode_std, encode_url
from strongroom.errors import CodecError

# RFC 4648, section 10
VECTORS = [
    (b"", ""),
    (b"f", "Zg=="),
    (b"fo", "Zm8="),
    (b"foo", "Zm9v"),
    (b"foob", "Zm9vYg=="),
    (b"fooba", "Zm9vYmE="),
    (b"foobar", "Zm9vYmFy"),
]


@pytest.mark.parametrize(("raw", "text"), VECTORS)
def test_vectors_of_rfc_4648(raw, text):
    assert encode_std(raw) == text
    assert decode_std(text, limit=6) == raw
    assert encode_url(raw) == text.rstrip("=")
    assert decode_url(text.rstrip("="), limit=6) == raw


def test_the_two_alphabets_differ_in_two_characters():
    assert encode_url(b"\xfb\xff\xfe") == "-__-"
    assert encode_std(b"\xfb\xff\xfe") == "+//+"


@given(st.binary(max_size=200))
def test_round_trip(raw):
    assert decode_url(encode_url(raw), limit=len(raw)) == raw
    assert decode_std(encode_std(raw), limit=len(raw)) == raw
    assert base64.urlsafe_b64decode(encode_url(raw) + "==") == raw


@given(st.text(max_size=40))
def test_what_is_accepted_has_one_spelling(text):
    for decode, encode in ((decode_url, encode_url), (decode_std, encode_std)):
        try:
            raw = decode(text, limit=40)
        except CodecError:
            continue
        assert encode(raw) == text


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("Zg==", "padded"),
        ("Zg", None),
        ("Zh", "canonical"),  # spare bits set
        ("Z", "base64"),  # six bits make no byte
        ("Zm9\u00e9", "ASCII"),
        ("Zm9v\n", "base64"),
        (" Zm9v", "base64"),
        ("+//+", "base64"),  # the other alphabet
        ("Zm-v", None),
        (b"Zm9v", "not a string"),
        (None, "not a string"),
    ],
)
def test_url_refusals(refused, text, detail):
    if detail is None:
        assert encode_url(decode_url(text, limit=10)) == text
        return
    with refused("base64-invalid", detail):
        decode_url(text, limit=10)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("Zg", "base64"),
        ("Zh==", "canonical"),
        ("Zg=", "base64"),
        ("Zg==Zg==", "base64"),
        ("Zm9v====", "base64"),
        ("-__-", "base64"),
        ("Zm 9v", "base64"),
        (7, "not a string"),
    ],
)
def test_standard_refusals(refused, text, detail):
    with refused("base64-invalid", detail):
        decode_std(text, limit=10)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 31, 32, 33])
def test_the_limit_is_exact(refused, size):
    raw = bytes(size)
    assert decode_url(encode_url(raw), limit=size) == raw
    with refused("value-too-large", "nonce"):
        decode_url(encode_url(raw + b"x"), limit=size, what="nonce")
    with refused("value-too-large", "nonce"):
        decode_std(encode_std(raw + b"x"), limit=size, what="nonce")


def test_a_long_text_is_refused_before_it_is_decoded(refused):
    with refused("value-too-large"):
        decode_url("!" * 1_000_000, limit=32)


def test_errors_name_the_value_but_do_not_show_it():
    with pytest.raises(CodecError) as caught:
        decode_url("c2VjcmV0!", limit=32, what="nonce")
    assert "nonce" in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)


def test_20000_mutants(drive):
    rng = random.Random(1)
    alphabet = "ABCXYZabcxyz0189-_+/="

    def mutants(encode):
        for _ in range(20_000):
            text = list(encode(rng.randbytes(rng.randrange(48))))
            for _ in range(rng.randrange(3)):
                place = rng.randrange(len(text) + 1)
                text[place : place + rng.randrange(2)] = rng.choice([*alphabet, "\n", "\u0141", ""])
            yield ("".join(text),)

    for encode, decode in ((encode_url, decode_url), (encode_std, decode_std)):

        def check(text, encode=encode, decode=decode):
            assert encode(decode(text, limit=64)) == text

        outcomes = drive(check, mutants(encode))
        # A mutant of the right alphabet passes the outer frame; only canonical form can refuse it.
        assert outcomes["ok"] >= 5_000
        assert outcomes["base64-invalid"] >= 2_000
        assert outcomes.total() == 20_000
