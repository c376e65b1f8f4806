"""Keys of notes: published keys and signatures hold, and each check refuses alone."""

from __future__ import annotations

import base64
import hashlib
import random

import pytest

from mutants import mutate_bytes
from notes_vectors import (
    ARCHE_VKEY,
    ENOCH_LINE,
    ENOCH_VKEY,
    PETER_LINE,
    PETER_SKEY,
    PETER_VKEY,
    SUMDB,
    SUMDB_VKEY,
    TEXT,
    WITNESS_VKEYS,
    WITNESSED,
    WITNESSED_AT,
)
from strongroom.codec import note
from strongroom.codec.note import Note, NoteSignature
from strongroom.crypto import hybrid_note
from strongroom.crypto.notes import NoteKey, NoteSigner, NoteType, cosigners, hybrid_key, sign_hybrid
from strongroom.crypto.sign import SigningKey
from strongroom.errors import CryptoError

BOTH = note.parse((TEXT + "\n" + PETER_LINE + ENOCH_LINE).encode())
SEED = b"\x07" * 32
WITNESS = NoteSigner("witness.example/w1", NoteType.COSIGNATURE_V1, SEED)
SMALL_ORDER = bytes(31) + b"\x80"


def vkey(name: str, kind: int, raw: bytes) -> str:
    """A key in text with the identifier that belongs to it, whatever it is."""
    key_id = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + raw).hexdigest()[:8]
    return f"{name}+{key_id}+{base64.b64encode(bytes([kind]) + raw).decode()}"


@pytest.mark.parametrize("text", [PETER_VKEY, ENOCH_VKEY, SUMDB_VKEY, ARCHE_VKEY, *WITNESS_VKEYS])
def test_published_keys(text: str) -> None:
    assert NoteKey.parse(text).text == text


@pytest.mark.parametrize(
    ("text", "key"), [(SUMDB, SUMDB_VKEY), (WITNESSED, ARCHE_VKEY), (TEXT + "\n" + PETER_LINE, PETER_VKEY)]
)
def test_published_signatures(text: str, key: str) -> None:
    assert NoteKey.parse(key).check(note.parse(text.encode())) == 0


@pytest.mark.parametrize("key", WITNESS_VKEYS)
def test_published_cosignatures(key: str, refuses) -> None:
    signed = note.parse(WITNESSED.encode())
    assert NoteKey.parse(key).check(signed) == WITNESSED_AT
    with refuses("signature-invalid"):
        NoteKey.parse(key).check(Note(signed.text.replace("1432088532", "1432088533"), signed.signatures))


def test_the_published_signature_is_made_again() -> None:
    signer = NoteSigner.parse(PETER_SKEY)
    assert signer.text == PETER_SKEY
    assert signer.key.text == PETER_VKEY
    assert signer.sign(TEXT).line() == PETER_LINE


def test_signatures_of_others_are_ignored(refuses) -> None:
    assert NoteKey.parse(PETER_VKEY).check(BOTH) == 0
    assert NoteKey.parse(ENOCH_VKEY).check(BOTH) == 0
    with refuses("note-unsigned"):
        NoteKey.parse(SUMDB_VKEY).check(BOTH)


def test_a_signature_under_the_same_name_of_another_key_is_ignored(refuses) -> None:
    other = NoteSigner("PeterNeumann", NoteType.ED25519, b"\x01" * 32)
    with refuses("note-unsigned"):
        other.key.check(BOTH)
    assert NoteKey.parse(PETER_VKEY).check(Note(TEXT, (other.sign(TEXT), *BOTH.signatures))) == 0


def test_one_bad_signature_of_a_known_key_spoils_the_note(refuses) -> None:
    good = BOTH.signatures[0]
    bad = NoteSignature(good.name, good.key_id, bytes(64))
    for signatures in ((good, bad), (bad, good)):
        with refuses("signature-invalid"):
            NoteKey.parse(PETER_VKEY).check(Note(TEXT, signatures))


def test_another_text_is_refused(refuses) -> None:
    with refuses("signature-invalid"):
        NoteKey.parse(PETER_VKEY).check(Note(TEXT.replace("your", "our"), BOTH.signatures))


@pytest.mark.parametrize("length", [0, 63, 65, 72])
def test_a_signature_has_one_length(length: int, refuses) -> None:
    good = BOTH.signatures[0]
    value = (good.value + bytes(16))[:length]
    with refuses("signature-invalid"):
        NoteKey.parse(PETER_VKEY).check(Note(TEXT, (NoteSignature(good.name, good.key_id, value),)))


def test_the_time_of_a_cosignature_is_signed(refuses) -> None:
    made = WITNESS.sign(TEXT, 1700000000)
    assert WITNESS.key.check(Note(TEXT, (made,))) == 1700000000
    later = (1700000001).to_bytes(8, "big") + made.value[8:]
    with refuses("signature-invalid"):
        WITNESS.key.check(Note(TEXT, (NoteSignature(made.name, made.key_id, later),)))


def test_the_latest_of_several_cosignatures_counts() -> None:
    made = tuple(WITNESS.sign(TEXT, time) for time in (5, 9, 7))
    assert WITNESS.key.check(Note(TEXT, made)) == 9


def test_a_time_is_below_2_to_63(refuses) -> None:
    made = WITNESS.sign(TEXT, 2**63)
    with refuses("signature-invalid"):
        WITNESS.key.check(Note(TEXT, (made,)))
    assert WITNESS.key.check(Note(TEXT, (WITNESS.sign(TEXT, 2**63 - 1),))) == 2**63 - 1


def test_one_key_of_two_types_has_two_identifiers(refuses) -> None:
    plain = NoteSigner(WITNESS.name, NoteType.ED25519, SEED)
    assert plain.key.key_id != WITNESS.key.key_id
    with refuses("note-unsigned"):
        plain.key.check(Note(TEXT, (WITNESS.sign(TEXT, 1),)))


def test_a_signature_of_one_type_is_none_of_the_other(refuses) -> None:
    """The prefix of a cosignature keeps it from being a log's own signature, whatever the line says."""
    plain = NoteSigner(WITNESS.name, NoteType.ED25519, SEED)
    relabelled = NoteSignature(plain.name, plain.key.key_id, WITNESS.sign(TEXT, 1).value[8:])
    with refuses("signature-invalid"):
        plain.key.check(Note(TEXT, (relabelled,)))


HYBRID = SigningKey.from_raw(SEED * 2)


def test_a_hybrid_signature_holds_for_its_text_and_name_only(refuses) -> None:
    text = "a note\n"
    key = hybrid_key("a.example", HYBRID.verifying_key)
    line = sign_hybrid("a.example", HYBRID, text)
    assert key.check(Note(text, (line,))) == 0
    assert NoteKey.parse(key.text) == key
    assert line.key_id == hybrid_note.key_id("a.example", HYBRID.verifying_key)
    with refuses("signature-invalid"):
        key.check(Note("another note\n", (line,)))
    with refuses("note-unsigned"):
        hybrid_key("b.example", HYBRID.verifying_key).check(Note(text, (line,)))
    other = SigningKey.from_raw(SEED + bytes(32))
    forged = NoteSignature("a.example", line.key_id, sign_hybrid("a.example", other, text).value)
    with refuses("signature-invalid"):
        key.check(Note(text, (forged,)))


def test_a_hybrid_key_signs_through_its_holder_only(refuses) -> None:
    with refuses("note-key-invalid"):
        NoteSigner("a.example", NoteType.HYBRID, SEED)


def test_a_note_is_never_a_document_of_the_same_key(refuses) -> None:
    """Both are signed with a purpose, and these differ."""
    text = "a note\n"
    key = hybrid_key("a.example", HYBRID.verifying_key)
    document = HYBRID.sign("strongroom-keyset/2", text.encode())
    with refuses("signature-invalid"):
        key.check(Note(text, (NoteSignature("a.example", key.key_id, document),)))
    value = sign_hybrid("a.example", HYBRID, text).value
    with refuses("signature-invalid"):
        HYBRID.verifying_key.verify("strongroom-keyset/2", text.encode(), value, what="it")


def test_every_mangled_key_is_refused() -> None:
    """As golang.org/x/mod/sumdb/note tests its own."""
    for parse, text in ((NoteKey.parse, PETER_VKEY), (NoteSigner.parse, PETER_SKEY)):
        mangled = {text[start:end] for start in range(len(text)) for end in range(start, len(text) + 1)}
        mangled |= {text[:at] + chr(ord(text[at]) + 1) + text[at + 1 :] for at in range(len(text))}
        for other in mangled - {text}:
            with pytest.raises(CryptoError) as caught:
                parse(other)
            assert caught.value.code in {"note-key-invalid", "signing-key-invalid"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        # The two of golang.org/x/mod/sumdb/note with the right identifier.
        ("PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==", "note-key-invalid"),
        ("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "note-key-invalid"),
        (vkey("a.example", 0x02, b"\x01" * 32), "note-key-invalid"),
        (vkey("a.example", 0x01, b"\x01" * 31), "note-key-invalid"),
        (vkey("a.example", 0x01, b""), "note-key-invalid"),
        (vkey("a b", 0x01, b"\x01" * 32), "note-key-invalid"),
        (vkey("", 0x01, b"\x01" * 32), "note-key-invalid"),
        (vkey("x" * 500, 0x01, b"\x01" * 32), "note-key-invalid"),
        (vkey("a.example", 0x01, SMALL_ORDER), "signing-key-invalid"),
        (PETER_VKEY.upper(), "note-key-invalid"),
        ("a.example+00000000+", "note-key-invalid"),
        ("", "note-key-invalid"),
    ],
)
def test_other_keys_are_refused(text: str, code: str, refuses) -> None:
    with refuses(code):
        NoteKey.parse(text)


def test_mutants_of_a_key(code_of) -> None:
    rng = random.Random(8)
    found = {
        code_of(NoteKey.parse, mutate_bytes(rng, WITNESS_VKEYS[0].encode()).decode("utf-8", "replace"))
        for _ in range(5_000)
    }
    assert found <= {"note-key-invalid", "signing-key-invalid", None}


def test_a_private_key_is_not_shown() -> None:
    signer = NoteSigner.parse(PETER_SKEY)
    assert PETER_SKEY.rpartition("+")[2] not in repr(signer)
    assert PETER_VKEY in repr(signer)


@pytest.mark.parametrize(("name", "seed"), [("a b", b"\x01" * 32), ("a", b"\x01" * 31), ("", b"\x01" * 32)])
def test_a_signer_has_a_name_and_32_bytes(name: str, seed: bytes, refuses) -> None:
    with refuses("note-key-invalid"):
        NoteSigner(name, NoteType.ED25519, seed)


def test_cosigners_are_counted_once_each() -> None:
    signed = note.parse(WITNESSED.encode())
    keys = [NoteKey.parse(text) for text in WITNESS_VKEYS]
    assert cosigners(signed, [*keys, *keys, WITNESS.key]) == [key.name for key in keys]
    assert cosigners(signed, [WITNESS.key]) == []


def test_a_bad_cosignature_of_a_known_witness_is_refused(refuses) -> None:
    made = WITNESS.sign(TEXT, 1)
    with refuses("signature-invalid"):
        cosigners(Note(TEXT + "x\n", (made,)), [WITNESS.key])
