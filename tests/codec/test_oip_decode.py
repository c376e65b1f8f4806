from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest

from strongroom.codec._oip_decode import decode_infer_request, decode_infer_response
from strongroom.codec._oip_encode import encode_infer_request, encode_infer_response
from strongroom.codec.oip import InferRequest, InferResponse, OipLimits, Tensor

X = {"name": "x", "shape": [2], "datatype": "UINT8", "data": [1, 2]}
B = {"name": "b", "shape": [2], "datatype": "UINT8", "parameters": {"binary_data_size": 2}}


def request(
    *inputs: dict[str, Any],
    binary: bytes | None = None,
    limits: OipLimits | None = None,
    **members: Any,
):
    text = json.dumps({"inputs": inputs, **members}).encode()
    if binary is None:
        return decode_infer_request(text, None, limits or OipLimits())
    return decode_infer_request(text + binary, len(text), limits or OipLimits())


def response(*outputs: dict[str, Any], binary: bytes = b"", **members: Any):
    text = json.dumps({"model_name": "m", "outputs": outputs, **members}).encode()
    return decode_infer_response(text + binary, len(text))


def test_binary_and_json_tensors_mix():
    decoded = request(B, X, B | {"name": "c"}, binary=b"abcd")
    assert [bytes(tensor.array) for tensor in decoded.inputs] == [b"ab", b"\1\2", b"cd"]
    assert [dict(tensor.parameters) for tensor in decoded.inputs] == [{}, {}, {}]


def test_a_body_of_json_only_may_have_a_header_length_too():
    assert request(X, binary=b"").inputs[0].array.tolist() == [1, 2]


def test_a_response_needs_a_model_name(refused):
    assert response(B, binary=b"ab", model_version="3").model_version == "3"
    with refused("oip-invalid", "model_name"):
        decode_infer_response(b'{"outputs":[]}', None)


@pytest.mark.parametrize("datatype", ["", "fp32", "STRING", "FP8", "BF16", "UINT128", "BYTE"])
def test_an_unknown_datatype(refused, datatype):
    with refused("tensor-datatype-unknown", "input 1"):
        request(X, X | {"name": "y", "datatype": datatype})


@pytest.mark.parametrize("shape", [[-1], [2, -1], [-1, -2], [-(2**70)]])
def test_a_negative_dimension(refused, shape):
    with refused("tensor-shape-invalid", "input 0"):
        request(X | {"shape": shape})


@pytest.mark.parametrize(
    "shape", [[2**32, 2**32], [2**62], [2**70], [2**62, 0], [0, 2**62], [1000, 1000, 1000], [2] * 8 + [0] * 8]
)
@pytest.mark.parametrize("tensor", [X, B, X | {"datatype": "BYTES"}, B | {"datatype": "BYTES"}])
def test_a_huge_shape(refused, shape, tensor):
    with refused("oip-limit", "input 0"):
        request(tensor | {"shape": shape}, binary=b"ab")


def test_the_bounds_of_a_shape_are_exact(refused):
    limits = OipLimits(elements=6, rank=3, bytes_elements=2)
    six = X | {"data": [0] * 6}
    assert request(six | {"shape": [1, 2, 3]}, limits=limits).inputs[0].shape == (1, 2, 3)
    with refused("oip-limit", "elements of input 0"):
        request(six | {"shape": [7]}, limits=limits)
    with refused("oip-limit", "elements of input 0"):
        request(six | {"shape": [3, 3]}, limits=limits)
    with refused("oip-limit", "elements of input 0"):
        request(six | {"shape": [7, 0]}, limits=limits)
    with refused("oip-limit", "dimensions of input 0"):
        request(six | {"shape": [1, 1, 2, 3]}, limits=limits)
    strings = {"name": "s", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
    assert request(strings, limits=limits).inputs[0].array.tolist() == [b"a", b"b"]
    with refused("oip-limit", "elements of input 0"):
        request(strings | {"shape": [3], "data": ["a"] * 3}, limits=limits)


@pytest.mark.parametrize("names", [["x", "x"], ["x", "y", "x"]])
def test_a_name_given_twice(refused, names):
    with refused("tensor-name-invalid", "input names"):
        request(*(X | {"name": name} for name in names))
    with refused("tensor-name-invalid", "requested output names"):
        request(X, outputs=[{"name": name} for name in names])
    with refused("tensor-name-invalid", "output names"):
        response(*(X | {"name": name} for name in names))


def test_the_bounds_of_a_name_are_exact(refused):
    limits = OipLimits(name=3)
    assert request(X | {"name": "xyz"}, limits=limits).inputs[0].name == "xyz"
    for name in ("", "wxyz"):
        with refused("tensor-name-invalid", "input name"):
            request(X | {"name": name}, limits=limits)
        with refused("tensor-name-invalid", "requested output name"):
            request(X, outputs=[{"name": name}], limits=limits)


def test_the_bound_of_an_id_is_exact(refused):
    limits = OipLimits(name=3)
    assert request(X, id="abc", limits=limits).id == "abc"
    with refused("oip-limit", "id"):
        request(X, id="abcd", limits=limits)
    with refused("oip-limit", "id"):
        response(id="a" * 257)


def test_the_bound_of_tensors_is_exact(refused):
    limits = OipLimits(tensors=2)
    three = [X | {"name": name} for name in "abc"]
    assert len(request(*three[:2], outputs=[{"name": "a"}, {"name": "b"}], limits=limits).inputs) == 2
    with refused("oip-limit", "inputs"):
        request(*three, limits=limits)
    with refused("oip-limit", "requested outputs"):
        request(X, outputs=[{"name": name} for name in "abc"], limits=limits)
    with refused("oip-limit", "outputs"):
        response(*(X | {"name": str(number)} for number in range(65)))


def test_data_in_both_forms_or_none(refused):
    with refused("tensor-data-invalid", "input 0: both"):
        request(B | {"data": [1, 2]}, binary=b"ab")
    with refused("tensor-data-invalid", "input 0: neither"):
        request({"name": "x", "shape": [2], "datatype": "UINT8"}, binary=b"ab")


@pytest.mark.parametrize("size", [-1, 2.0, "2", True])
def test_a_binary_size_that_is_none(refused, size):
    with refused("oip-invalid", "input 0: binary_data_size"):
        request(B | {"parameters": {"binary_data_size": size}}, binary=b"ab")


@pytest.mark.parametrize("size", [3, 2**40, 2**70])
def test_a_binary_size_beyond_the_body(refused, size):
    with refused("tensor-size-mismatch", "input 0"):
        request(B | {"parameters": {"binary_data_size": size}}, binary=b"ab")


def test_a_binary_tensor_in_a_body_of_json_only(refused):
    with refused("tensor-size-mismatch", "input 0"):
        request(B)


def test_a_binary_size_that_does_not_fit_the_shape(refused):
    with refused("tensor-size-mismatch", "input 0"):
        request(B | {"shape": [3]}, binary=b"ab")


def test_bytes_after_the_last_tensor(refused):
    with refused("oip-trailing-bytes"):
        request(B, binary=b"abc")
    with refused("oip-trailing-bytes"):
        request(X, binary=b"\0")
    with refused("oip-trailing-bytes"):
        response(B, binary=b"abc")


def test_flags_must_be_booleans(refused):
    with refused("oip-invalid", "binary_data_output"):
        request(X, parameters={"binary_data_output": 1})
    with refused("oip-invalid", "binary_data"):
        request(X, outputs=[{"name": "o", "parameters": {"binary_data": "yes"}}])


def test_a_header_length_beyond_the_body(refused):
    with refused("oip-header-length"):
        decode_infer_request(b'{"inputs":[]}', 14)
    with refused("oip-header-length"):
        decode_infer_response(b'{"model_name":"m","outputs":[]}', 0)


def test_a_header_length_that_cuts_the_json(refused):
    with refused("oip-invalid", "malformed"):
        decode_infer_request(b'{"inputs":[]}', 12)


# --- 20,000 mutants of each parser ------------------------------------------------------------------------

SEED = {
    "id": "1",
    "inputs": [
        {"name": "a", "shape": [2, 2], "datatype": "UINT8", "parameters": {"binary_data_size": 4}},
        {"name": "b", "shape": [2], "datatype": "FP32", "data": [0.5, 2]},
        {"name": "c", "shape": [1, 2], "datatype": "BYTES", "parameters": {"binary_data_size": 11}},
        {"name": "d", "shape": [2, 1], "datatype": "BYTES", "data": [["x"], ["y"]]},
        {"name": "e", "shape": [3], "datatype": "BOOL", "parameters": {"binary_data_size": 3}},
        {"name": "f", "shape": [1, 2, 1], "datatype": "INT64", "data": [[[1], [2]]]},
    ],
    "outputs": [{"name": "o", "parameters": {"binary_data": True}}, {"name": "p"}],
    "parameters": {"binary_data_output": True, "x": 1},
}
BINARY = b"\1\2\3\4" + b"\2\0\0\0ab\1\0\0\0c" + b"\1\0\1"
PIECES = [
    None, True, False, -1, 0, 1, 2, 4, 11, 2**31, 2**63, 2**70, 0.5, 1e300, "", "a", "o", "UINT8", "INT8",
    "FP16", "FP64", "BYTES", "BOOL", "UINT64", [], [1], [2, 2], [[1, 2]], [[1], [2]], [0, 3], [-1],
    [2**62, 0], ["x", "y"], [1, 2, 3, 4], {}, {"binary_data_size": 3}, {"name": "o"},
]  # fmt: skip
# What a member may be that has the right type, but perhaps the wrong value.
LIKELY = {
    "name": ["a", "b", "z", "", "n" * 65],
    "datatype": ["UINT8", "INT8", "BOOL", "FP16", "FP32", "UINT32", "BYTES", "STRING"],
    "shape": [[2], [1, 2], [2, 1, 1], [4], [1], [], [0], [-1], [2, -2], [2**40], [1] * 5, [2**62, 0]],
    "data": [
        [1, 2],
        [0.5, 1e39],
        ["x", "y"],
        [True, False],
        [[1, 2]],
        [[1], [2]],
        [300, -1],
        [1],
        [],
        [[1], 2],
    ],
    "parameters": [{"binary_data_size": size} for size in (0, 2, 3, 4, 8, 11, 12, 99)] + [{}],
}


def mutate_tensor(rng: random.Random, message: dict[str, Any]) -> None:
    """Give a member of a tensor another value of the right type."""
    name = rng.choice([name for name in ("inputs", "outputs") if message.get(name)])
    tensor = rng.choice(message[name])
    member = rng.choice(list(LIKELY))
    tensor[member] = copy.deepcopy(rng.choice(LIKELY[member]))


def mutate(rng: random.Random, value: Any) -> None:
    """Change one place of the JSON part, at any depth; it stays valid JSON."""
    while True:
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        inner = value[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.9:
            value = inner
            continue
        break
    action = rng.random()
    if action < 0.12:
        del value[key]
    elif action < 0.2:
        piece = copy.deepcopy(rng.choice(PIECES))
        if isinstance(value, list):
            value.insert(rng.randrange(len(value) + 1), piece)
        else:
            value[rng.choice(["data", "parameters", "binary_data_size", "extra", "shape"])] = piece
    else:
        value[key] = copy.deepcopy(rng.choice(PIECES))


def structured(rng: random.Random, seed: dict[str, Any]) -> tuple[bytes, int]:
    """A body whose outer frame holds: the header length ends a valid JSON object."""
    message = copy.deepcopy(seed)
    if rng.random() < 0.7:
        mutate_tensor(rng, message)
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        mutate(rng, message)
    binary = bytearray(BINARY)
    if rng.random() < 0.2:
        binary[rng.randrange(len(binary))] = rng.choice([0, 1, 2, 0xFF])
    elif rng.random() < 0.1:
        binary = binary[: rng.randrange(len(binary))]
    elif rng.random() < 0.1:
        binary += rng.randbytes(rng.randrange(1, 9))
    text = json.dumps(message).encode()
    return text + bytes(binary), len(text)


def flipped(rng: random.Random, seed: dict[str, Any]) -> tuple[bytes, int | None]:
    body, length = structured(rng, seed)
    mutant = bytearray(body)
    for _ in range(rng.randrange(1, 4)):
        mutant[rng.randrange(len(mutant))] = rng.choice(b'"{}[],:0129.e-\\ \0\xff')
    return bytes(mutant), rng.choice([length, length, length, None, length + rng.randrange(-3, 4), 0, 10**9])


RESPONSE_SEED = {
    "model_name": "m",
    "model_version": "1",
    "id": "1",
    "outputs": SEED["inputs"],
    "parameters": {"labels": [[{"index": 1, "name": "x", "probability": 0.5}]]},
}


def tensors_of(message: InferRequest | InferResponse) -> tuple[Tensor, ...]:
    return message.inputs if isinstance(message, InferRequest) else message.outputs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decode", "encode", "seed"),
    [
        (decode_infer_request, encode_infer_request, SEED),
        (decode_infer_response, encode_infer_response, RESPONSE_SEED),
    ],
)
def test_20000_mutants(drive, decode, encode, seed):
    rng = random.Random(5)
    limits = OipLimits(tensors=7, rank=4, name=64)

    def check(body, length):
        value = decode(body, length, limits)
        again = decode(*encode(value, binary=True), limits)
        assert [tensor.array.tobytes() for tensor in tensors_of(again) if tensor.datatype != "BYTES"] == [
            tensor.array.tobytes() for tensor in tensors_of(value) if tensor.datatype != "BYTES"
        ]

    def parses(body: bytes, length: int) -> bool:
        return isinstance(json.loads(body[:length]), dict)

    framed = [structured(rng, seed) for _ in range(12_000)]
    assert all(parses(*mutant) for mutant in framed)
    outcomes = drive(check, framed)
    assert outcomes.total() == 12_000
    assert outcomes["oip-header-length"] == 0
    for code in ("ok", "oip-invalid", "tensor-size-mismatch", "tensor-data-invalid", "oip-trailing-bytes"):
        assert outcomes[code] >= 100, outcomes
    for code in ("tensor-name-invalid", "tensor-datatype-unknown", "tensor-shape-invalid", "oip-limit"):
        assert outcomes[code] >= 20, outcomes
    assert outcomes["tensor-needs-binary"] >= 5, outcomes

    outcomes = drive(check, (flipped(rng, seed) for _ in range(8_000)))
    assert outcomes.total() == 8_000
    assert outcomes["oip-header-length"] >= 500, outcomes
    assert outcomes["oip-invalid"] >= 500, outcomes
    assert outcomes["ok"] >= 10, outcomes
