"""The worker's HTTP resources, inside the envelope: Open Inference Protocol v2 (REST). Pure.

    POST /v2/models/NAME[/versions/VERSION]/infer
    GET  /v2/models/NAME[/versions/VERSION]
    GET  /v2/models/NAME[/versions/VERSION]/ready
    GET  /v2/health, /v2/health/live, /v2/health/ready
    GET  /v2

A request is a binary HTTP message, already opened; the answer is a response, or an inference that waits for
its model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from strongroom.codec.bhttp import Request, Response, header
from strongroom.codec.oip import HEADER_NAME, ModelMetadata, OipLimits, TensorMetadata, parse_header_length
from strongroom.errors import StrongroomError
from strongroom.models.manifest import TensorSpec
from strongroom.worker.errors import (
    METHOD_NOT_ALLOWED,
    MODEL_UNKNOWN,
    ROUTE_UNKNOWN,
    VERSION_UNKNOWN,
    WorkerError,
)
from strongroom.worker.inference import Arrays, Inference, ServedModel

JSON: Final = b"application/json"
BINARY: Final = b"application/octet-stream"
PROBLEM: Final = b"application/problem+json"

_HEADER_LENGTH: Final = HEADER_NAME.lower().encode()
_SERVER: Final = {"name": "strongroom", "version": "2", "extensions": ["binary_tensor_data"]}


class App:
    """Answers requests about the models that are loaded.

    Args:
        models: The models, names distinct.
        limits: Bounds of an inference request.
    """

    def __init__(self, models: Iterable[ServedModel], *, limits: OipLimits = OipLimits()) -> None:  # noqa: B008 -- frozen
        self._models = {model.name: model for model in models}
        self._limits = limits

    def handle(self, request: Request) -> Response | Inference:
        """Answer a request, or start an inference.

        Raises:
            StrongroomError: With the code that the client is to be told.
        """
        path = request.path.partition(b"?")[0]
        segments = path.decode("ascii").removeprefix("/").split("/")
        if segments[0] != "v2":
            raise WorkerError(ROUTE_UNKNOWN)
        if segments[1:2] == ["models"] and len(segments) > 2:
            return self._about_model(request, segments[2:])
        return self._about_server(request, segments[1:])

    def respond(self, inference: Inference, outputs: Arrays) -> Response:
        """The response to an inference that was computed.

        Raises:
            StrongroomError: The outputs have no form that the request admits.
        """
        body, header_length = inference.respond(outputs)
        if header_length is None:
            return Response(200, ((b"content-type", JSON),), body)
        fields = ((b"content-type", BINARY), (_HEADER_LENGTH, b"%d" % header_length))
        return Response(200, fields, body)

    def _about_server(self, request: Request, rest: list[str]) -> Response:
        answers: dict[tuple[str, ...], object] = {
            (): _SERVER,
            ("health",): {"live": True, "ready": True},
            ("health", "live"): {"live": True},
            ("health", "ready"): {"ready": True},
        }
        answer = answers.get(tuple(rest))
        if answer is None:
            raise WorkerError(ROUTE_UNKNOWN)
        _require(request, b"GET")
        return _json(answer)

    def _about_model(self, request: Request, rest: list[str]) -> Response | Inference:
        model, action = self._find(rest)
        if action == ["infer"]:
            _require(request, b"POST")
            header_length = parse_header_length(header(request.headers, _HEADER_LENGTH))
            return Inference.parse(model, request.body, header_length, self._limits)
        if action == ["ready"]:
            _require(request, b"GET")
            return _json({"name": model.name, "ready": True})
        if not action:
            _require(request, b"GET")
            return _json(metadata(model).to_json())
        raise WorkerError(ROUTE_UNKNOWN)

    def _find(self, rest: list[str]) -> tuple[ServedModel, list[str]]:
        model = self._models.get(rest[0])
        if model is None:
            raise WorkerError(MODEL_UNKNOWN)
        if rest[1:2] != ["versions"]:
            return model, rest[1:]
        if rest[2:3] != [model.version]:
            raise WorkerError(VERSION_UNKNOWN)
        return model, rest[3:]


def metadata(model: ServedModel) -> ModelMetadata:
    """What a model takes, in the form that is best to send, and gives."""
    manifest = model.manifest
    return ModelMetadata(
        manifest.name,
        (manifest.version,),
        manifest.runtime,
        tuple(_tensor(manifest.forms(spec.name)[0]) for spec in manifest.inputs),
        tuple(_tensor(spec) for spec in manifest.outputs),
    )


def problem(error: StrongroomError) -> Response:
    """An error as problem details (RFC 9457)."""
    return Response(error.status, ((b"content-type", PROBLEM),), msgspec.json.encode(error.to_problem()))


def _tensor(spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata(spec.name, spec.datatype, spec.shape)


def _require(request: Request, method: bytes) -> None:
    if request.method != method:
        raise WorkerError(METHOD_NOT_ALLOWED, expected=method.decode())


def _json(value: object) -> Response:
    return Response(200, ((b"content-type", JSON),), msgspec.json.encode(value))
