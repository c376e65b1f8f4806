"""Tensor data in its binary form: little-endian, row-major, no padding (binary tensor data extension)."""

from __future__ import annotations

import math
import struct
from typing import Final

import numpy as np

from strongroom.codec._oip_tensor import BYTES, NUMERIC, Array, objects
from strongroom.codec.errors import TENSOR_DATA, TENSOR_SIZE
from strongroom.errors import CodecError

_LENGTH: Final = struct.Struct("<I")


def decode_binary(data: memoryview, datatype: str, shape: tuple[int, ...], where: str) -> Array:
    """Decode one tensor; numbers become a read-only view of `data`.

    Args:
        data: Exactly the bytes of this tensor.
        datatype: A datatype of the protocol.
        shape: Checked shape.
        where: Name of the tensor for errors.

    Raises:
        CodecError: `tensor-size-mismatch` or `tensor-data-invalid`.
    """
    count = math.prod(shape)
    if datatype == BYTES:
        return objects(_decode_elements(data, count, where), shape)
    dtype = NUMERIC[datatype]
    if len(data) != count * dtype.itemsize:
        raise CodecError(TENSOR_SIZE, where, found=len(data), expected=f"{count * dtype.itemsize} bytes")
    if datatype == "BOOL" and count and np.frombuffer(data, np.uint8).max() > 1:
        raise CodecError(TENSOR_DATA, where, expected="bytes 0 and 1 for BOOL")
    array = np.frombuffer(data, dtype).reshape(shape)
    array.setflags(write=False)
    return array


def encode_binary(datatype: str, array: Array) -> bytes | memoryview:
    """The bytes of a checked tensor; a view of the array where it is laid out that way already."""
    if datatype != BYTES:
        return np.ascontiguousarray(array, dtype=NUMERIC[datatype]).data
    parts: list[bytes] = []
    for element in array.flat:
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def _decode_elements(data: memoryview, count: int, where: str) -> list[bytes]:
    elements: list[bytes] = []
    position, end = 0, len(data)
    for _ in range(count):
        start = position + _LENGTH.size
        if start > end:
            raise CodecError(TENSOR_SIZE, where, expected=f"{count} elements")
        position = start + _LENGTH.unpack_from(data, position)[0]
        if position > end:
            raise CodecError(TENSOR_SIZE, f"{where}: an element ends after the tensor")
        elements.append(bytes(data[start:position]))
    if position != end:
        raise CodecError(TENSOR_SIZE, where, expected=f"{count} elements")
    return elements
