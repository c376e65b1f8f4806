"""Inference requests and responses to bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import msgspec

from strongroom.codec._oip_binary import encode_binary
from strongroom.codec._oip_json import encode_json
from strongroom.codec._oip_message import InferRequest, InferResponse, RequestedOutput
from strongroom.codec._oip_tensor import Tensor, check_tensor
from strongroom.codec.errors import OIP_INVALID, TENSOR_NAME
from strongroom.errors import CodecError

Parts: TypeAlias = list[bytes | memoryview]


def encode_infer_request(
    request: InferRequest, *, binary: Collection[str] | bool = True
) -> tuple[bytes, int | None]:
    """Encode an inference request.

    Args:
        request: The request.
        binary: Inputs that take the binary form: their names, all or none.

    Returns:
        The body, and the value of Inference-Header-Content-Length or None where the body is JSON only.

    Raises:
        CodecError: One of the codes `oip-invalid` and `tensor-*`.
    """
    parts: Parts = []
    message: dict[str, Any] = {"inputs": _tensors(request.inputs, "input", parts, binary=binary)}
    if request.outputs:
        message["outputs"] = [_requested(output) for output in request.outputs]
    return _join(message, request.id, request.parameters, parts)


def encode_infer_response(
    response: InferResponse, *, binary: Collection[str] | bool
) -> tuple[bytes, int | None]:
    """Encode an inference response.

    Args:
        response: The response.
        binary: Outputs that take the binary form: their names, all or none.

    Returns:
        The body, and the value of Inference-Header-Content-Length or None where the body is JSON only.

    Raises:
        CodecError: One of the codes `oip-invalid` and `tensor-*`.
    """
    parts: Parts = []
    message: dict[str, Any] = {"model_name": response.model_name}
    if response.model_version is not None:
        message["model_version"] = response.model_version
    message["outputs"] = _tensors(response.outputs, "output", parts, binary=binary)
    return _join(message, response.id, response.parameters, parts)


def _tensors(
    tensors: tuple[Tensor, ...], what: str, parts: Parts, *, binary: Collection[str] | bool
) -> list[dict[str, Any]]:
    names = {tensor.name for tensor in tensors}
    if len(names) != len(tensors) or "" in names:
        raise CodecError(TENSOR_NAME, f"{what} names")
    described: list[dict[str, Any]] = []
    for index, tensor in enumerate(tensors):
        check_tensor(tensor, f"{what} {index}")
        wire: dict[str, Any] = {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype}
        parameters = dict(tensor.parameters)
        if binary if isinstance(binary, bool) else tensor.name in binary:
            part = memoryview(encode_binary(tensor.datatype, tensor.array))
            parts.append(part)
            parameters["binary_data_size"] = part.nbytes
        else:
            wire["data"] = encode_json(tensor.datatype, tensor.array)
        if parameters:
            wire["parameters"] = parameters
        described.append(wire)
    return described


def _requested(output: RequestedOutput) -> dict[str, Any]:
    parameters = dict(output.parameters)
    if output.binary is not None:
        parameters["binary_data"] = output.binary
    return {"name": output.name} | ({"parameters": parameters} if parameters else {})


def _join(
    message: dict[str, Any], id_: str | None, parameters: Mapping[str, Any], parts: Parts
) -> tuple[bytes, int | None]:
    if id_ is not None:
        message["id"] = id_
    if parameters:
        message["parameters"] = dict(parameters)
    try:
        text = msgspec.json.encode(message)
    except (TypeError, ValueError, RecursionError):
        raise CodecError(OIP_INVALID, "a name or parameter has no JSON form") from None
    if not parts:
        return text, None
    return b"".join([text, *parts]), len(text)
