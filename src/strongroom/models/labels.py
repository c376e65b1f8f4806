"""Class names: the labels file, and the best classes of an output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from strongroom.errors import ModelError
from strongroom.forms import ready
from strongroom.models.errors import LABELS_INVALID

MAX_LABELS: Final = 100_000
MAX_LABEL: Final = 200
"""Longest label, in characters."""

MAX_BYTES: Final = 8 * 1024 * 1024


@ready
class Label(msgspec.Struct, frozen=True):
    """One class of an answer: its index in the output, its name, and its probability."""

    index: int
    name: str
    probability: float


def parse_labels(data: bytes | memoryview) -> tuple[str, ...]:
    """Read a labels file: UTF-8, one label a line, in the order of the model's classes.

    Raises:
        ModelError: `labels-invalid`.
    """
    if len(data) > MAX_BYTES:
        raise ModelError(
            LABELS_INVALID, "too large", found=f"{len(data)} bytes", expected=f"at most {MAX_BYTES}"
        )
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(LABELS_INVALID, "not UTF-8") from error
    lines = text.removesuffix("\n").split("\n")
    if len(lines) > MAX_LABELS:
        raise ModelError(LABELS_INVALID, "too many lines", found=len(lines), expected=f"at most {MAX_LABELS}")
    labels = tuple(line.removesuffix("\r") for line in lines)
    for number, label in enumerate(labels, start=1):
        # Control characters could drive the terminal on which an answer is printed.
        if not 1 <= len(label) <= MAX_LABEL or not label.isprintable():
            raise ModelError(
                LABELS_INVALID, f"line {number}", expected=f"1 to {MAX_LABEL} printable characters"
            )
    return labels


def top_labels(
    probabilities: NDArray[np.generic], labels: Sequence[str], count: int = 5
) -> tuple[tuple[Label, ...], ...]:
    """The best classes of each item, best first.

    Args:
        probabilities: Floating-point array [n, classes]; further axes of size 1 are ignored.
        labels: One name for each class.
        count: How many classes to return at most.

    Raises:
        ModelError: `labels-invalid`: the output does not have one number for each label.
    """
    rows = probabilities.reshape(probabilities.shape[0], -1) if probabilities.ndim > 1 else None
    if rows is None or rows.shape[1] != len(labels):
        raise ModelError(
            LABELS_INVALID,
            "the output does not fit",
            found=list(probabilities.shape),
            expected=f"[n, {len(labels)}]",
        )
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    return tuple(
        tuple(Label(int(i), labels[i], float(row[i])) for i in indices)
        for row, indices in zip(rows, best, strict=True)
    )
