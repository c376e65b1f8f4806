from __future__ import annotations

import json

import numpy as np
import pytest

from strongroom.codec.oip import (
    InferRequest,
    InferResponse,
    RequestedOutput,
    Tensor,
    encode_infer_request,
    encode_infer_response,
)

X = Tensor.from_array("x", np.array([[1, 2]], np.int32))
Y = Tensor.from_array("y", np.array([b"ab", b"c"], dtype=object))


def test_binary_parts_follow_the_json_in_order():
    body, length = encode_infer_request(InferRequest((X, Y)))
    assert length is not None
    assert body[length:] == b"\1\0\0\0\2\0\0\0" + b"\2\0\0\0ab\1\0\0\0c"
    assert json.loads(body[:length]) == {
        "inputs": [
            {"name": "x", "shape": [1, 2], "datatype": "INT32", "parameters": {"binary_data_size": 8}},
            {"name": "y", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 11}},
        ]
    }


def test_json_only():
    body, length = encode_infer_request(InferRequest((X, Y), id="7", parameters={"p": 1}), binary=False)
    assert length is None
    assert json.loads(body) == {
        "inputs": [
            {"name": "x", "shape": [1, 2], "datatype": "INT32", "data": [1, 2]},
            {"name": "y", "shape": [2], "datatype": "BYTES", "data": ["ab", "c"]},
        ],
        "id": "7",
        "parameters": {"p": 1},
    }


def test_a_choice_of_binary_tensors():
    body, length = encode_infer_response(InferResponse("m", None, (X, Y)), binary={"y"})
    assert length is not None
    assert body[length:] == b"\2\0\0\0ab\1\0\0\0c"
    message = json.loads(body[:length])
    assert "model_version" not in message
    assert message["outputs"][0]["data"] == [1, 2]


def test_an_empty_tensor_in_binary_form_still_says_its_size():
    body, length = encode_infer_request(InferRequest((Tensor.from_array("x", np.zeros((0, 3), np.float32)),)))
    assert length == len(body)
    assert json.loads(body)["inputs"][0]["parameters"] == {"binary_data_size": 0}


def test_parameters_are_not_changed():
    tensor = Tensor("x", "INT32", (1,), np.zeros(1, np.int32), {"a": 1})
    output = RequestedOutput("o", True, {"classification": 3})
    body, length = encode_infer_request(InferRequest((tensor,), (output,)))
    assert (tensor.parameters, output.parameters) == ({"a": 1}, {"classification": 3})
    message = json.loads(body[:length])
    assert message["inputs"][0]["parameters"] == {"a": 1, "binary_data_size": 4}
    assert message["outputs"] == [{"name": "o", "parameters": {"classification": 3, "binary_data": True}}]


@pytest.mark.parametrize("names", [("x", "x"), ("",)])
def test_names_must_be_distinct_and_not_empty(refused, names):
    tensors = tuple(Tensor(name, X.datatype, X.shape, X.array) for name in names)
    with refused("tensor-name-invalid", "input"):
        encode_infer_request(InferRequest(tensors))
    with refused("tensor-name-invalid", "output"):
        encode_infer_response(InferResponse("m", "1", tensors), binary=True)


def test_a_contradictory_tensor_is_named_by_its_place(refused):
    with refused("tensor-shape-invalid", "input 1"):
        encode_infer_request(InferRequest((X, Tensor("z", "INT32", (9,), X.array))))


@pytest.mark.parametrize(
    "array",
    [np.zeros(1, np.float16), np.array([np.nan]), np.array([b"\xff"], dtype=object)],
)
def test_what_json_cannot_carry(refused, array):
    response = InferResponse("m", "1", (Tensor.from_array("x", array),))
    with refused("tensor-needs-binary"):
        encode_infer_response(response, binary=False)
    assert encode_infer_response(response, binary={"x"})[1] is not None


@pytest.mark.parametrize(
    "request_",
    [
        InferRequest((), parameters={"a": object()}),
        InferRequest((), parameters={"a": {1, object()}}),
        InferRequest((), id="\ud800"),
        InferRequest((), (RequestedOutput("\udfff"),)),
    ],
)
def test_what_has_no_json_form(refused, request_):
    with refused("oip-invalid", "no JSON form"):
        encode_infer_request(request_)
