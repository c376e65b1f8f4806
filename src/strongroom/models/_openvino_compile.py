"""From a bundle to compiled graphs: how many, for how many items, with which settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from strongroom.codec.oip import NUMERIC
from strongroom.errors import ModelError
from strongroom.models._openvino_graph import check_graph, fuse_preprocess, port_index, read_graph
from strongroom.models.bundle import Bundle
from strongroom.models.errors import BUNDLE_FILES, MODEL_UNREADABLE
from strongroom.models.manifest import TensorSpec
from strongroom.models.quiet_openvino import CORE, ov
from strongroom.models.tensors import Tensors

GRAPH_FILE: Final = "model.xml"
WEIGHTS_FILE: Final = "model.bin"

PROBE_BATCH: Final = 8
"""Items that are computed together to see whether batches pay."""

PROBE_LIMIT: Final = 0.005
"""A model that takes longer than this for one item, in seconds, is not probed: start-up would suffer."""

WORTHWHILE: Final = 1.5
"""How many times as fast an item of a batch must be."""

MEASURED_BATCH: Final = 32
"""`max_batch` of a model for which batches pay."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A model, ready to run.

    Attributes:
        one: For exactly one item; None where axis 0 is not a batch.
        many: For any shape that the manifest allows; None where everything is computed item by item.
        max_batch: As `Runtime.max_batch`.
    """

    one: ov.CompiledModel | None
    many: ov.CompiledModel | None
    max_batch: int

    @property
    def main(self) -> ov.CompiledModel:
        """The graph that single requests run on."""
        return self.many if self.one is None else self.one


def compile_bundle(
    bundle: Bundle, settings: Mapping[str, Any], clock: Callable[[], float] = time.perf_counter
) -> Compiled:
    """Read, check and compile the model of a bundle.

    Heavy networks on a CPU are fastest as many single items, one on each stream; small ones gain several
    times by batches, because their weights are then read once for many items. So the graph is compiled for
    exactly one item, which is faster than for any number, and where the manifest or a measurement says that
    batches pay, once more.

    Raises:
        ModelError: `bundle-files-mismatch`, `model-unreadable`, `model-manifest-mismatch` or
            `model-unsupported`.
    """
    manifest = bundle.manifest
    graph = open_graph(bundle)
    try:
        if not manifest.batch_axis:
            return Compiled(None, CORE.compile_model(graph, "CPU", settings), 0)
        one = CORE.compile_model(_for_one(graph), "CPU", settings)
        wanted = manifest.max_batch
        if wanted is None:
            alone = _seconds(one, manifest.inputs, 1, clock)
            wanted = 1 if alone > PROBE_LIMIT else None
        if wanted == 1:
            return Compiled(one, None, 1)
        many = CORE.compile_model(graph, "CPU", settings)
        if wanted is None:
            together = _seconds(many, manifest.inputs, PROBE_BATCH, clock) / PROBE_BATCH
            wanted = MEASURED_BATCH if together * WORTHWHILE <= alone else 1
        return Compiled(one, many if wanted > 1 else None, wanted)
    except RuntimeError:  # its text quotes the model
        raise ModelError(MODEL_UNREADABLE, "OpenVINO cannot compile it for this machine") from None


def open_graph(bundle: Bundle) -> ov.Model:
    """The graph of a bundle, with its preprocessing fused in, checked against the manifest.

    Raises:
        ModelError: `bundle-files-mismatch`, `model-unreadable`, `model-manifest-mismatch` or
            `model-unsupported`.
    """
    for name in (GRAPH_FILE, WEIGHTS_FILE):
        if name not in bundle.files:
            raise ModelError(BUNDLE_FILES, "the runtime openvino needs a file", expected=name)
    graph = read_graph(bundle.files[GRAPH_FILE], bundle.files[WEIGHTS_FILE])
    if bundle.manifest.preprocess is not None:
        graph = fuse_preprocess(graph, bundle.manifest.preprocess)
    check_graph(graph, bundle.manifest)
    return graph


def _for_one(graph: ov.Model) -> ov.Model:
    single = graph.clone()
    single.reshape({port: ov.PartialShape([1, *list(port.partial_shape)[1:]]) for port in single.inputs})
    return single


def _seconds(
    compiled: ov.CompiledModel, specs: tuple[TensorSpec, ...], items: int, clock: Callable[[], float]
) -> float:
    """The shorter of two runs on zeros, after one to warm up; open dimensions other than axis 0 are 1."""
    request = compiled.create_infer_request()
    zeros: Tensors = {
        spec.name: np.zeros((items, *(max(size, 1) for size in spec.shape[1:])), NUMERIC[spec.datatype])
        for spec in specs
    }
    inputs = {port_index(compiled.inputs, name): array for name, array in zeros.items()}
    request.infer(inputs)
    times = []
    for _ in range(2):
        start = clock()
        request.infer(inputs)
        times.append(clock() - start)
    return min(times)
