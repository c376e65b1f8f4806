"""A bundle's model on OpenVINO's CPU plug-in: from memory only, nothing cached on disk.

Each slot is a thread with inference requests of its own that waits for the plug-in. Callbacks are not used:
the binding (openvino 2026.4) never calls one if the inference fails, and calls it from the stream's own
thread, which then stands still until Python is free.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from strongroom.errors import ModelError
from strongroom.models._calls import Call
from strongroom.models._openvino_compile import Compiled, compile_bundle
from strongroom.models._openvino_graph import port_index
from strongroom.models.bundle import Bundle
from strongroom.models.errors import INFERENCE_FAILED, RUNTIME_BUSY, RUNTIME_CLOSED, TENSOR_SHAPE
from strongroom.models.manifest import Manifest, TensorSpec
from strongroom.models.quiet_openvino import ov
from strongroom.models.runtime import Done
from strongroom.models.tensors import Tensors, check_tensors

_SPARE_SLOTS: Final = 1
"""Slots beyond OpenVINO's own number, so that a stream has work while Python handles another's outputs."""


class OpenVinoRuntime:
    """Implements `strongroom.models.runtime.Runtime`.

    Args:
        bundle: A checked bundle. It may be dropped afterwards.
        threads: Cores to use; None leaves it to OpenVINO, which takes all.
        streams: Inferences to run at the same time; None leaves it to OpenVINO.
        precision: `f32` computes as the model was written; `auto` lets the plug-in use bfloat16 where the CPU
            has it.
        waiting: Most parts of requests that may wait for a slot.
        clock: Seconds, for the measurement at load.

    Raises:
        ModelError: `bundle-files-mismatch`, `model-unreadable`, `model-manifest-mismatch` or
            `model-unsupported`.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None = None,
        streams: int | None = None,
        precision: Literal["f32", "auto"] = "f32",
        waiting: int = 4096,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT", "CACHE_DIR": ""}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        if streams is not None:
            settings["NUM_STREAMS"] = streams
        if precision == "f32":
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        compiled = compile_bundle(bundle, settings, clock)
        self._manifest = bundle.manifest
        self._max_batch = compiled.max_batch
        self._streams = int(compiled.main.get_property("NUM_STREAMS"))
        self._slots = int(compiled.main.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + _SPARE_SLOTS
        self._parts: queue.SimpleQueue[tuple[Call, slice | None] | None] = queue.SimpleQueue()
        self._waiting = waiting
        self._closed = False
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(
                target=self._serve,
                args=(_Slot(compiled, self._manifest),),
                name=f"slot-{number}",
                daemon=True,
            )
            for number in range(self._slots)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensors that it takes."""
        return self._manifest.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The tensors that it gives."""
        return self._manifest.outputs

    @property
    def streams(self) -> int:
        """How many inferences run at the same time."""
        return self._streams

    @property
    def slots(self) -> int:
        """How many inferences are worth having in flight."""
        return self._slots

    @property
    def max_batch(self) -> int:
        """Most items that gain by being computed together; 0 if axis 0 is not a batch."""
        return self._max_batch

    def check(self, inputs: Tensors) -> None:
        """Check inputs against the manifest.

        Raises:
            ModelError: `tensor-missing`, `tensor-unexpected`, `tensor-dtype-mismatch` or
                `tensor-shape-mismatch`.
        """
        check_tensors(self._manifest.inputs, inputs)
        if self._max_batch and len({len(array) for array in inputs.values()}) > 1:
            raise ModelError(TENSOR_SHAPE, "the inputs have different numbers of items")

    def submit(self, inputs: Tensors, done: Done) -> None:
        """Start one inference and return; see the protocol."""
        call = Call(inputs, done)
        try:
            self.check(inputs)
            if self._max_batch:
                items = len(next(iter(inputs.values())))
                call = Call(inputs, done, items=items, step=self._max_batch)
            self._enqueue(call)
        except ModelError as error:
            call.fail(error)

    def close(self) -> None:
        """Wait for what runs, refuse what waits, and free the model. Not to be called from `done`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            waiting = self._take_all()
            for _ in self._threads:
                self._parts.put(None)
        for call in waiting:
            call.fail(ModelError(RUNTIME_CLOSED))
        for thread in self._threads:
            thread.join()

    def _enqueue(self, call: Call) -> None:
        parts = list(call.parts())
        with self._lock:
            if self._closed:
                raise ModelError(RUNTIME_CLOSED)
            if self._parts.qsize() + len(parts) > self._waiting:
                raise ModelError(RUNTIME_BUSY, found=f"{self._parts.qsize()} waiting")
            for part in parts:
                self._parts.put((call, part))

    def _take_all(self) -> list[Call]:
        calls = []
        with contextlib.suppress(queue.Empty):  # the threads take from it at the same time
            while (work := self._parts.get_nowait()) is not None:
                calls.append(work[0])
        return calls

    def _serve(self, slot: _Slot) -> None:
        while self._work(slot):
            pass  # nothing of the last request is held while the thread waits for the next

    def _work(self, slot: _Slot) -> bool:
        work = self._parts.get()
        if work is None:
            return False
        call, part = work
        if not call.answered:
            try:
                call.deliver(part, slot.infer(call.inputs, part))
            except Exception:  # whatever it is, the call is answered and the slot lives; texts may quote data
                call.fail(ModelError(INFERENCE_FAILED))
        return True


class _Slot:
    """Inference requests of one thread."""

    def __init__(self, compiled: Compiled, manifest: Manifest) -> None:
        self._one = compiled.one.create_infer_request() if compiled.one is not None else None
        self._many = compiled.many.create_infer_request() if compiled.many is not None else None
        main = compiled.main
        self._inputs = [(port_index(main.inputs, spec.name), spec.name) for spec in manifest.inputs]
        self._outputs = [(port_index(main.outputs, spec.name), spec.name) for spec in manifest.outputs]

    def infer(self, inputs: Tensors, part: slice | None) -> dict[str, NDArray[np.generic]]:
        """Compute one part. The outputs are views of memory that the next call overwrites."""
        arrays = [
            (index, inputs[name] if part is None else inputs[name][part]) for index, name in self._inputs
        ]
        request = self._request(len(arrays[0][1]) if arrays[0][1].ndim else 0)
        for index, array in arrays:
            tensor = request.get_input_tensor(index)
            if tensor.data.shape != array.shape:  # reading `tensor.shape` takes forty times as long
                tensor.shape = ov.Shape(array.shape)
            np.copyto(tensor.data, array)
        request.start_async()
        request.wait()
        return {name: request.get_output_tensor(index).data for index, name in self._outputs}

    def _request(self, items: int) -> Any:
        return self._one if self._many is None or (self._one is not None and items == 1) else self._many
