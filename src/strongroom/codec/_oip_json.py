"""Tensor data in its JSON form: flat or nested arrays of numbers, booleans or strings."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import msgspec
import numpy as np

from strongroom.codec._oip_tensor import BYTES, NUMERIC, Array, objects
from strongroom.codec.errors import TENSOR_DATA, TENSOR_NEEDS_BINARY, TENSOR_SIZE
from strongroom.codec.jcs import strip_strings
from strongroom.errors import CodecError


def decode_json(raw: msgspec.Raw, datatype: str, shape: tuple[int, ...], where: str) -> Array:
    """Decode the member `data` of a tensor.

    Brackets, commas and quotes are counted in the text before anything is built from it.

    Args:
        raw: The JSON array, flat in row-major order or nested as the shape says.
        datatype: A datatype of the protocol.
        shape: Checked shape.
        where: Name of the tensor for errors.

    Raises:
        CodecError: `tensor-needs-binary`, `tensor-size-mismatch` or `tensor-data-invalid`.
    """
    if datatype == "FP16":
        raise CodecError(TENSOR_NEEDS_BINARY, where)
    text = bytes(raw)
    count = math.prod(shape)
    structure = text
    if datatype == BYTES:
        # Each string has an opening quote, and none of those follows a backslash.
        if text.count(b'"') - text.count(b'\\"') > 2 * count:
            raise CodecError(TENSOR_SIZE, where, expected=f"{count} elements")
        structure = strip_strings(text)
    counts = structure.count(b"["), structure.count(b",")
    if counts == (1, max(count - 1, 0)):
        depth = 1
    elif len(shape) > 1 and counts == _nested_counts(shape):
        depth = len(shape)
    else:
        raise CodecError(TENSOR_SIZE, where, expected=f"{count} elements, flat or in shape {list(shape)}")
    try:
        values: list[Any] = _decoder(_element_type(datatype), depth).decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CodecError(TENSOR_DATA, where) from None
    flat = _flatten(values, shape if depth > 1 else (count,), where)
    if datatype == BYTES:
        return objects([text.encode("utf-8") for text in flat], shape)
    return _numbers(flat, datatype, where).reshape(shape)


def encode_json(datatype: str, array: Array) -> list[Any]:
    """The elements of a checked tensor as a flat list, in row-major order.

    Raises:
        CodecError: `tensor-needs-binary` for FP16, NaN, Infinity and bytes that are not UTF-8.
    """
    if datatype == "FP16" or (datatype.startswith("FP") and not np.isfinite(array).all()):
        raise CodecError(TENSOR_NEEDS_BINARY)
    flat: list[Any] = array.ravel().tolist()
    if datatype != BYTES:
        return flat
    try:
        return [element.decode("utf-8") for element in flat]
    except UnicodeDecodeError:
        raise CodecError(TENSOR_NEEDS_BINARY) from None


def _nested_counts(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many opening brackets and commas an array of that shape has when it is written nested."""
    arrays, brackets, commas = 1, 0, 0
    for size in shape:
        brackets += arrays
        commas += arrays * max(size - 1, 0)
        arrays *= size
    return brackets, commas


def _element_type(datatype: str) -> type:
    if datatype == BYTES:
        return str
    return {"b": bool, "i": int, "u": int, "f": float}[NUMERIC[datatype].kind]


@functools.cache
def _decoder(element: type, depth: int) -> msgspec.json.Decoder[Any]:
    array: Any = element
    for _ in range(depth):
        array = list[array]
    return msgspec.json.Decoder(array)


def _flatten(values: list[Any], shape: tuple[int, ...], where: str) -> list[Any]:
    level = [values]
    for size in shape:
        for array in level:
            if len(array) != size:
                raise CodecError(TENSOR_SIZE, where, expected=f"shape {list(shape)}")
        level = level[0] if len(level) == 1 else list(itertools.chain.from_iterable(level))
    return level


def _numbers(flat: list[Any], datatype: str, where: str) -> Array:
    try:
        with np.errstate(over="raise"):  # a number beyond FP32 must not become Infinity
            array = np.array(flat, dtype=NUMERIC[datatype])
    except (OverflowError, FloatingPointError):
        raise CodecError(TENSOR_DATA, where, expected=f"values that {datatype} can hold") from None
    array.setflags(write=False)
    return array
