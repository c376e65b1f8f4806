"""Signed notes: published ones read and render; everything else is refused."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutants import mutate_bytes
from notes_vectors import ENOCH_LINE, PETER_LINE, SUMDB, TEXT, WITNESSED
from strongroom.codec import note
from strongroom.codec.note import MAX_NAME, MAX_NOTE, MAX_SIGNATURES, Note, NoteSignature

NAMES = st.text(min_size=1, max_size=20).filter(note.is_name)
SIGNATURES = st.builds(
    NoteSignature, NAMES, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80)
)
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"]).filter(lambda c: c >= " " or c == "\n"), max_size=60
).map(lambda text: text + "\n")


@pytest.mark.parametrize("text", [TEXT + "\n" + PETER_LINE + ENOCH_LINE, SUMDB, WITNESSED])
def test_published_notes_read_and_render(text: str) -> None:
    parsed = note.parse(text.encode())
    assert parsed.render() == text
    assert parsed.text == text[: text.index("\n\n") + 1]


def test_the_parts_of_a_published_note() -> None:
    parsed = note.parse((TEXT + "\n" + PETER_LINE + ENOCH_LINE).encode())
    assert parsed.text == TEXT
    assert [(each.name, each.key_id.hex()) for each in parsed.signatures] == [
        ("PeterNeumann", "c74f20a3"),
        ("EnochRoot", "af0cfe78"),
    ]


@given(TEXTS, st.lists(SIGNATURES, min_size=1, max_size=4).map(tuple))
def test_what_is_rendered_reads_back(text: str, signatures: tuple[NoteSignature, ...]) -> None:
    made = Note(text, signatures)
    assert note.parse(made.render().encode()) == made


def test_the_last_empty_line_divides() -> None:
    """C2SP signed-note: the text may contain empty lines."""
    parsed = note.parse(("a\n\nb\n\n" + PETER_LINE).encode())
    assert parsed.text == "a\n\nb\n"


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        # Those of golang.org/x/mod/sumdb/note.
        (TEXT, "no empty line"),
        (TEXT + "\n", "no newline"),
        (TEXT + "\n" + PETER_LINE[:-1], "no newline"),
        ("\x01" + TEXT + "\n" + PETER_LINE, "control"),
        (TEXT + "\n" + PETER_LINE.replace("PeterNeumann", "Bad Name"), ""),
        (TEXT + "\n" + PETER_LINE + "Unexpected line.\n", "another form"),
        # Ours.
        (TEXT + "\n\n", "no newline"),
        (TEXT + "\r\n\r\n" + PETER_LINE, "control"),
        (TEXT + "\n" + PETER_LINE.replace("\u2014", "-"), "another form"),
        (TEXT + "\n" + PETER_LINE.replace("\u2014 ", "\u2014"), "another form"),
        (TEXT + "\n" + PETER_LINE.replace("PeterNeumann", "Peter+Neumann"), "another form"),
        (TEXT + "\n" + PETER_LINE.replace("PeterNeumann", "Peter\u00a0Neumann"), "another form"),
        (TEXT + "\n" + PETER_LINE.replace("PeterNeumann", "x" * (MAX_NAME + 1)), "another form"),
        (TEXT + "\n\u2014 Peter \n", "too short"),
        (TEXT + "\n\u2014 Peter x08gow==\n", "too short"),
        (TEXT + "\n" + PETER_LINE * (MAX_SIGNATURES + 1), "too many"),
    ],
    ids=repr,
)
def test_other_texts_are_refused(text: str, detail: str, refused) -> None:
    with refused("base64-invalid" if not detail else "note-malformed", detail):
        note.parse(text.encode())


def test_a_note_is_utf_8(refused) -> None:
    with refused("note-malformed", "UTF-8"):
        note.parse(b"\xff" + TEXT.encode() + b"\n" + PETER_LINE.encode())


def test_a_note_is_bounded(refused) -> None:
    line = ("\n" + PETER_LINE).encode()
    most = b"x" * (MAX_NOTE - len(line) - 1) + b"\n" + line
    assert len(note.parse(most).text) == MAX_NOTE - len(line)
    with refused("value-too-large"):
        note.parse(b"x" + most)
    with refused("value-too-large"):
        note.parse_signatures(b"x" * (MAX_NOTE + 1))


def test_as_many_signatures_as_the_specification_asks_for() -> None:
    assert len(note.parse((TEXT + "\n" + PETER_LINE * 16).encode()).signatures) == 16


def test_signature_lines_alone(refused) -> None:
    assert [each.name for each in note.parse_signatures((PETER_LINE + ENOCH_LINE).encode())] == [
        "PeterNeumann",
        "EnochRoot",
    ]
    for other in (b"", b"\n", b"ok\n", PETER_LINE.encode()[:-1]):
        with refused("note-malformed"):
            note.parse_signatures(other)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\tb", "a\u2003b", "a\nb", "a\x01"])
def test_what_names_no_key(name: str) -> None:
    assert not note.is_name(name)


def test_mutants(drive) -> None:
    rng = random.Random(3)
    plain = (SUMDB + ENOCH_LINE).encode()
    outcomes = drive(note.parse, ((mutate_bytes(rng, plain),) for _ in range(20_000)))
    assert set(outcomes) == {"ok", "note-malformed", "base64-invalid"}
    assert min(outcomes.values()) > 100


def test_a_line_is_what_the_specification_says() -> None:
    line = NoteSignature("a.example", b"\x01\x02\x03\x04", b"\x05" * 64).line()
    assert line == f"\u2014 a.example {base64.b64encode(bytes([1, 2, 3, 4]) + bytes([5]) * 64).decode()}\n"
