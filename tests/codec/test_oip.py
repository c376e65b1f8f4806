from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from strongroom.codec.oip import (
    BYTES,
    NUMERIC,
    InferRequest,
    InferResponse,
    RequestedOutput,
    Tensor,
    decode_infer_request,
    decode_infer_response,
    encode_infer_request,
    encode_infer_response,
)

SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
NAMES = st.lists(TEXT.filter(bool), max_size=4, unique=True)
SCALARS = st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | TEXT
PARAMETERS = st.dictionaries(
    TEXT.filter(lambda name: not name.startswith("binary_data")), SCALARS, max_size=2
)
BYTES_ARRAYS = arrays.arrays(object, SHAPES, elements=TEXT.map(str.encode))
ARRAYS = BYTES_ARRAYS | st.sampled_from([d for d in NUMERIC if d != "FP16"]).flatmap(
    lambda datatype: arrays.arrays(
        NUMERIC[datatype],
        SHAPES,
        elements={"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else None,
    )
)


@st.composite
def tensors(draw) -> tuple[Tensor, ...]:
    made = [Tensor.from_array(name, draw(ARRAYS)) for name in draw(NAMES)]
    return tuple(Tensor(t.name, t.datatype, t.shape, t.array, draw(PARAMETERS)) for t in made)


def assert_same(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.name, mine.datatype, mine.shape) == (other.name, other.datatype, other.shape)
        assert dict(mine.parameters) == dict(other.parameters)
        np.testing.assert_array_equal(mine.array, other.array)


@given(tensors(), st.none() | TEXT, PARAMETERS, NAMES, st.data())
def test_requests_round_trip(inputs, id_, parameters, outputs, data):
    names = [tensor.name for tensor in inputs]
    binary = data.draw(st.booleans() | st.sets(st.sampled_from(names or ["x"])))
    requested = tuple(
        RequestedOutput(name, data.draw(st.none() | st.booleans()), data.draw(PARAMETERS)) for name in outputs
    )
    request = InferRequest(inputs, requested, id_, parameters)
    body, header_length = encode_infer_request(request, binary=binary)
    again = decode_infer_request(memoryview(body), header_length)
    assert_same(again.inputs, inputs)
    assert (again.outputs, again.id, dict(again.parameters)) == (requested, id_, parameters)
    anything_binary = bool(names) if binary is True else bool(binary and set(binary) & set(names))
    assert (header_length is not None) == anything_binary


@given(tensors(), st.none() | TEXT, st.none() | TEXT, st.data())
def test_responses_round_trip(outputs, id_, version, data):
    names = [tensor.name for tensor in outputs]
    binary = data.draw(st.booleans() | st.sets(st.sampled_from(names or ["x"])))
    labels = {"labels": [[{"index": 3, "name": "cat", "probability": 0.5}]]}
    response = InferResponse("model", version, outputs, id_, labels)
    again = decode_infer_response(*encode_infer_response(response, binary=binary))
    assert_same(again.outputs, outputs)
    assert (again.model_name, again.model_version, again.id) == ("model", version, id_)
    assert again.parameters == labels


def test_the_example_of_the_binary_extension():
    # The request in the documentation of Triton and, but for a datatype, of KServe
    text = json.dumps(
        {
            "model_name": "mymodel",
            "inputs": [
                {
                    "name": "input0",
                    "shape": [2, 2],
                    "datatype": "UINT32",
                    "parameters": {"binary_data_size": 16},
                },
                {"name": "input1", "shape": [3], "datatype": "BOOL", "parameters": {"binary_data_size": 3}},
            ],
            "outputs": [{"name": "output0", "parameters": {"binary_data": True}}, {"name": "output1"}],
        },
        indent=2,
    ).encode()
    request = decode_infer_request(text + np.arange(4, dtype="<u4").tobytes() + b"\1\0\1", len(text))
    assert request.inputs[0].array.tolist() == [[0, 1], [2, 3]]
    assert request.inputs[1].array.tolist() == [True, False, True]
    assert request.outputs == (RequestedOutput("output0", binary=True), RequestedOutput("output1"))
    assert request.binary_outputs(["output0", "output1"]) == {"output0"}


def test_the_example_of_the_protocol():
    # "Inference Request Examples" of the Open Inference Protocol: JSON only
    body = json.dumps(
        {
            "id": "42",
            "inputs": [
                {"name": "input0", "shape": [2, 2], "datatype": "UINT32", "data": [1, 2, 3, 4]},
                {"name": "input1", "shape": [3], "datatype": "BOOL", "data": [True]},
            ],
            "outputs": [{"name": "output0"}],
        }
    ).encode()
    body = body.replace(b"[3]", b"[1]")
    request = decode_infer_request(body, None)
    assert request.id == "42"
    assert [tensor.array.tolist() for tensor in request.inputs] == [[[1, 2], [3, 4]], [True]]
    response = InferResponse(
        "mymodel", "1", (Tensor.from_array("output0", np.ones((3, 2), np.float32)),), "42"
    )
    assert json.loads(encode_infer_response(response, binary=False)[0]) == {
        "model_name": "mymodel",
        "model_version": "1",
        "id": "42",
        "outputs": [{"name": "output0", "shape": [3, 2], "datatype": "FP32", "data": [1.0] * 6}],
    }


def test_fp16_nan_and_raw_bytes_travel_in_binary_form():
    inputs = (
        Tensor.from_array("half", np.array([1.5, np.nan, np.inf], np.float16)),
        Tensor.from_array("single", np.array([np.nan, -np.inf], np.float32)),
        Tensor.from_array("jpeg", np.array([b"\xff\xd8\xff\x00", b""], dtype=object)),
    )
    again = decode_infer_request(*encode_infer_request(InferRequest(inputs)))
    assert_same(again.inputs, inputs)


def test_numbers_are_views_of_the_body():
    body, length = encode_infer_request(InferRequest((Tensor.from_array("x", np.zeros(1000, np.uint8)),)))
    array = decode_infer_request(body, length).inputs[0].array
    assert np.shares_memory(array, np.frombuffer(body, np.uint8))
    assert not array.flags.writeable


@pytest.mark.parametrize(
    ("outputs", "parameters", "expected"),
    [
        ((), {}, set()),
        ((), {"binary_data_output": True}, {"a", "b"}),
        ((), {"binary_data_output": False}, set()),
        ((RequestedOutput("a", binary=False),), {"binary_data_output": True}, {"b"}),
        ((RequestedOutput("a", binary=True),), {}, {"a"}),
        ((RequestedOutput("a"), RequestedOutput("b", binary=True)), {"binary_data_output": True}, {"a", "b"}),
        ((RequestedOutput("c", binary=True),), {}, set()),
    ],
)
def test_which_outputs_are_wanted_in_binary_form(outputs, parameters, expected):
    request = InferRequest((), outputs, parameters=parameters)
    body, length = encode_infer_request(request)
    assert request.binary_outputs(["a", "b"]) == expected
    assert decode_infer_request(body, length).binary_outputs(["a", "b"]) == expected


def test_the_name_of_bytes():
    assert BYTES == "BYTES"
    assert BYTES not in NUMERIC
