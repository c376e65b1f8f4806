"""Hybrid signatures of notes: bound to the text, the key and the name."""

from __future__ import annotations

import base64
import hashlib

import pytest

from strongroom.crypto.hybrid_note import NOTE_TYPE, key_id, sign_note, verify_note
from strongroom.crypto.sign import SIGNATURE_SIZE, SigningKey

KEY = SigningKey.from_raw(b"\x01" * 64)
OTHER = SigningKey.from_raw(b"\x02" * 64)
TEXT = "example.com/log\n42\nAAAA\n"


def test_what_is_signed_holds() -> None:
    signature = sign_note(KEY, TEXT)
    assert len(signature) == SIGNATURE_SIZE
    verify_note(KEY.verifying_key, TEXT, signature)


@pytest.mark.parametrize("text", ["", TEXT[:-1], TEXT + "\n", TEXT.replace("42", "43")])
def test_another_text_is_refused(refuses, text: str) -> None:
    with refuses("signature-invalid"):
        verify_note(KEY.verifying_key, text, sign_note(KEY, TEXT))


def test_another_key_is_refused(refuses) -> None:
    with refuses("signature-invalid"):
        verify_note(OTHER.verifying_key, TEXT, sign_note(KEY, TEXT))


def test_a_signature_of_a_document_is_none_of_a_note(refuses) -> None:
    with refuses("signature-invalid"):
        verify_note(KEY.verifying_key, TEXT, KEY.sign("strongroom-keyset/2", TEXT.encode()))


def test_the_key_id_is_as_the_specification_recommends() -> None:
    hashed = hashlib.sha256(b"example.com/log\n" + NOTE_TYPE + KEY.verifying_key.digest).digest()
    assert key_id("example.com/log", KEY.verifying_key) == hashed[:4]
    assert NOTE_TYPE[0] == 0xFF


def test_the_key_id_tells_names_and_keys_apart() -> None:
    ids = {
        key_id(name, key.verifying_key) for name in ("example.com/a", "example.com/b") for key in (KEY, OTHER)
    }
    assert len(ids) == 4


def test_the_size_of_a_line() -> None:
    """Whoever bounds notes must leave room for it."""
    line = base64.b64encode(key_id("n", KEY.verifying_key) + sign_note(KEY, TEXT))
    assert len(line) == 7148
