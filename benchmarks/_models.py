"""Models for the benchmarks: real architectures with seeded weights, which answer nonsense at the true speed.

Each returns an `openvino.Model` with a dynamic batch, input `x` or `image`, output `y` or `probabilities`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strongroom.models.quiet_openvino import op, ov

RESNET50_STAGES: Final = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
"""Blocks, width and stride of each stage; the output of a stage is four times as wide (arXiv:1512.03385)."""


def resnet50(seed: int = 0) -> ov.Model:
    """ResNet50 (v1.5: strides in the 3x3 convolutions), float32 [-1, 3, 224, 224] to [-1, 1000]."""
    rng = np.random.default_rng(seed)
    image = op.parameter([-1, 3, 224, 224], np.float32, name="image")
    node = op.relu(_conv(rng, image, 3, 64, 7, stride=2))
    node = op.max_pool(node, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    channels = 64
    for blocks, width, stride in RESNET50_STAGES:
        for block in range(blocks):
            node = _bottleneck(rng, node, channels, width, stride if block == 0 else 1)
            channels = 4 * width
    node = op.reduce_mean(node, op.constant(np.array([2, 3])), keep_dims=False)
    node = op.softmax(_dense(rng, node, channels, 1000), axis=1)
    return _model(node, image, "resnet50", "image", "probabilities")


def mlp(seed: int = 0, *, width: int = 1024, layers: int = 3) -> ov.Model:
    """A small dense network, float32 [-1, 256] to [-1, 10], which gains by batching."""
    rng = np.random.default_rng(seed)
    x = op.parameter([-1, 256], np.float32, name="x")
    node: Any = x
    sizes = [256, *[width] * (layers - 1), 10]
    for index, (rows, columns) in enumerate(pairwise(sizes)):
        node = _dense(rng, node, rows, columns)
        node = op.relu(node) if index < layers - 1 else node
    return _model(node, x, "mlp", "x", "y")


def echo(shape: tuple[int, ...], dtype: type[np.generic] = np.float32) -> ov.Model:
    """The identity: what comes in as `x` goes out as `y`, bit for bit."""
    x = op.parameter(list(shape), dtype, name="x")
    same = op.reshape(x, op.constant(np.zeros(len(shape), np.int64)), special_zero=True)
    return _model(same, x, "echo", "x", "y")


def _bottleneck(rng: np.random.Generator, node: Any, channels: int, width: int, stride: int) -> Any:
    inner = op.relu(_conv(rng, node, channels, width, 1))
    inner = op.relu(_conv(rng, inner, width, width, 3, stride=stride))
    inner = _conv(rng, inner, width, 4 * width, 1)
    if channels != 4 * width or stride != 1:
        node = _conv(rng, node, channels, 4 * width, 1, stride=stride)
    return op.relu(op.add(inner, node))


def _conv(
    rng: np.random.Generator, node: Any, channels: int, filters: int, kernel: int, *, stride: int = 1
) -> Any:
    weights = _normal(rng, (filters, channels, kernel, kernel), channels * kernel * kernel)
    pad = [kernel // 2, kernel // 2]
    node = op.convolution(node, op.constant(weights), [stride, stride], pad, pad, [1, 1])
    return op.add(
        node, op.constant(_normal(rng, (1, filters, 1, 1), filters))
    )  # the folded batch norm's bias


def _dense(rng: np.random.Generator, node: Any, rows: int, columns: int) -> Any:
    node = op.matmul(
        node, op.constant(_normal(rng, (rows, columns), rows)), transpose_a=False, transpose_b=False
    )
    return op.add(node, op.constant(_normal(rng, (1, columns), columns)))


def _normal(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> NDArray[np.float32]:
    return rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(fan_in))


def _model(node: Any, parameter: Any, name: str, input_name: str, output_name: str) -> ov.Model:
    model = ov.Model([op.result(node)], [parameter], name)
    model.inputs[0].tensor.set_names({input_name})
    model.outputs[0].tensor.set_names({output_name})
    return model
