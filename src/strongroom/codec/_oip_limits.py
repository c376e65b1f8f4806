"""Bounds of an inference message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

from strongroom.codec.errors import OIP_LIMIT
from strongroom.errors import CodecError


@dataclass(frozen=True, slots=True)
class OipLimits:
    """Bounds of an inference request or response.

    Attributes:
        body: Bytes of the whole body.
        json: Bytes of its JSON part.
        tensors: Inputs, and outputs, of one message.
        rank: Dimensions of a tensor.
        elements: Elements of a tensor of numbers; also the largest dimension.
        bytes_elements: Elements of a BYTES tensor, each of which becomes an object.
        name: Characters of a name or an id.
    """

    body: int = 64 << 20
    json: int = 16 << 20
    tensors: int = 64
    rank: int = 8
    elements: int = 64 << 20
    bytes_elements: int = 64 << 10
    name: int = 256


DEFAULT_LIMITS: Final = OipLimits()


def too_much(what: str, bound: int) -> NoReturn:
    """Refuse what exceeds a bound.

    Raises:
        CodecError: `oip-limit`.
    """
    raise CodecError(OIP_LIMIT, what, expected=f"at most {bound}")
