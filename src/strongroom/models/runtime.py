"""What a worker needs of a model that is loaded: tensors in, tensors out, without blocking.

A runtime owns the cores it was given. `submit` returns at once; `done` is called later from one of the
runtime's own threads, so it must be short and must not raise (an event loop's `call_soon_threadsafe`, a
queue's `put`).

The runtime packs the requests that wait for a free slot into batches of up to `max_batch` items, where the
model gains by it, and splits large requests over its streams, where it does not. Nobody above it needs to
know which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from strongroom.models.manifest import TensorSpec

Tensors = Mapping[str, NDArray[np.generic]]
"""Arrays by tensor name."""

Done = Callable[[Tensors | None, Exception | None], None]
"""Takes the outputs by name, or the error (a `ModelError`); exactly one of the two is None."""


class Runtime(Protocol):
    """A loaded model."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensors that it takes, as the manifest lists them."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The tensors that it gives, as the manifest lists them."""

    @property
    def streams(self) -> int:
        """How many inferences run at the same time."""

    @property
    def slots(self) -> int:
        """How many inferences are worth having in flight; at least `streams`."""

    @property
    def max_batch(self) -> int:
        """Most items that are computed together; 1 if the model does not gain by batching."""

    def check(self, inputs: Tensors) -> None:
        """Check inputs against the manifest, as `submit` does.

        Raises:
            ModelError: `tensor-missing`, `tensor-unexpected`, `tensor-dtype-mismatch` or
                `tensor-shape-mismatch`.
        """

    def submit(self, inputs: Tensors, done: Done) -> None:
        """Start one inference and return. Errors, those of `check` included, go to `done`.

        Args:
            inputs: All inputs of the model. They must not change until `done` is called.
            done: Called once, from a thread of the runtime, or before `submit` returns if the inputs are
                refused.
        """

    def submit_batch(self, requests: Iterable[tuple[Tensors, Done]]) -> None:
        """Submit several requests at one time, so that they are packed together. Each stands for itself."""

    def close(self) -> None:
        """Wait for what runs, refuse what waits (`runtime-closed`), and free the model."""
