"""From a graph to a bundle: names, preprocessing, a trial, the manifest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from strongroom.codec.oip import NUMERIC
from strongroom.errors import ModelError
from strongroom.models._openvino_compile import GRAPH_FILE, WEIGHTS_FILE, open_graph
from strongroom.models._openvino_graph import fuse_preprocess, port_index, tensor_name, tensor_specs
from strongroom.models.bundle import describe_files, read_bundle, write_bundle
from strongroom.models.errors import (
    LABELS_INVALID,
    LABELS_NOT_PROBABILITIES,
    MODEL_UNREADABLE,
    MODEL_UNSUPPORTED,
    PREPROCESS_INVALID,
)
from strongroom.models.importers._source import reason
from strongroom.models.labels import parse_labels
from strongroom.models.manifest import Manifest, TensorSpec
from strongroom.models.preprocess import ImagePreprocess
from strongroom.models.quiet_openvino import CORE, op, ov

LABELS_FILE: Final = "labels.txt"
PROBABILITIES: Final = "probabilities"
"""Name of the output that `softmax` makes."""

_TRIAL_LENGTH: Final = 8
"""What open dimensions other than the batch are in the trial."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the owner wants of an import; as the arguments of `import_model`."""

    name: str
    version: str
    labels: bytes | None
    preprocess: ImagePreprocess | None
    softmax: bool
    max_batch: int | None


def finish(graph: ov.Model, wishes: Wishes, provenance: Mapping[str, str]) -> bytes:
    """Make the bundle; see `import_model`."""
    _give_names(graph)
    if wishes.softmax:
        graph = _with_softmax(graph)
    preprocess = _preprocess(graph, wishes.preprocess)
    files = _serialise(graph)
    if wishes.labels is not None:
        files[LABELS_FILE] = wishes.labels
    # Fused here as the runtime will do it, for what the model then takes and gives.
    fused = graph if preprocess is None else fuse_preprocess(graph, preprocess)
    manifest = Manifest(
        name=wishes.name,
        version=wishes.version,
        runtime="openvino",
        inputs=tensor_specs(fused.inputs),
        outputs=tensor_specs(fused.outputs),
        labels=None if wishes.labels is None else LABELS_FILE,
        preprocess=preprocess,
        files=describe_files(files),
        provenance={**provenance, "openvino": ov.__version__},
        max_batch=wishes.max_batch,
    )
    trial = _Trial(write_bundle(manifest, files))
    if wishes.labels is not None:
        _check_labels(manifest.outputs[0], len(parse_labels(wishes.labels)), trial)
    if manifest.max_batch is None and not (manifest.batch_axis and trial.items_are_independent()):
        manifest = msgspec.structs.replace(manifest, max_batch=0)
    return write_bundle(manifest, files)


def _give_names(graph: ov.Model) -> None:
    for kind, ports in (("input", graph.inputs), ("output", graph.outputs)):
        for index, port in enumerate(ports):
            if not port.names:
                port.tensor.set_names({f"{kind}_{index}"})


def _with_softmax(graph: ov.Model) -> ov.Model:
    first, *others = graph.get_results()
    scores = first.input_value(0)
    if scores.get_partial_shape().rank.get_length() != 2:
        raise ModelError(
            MODEL_UNSUPPORTED, "softmax is for an output [n, classes]", found=scores.get_partial_shape()
        )
    result = op.result(op.softmax(scores, axis=1))
    changed = ov.Model([result, *others], graph.get_parameters(), graph.get_friendly_name())
    changed.outputs[0].tensor.set_names({PROBABILITIES})
    return changed


def _preprocess(graph: ov.Model, wanted: ImagePreprocess | None) -> ImagePreprocess | None:
    if wanted is None or wanted.input:
        return wanted
    if len(graph.inputs) != 1:
        names = ", ".join(tensor_name(port) for port in graph.inputs)
        raise ModelError(
            PREPROCESS_INVALID,
            "it does not say which input takes pictures",
            expected=f"input= one of {names}",
        )
    return msgspec.structs.replace(wanted, input=tensor_name(graph.inputs[0]))


def _serialise(graph: ov.Model) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, GRAPH_FILE)
        ov.save_model(graph, path, compress_to_fp16=False)
        return {GRAPH_FILE: path.read_bytes(), WEIGHTS_FILE: Path(folder, WEIGHTS_FILE).read_bytes()}


class _Trial:
    """The bundle's graph, run on made-up inputs."""

    def __init__(self, data: bytes) -> None:
        bundle = read_bundle(data)
        self._manifest = bundle.manifest
        graph = open_graph(bundle)
        try:
            compiled = CORE.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            raise ModelError(MODEL_UNREADABLE, reason(error)) from error
        self._request = compiled.create_infer_request()
        self._inputs = [port_index(compiled.inputs, spec.name) for spec in self._manifest.inputs]
        self._outputs = [port_index(compiled.outputs, spec.name) for spec in self._manifest.outputs]

    def outputs(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]] | None:
        """The outputs, or None if the model does not take such inputs."""
        try:
            self._request.infer(dict(zip(self._inputs, inputs, strict=True)))
        except RuntimeError:
            return None
        return [np.array(self._request.get_output_tensor(i).data) for i in self._outputs]

    def samples(self, items: int) -> list[NDArray[Any]]:
        """Inputs with `items` where axis 0 is open, the same at every import."""
        rng = np.random.default_rng(0)
        return [_sample(rng, spec, items) for spec in self._manifest.inputs]

    def items_are_independent(self) -> bool:
        """Whether two items computed together give what they give alone."""
        both = self.samples(2)
        together = self.outputs(both)
        if together is None:
            return False
        for item in range(2):
            alone = self.outputs([array[item : item + 1] for array in both])
            if alone is None or not all(map(_alike, alone, [array[item : item + 1] for array in together])):
                return False
        return True


def _sample(rng: np.random.Generator, spec: TensorSpec, items: int) -> NDArray[Any]:
    shape = [
        items if size == -1 and axis == 0 else _TRIAL_LENGTH if size == -1 else size
        for axis, size in enumerate(spec.shape)
    ]
    dtype = NUMERIC[spec.datatype]
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    # Small, because integers are often indices of something.
    return rng.integers(0, 256 if spec.datatype == "UINT8" else 2, shape).astype(dtype)


def _alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape:
        return False
    scale = float(np.max(np.abs(one), initial=1e-30)) if one.dtype.kind == "f" else 0.0
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-4 * scale, equal_nan=True))


def _check_labels(spec: TensorSpec, count: int, trial: _Trial) -> None:
    classes = int(np.prod(spec.shape[1:]))
    if -1 in spec.shape[1:] or len(spec.shape) < 2 or classes != count:
        raise ModelError(
            LABELS_INVALID,
            f"output {spec.name} does not fit",
            found=f"{count} labels",
            expected=list(spec.shape),
        )
    outputs = trial.outputs(trial.samples(1))
    if outputs is None:
        return
    rows = outputs[0].reshape(-1, classes).astype(np.float64)
    if not (np.all(rows >= 0) and np.allclose(rows.sum(axis=1), 1, atol=1e-2)):
        raise ModelError(LABELS_NOT_PROBABILITIES, f"output {spec.name}")
