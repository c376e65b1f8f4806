"""The Open Inference Protocol v2 (REST) with the binary tensor data extension.

    body, header_length = encode_infer_request(InferRequest((Tensor.from_array("image", pixels),)))
    decode_infer_request(body, header_length).inputs[0].array  # a read-only view of the body

`header_length` is the value of the field Inference-Header-Content-Length; None where the body is JSON only.
Sources: the Open Inference Protocol, and the binary tensor data extension of KServe and Triton.
"""

from __future__ import annotations

from strongroom.codec._oip_decode import decode_infer_request, decode_infer_response
from strongroom.codec._oip_encode import encode_infer_request, encode_infer_response
from strongroom.codec._oip_limits import OipLimits
from strongroom.codec._oip_message import BINARY_OUTPUT, InferRequest, InferResponse, RequestedOutput
from strongroom.codec._oip_metadata import ModelMetadata, TensorMetadata
from strongroom.codec._oip_tensor import BYTES, NUMERIC, Tensor, datatype_of
from strongroom.codec._oip_wire import HEADER_NAME, parse_header_length

__all__ = [
    "BINARY_OUTPUT",
    "BYTES",
    "HEADER_NAME",
    "NUMERIC",
    "InferRequest",
    "InferResponse",
    "ModelMetadata",
    "OipLimits",
    "RequestedOutput",
    "Tensor",
    "TensorMetadata",
    "datatype_of",
    "decode_infer_request",
    "decode_infer_response",
    "encode_infer_request",
    "encode_infer_response",
    "parse_header_length",
]
