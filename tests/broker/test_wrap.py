"""Wrapping at rest: only the same key and the same purpose open what was wrapped."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.broker.wrap import WrappingKey
from strongroom.errors import BrokerError

KEY = WrappingKey(bytes(range(32)))


@given(st.binary(max_size=200), st.text(max_size=40, alphabet=st.characters(exclude_categories=["Cs"])))
def test_what_is_wrapped_unwraps(secret: bytes, context: str) -> None:
    assert KEY.unwrap(KEY.wrap(secret, context), context) == secret


def test_wrapping_twice_gives_different_bytes() -> None:
    assert KEY.wrap(b"secret", "a") != KEY.wrap(b"secret", "a")


def test_nonce_comes_from_the_given_source() -> None:
    key = WrappingKey(bytes(32), rng=lambda size: b"\x07" * size)
    assert key.wrap(b"secret", "a")[1:13] == b"\x07" * 12


def test_another_context_does_not_open(refused) -> None:
    wrapped = KEY.wrap(b"secret", "model/a")
    with refused("secret-unreadable"):
        KEY.unwrap(wrapped, "model/b")


def test_another_key_does_not_open(refused) -> None:
    with refused("secret-unreadable"):
        WrappingKey(os.urandom(32)).unwrap(KEY.wrap(b"secret", "a"), "a")


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    wrapped = KEY.wrap(b"secret", "a")
    changed = [wrapped[:at] for at in range(len(wrapped))]
    for at in range(8 * len(wrapped)):
        flipped = bytearray(wrapped)
        flipped[at // 8] ^= 1 << at % 8
        changed.append(bytes(flipped))
    for candidate in [*changed, wrapped + b"\0", b""]:
        with pytest.raises(BrokerError) as caught:
            KEY.unwrap(candidate, "a")
        assert caught.value.code == "secret-unreadable"


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        WrappingKey(bytes(size))
