from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from strongroom.errors import ModelError
from strongroom.models._calls import Call
from strongroom.models.errors import INFERENCE_FAILED
from strongroom.models.tensors import Tensors

ERROR = ModelError(INFERENCE_FAILED)


class Answers:
    def __init__(self) -> None:
        self.all: list[tuple[Tensors | None, Exception | None]] = []

    def __call__(self, outputs: Tensors | None, error: Exception | None) -> None:
        self.all.append((outputs, error))

    def outputs(self) -> Tensors:
        [(outputs, error)] = self.all
        assert error is None
        assert outputs is not None
        return outputs

    def code(self) -> str:
        [(outputs, error)] = self.all
        assert outputs is None
        assert isinstance(error, ModelError)
        return error.code


def call(items: int, step: int | None) -> tuple[Call, Answers]:
    answers = Answers()
    return Call({"x": np.arange(items)}, answers, items=items, step=step), answers


@pytest.mark.parametrize(
    ("items", "step", "parts"),
    [
        (1, None, [None]),
        (9, None, [None]),
        (1, 1, [None]),
        (4, 4, [None]),
        (3, 1, [slice(0, 1), slice(1, 2), slice(2, 3)]),
        (7, 3, [slice(0, 3), slice(3, 6), slice(6, 7)]),
    ],
)
def test_parts_cover_the_request(items: int, step: int | None, parts: list[slice | None]) -> None:
    assert list(call(items, step)[0].parts()) == parts


def test_a_whole_request_is_answered_with_copies() -> None:
    request, answers = call(2, None)
    memory = np.array([[1.0], [2.0]])
    request.deliver(None, {"y": memory})
    memory[:] = 0
    assert answers.outputs()["y"].tolist() == [[1.0], [2.0]]
    assert request.answered


def test_parts_are_joined_in_their_places_whatever_their_order() -> None:
    request, answers = call(5, 2)
    memory = np.zeros((2, 3), np.float32)
    for part in reversed(list(request.parts())):
        assert part is not None
        assert not answers.all
        rows = part.stop - part.start
        memory[:rows] = np.arange(part.start, part.stop)[:, None]
        request.deliver(part, {"y": memory[:rows], "z": memory[:rows, 0]})
    assert answers.outputs()["y"].tolist() == [[float(row)] * 3 for row in range(5)]
    assert answers.outputs()["z"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_parts_may_be_delivered_by_many_threads() -> None:
    request, answers = call(1000, 7)
    parts = [part for part in request.parts() if part is not None]
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait(timeout=20)
        for part in parts[number::8]:
            request.deliver(part, {"y": np.arange(part.start, part.stop)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert np.array_equal(answers.outputs()["y"], np.arange(1000))


def test_the_first_error_is_the_answer() -> None:
    request, answers = call(3, 1)
    request.deliver(slice(0, 1), {"y": np.zeros(1)})
    request.fail(ERROR)
    request.fail(ERROR)
    request.deliver(slice(1, 2), {"y": np.zeros(1)})
    request.deliver(slice(2, 3), {"y": np.zeros(1)})
    assert answers.code() == "inference-failed"
    assert request.answered


@pytest.mark.parametrize("output", [np.zeros(2), np.zeros((2, 1)), np.zeros(()), np.zeros(0)])
def test_an_output_that_does_not_follow_the_batch_is_an_error(output: Any) -> None:
    request, answers = call(2, 1)
    request.deliver(slice(0, 1), {"y": output})
    assert answers.code() == "inference-failed"


def test_outputs_that_cannot_be_joined_are_an_error() -> None:
    request, answers = call(2, 1)
    request.deliver(slice(0, 1), {"y": np.zeros((1, 3))})
    request.deliver(slice(1, 2), {"y": np.zeros((1, 4))})
    assert answers.code() == "inference-failed"


def test_a_callback_that_raises_is_logged_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    def done(outputs: object, error: object) -> None:
        raise ValueError("canary")

    with caplog.at_level(logging.ERROR):
        Call({}, done).deliver(None, {})
    assert "ValueError" in caplog.text
    assert "canary" not in caplog.text
