from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strongroom.errors import ModelError
from strongroom.models._openvino_graph import (
    check_graph,
    fuse_preprocess,
    port_index,
    read_graph,
    tensor_name,
    tensor_specs,
)
from strongroom.models.manifest import Manifest, TensorSpec
from strongroom.models.preprocess import parse_preprocess
from strongroom.models.quiet_openvino import CORE, op, ov


def identity(shape: Any, dtype: Any = np.float32, *, inputs: str = "x", outputs: str = "y") -> ov.Model:
    x = op.parameter(shape, dtype, name=inputs)
    y = op.reshape(x, op.constant(np.zeros(len(shape), np.int64)), special_zero=True)
    model = ov.Model([op.result(y)], [x])
    model.inputs[0].tensor.set_names({inputs})
    model.outputs[0].tensor.set_names({outputs})
    return model


def saved(model: ov.Model, folder: Path) -> tuple[bytes, bytes]:
    ov.save_model(model, folder / "m.xml", compress_to_fp16=False)
    return (folder / "m.xml").read_bytes(), (folder / "m.bin").read_bytes()


def run(model: ov.Model, *inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    compiled = CORE.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled(list(inputs))[0])


def code(error: pytest.ExceptionInfo[ModelError]) -> str:
    return error.value.code


def test_a_graph_is_read_from_memory_that_may_vanish(graphs: Any, tmp_path: Path) -> None:
    xml, weights = saved(graphs.mlp(1), tmp_path)
    x = np.ones((1, 256), np.float32)
    wanted = run(graphs.mlp(1), x)
    memory = bytearray(weights)
    model = read_graph(memoryview(xml), memoryview(memory))
    memory[:] = bytes(len(memory))
    assert np.allclose(run(model, x), wanted, rtol=1e-5)


def test_a_graph_without_weights_is_read(tmp_path: Path) -> None:
    x = op.parameter([2], np.float32, name="x")
    model = ov.Model([op.result(op.relu(x))], [x])
    model.inputs[0].tensor.set_names({"x"})
    xml, weights = saved(model, tmp_path)
    assert weights == b""
    assert run(read_graph(memoryview(xml), memoryview(b"")), np.array([-1, 2], np.float32)).tolist() == [0, 2]


@pytest.mark.parametrize(
    "xml", [b"", b"<", b"hello", b"<net/>", b"<?xml version='1.0'?><net version='1'></net>"]
)
def test_other_files_are_refused_without_a_quotation(xml: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        read_graph(memoryview(xml + b"<!--canary-->"), memoryview(b""))
    assert code(caught) == "model-unreadable"
    assert caught.value.__cause__ is None
    assert "canary" not in str(caught.value)


def test_missing_weights_are_refused(graphs: Any, tmp_path: Path) -> None:
    xml, weights = saved(graphs.mlp(1), tmp_path)
    with pytest.raises(ModelError, match="model-unreadable"):
        read_graph(memoryview(xml), memoryview(weights[:100]))


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.float32, "FP32"),
        (np.float16, "FP16"),
        (np.float64, "FP64"),
        (np.int8, "INT8"),
        (np.int16, "INT16"),
        (np.int32, "INT32"),
        (np.int64, "INT64"),
        (np.uint8, "UINT8"),
        (np.uint16, "UINT16"),
        (np.uint32, "UINT32"),
        (np.uint64, "UINT64"),
        (np.bool_, "BOOL"),
    ],
)
def test_every_type_has_its_name(dtype: Any, name: Any) -> None:
    model = identity([-1, 3], dtype)
    assert tensor_specs(model.inputs) == (TensorSpec("x", name, (-1, 3)),)
    assert tensor_specs(model.outputs) == (TensorSpec("y", name, (-1, 3)),)


def test_types_outside_the_protocol_are_refused() -> None:
    with pytest.raises(ModelError, match="bf16") as caught:
        tensor_specs(identity([1], ov.Type.bf16).inputs)
    assert code(caught) == "model-unsupported"


def test_tensors_of_any_rank_are_refused() -> None:
    x = op.parameter(ov.PartialShape.dynamic(), np.float32, name="x")
    with pytest.raises(ModelError, match="dimensions") as caught:
        tensor_specs(ov.Model([op.result(op.relu(x))], [x]).inputs)
    assert code(caught) == "model-unsupported"


def test_the_name_is_the_shortest() -> None:
    model = identity([1])
    model.inputs[0].tensor.set_names({"serving_default_x:0", "xx", "b", "a"})
    assert tensor_name(model.inputs[0]) == "a"
    model.inputs[0].tensor.set_names(set())
    assert tensor_name(model.inputs[0]) == ""


def test_ports_are_found_by_any_of_their_names() -> None:
    model = identity([1])
    model.inputs[0].tensor.set_names({"a", "b"})
    assert port_index(model.inputs, "b") == 0
    with pytest.raises(ModelError, match="model-manifest-mismatch"):
        port_index(model.inputs, "c")


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("color", ["RGB", "BGR"])
@pytest.mark.parametrize("batch", [-1, 2])
def test_preprocessing_is_what_its_description_says(layout: str, color: str, batch: int) -> None:
    shape = [batch, 3, 6, 8] if layout == "NCHW" else [batch, 6, 8, 3]
    spec = f"input=x,crop=8x6,mean=1/2/3,scale=4/5/6,layout={layout},color={color}"
    model = fuse_preprocess(identity(shape), parse_preprocess(spec))
    assert tensor_specs(model.inputs) == (TensorSpec("x", "UINT8", (batch, 6, 8, 3)),)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), np.uint8)
    ordered = pictures if color == "RGB" else pictures[..., ::-1]
    wanted = (ordered.astype(np.float32) - [1, 2, 3]) / [4, 5, 6]
    found = run(model, pictures)
    assert np.allclose(found if layout == "NHWC" else found.transpose(0, 2, 3, 1), wanted, atol=1e-5)


def test_open_sides_are_fixed_by_the_preprocessing() -> None:
    model = fuse_preprocess(identity([-1, 3, -1, -1]), parse_preprocess("input=x,crop=8x6"))
    assert tensor_specs(model.outputs)[0].shape == (-1, 3, 6, 8)


@pytest.mark.parametrize(
    "shape", [[-1, 3, 8, 6], [-1, 4, 6, 8], [-1, 6, 8, 3], [-1, 3], [3], [-1, 3, 6, 8, 1], []]
)
def test_inputs_that_take_no_such_pictures_are_refused(shape: list[int]) -> None:
    with pytest.raises(ModelError) as caught:
        fuse_preprocess(identity(shape), parse_preprocess("input=x,crop=8x6"))
    assert code(caught) == "model-manifest-mismatch"


def test_graphs_that_fail_at_the_size_of_the_pictures_are_refused() -> None:
    x = op.parameter([-1, 3, -1, -1], np.float32, name="x")
    ten_wide = op.matmul(x, op.constant(np.ones((10, 2), np.float32)), transpose_a=False, transpose_b=False)
    model = ov.Model([op.result(ten_wide)], [x])
    model.inputs[0].tensor.set_names({"x"})
    with pytest.raises(ModelError, match="does not work with") as caught:
        fuse_preprocess(model, parse_preprocess("input=x,crop=8x6"))
    assert code(caught) == "model-manifest-mismatch"


def test_inputs_of_any_rank_take_no_pictures() -> None:
    x = op.parameter(ov.PartialShape.dynamic(), np.float32, name="x")
    model = ov.Model([op.result(op.relu(x))], [x])
    model.inputs[0].tensor.set_names({"x"})
    with pytest.raises(ModelError, match="does not take pictures"):
        fuse_preprocess(model, parse_preprocess("input=x,crop=8x6"))


def test_preprocessing_of_an_unknown_input_is_refused() -> None:
    with pytest.raises(ModelError, match="no such tensor"):
        fuse_preprocess(identity([-1, 3, 6, 8]), parse_preprocess("input=z,crop=8x6"))


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": (TensorSpec("z", "FP32", (-1, 4)),)},
        {"inputs": (TensorSpec("x", "FP16", (-1, 4)),)},
        {"inputs": (TensorSpec("x", "FP32", (1, 4)),)},
        {"inputs": (TensorSpec("x", "FP32", (-1, 4)), TensorSpec("z", "FP32", (-1, 4)))},
        {"outputs": (TensorSpec("z", "FP32", (-1, 4)),)},
        {"outputs": (TensorSpec("y", "FP32", (-1, 5)),)},
        {"outputs": (TensorSpec("y", "FP32", (-1, 4)), TensorSpec("z", "FP32", (-1, 4)))},
    ],
)
def test_a_graph_must_be_the_one_of_the_manifest(
    changes: dict[str, Any], simple_manifest: Callable[..., Manifest]
) -> None:
    check_graph(identity([-1, 4]), simple_manifest({"model.xml": b""}))
    with pytest.raises(ModelError) as caught:
        check_graph(identity([-1, 4]), simple_manifest({"model.xml": b""}, **changes))
    assert code(caught) == "model-manifest-mismatch"
