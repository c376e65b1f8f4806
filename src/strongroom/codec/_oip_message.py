"""The values of the Open Inference Protocol v2: inference requests and responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.codec._oip_tensor import Tensor

BINARY_OUTPUT: Final = "binary_data_output"


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that a request asks for.

    Attributes:
        name: Name of the output.
        binary: Whether it is wanted in binary form; None leaves it to the request's `binary_data_output`.
        parameters: Further parameters.
    """

    name: str
    binary: bool | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class InferRequest:
    """An inference request.

    Attributes:
        inputs: The inputs, names distinct.
        outputs: The outputs asked for; empty asks for all.
        id: The client's name for the request; the response repeats it.
        parameters: Parameters of the request, such as `binary_data_output`.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[RequestedOutput, ...] = ()
    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def binary_outputs(self, names: Iterable[str]) -> frozenset[str]:
        """Which of these outputs the response shall carry in binary form."""
        default = self.parameters.get(BINARY_OUTPUT) is True
        asked = {output.name: output.binary for output in self.outputs if output.binary is not None}
        return frozenset(name for name in names if asked.get(name, default))


@dataclass(frozen=True, slots=True, eq=False)
class InferResponse:
    """An inference response.

    Attributes:
        model_name: Name of the model that answered.
        model_version: Its version.
        outputs: The outputs, names distinct.
        id: The id of the request, if it had one.
        parameters: Parameters of the response, such as `labels`.
    """

    model_name: str
    model_version: str | None
    outputs: tuple[Tensor, ...]
    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
