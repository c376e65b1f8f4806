"""Inference requests and responses from bytes, every count and size bounded before it is used."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from strongroom.codec._oip_binary import decode_binary
from strongroom.codec._oip_json import decode_json
from strongroom.codec._oip_limits import DEFAULT_LIMITS, OipLimits, too_much
from strongroom.codec._oip_message import BINARY_OUTPUT, InferRequest, InferResponse, RequestedOutput
from strongroom.codec._oip_tensor import BYTES, NUMERIC, Tensor
from strongroom.codec._oip_wire import (
    RequestedOutputWire,
    RequestWire,
    ResponseWire,
    TensorWire,
    decode_wire,
    split,
)
from strongroom.codec.errors import (
    OIP_INVALID,
    OIP_TRAILING,
    TENSOR_DATA,
    TENSOR_DATATYPE,
    TENSOR_NAME,
    TENSOR_SHAPE,
    TENSOR_SIZE,
)
from strongroom.errors import CodecError

_REQUEST: Final = msgspec.json.Decoder(RequestWire)
_RESPONSE: Final = msgspec.json.Decoder(ResponseWire)


def decode_infer_request(
    body: bytes | memoryview, header_length: int | None, limits: OipLimits = DEFAULT_LIMITS
) -> InferRequest:
    """Decode the body of `POST /v2/models/NAME/infer`.

    Args:
        body: JSON, followed by the binary tensors if there are any.
        header_length: Value of Inference-Header-Content-Length: bytes of the JSON part. None: all is JSON.
        limits: Bounds.

    Raises:
        CodecError: One of the codes `oip-*` and `tensor-*`.
    """
    text, binary = split(body, header_length, limits)
    wire = decode_wire(_REQUEST, text)
    _check_id(wire.id, limits)
    if not isinstance(wire.parameters.get(BINARY_OUTPUT, False), bool):
        raise CodecError(OIP_INVALID, f"{BINARY_OUTPUT} is not a boolean")
    inputs = _tensors(wire.inputs, binary, "input", limits)
    outputs = tuple([_requested(output) for output in wire.outputs])
    _check_names([output.name for output in outputs], "requested output", limits)
    return InferRequest(inputs, outputs, wire.id, wire.parameters)


def decode_infer_response(
    body: bytes | memoryview, header_length: int | None, limits: OipLimits = DEFAULT_LIMITS
) -> InferResponse:
    """Decode the answer to an inference request.

    Args:
        body: JSON, followed by the binary tensors if there are any.
        header_length: Value of Inference-Header-Content-Length: bytes of the JSON part. None: all is JSON.
        limits: Bounds.

    Raises:
        CodecError: One of the codes `oip-*` and `tensor-*`.
    """
    text, binary = split(body, header_length, limits)
    wire = decode_wire(_RESPONSE, text)
    _check_id(wire.id, limits)
    outputs = _tensors(wire.outputs, binary, "output", limits)
    return InferResponse(wire.model_name, wire.model_version, outputs, wire.id, wire.parameters)


def _check_id(value: str | None, limits: OipLimits) -> None:
    if value is not None and len(value) > limits.name:
        too_much("id", limits.name)


def _check_names(names: list[str], what: str, limits: OipLimits) -> None:
    if len(names) > limits.tensors:
        too_much(f"{what}s", limits.tensors)
    if len(set(names)) != len(names):
        raise CodecError(TENSOR_NAME, f"{what} names")
    if any(not 0 < len(name) <= limits.name for name in names):
        raise CodecError(TENSOR_NAME, f"{what} name", expected=f"1 to {limits.name} characters")


def _requested(wire: RequestedOutputWire) -> RequestedOutput:
    binary = wire.parameters.pop("binary_data", None)
    if binary is not None and not isinstance(binary, bool):
        raise CodecError(OIP_INVALID, "binary_data is not a boolean")
    return RequestedOutput(wire.name, binary, wire.parameters)


def _tensors(wires: list[TensorWire], binary: memoryview, what: str, limits: OipLimits) -> tuple[Tensor, ...]:
    _check_names([wire.name for wire in wires], what, limits)
    tensors: list[Tensor] = []
    for index, wire in enumerate(wires):
        where = f"{what} {index}"
        shape = _shape(wire, where, limits)
        size = wire.parameters.pop("binary_data_size", None)
        if size is None:
            if wire.data is msgspec.UNSET:
                raise CodecError(TENSOR_DATA, f"{where}: neither data nor binary_data_size")
            array = decode_json(wire.data, wire.datatype, shape, where)
        else:
            if wire.data is not msgspec.UNSET:
                raise CodecError(TENSOR_DATA, f"{where}: both data and binary_data_size")
            end = _size(size, binary, where)
            array = decode_binary(binary[:end], wire.datatype, shape, where)
            binary = binary[end:]
        tensors.append(Tensor(wire.name, wire.datatype, shape, array, wire.parameters))
    if len(binary):
        raise CodecError(OIP_TRAILING, found=f"{len(binary)} bytes")
    return tuple(tensors)


def _shape(wire: TensorWire, where: str, limits: OipLimits) -> tuple[int, ...]:
    if wire.datatype in NUMERIC:
        most = limits.elements
    elif wire.datatype == BYTES:
        most = limits.bytes_elements
    else:
        raise CodecError(TENSOR_DATATYPE, where)
    shape = wire.shape
    if len(shape) > limits.rank:
        too_much(f"dimensions of {where}", limits.rank)
    if shape and min(shape) < 0:
        raise CodecError(TENSOR_SHAPE, where)
    # Each dimension too, as the product of one that is huge and one that is zero is zero.
    if (shape and max(shape) > most) or math.prod(shape) > most:
        too_much(f"elements of {where}", most)
    return tuple(shape)


def _size(size: object, binary: memoryview, where: str) -> int:
    if type(size) is not int or size < 0:
        raise CodecError(OIP_INVALID, f"{where}: binary_data_size is not a size")
    if size > len(binary):
        raise CodecError(TENSOR_SIZE, where, found=f"{len(binary)} bytes left", expected=size)
    return size
