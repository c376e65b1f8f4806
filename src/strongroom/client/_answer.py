"""Inputs into inference requests, inference responses into answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import msgspec
import numpy as np
import numpy.typing as npt

from strongroom.client._flow import Exchanged
from strongroom.client._problem import error_of
from strongroom.client.errors import INPUT_INVALID, SERVICE_ANSWER_INVALID
from strongroom.codec.bhttp import Request, header
from strongroom.codec.oip import (
    HEADER_NAME,
    InferRequest,
    Tensor,
    datatype_of,
    decode_infer_response,
    encode_infer_request,
    parse_header_length,
)
from strongroom.errors import RequestError
from strongroom.forms import ready

Input = bytes | str | Sequence[bytes] | npt.NDArray[Any]
INFERENCE_HEADER: Final = HEADER_NAME.lower().encode()
_AUTHORITY: Final = b"strongroom"


@ready
class Label(msgspec.Struct, frozen=True):
    """One label of a classification.

    Attributes:
        index: Position in the model's output.
        name: Name in the bundle's label file.
        probability: Value of the output, 0 to 1 where the model ends in a softmax.
    """

    index: int
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one request went, in milliseconds.

    Attributes:
        total: From the call to its return.
        seal: Sealing the request.
        open: Opening the answer.
        worker: What the worker says of its own steps: `open`, `decode`, `wait`, `infer`.
    """

    total: float
    seal: float
    open: float
    worker: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one inference request.

    Attributes:
        model_name: Model that answered.
        model_version: Its version.
        outputs: numpy arrays by output name.
        batch_labels: For each item of the batch its labels, best first; empty without labels in the bundle.
        timing: Where the time went.
    """

    model_name: str
    model_version: str
    outputs: Mapping[str, npt.NDArray[Any]]
    batch_labels: tuple[tuple[Label, ...], ...]
    timing: Timing = field(compare=False)

    @property
    def labels(self) -> tuple[Label, ...]:
        """Labels of the first item, best first."""
        return self.batch_labels[0] if self.batch_labels else ()


def infer_request(
    model: str, inputs: Mapping[str, Input], *, version: str | None, outputs: Sequence[str]
) -> Request:
    """The inner HTTP request for an inference (Open Inference Protocol v2, binary tensor extension).

    Raises:
        RequestError: `input-invalid`.
    """
    from strongroom.codec.oip import RequestedOutput

    tensors = tuple(_tensor(name, value) for name, value in inputs.items())
    wanted = tuple(RequestedOutput(name, binary=True) for name in outputs)
    parameters = {} if outputs else {"binary_data_output": True}
    body, json_length = encode_infer_request(InferRequest(tensors, wanted, parameters=parameters))
    headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/octet-stream")]
    if json_length is not None:
        headers.append((INFERENCE_HEADER, str(json_length).encode()))
    path = f"/v2/models/{quote(model, safe='')}"
    if version is not None:
        path += f"/versions/{quote(version, safe='')}"
    return Request(b"POST", b"https", _AUTHORITY, f"{path}/infer".encode(), tuple(headers), body)


def get_request(path: str) -> Request:
    """An inner GET request."""
    return Request(b"GET", b"https", _AUTHORITY, path.encode())


def read_answer(exchanged: Exchanged, started: float) -> Answer:
    """Read the inner response to an inference.

    Args:
        exchanged: The opened response.
        started: `time.perf_counter()` at the call.

    Raises:
        RequestError: The worker refused the request, with the worker's code.
    """
    response = exchanged.response
    if response.status != 200:
        raise error_of(response.status, bytes(response.body), sealed=True)
    length = parse_header_length(header(response.headers, INFERENCE_HEADER))
    decoded = decode_infer_response(response.body, length)
    try:
        labels = msgspec.convert(decoded.parameters.get("labels", ()), tuple[tuple[Label, ...], ...])
    except msgspec.ValidationError:
        raise RequestError(SERVICE_ANSWER_INVALID, "labels") from None
    worker = _timing(header(response.headers, b"strongroom-timing") or b"")
    return Answer(
        model_name=decoded.model_name,
        model_version=decoded.model_version or "",
        outputs={tensor.name: tensor.array for tensor in decoded.outputs},
        batch_labels=labels,
        timing=Timing(
            total=(time.perf_counter() - started) * 1000,
            seal=exchanged.seal_seconds * 1000,
            open=exchanged.open_seconds * 1000,
            worker=worker,
        ),
    )


def _tensor(name: str, value: Input) -> Tensor:
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return Tensor(name, "BYTES", (1,), _objects([bytes(value)]))
    if isinstance(value, list | tuple) and all(isinstance(item, bytes) for item in value):
        return Tensor(name, "BYTES", (len(value),), _objects(list(value)))
    if not isinstance(value, np.ndarray | np.generic):
        raise RequestError(INPUT_INVALID, f"input {name!r}", found=type(value).__name__)
    array = np.asarray(value)
    return Tensor(name, datatype_of(array.dtype), array.shape, array)


def _objects(items: list[bytes]) -> npt.NDArray[np.object_]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _timing(value: bytes) -> dict[str, float]:
    """Durations of a header in the form of Server-Timing: `open;dur=0.1, infer;dur=8.2`."""
    durations: dict[str, float] = {}
    for part in value[:1024].decode("ascii", "replace").split(","):
        name, _, duration = part.strip().partition(";dur=")
        try:
            durations[name] = float(duration)
        except ValueError:
            continue
    return durations
