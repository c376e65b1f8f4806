"""OpenVINO graphs: from bytes, with the preprocessing fused in, and what they take and give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from strongroom.errors import ModelError
from strongroom.models.errors import MODEL_MISMATCH, MODEL_UNREADABLE, MODEL_UNSUPPORTED
from strongroom.models.manifest import Datatype, Manifest, TensorSpec
from strongroom.models.preprocess import ImagePreprocess
from strongroom.models.quiet_openvino import CORE, ColorFormat, PrePostProcessor, ov

_DATATYPES: Final[dict[str, Datatype]] = {
    "boolean": "BOOL",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "f16": "FP16",
    "f32": "FP32",
    "f64": "FP64",
}


def read_graph(xml: memoryview, weights: memoryview) -> ov.Model:
    """Read an IR from memory. The graph keeps no reference to the buffers.

    Raises:
        ModelError: `model-unreadable`.
    """
    constants = ov.Tensor(ov.Type.u8, ov.Shape([len(weights)]))
    if len(weights):
        np.copyto(constants.data, np.frombuffer(weights, np.uint8))
    try:
        return CORE.read_model(xml.tobytes(), constants)
    except RuntimeError:  # its text quotes the model
        raise ModelError(MODEL_UNREADABLE, "not an OpenVINO IR of this version") from None


def tensor_name(port: Any) -> str:
    """The name by which a manifest calls an input or output: the shortest of its names, if any."""
    names: set[str] = port.names
    return min(names, key=lambda name: (len(name), name), default="")


def tensor_specs(ports: Iterable[Any]) -> tuple[TensorSpec, ...]:
    """What the inputs or outputs of a graph are.

    Raises:
        ModelError: `model-unsupported`: a data type that the Open Inference Protocol does not have, or a
            tensor whose number of dimensions is not known.
    """
    specs = []
    for port in ports:
        name, kind, shape = tensor_name(port), port.element_type.get_type_name(), port.partial_shape
        if kind not in _DATATYPES:
            raise ModelError(MODEL_UNSUPPORTED, f"data type of {name}", found=kind)
        if shape.rank.is_dynamic:
            raise ModelError(MODEL_UNSUPPORTED, f"{name} has no fixed number of dimensions")
        dimensions = tuple(-1 if size.is_dynamic else size.get_length() for size in shape)
        specs.append(TensorSpec(name, _DATATYPES[kind], dimensions))
    return tuple(specs)


def fuse_preprocess(model: ov.Model, preprocess: ImagePreprocess) -> ov.Model:
    """Make the graph take uint8 pictures [n, height, width, 3] in RGB, and normalise them itself.

    Raises:
        ModelError: `model-manifest-mismatch`: the input does not take such pictures.
    """
    index = port_index(model.inputs, preprocess.input)
    port = model.inputs[index]
    sides = {"N": -1, "C": 3, "H": preprocess.height, "W": preprocess.width}
    shape = ov.PartialShape([sides[axis] for axis in preprocess.layout])
    if not port.partial_shape.compatible(shape) or port.partial_shape.rank.is_dynamic:
        raise ModelError(
            MODEL_MISMATCH,
            f"input {preprocess.input} does not take pictures",
            found=port.partial_shape,
            expected=f"{shape} ({preprocess.layout})",
        )
    shape[0] = port.partial_shape[0]
    try:
        model.reshape({port: shape})
        steps = PrePostProcessor(model)
        picture = steps.input(index)
        picture.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        picture.tensor().set_color_format(ColorFormat.RGB)
        picture.model().set_layout(ov.Layout(preprocess.layout))
        picture.preprocess().convert_element_type(ov.Type.f32)
        if preprocess.color == "BGR":
            picture.preprocess().convert_color(ColorFormat.BGR)
        picture.preprocess().mean(list(preprocess.mean)).scale(list(preprocess.scale))
        return steps.build()
    except RuntimeError:  # its text quotes the model
        raise ModelError(
            MODEL_MISMATCH, f"input {preprocess.input} does not work with such pictures"
        ) from None


def port_index(ports: Iterable[Any], name: str) -> int:
    """Position of the input or output of this name.

    Raises:
        ModelError: `model-manifest-mismatch`.
    """
    for index, port in enumerate(ports):
        if name in port.names:
            return index
    raise ModelError(MODEL_MISMATCH, "the graph has no such tensor", found=name[:80])


def check_graph(model: ov.Model, manifest: Manifest) -> None:
    """Check that a graph, its preprocessing fused in, has the inputs and outputs of its manifest.

    Raises:
        ModelError: `model-manifest-mismatch` or `model-unsupported`.
    """
    for what, ports, specs in (
        ("inputs", model.inputs, manifest.inputs),
        ("outputs", model.outputs, manifest.outputs),
    ):
        if len(ports) != len(specs):
            raise ModelError(MODEL_MISMATCH, f"number of {what}", found=len(ports), expected=len(specs))
        found = tensor_specs(ports)
        for spec in specs:
            real = found[port_index(ports, spec.name)]
            if (real.datatype, real.shape) != (spec.datatype, spec.shape):
                raise ModelError(
                    MODEL_MISMATCH,
                    f"{what}: {spec.name}",
                    found=f"{real.datatype} {list(real.shape)}",
                    expected=f"{spec.datatype} {list(spec.shape)}",
                )
