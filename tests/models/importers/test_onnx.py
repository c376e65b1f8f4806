"""ONNX models, encoded by hand (github.com/onnx/onnx, onnx/onnx.proto), without the package onnx."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strongroom.errors import ModelError
from strongroom.models.bundle import read_bundle
from strongroom.models.importers import import_model
from strongroom.models.manifest import TensorSpec
from strongroom.models.openvino_runtime import OpenVinoRuntime
from strongroom.models.runtime import Runtime
from strongroom.models.tensors import Tensors

Start = Callable[..., OpenVinoRuntime]
Infer = Callable[[Runtime, Tensors], Tensors]


def refusal(path: Path, **options: Any) -> tuple[str, str]:
    with pytest.raises(ModelError) as caught:
        import_model(path, **{"name": "net", **options})
    return caught.value.code, str(caught.value)


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*parts, number))


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, array: np.ndarray[Any, Any]) -> bytes:
    dimensions = b"".join(field(1, size) for size in array.shape)
    return dimensions + field(2, 1) + field(8, name) + field(9, array.astype("<f4").tobytes())


def value_info(name: str, *shape: int | str) -> bytes:
    sizes = b"".join(field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, sizes)))


def node(kind: str, inputs: list[str], output: str) -> bytes:
    return b"".join(field(1, name) for name in inputs) + field(2, output) + field(3, output) + field(4, kind)


def onnx_net(weights: np.ndarray[Any, Any], bias: np.ndarray[Any, Any], *, kind: str = "Relu") -> bytes:
    """relu(x @ weights + bias), x float32 ["batch", rows]."""
    rows, columns = weights.shape
    graph = (
        field(1, node("Gemm", ["x", "w", "b"], "sum"))
        + field(1, node(kind, ["sum"], "y"))
        + field(2, "net")
        + field(5, tensor("w", weights))
        + field(5, tensor("b", bias))
        + field(11, value_info("x", "batch", rows))
        + field(12, value_info("y", "batch", columns))
    )
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((5, 4)).astype(np.float32)
BIAS = RNG.standard_normal(4).astype(np.float32)


def test_an_onnx_model_gives_what_numpy_gives(tmp_path: Path, start: Start, infer: Infer) -> None:
    path = tmp_path / "net.ONNX"
    path.write_bytes(onnx_net(WEIGHTS, BIAS))
    bundle = read_bundle(import_model(path, name="net"))
    assert bundle.manifest.inputs == (TensorSpec("x", "FP32", (-1, 5)),)
    assert bundle.manifest.outputs == (TensorSpec("y", "FP32", (-1, 4)),)
    assert bundle.manifest.max_batch is None
    assert bundle.manifest.provenance["importer"] == "onnx"
    x = RNG.standard_normal((7, 5)).astype(np.float32)
    assert np.allclose(infer(start(bundle), {"x": x})["y"], np.maximum(x @ WEIGHTS + BIAS, 0), atol=1e-5)


def test_an_onnx_softmax_goes_with_labels(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_net(WEIGHTS, BIAS, kind="Softmax"))
    assert read_bundle(import_model(path, name="net", labels=b"a\nb\nc\nd\n")).labels == ("a", "b", "c", "d")


def test_onnx_scores_get_a_softmax_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_net(WEIGHTS, BIAS))
    assert refusal(path, labels=b"a\nb\nc\nd\n")[0] == "labels-not-probabilities"
    bundle = read_bundle(import_model(path, name="net", labels=b"a\nb\nc\nd\n", softmax=True))
    assert bundle.manifest.outputs[0].name == "probabilities"


@pytest.mark.parametrize(
    "data", [b"", b"\x08", b"hello", onnx_net(WEIGHTS, BIAS)[:-30], struct.pack("<8q", *[-1] * 8)]
)
def test_other_files_are_no_onnx_models(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    assert refusal(path)[0] == "model-unreadable"


def test_an_unknown_operation_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_net(WEIGHTS, BIAS, kind="Nonesuch"))
    code, text = refusal(path)
    assert code == "model-unreadable"
    assert "Nonesuch" in text
