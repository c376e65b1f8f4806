from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import ModelError
from strongroom.models.labels import MAX_BYTES, MAX_LABEL, MAX_LABELS, Label, parse_labels, top_labels


def refusal(data: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        parse_labels(data)
    assert caught.value.code == "labels-invalid"
    return str(caught.value)


def test_one_label_a_line() -> None:
    assert parse_labels("Katze\nHund, groß\n".encode()) == ("Katze", "Hund, groß")


def test_last_line_may_lack_its_end_and_lines_may_end_as_on_windows() -> None:
    assert parse_labels(b"a\r\nb") == ("a", "b")


def test_takes_a_view() -> None:
    assert parse_labels(memoryview(b"a\nb\n")) == ("a", "b")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "line 1"),
        (b"a\n\nb\n", "line 2"),
        (b"a\nb\n\n", "line 3"),
        (b"\xff\n", "not UTF-8"),
        (b"a\n\x1b[2Jb\n", "line 2"),
        ("a\nb\u202ec\n".encode(), "line 2"),
        (b"a" * (MAX_LABEL + 1), "line 1"),
        (b"a\n" * (MAX_LABELS + 1), "too many lines"),
        (b"a" * (MAX_BYTES + 1), "too large"),
    ],
)
def test_refuses(data: bytes, says: str) -> None:
    assert says in refusal(data)


@given(st.binary(max_size=200))
def test_any_bytes_give_printable_labels_or_our_error(data: bytes) -> None:
    try:
        printable = all(label.isprintable() and label for label in parse_labels(data))
    except ModelError as error:
        printable = error.code == "labels-invalid"
    assert printable


def test_top_labels_are_best_first_for_each_item() -> None:
    probabilities = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]], np.float32)
    best = top_labels(probabilities, ("a", "b", "c"), count=2)
    assert [[label.name for label in item] for item in best] == [["b", "c"], ["a", "c"]]
    assert best[0][0] == Label(1, "b", float(np.float32(0.7)))


def test_top_labels_keep_the_order_of_equals_and_give_all_if_there_are_few() -> None:
    best = top_labels(np.full((1, 3), 1 / 3, np.float16), ("a", "b", "c"))
    assert [label.index for label in best[0]] == [0, 1, 2]


def test_top_labels_ignore_axes_of_size_one() -> None:
    assert top_labels(np.array([[[[0.0]], [[1.0]]]]), ("a", "b"))[0][0].name == "b"


@pytest.mark.parametrize("shape", [(2,), (1, 3), (1, 2, 2), ()])
def test_top_labels_refuse_an_output_of_another_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="labels-invalid"):
        top_labels(np.zeros(shape), ("a", "b"))
