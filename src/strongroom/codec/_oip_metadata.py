"""Model metadata of the Open Inference Protocol v2 (`GET /v2/models/NAME`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from strongroom.codec.errors import OIP_INVALID
from strongroom.errors import CodecError
from strongroom.forms import ready


@ready
class _TensorWire(msgspec.Struct):
    name: str
    datatype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=-1)], ...]


@ready
class _ModelWire(msgspec.Struct):
    name: str
    platform: str
    inputs: tuple[_TensorWire, ...]
    outputs: tuple[_TensorWire, ...]
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """Name, datatype and shape of an input or output; -1 stands for a dimension of any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON object, as dictionaries and lists."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model takes and gives.

    Attributes:
        name: Name of the model.
        versions: Versions that are served; may be empty.
        platform: Framework and format, for example `openvino_ir`.
        inputs: Its inputs.
        outputs: Its outputs.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON object, as dictionaries and lists."""
        return {
            "name": self.name,
            "versions": list(self.versions),
            "platform": self.platform,
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
        }

    @classmethod
    def from_json(cls, value: object) -> ModelMetadata:
        """Read the parsed JSON object. Members that the protocol does not know are ignored.

        Raises:
            CodecError: `oip-invalid`.
        """
        try:
            wire = msgspec.convert(value, _ModelWire)
        except (msgspec.ValidationError, RecursionError):
            raise CodecError(OIP_INVALID, "model metadata") from None
        return cls(wire.name, wire.versions, wire.platform, _tensors(wire.inputs), _tensors(wire.outputs))


def _tensors(wire: tuple[_TensorWire, ...]) -> tuple[TensorMetadata, ...]:
    return tuple(TensorMetadata(tensor.name, tensor.datatype, tensor.shape) for tensor in wire)
