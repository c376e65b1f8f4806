from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from strongroom.codec.bhttp import Request, Response
from strongroom.codec.oip import ModelMetadata
from strongroom.errors import StrongroomError
from strongroom.models.manifest import TensorSpec
from strongroom.models.preprocess import ImagePreprocess
from strongroom.worker.app import App, problem
from strongroom.worker.errors import DEADLINE_EXCEEDED, WorkerError
from strongroom.worker.inference import Inference


@pytest.fixture
def app(kit: Any) -> App:
    picture = kit.memory_manifest(
        "picture",
        inputs=(TensorSpec("image", "UINT8", (-1, 8, 8, 3)),),
        preprocess=ImagePreprocess(input="image", width=8, height=8),
    )
    return App([kit.memory_model(), kit.memory_model(picture)])


def _get(path: str, method: str = "GET") -> Request:
    return Request(method.encode(), b"https", b"", path.encode())


def _json(app: App, path: str) -> Any:
    response = app.handle(_get(path))
    assert isinstance(response, Response)
    assert response.status == 200
    assert response.headers == ((b"content-type", b"application/json"),)
    return json.loads(bytes(response.body))


def _refused(app: App, request: Request) -> StrongroomError:
    with pytest.raises(StrongroomError) as refused:
        app.handle(request)
    return refused.value


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v2", {"name": "strongroom", "version": "2", "extensions": ["binary_tensor_data"]}),
        ("/v2/health", {"live": True, "ready": True}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/health/ready?verbose=1", {"ready": True}),
        ("/v2/models/double/ready", {"name": "double", "ready": True}),
        ("/v2/models/double/versions/1/ready", {"name": "double", "ready": True}),
    ],
)
def test_health_and_readiness(app: App, path: str, answer: object) -> None:
    assert _json(app, path) == answer


@pytest.mark.parametrize("path", ["/v2/models/double", "/v2/models/double/versions/1"])
def test_metadata_of_a_model(app: App, path: str) -> None:
    found = ModelMetadata.from_json(_json(app, path))
    assert (found.name, found.versions, found.platform) == ("double", ("1",), "openvino")
    assert [(t.name, t.datatype, t.shape) for t in found.inputs] == [("x", "FP32", (-1, 4))]
    assert [(t.name, t.datatype, t.shape) for t in found.outputs] == [("y", "FP32", (-1, 4))]


def test_metadata_names_the_best_form_of_a_picture(app: App) -> None:
    found = ModelMetadata.from_json(_json(app, "/v2/models/picture"))
    assert [(t.name, t.datatype, t.shape) for t in found.inputs] == [("image", "BYTES", (-1,))]


@pytest.mark.parametrize(
    ("path", "code", "status"),
    [
        ("/", "route-unknown", 404),
        ("/v1/models", "route-unknown", 404),
        ("/v2/", "route-unknown", 404),
        ("/v2/models", "route-unknown", 404),
        ("/v2/health/late", "route-unknown", 404),
        ("/v2/health/live/now", "route-unknown", 404),
        ("/v2/models/double/weights", "route-unknown", 404),
        ("/v2/models/double/infer/again", "route-unknown", 404),
        ("/v2/models/double/versions/1/weights", "route-unknown", 404),
        ("/v2/models/", "model-unknown", 404),
        ("/v2/models/triple", "model-unknown", 404),
        ("/v2/models/..%2fdouble", "model-unknown", 404),
        ("/v2/models/double/versions", "model-version-unknown", 404),
        ("/v2/models/double/versions/2", "model-version-unknown", 404),
        ("/v2/models/double/versions/2/infer", "model-version-unknown", 404),
    ],
)
def test_what_there_is_not(app: App, path: str, code: str, status: int) -> None:
    error = _refused(app, _get(path))
    assert (error.code, error.status) == (code, status)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/double/infer"),
        ("POST", "/v2/models/double"),
        ("POST", "/v2/models/double/ready"),
        ("DELETE", "/v2/health"),
        ("POST", "/v2"),
    ],
)
def test_other_methods_are_refused(app: App, method: str, path: str) -> None:
    assert _refused(app, _get(path, method)).code == "method-not-allowed"


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_an_inference_begins(app: App, kit: Any, version: str) -> None:
    request = kit.infer_request(f"double{version}", kit.x(1, 2, 3, 4))
    inference = app.handle(request)
    assert isinstance(inference, Inference)
    assert inference.model.name == "double"
    assert inference.inputs["x"].tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("length", [b"", b"0", b"-1", b"1e3", b"999999"])
def test_a_header_length_that_does_not_fit_is_refused(app: App, kit: Any, length: bytes) -> None:
    good = kit.infer_request("double", kit.x(1, 2, 3, 4))
    headers = ((b"inference-header-content-length", length),)
    bad = Request(good.method, good.scheme, good.authority, good.path, headers, good.body)
    assert _refused(app, bad).code == "oip-header-length"


def test_a_repeated_header_length_is_refused(app: App, kit: Any) -> None:
    good = kit.infer_request("double", kit.x(1, 2, 3, 4))
    bad = Request(
        good.method, good.scheme, good.authority, good.path, good.headers + good.headers[-1:], good.body
    )
    assert _refused(app, bad).code == "field-repeated"


@pytest.mark.parametrize("binary", [True, False])
def test_an_answer_has_the_form_that_was_asked_for(app: App, kit: Any, binary: bool) -> None:
    inference = app.handle(kit.infer_request("double", kit.x(1, 2, 3, 4), binary=binary))
    assert isinstance(inference, Inference)
    response = app.respond(inference, {"y": np.array([[2, 4, 6, 8]], np.float32)})
    kind = b"application/octet-stream" if binary else b"application/json"
    assert dict(response.headers)[b"content-type"] == kind
    assert kit.inferred(response).outputs[0].array.tolist() == [[2, 4, 6, 8]]


def test_a_problem_has_status_code_and_media_type(kit: Any) -> None:
    response = problem(WorkerError(DEADLINE_EXCEEDED))
    assert response.status == 504
    assert kit.code(response) == "deadline-exceeded"
