"""One request to a runtime, computed in one part or in several, and answered once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from strongroom.errors import ModelError
from strongroom.models.errors import INFERENCE_FAILED
from strongroom.models.runtime import Done
from strongroom.models.tensors import Tensors

_LOG = logging.getLogger(__name__)


class Call:
    """Collects the outputs of the parts, from any thread; answers when all are there or one has failed.

    Args:
        inputs: The request's inputs.
        done: Called once.
        items: Length of axis 0, where that is the batch.
        step: Items of a part; None computes the request as a whole.
    """

    __slots__ = ("_answered", "_done", "_items", "_left", "_lock", "_outputs", "_step", "inputs")

    def __init__(self, inputs: Tensors, done: Done, *, items: int = 1, step: int | None = None) -> None:
        self.inputs = inputs
        self._done = done
        self._items = items
        self._step = step
        self._left = items
        self._outputs: dict[str, NDArray[np.generic]] = {}
        self._answered = False
        self._lock = threading.Lock()

    @property
    def answered(self) -> bool:
        """Whether `done` was called: further parts need not be computed."""
        return self._answered

    def parts(self) -> Iterator[slice | None]:
        """What to compute: ranges on axis 0, or None for the whole request."""
        if self._step is None or self._items <= self._step:
            yield None
            return
        for start in range(0, self._items, self._step):
            yield slice(start, min(start + self._step, self._items))

    def deliver(self, part: slice | None, outputs: Tensors) -> None:
        """Take the outputs of one part. They are copied."""
        if part is None:
            self._answer({name: np.array(array) for name, array in outputs.items()}, None)
            return
        rows = part.stop - part.start
        if any(array.shape[:1] != (rows,) for array in outputs.values()):
            self.fail(ModelError(INFERENCE_FAILED, "an output does not follow the batch"))
            return
        try:
            for name, array in outputs.items():
                np.copyto(self._room(name, array)[part], array)
        except ValueError:  # parts of different item shapes cannot be joined
            self.fail(ModelError(INFERENCE_FAILED, "the items' outputs have different shapes"))
            return
        with self._lock:
            self._left -= rows
            complete = self._left == 0
        if complete:
            self._answer(self._outputs, None)

    def fail(self, error: ModelError) -> None:
        """Answer with an error, unless there was an answer."""
        self._answer(None, error)

    def _room(self, name: str, array: NDArray[np.generic]) -> NDArray[np.generic]:
        with self._lock:
            if name not in self._outputs:
                self._outputs[name] = np.empty((self._items, *array.shape[1:]), array.dtype)
            return self._outputs[name]

    def _answer(self, outputs: Tensors | None, error: Exception | None) -> None:
        with self._lock:
            if self._answered:
                return
            self._answered = True
        try:
            self._done(outputs, error)
        except Exception as fault:  # a caller's fault must not stop the runtime's threads
            _LOG.error("a completion callback raised %s", type(fault).__name__)
