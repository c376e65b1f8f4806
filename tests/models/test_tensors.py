from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from strongroom.codec.oip import NUMERIC
from strongroom.errors import ModelError
from strongroom.models.manifest import TensorSpec
from strongroom.models.tensors import check_tensors

SPECS = (TensorSpec("x", "FP32", (-1, 4)), TensorSpec("mask", "BOOL", (2,)))
GOOD: dict[str, Any] = {"x": np.zeros((3, 4), np.float32), "mask": np.zeros(2, bool)}


def refusal(tensors: dict[str, Any]) -> str:
    with pytest.raises(ModelError) as caught:
        check_tensors(SPECS, tensors)
    assert caught.value.status == 400
    return caught.value.code


def test_accepts_what_the_specification_asks_for() -> None:
    check_tensors(SPECS, GOOD)


def test_refuses_a_missing_tensor() -> None:
    assert refusal({"x": GOOD["x"]}) == "tensor-missing"


def test_refuses_an_unexpected_tensor() -> None:
    assert refusal({**GOOD, "z": GOOD["x"]}) == "tensor-unexpected"


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint8, ">f4", object, "S4"])
def test_refuses_another_type(dtype: Any) -> None:
    assert refusal({**GOOD, "x": np.zeros((3, 4), dtype)}) == "tensor-dtype-mismatch"


@pytest.mark.parametrize("shape", [(4,), (3, 5), (3, 4, 1), (0, 4), (), (4, 3)])
def test_refuses_another_shape(shape: tuple[int, ...]) -> None:
    assert refusal({**GOOD, "x": np.zeros(shape, np.float32)}) == "tensor-shape-mismatch"


@pytest.mark.parametrize("datatype", sorted(NUMERIC))
def test_knows_every_type_of_the_protocol(datatype: Any) -> None:
    spec = TensorSpec("t", datatype, (1,))
    check_tensors((spec,), {"t": np.zeros(1, NUMERIC[datatype])})
    other = np.zeros(1, np.int8 if datatype != "INT8" else np.int16)
    with pytest.raises(ModelError, match="tensor-dtype-mismatch"):
        check_tensors((spec,), {"t": other})


def test_bytes_are_objects() -> None:
    check_tensors((TensorSpec("t", "BYTES", (-1,)),), {"t": np.array([b"a"], object)})


def test_errors_name_the_tensor_but_never_its_content() -> None:
    with pytest.raises(ModelError) as caught:
        check_tensors(SPECS, {**GOOD, "x": np.full((3, 5), 42.125, np.float32)})
    assert "x" in str(caught.value)
    assert "42.125" not in str(caught.value)
