from __future__ import annotations

import numpy as np
import pytest

from strongroom.codec._oip_tensor import BYTES, NUMERIC, Tensor, check_tensor, datatype_of, objects

SIZES = {
    "BOOL": 1, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8, "UINT8": 1, "UINT16": 2, "UINT32": 4,
    "UINT64": 8, "FP16": 2, "FP32": 4, "FP64": 8,
}  # fmt: skip


def test_the_sizes_of_the_protocol():
    assert {name: dtype.itemsize for name, dtype in NUMERIC.items()} == SIZES


@pytest.mark.parametrize("datatype", NUMERIC)
def test_datatypes_and_numpy_types_correspond(datatype):
    dtype = NUMERIC[datatype]
    assert datatype_of(dtype) == datatype
    assert datatype_of(dtype.newbyteorder(">")) == datatype
    assert datatype_of(dtype.newbyteorder("=")) == datatype


def test_objects_are_bytes():
    assert datatype_of(np.dtype(object)) == BYTES


@pytest.mark.parametrize("dtype", ["c8", "S4", "U4", "M8[s]", "V2", "c16", "g"])
def test_other_numpy_types_are_refused(refused, dtype):
    with refused("tensor-datatype-unknown"):
        datatype_of(np.dtype(dtype))


def test_from_array():
    array = np.zeros((2, 3), np.float32)
    tensor = Tensor.from_array("x", array)
    assert (tensor.name, tensor.datatype, tensor.shape, dict(tensor.parameters)) == ("x", "FP32", (2, 3), {})
    assert tensor.array is array


def test_objects_keeps_zero_bytes_and_order():
    array = objects([b"a\0", b"", b"\0\0", b"d"], (2, 2))
    assert array.tolist() == [[b"a\0", b""], [b"\0\0", b"d"]]
    assert not array.flags.writeable
    assert objects([], (0, 4)).shape == (0, 4)
    assert objects([b"x"], ()).shape == ()


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("x", "FP32", (2,), np.zeros(2, np.float32)),
        Tensor("x", "FP32", (2,), np.zeros(2, ">f4")),
        Tensor("x", "INT64", (), np.array(3)),
        Tensor("x", "BYTES", (1, 1), objects([b"x"], (1, 1))),
    ],
)
def test_a_consistent_tensor(tensor):
    assert check_tensor(tensor, "input 0") is None


@pytest.mark.parametrize(
    ("tensor", "code"),
    [
        (Tensor("x", "FP64", (2,), np.zeros(2, np.float32)), "tensor-datatype-unknown"),
        (Tensor("x", "BYTES", (2,), np.zeros(2, np.float32)), "tensor-datatype-unknown"),
        (Tensor("x", "STRING", (2,), np.zeros(2, np.float32)), "tensor-datatype-unknown"),
        (Tensor("x", "FP32", (2, 1), np.zeros(2, np.float32)), "tensor-shape-invalid"),
        (Tensor("x", "BYTES", (1,), np.array(["text"], dtype=object)), "tensor-data-invalid"),
        (Tensor("x", "BYTES", (2,), np.array([b"x", None], dtype=object)), "tensor-data-invalid"),
    ],
)
def test_a_contradictory_tensor(refused, tensor, code):
    with refused(code, "input 0"):
        check_tensor(tensor, "input 0")
