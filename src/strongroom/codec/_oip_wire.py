"""The JSON part of an inference message, as msgspec reads it, and where the JSON part ends."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from strongroom.codec._oip_limits import OipLimits, too_much
from strongroom.codec.errors import OIP_HEADER_LENGTH, OIP_INVALID
from strongroom.errors import CodecError
from strongroom.forms import ready

HEADER_NAME: Final = "Inference-Header-Content-Length"

Scalar: TypeAlias = bool | int | float | str
_Wire = TypeVar("_Wire", bound=msgspec.Struct)
_DECIMAL: Final = re.compile(rb"[1-9][0-9]{0,15}")


@ready
class TensorWire(msgspec.Struct, forbid_unknown_fields=True):
    """An input of a request or an output of a response; its data stays unparsed until its size is known."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Scalar] = {}
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


@ready
class RequestedOutputWire(msgspec.Struct, forbid_unknown_fields=True):
    """An output that a request asks for."""

    name: str
    parameters: dict[str, Scalar] = {}


@ready
class RequestWire(msgspec.Struct, forbid_unknown_fields=True):
    """`$inference_request` of the protocol.

    Clients of KServe and Triton name the model here too. The path decides; this name means nothing.
    """

    inputs: list[TensorWire]
    outputs: list[RequestedOutputWire] = []
    id: str | None = None
    parameters: dict[str, Scalar] = {}
    model_name: str | None = None
    model_version: str | None = None


@ready
class ResponseWire(msgspec.Struct, forbid_unknown_fields=True):
    """`$inference_response` of the protocol; its parameters may be nested (labels are)."""

    model_name: str
    outputs: list[TensorWire]
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Any] = {}


def parse_header_length(value: bytes | None) -> int | None:
    """Read the value of the field Inference-Header-Content-Length.

    Args:
        value: The field's value, or None where the field is missing.

    Raises:
        CodecError: `oip-header-length`, unless it is a decimal number from 1.
    """
    if value is None:
        return None
    if _DECIMAL.fullmatch(value) is None:
        raise CodecError(OIP_HEADER_LENGTH, "not a decimal number")
    return int(value)


def split(
    body: bytes | memoryview, header_length: int | None, limits: OipLimits
) -> tuple[memoryview, memoryview]:
    """Split a body into its JSON part and the binary tensors after it.

    Raises:
        CodecError: `oip-limit` or `oip-header-length`.
    """
    view = memoryview(body).cast("B")
    if len(view) > limits.body:
        too_much("body", limits.body)
    if header_length is None:
        header_length = len(view)
    elif not 0 < header_length <= len(view):
        raise CodecError(OIP_HEADER_LENGTH, expected=f"1 to {len(view)}")
    if header_length > limits.json:
        too_much("JSON part", limits.json)
    return view[:header_length], view[header_length:]


def decode_wire(decoder: msgspec.json.Decoder[_Wire], text: memoryview) -> _Wire:
    """Decode the JSON part.

    Raises:
        CodecError: `oip-invalid`.
    """
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        # Such a message names types and places only, except where it quotes the name of a member.
        message = str(error)
        raise CodecError(OIP_INVALID, "unknown member" if "unknown field" in message else message) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CodecError(OIP_INVALID, "malformed JSON") from None
