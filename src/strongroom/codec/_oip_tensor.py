"""Tensors of the Open Inference Protocol: names of datatypes and the numpy types behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np

from strongroom.codec.errors import TENSOR_DATA, TENSOR_DATATYPE, TENSOR_SHAPE
from strongroom.errors import CodecError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

BYTES: Final = "BYTES"

NUMERIC: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype("?"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""Datatypes of fixed size, as numpy types: little-endian, as the binary form lays them out."""

_NAMES: Final = {dtype: name for name, dtype in NUMERIC.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A named array.

    Attributes:
        name: Name of the model's input or output.
        datatype: BOOL, INT8 to INT64, UINT8 to UINT64, FP16, FP32, FP64 or BYTES.
        shape: Size of each dimension; equals `array.shape`.
        array: The elements. Numbers decoded from binary form are a read-only view of the message, and may be
            unaligned. A BYTES tensor is an array of dtype object that holds `bytes`.
        parameters: Parameters of the tensor, without those that tell the form of its data.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    array: Array
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_array(cls, name: str, array: Array) -> Tensor:
        """Wrap an array; the datatype follows from its dtype (object: BYTES).

        Raises:
            CodecError: `tensor-datatype-unknown`.
        """
        return cls(name, datatype_of(array.dtype), array.shape, array)


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of a numpy type, in either byte order.

    Raises:
        CodecError: `tensor-datatype-unknown`.
    """
    if dtype.kind == "O":
        return BYTES
    try:
        return _NAMES[dtype.newbyteorder("<")]
    except KeyError:
        raise CodecError(TENSOR_DATATYPE, f"numpy type {dtype} has no name in the protocol") from None


def objects(elements: list[bytes], shape: tuple[int, ...]) -> Array:
    """The array of a BYTES tensor: read-only, dtype object, elements in row-major order."""
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    array.setflags(write=False)
    return array.reshape(shape)


def check_tensor(tensor: Tensor, where: str) -> None:
    """Refuse a tensor whose parts contradict each other, before it is encoded.

    Raises:
        CodecError: `tensor-datatype-unknown`, `tensor-shape-invalid` or `tensor-data-invalid`.
    """
    if datatype_of(tensor.array.dtype) != tensor.datatype:
        raise CodecError(TENSOR_DATATYPE, f"{where}: the array has another type than its datatype says")
    if tensor.array.shape != tuple(tensor.shape):
        raise CodecError(TENSOR_SHAPE, f"{where}: the array has another shape")
    if tensor.datatype == BYTES and not all(isinstance(element, bytes) for element in tensor.array.flat):
        raise CodecError(TENSOR_DATA, f"{where}: an element is not bytes")
