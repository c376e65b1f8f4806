"""One inference request: from the protocol's tensors to a model's arrays, and back. Pure.

inference = Inference.parse(model, body, header_length)     # bounded, checked, cheap
inference.prepare()                                         # pictures are decoded here
response = inference.respond(outputs)
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from strongroom.codec.oip import (
    BYTES,
    InferRequest,
    InferResponse,
    OipLimits,
    Tensor,
    decode_infer_request,
    encode_infer_response,
)
from strongroom.errors import ModelError
from strongroom.models.bundle import Bundle
from strongroom.models.errors import TENSOR_DTYPE, TENSOR_SHAPE, TENSOR_UNEXPECTED
from strongroom.models.images import decode_image
from strongroom.models.labels import top_labels
from strongroom.models.manifest import Manifest
from strongroom.models.runtime import Runtime
from strongroom.worker.errors import BATCH_TOO_LARGE, PARAMETER_INVALID, WorkerError

Arrays = Mapping[str, npt.NDArray[np.generic]]

LABELS_PARAMETER: Final = "labels"
DEFAULT_LABELS: Final = 5
MAX_LABELS: Final = 100
MAX_ITEMS: Final = 4096
"""Most items of one request."""
MAX_PICTURE_BYTES: Final = 64 * 1024 * 1024
"""Most bytes that the pictures of one request may take when they are decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """A model that is loaded.

    Attributes:
        manifest: Its manifest.
        labels: Class names, if it has any.
        runtime: What computes it.
    """

    manifest: Manifest
    labels: tuple[str, ...] | None
    runtime: Runtime

    @classmethod
    def of(cls, bundle: Bundle, runtime: Runtime) -> ServedModel:
        """The model of a bundle."""
        return cls(bundle.manifest, bundle.labels, runtime)

    @property
    def name(self) -> str:
        """Its name, as in URLs."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """Its version, as in URLs."""
        return self.manifest.version


class Inference:
    """A request for one model.

    Attributes:
        model: The model.
        inputs: Arrays by name; complete after `prepare`.
        rows: Items on the first axis after `prepare`; 0 where the model has no batch axis.
        signature: Equal for requests that may share a batch, where the model gains by batches.
        has_pictures: Whether `prepare` has pictures to decode, which takes long.
    """

    __slots__ = ("_pictures", "_request", "inputs", "labels", "model", "rows", "signature")

    def __init__(self, model: ServedModel, request: InferRequest) -> None:
        self.model = model
        self.inputs: dict[str, npt.NDArray[np.generic]] = {}
        self.rows = 0
        self.signature: Hashable = None
        self._request = request
        self._pictures: Tensor | None = None
        self.labels = _label_count(request.parameters)
        known = {spec.name for spec in model.manifest.outputs}
        for output in request.outputs:
            if output.name not in known:
                raise ModelError(TENSOR_UNEXPECTED, "output", expected=", ".join(sorted(known)))
        for tensor in request.inputs:
            self._take(tensor)

    @classmethod
    def parse(
        cls, model: ServedModel, body: bytes | memoryview, header_length: int | None, limits: OipLimits
    ) -> Inference:
        """Decode a request.

        Raises:
            CodecError: `oip-*` or `tensor-*`.
            ModelError: `tensor-*`.
            WorkerError: `batch-too-large` or `parameter-invalid`.
        """
        return cls(model, decode_infer_request(body, header_length, limits))

    @property
    def has_pictures(self) -> bool:
        """Whether `prepare` has pictures to decode, which takes long."""
        return self._pictures is not None

    def prepare(self) -> None:
        """Decode the pictures, if there are any, and check all inputs against the model.

        Raises:
            ModelError: `image-*` or `tensor-*`.
            WorkerError: `batch-too-large`.
        """
        preprocess = self.model.manifest.preprocess
        if self._pictures is not None and preprocess is not None:
            encoded = self._pictures.array
            pictures = np.empty((len(encoded), preprocess.height, preprocess.width, 3), np.uint8)
            for picture, data in zip(pictures, encoded, strict=True):
                np.copyto(picture, decode_image(data, preprocess))
            self.inputs[self._pictures.name] = pictures
            self._pictures = None
        runtime = self.model.runtime
        runtime.check(self.inputs)
        if runtime.max_batch > 0:
            self.rows = len(next(iter(self.inputs.values())))
            if self.rows > MAX_ITEMS:
                raise WorkerError(
                    BATCH_TOO_LARGE, found=f"{self.rows} items", expected=f"at most {MAX_ITEMS}"
                )
        if runtime.max_batch > 1:
            self.signature = tuple(
                sorted((name, array.dtype.str, array.shape[1:]) for name, array in self.inputs.items())
            )

    def respond(self, outputs: Arrays) -> tuple[bytes, int | None]:
        """The body of the response, and its Inference-Header-Content-Length if it has one.

        Raises:
            CodecError: `tensor-needs-binary`: an output has no JSON form.
            ModelError: `labels-invalid`.
        """
        request, manifest = self._request, self.model.manifest
        wanted = [output.name for output in request.outputs] or [spec.name for spec in manifest.outputs]
        tensors = tuple(Tensor.from_array(name, outputs[name]) for name in wanted)
        response = InferResponse(
            manifest.name, manifest.version, tensors, request.id, self._parameters(outputs)
        )
        return encode_infer_response(response, binary=request.binary_outputs(wanted))

    def _parameters(self, outputs: Arrays) -> dict[str, Any]:
        names = self.model.labels
        if names is None or not self.labels:
            return {}
        best = top_labels(outputs[self.model.manifest.outputs[0].name], names, self.labels)
        return {LABELS_PARAMETER: msgspec.to_builtins(best)}

    def _take(self, tensor: Tensor) -> None:
        forms = self.model.manifest.forms(tensor.name)
        if not forms:
            expected = ", ".join(spec.name for spec in self.model.manifest.inputs)
            raise ModelError(TENSOR_UNEXPECTED, "input", expected=expected)
        if tensor.datatype not in {spec.datatype for spec in forms}:
            raise ModelError(
                TENSOR_DTYPE,
                tensor.name,
                found=tensor.datatype,
                expected=" or ".join(spec.datatype for spec in forms),
            )
        if tensor.datatype == BYTES:
            self._take_pictures(tensor)
        else:
            self.inputs[tensor.name] = tensor.array

    def _take_pictures(self, tensor: Tensor) -> None:
        preprocess = self.model.manifest.preprocess
        if preprocess is None or len(tensor.shape) != 1 or tensor.shape[0] == 0:
            raise ModelError(TENSOR_SHAPE, tensor.name, found=list(tensor.shape), expected="[n], n pictures")
        most = MAX_PICTURE_BYTES // (preprocess.height * preprocess.width * 3)
        if tensor.shape[0] > most:
            raise WorkerError(
                BATCH_TOO_LARGE, found=f"{tensor.shape[0]} pictures", expected=f"at most {most}"
            )
        self._pictures = tensor


def _label_count(parameters: Mapping[str, Any]) -> int:
    count = parameters.get(LABELS_PARAMETER, DEFAULT_LABELS)
    if type(count) is not int or not 0 <= count <= MAX_LABELS:
        raise WorkerError(PARAMETER_INVALID, LABELS_PARAMETER, expected=f"0 to {MAX_LABELS}")
    return count
