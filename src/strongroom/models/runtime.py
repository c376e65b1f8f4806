"""What a worker needs of a model that is loaded: tensors in, tensors out, without blocking.

    runtime.submit({"x": array}, done)      # returns at once; done(outputs, None) or done(None, error)
    follows

A runtime owns the cores it was given. `done` is called from one of the runtime's own threads, so it must be
short and must not raise (an event loop's `call_soon_threadsafe`, a queue's `put`).

Where axis 0 is a batch, a batcher above may concatenate requests of equal item shapes up to `max_batch` items
and split the outputs; it need not, and a request of any size is accepted: the runtime computes it in parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from strongroom.models.manifest import TensorSpec
from strongroom.models.tensors import Tensors

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
        """Most items of several requests that gain by being computed together.

        1 if the model does not gain, 0 if axis 0 is not a batch, so that requests must not be joined.
        """

    def check(self, inputs: Tensors) -> None:
        """Check inputs against the manifest, as `submit` does.

        Raises:
            ModelError: `tensor-missing`, `tensor-unexpected`, `tensor-dtype-mismatch` or
                `tensor-shape-mismatch`.
        """

    def submit(self, inputs: Tensors, done: Done) -> None:
        """Start one inference and return.

        Args:
            inputs: All inputs of the model. They must not change until `done` is called.
            done: Called once, with the error if there is one: those of `check`, and `runtime-busy`,
                `runtime-closed`, `inference-failed`. It may be called before `submit` returns.
        """

    def close(self) -> None:
        """Wait for what runs, refuse what waits (`runtime-closed`), and free the model."""
