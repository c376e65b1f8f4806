"""Checkpoints: the lines of a tree head, each exactly one way."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutants import mutate_bytes
from notes_vectors import SUMDB, WITNESSED
from strongroom.codec import checkpoint, note
from strongroom.codec.checkpoint import MAX_SIZE, Checkpoint

ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
GOOD = f"example.com/behind-the-sofa\n20852163\n{ROOT}\n"
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)


def test_the_example_of_the_specification() -> None:
    parsed = checkpoint.parse(GOOD)
    assert parsed == Checkpoint("example.com/behind-the-sofa", 20852163, base64.b64decode(ROOT))
    assert parsed.text() == GOOD


@pytest.mark.parametrize(("text", "size"), [(SUMDB, 63096908), (WITNESSED, 1432088532)])
def test_published_checkpoints(text: str, size: int) -> None:
    assert checkpoint.parse(note.parse(text.encode()).text).size == size


@given(
    st.builds(
        Checkpoint,
        LINES,
        st.integers(0, MAX_SIZE),
        st.binary(min_size=32, max_size=32),
        st.lists(LINES, max_size=16).map(tuple),
    )
)
def test_round_trip(value: Checkpoint) -> None:
    assert checkpoint.parse(value.text()) == value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "checkpoint-malformed"),
        ("a\n1\n", "checkpoint-malformed"),
        (GOOD[:-1], "checkpoint-malformed"),
        ("\n" + GOOD, "checkpoint-malformed"),
        (GOOD + "\n", "checkpoint-malformed"),
        (GOOD + "x\n" * 17, "checkpoint-malformed"),
        (GOOD + "x" * 1025 + "\n", "checkpoint-malformed"),
        (GOOD.replace("20852163", "020852163"), "checkpoint-malformed"),
        (GOOD.replace("20852163", "+20852163"), "checkpoint-malformed"),
        (GOOD.replace("20852163", "-1"), "checkpoint-malformed"),
        (GOOD.replace("20852163", "\u0662"), "checkpoint-malformed"),
        (GOOD.replace("20852163", str(MAX_SIZE + 1)), "checkpoint-malformed"),
        (GOOD.replace("20852163", "9" * 5000), "checkpoint-malformed"),
        (GOOD.replace(ROOT, ROOT[:-2]), "base64-invalid"),
        (GOOD.replace(ROOT, base64.b64encode(b"x" * 31).decode()), "checkpoint-malformed"),
        (GOOD.replace(ROOT, base64.b64encode(b"x" * 33).decode()), "value-too-large"),
        (GOOD.replace("=", ""), "base64-invalid"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_other_texts_are_refused(text: str, code: str, refused) -> None:
    with refused(code):
        checkpoint.parse(text)


def test_mutants(drive) -> None:
    rng = random.Random(4)
    texts = (mutate_bytes(rng, GOOD.encode()).decode("utf-8", "replace") for _ in range(20_000))
    outcomes = drive(checkpoint.parse, ((text,) for text in texts))
    assert set(outcomes) <= {"ok", "checkpoint-malformed", "base64-invalid", "value-too-large"}
    assert outcomes["checkpoint-malformed"] > 1000
    assert outcomes["ok"] > 1000  # a changed origin is another origin
