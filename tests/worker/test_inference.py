from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from strongroom.codec.oip import (
    InferRequest,
    OipLimits,
    RequestedOutput,
    Tensor,
    decode_infer_response,
    encode_infer_request,
)
from strongroom.errors import CodecError, ModelError, StrongroomError
from strongroom.models.manifest import TensorSpec
from strongroom.models.preprocess import ImagePreprocess
from strongroom.worker.inference import MAX_ITEMS, Inference, ServedModel


def _tensor(name: str = "x", shape: tuple[int, ...] = (1, 4), dtype: Any = np.float32) -> Tensor:
    return Tensor.from_array(name, np.zeros(shape, dtype))


def _request(*tensors: Tensor, **options: Any) -> InferRequest:
    return InferRequest(tensors or (_tensor(),), **options)


@pytest.fixture
def model(kit: Any) -> ServedModel:
    return kit.memory_model()


@pytest.fixture
def picture_model(kit: Any) -> ServedModel:
    manifest = kit.memory_manifest(
        "picture",
        inputs=(TensorSpec("image", "UINT8", (-1, 8, 8, 3)),),
        outputs=(TensorSpec("y", "UINT8", (-1, 8, 8, 3)),),
        preprocess=ImagePreprocess(input="image", width=8, height=8),
    )
    return kit.memory_model(manifest)


def _refused(model: ServedModel, request: InferRequest) -> str:
    with pytest.raises(StrongroomError) as refused:
        Inference(model, request).prepare()
    return refused.value.code


def test_a_good_request_is_ready_with_its_rows(model: ServedModel) -> None:
    inference = Inference(model, _request(_tensor(shape=(3, 4))))
    assert not inference.has_pictures
    inference.prepare()
    assert inference.rows == 3
    assert inference.inputs["x"].shape == (3, 4)


def test_a_body_is_parsed_under_its_limits(model: ServedModel) -> None:
    body, length = encode_infer_request(_request())
    inference = Inference.parse(model, body, length, OipLimits())
    assert list(inference.inputs) == ["x"]
    with pytest.raises(CodecError, match="oip-limit"):
        Inference.parse(model, body, length, OipLimits(elements=3))


def test_a_model_without_a_batch_axis_has_no_rows(kit: Any) -> None:
    model = kit.memory_model(max_batch=0)
    inference = Inference(model, _request(_tensor(shape=(3, 4))))
    inference.prepare()
    assert inference.rows == 0


def test_signatures_agree_for_equal_items_only(kit: Any) -> None:
    manifest = kit.memory_manifest(
        inputs=(TensorSpec("x", "FP32", (-1, -1)),), outputs=(TensorSpec("y", "FP32", (-1, -1)),)
    )
    model = kit.memory_model(manifest, max_batch=8)

    def signature(shape: tuple[int, ...]) -> object:
        inference = Inference(model, _request(_tensor(shape=shape)))
        inference.prepare()
        return inference.signature

    assert signature((1, 4)) == signature((5, 4))
    assert signature((1, 4)) != signature((1, 5))


def test_an_unknown_input_is_refused(model: ServedModel) -> None:
    assert _refused(model, _request(_tensor(), _tensor("z"))) == "tensor-unexpected"


def test_a_missing_input_is_refused(model: ServedModel) -> None:
    assert _refused(model, InferRequest(())) == "tensor-missing"


def test_a_wrong_datatype_is_refused(model: ServedModel) -> None:
    assert _refused(model, _request(_tensor(dtype=np.float64))) == "tensor-dtype-mismatch"


def test_bytes_for_a_model_without_preprocessing_are_refused(model: ServedModel, kit: Any) -> None:
    tensor = Tensor("x", "BYTES", (1,), kit.pictures(b"x").array)
    assert _refused(model, _request(tensor)) == "tensor-dtype-mismatch"


@pytest.mark.parametrize("shape", [(4,), (1, 5), (1, 4, 1), (0, 4)])
def test_a_wrong_shape_is_refused(model: ServedModel, shape: tuple[int, ...]) -> None:
    assert _refused(model, _request(_tensor(shape=shape))) == "tensor-shape-mismatch"


def test_too_many_items_are_refused(model: ServedModel) -> None:
    assert _refused(model, _request(_tensor(shape=(MAX_ITEMS + 1, 4)))) == "batch-too-large"


def test_an_unknown_output_is_refused(model: ServedModel) -> None:
    assert _refused(model, _request(outputs=(RequestedOutput("z"),))) == "tensor-unexpected"


@pytest.mark.parametrize("value", [-1, 101, "5", 1.5, True])
def test_a_strange_number_of_labels_is_refused(model: ServedModel, value: object) -> None:
    assert _refused(model, _request(parameters={"labels": value})) == "parameter-invalid"


def test_pictures_are_decoded_when_it_is_prepared(picture_model: ServedModel, kit: Any) -> None:
    red, blue = kit.picture((255, 0, 0), "PNG"), kit.picture((0, 0, 255), "PNG")
    inference = Inference(picture_model, _request(kit.pictures(red, blue)))
    assert inference.has_pictures
    assert inference.inputs == {}
    inference.prepare()
    assert not inference.has_pictures
    image = inference.inputs["image"]
    assert (image.shape, image.dtype) == ((2, 8, 8, 3), np.uint8)
    assert image[0, 4, 4].tolist() == [255, 0, 0]
    assert image[1, 4, 4].tolist() == [0, 0, 255]
    assert inference.rows == 2


def test_ready_pixels_are_taken_as_they_are(picture_model: ServedModel) -> None:
    pixels = Tensor.from_array("image", np.full((1, 8, 8, 3), 7, np.uint8))
    inference = Inference(picture_model, _request(pixels))
    assert not inference.has_pictures
    inference.prepare()
    assert inference.inputs["image"] is pixels.array


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (b"", "image-format-unsupported"),
        (b"GIF89a" + bytes(100), "image-format-unsupported"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "image-broken"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "image-broken"),
    ],
)
def test_a_bad_picture_is_refused_when_it_is_prepared(
    picture_model: ServedModel, kit: Any, data: bytes, refusal: str
) -> None:
    inference = Inference(picture_model, _request(kit.pictures(data)))
    with pytest.raises(ModelError) as refused:
        inference.prepare()
    assert refused.value.code == refusal


@pytest.mark.parametrize("shape", [(), (0,), (1, 1)])
def test_pictures_come_in_a_list(picture_model: ServedModel, kit: Any, shape: tuple[int, ...]) -> None:
    array = np.empty(shape, object)
    array.fill(kit.picture((1, 2, 3)))
    tensor = Tensor("image", "BYTES", shape, array)
    assert _refused(picture_model, _request(tensor)) == "tensor-shape-mismatch"


def test_more_pictures_than_fit_in_memory_are_refused_undecoded(kit: Any) -> None:
    manifest = kit.memory_manifest(
        "large",
        inputs=(TensorSpec("image", "UINT8", (-1, 4096, 4096, 3)),),
        preprocess=ImagePreprocess(input="image", width=4096, height=4096),
    )
    model = kit.memory_model(manifest)
    assert _refused(model, _request(kit.pictures(*[b"not even a picture"] * 2))) == "batch-too-large"
    assert Inference(model, _request(kit.pictures(b"not even a picture"))).has_pictures


def test_pictures_are_decoded_into_one_array(kit: Any) -> None:
    """Thousands of tiny files become much memory: it is taken once, not once more to join them."""
    manifest = kit.memory_manifest(
        "many",
        inputs=(TensorSpec("image", "UINT8", (-1, 512, 512, 3)),),
        preprocess=ImagePreprocess(input="image", width=512, height=512),
    )
    inference = Inference(kit.memory_model(manifest), _request(kit.pictures(*[kit.picture((1, 2, 3))] * 32)))
    tracemalloc.start()
    try:
        inference.prepare()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert inference.inputs["image"].nbytes <= peak < 1.5 * inference.inputs["image"].nbytes


def _respond(model: ServedModel, request: InferRequest, outputs: dict[str, Any]) -> Any:
    body, length = Inference(model, request).respond(outputs)
    return decode_infer_response(body, length), length


def test_the_response_names_model_and_request(model: ServedModel) -> None:
    y = np.array([[1, 2, 3, 4]], np.float32)
    response, length = _respond(model, _request(id="mine"), {"y": y})
    assert (response.model_name, response.model_version, response.id) == ("double", "1", "mine")
    assert np.array_equal(response.outputs[0].array, y)
    assert response.parameters == {}
    assert length is None


def test_binary_outputs_when_asked_for(model: ServedModel) -> None:
    y = np.array([[np.nan, 2, 3, 4]], np.float32)
    response, length = _respond(model, _request(parameters={"binary_data_output": True}), {"y": y})
    assert length is not None
    assert np.isnan(response.outputs[0].array[0, 0])


def test_json_cannot_carry_a_nan(model: ServedModel) -> None:
    with pytest.raises(CodecError, match="tensor-needs-binary"):
        _respond(model, _request(), {"y": np.array([[np.nan]], np.float32)})


def test_only_the_outputs_asked_for_in_their_order(kit: Any) -> None:
    specs = tuple(TensorSpec(name, "FP32", (-1, 1)) for name in "abc")
    model = kit.memory_model(kit.memory_manifest(outputs=specs))
    outputs = {name: np.array([[index]], np.float32) for index, name in enumerate("abc")}
    asked = _request(outputs=(RequestedOutput("c", binary=True), RequestedOutput("a")))
    response, length = _respond(model, asked, outputs)
    assert [tensor.name for tensor in response.outputs] == ["c", "a"]
    assert length is not None
    every, _ = _respond(model, _request(), outputs)
    assert [tensor.name for tensor in every.outputs] == ["a", "b", "c"]


def test_the_best_labels_of_each_item(kit: Any) -> None:
    names = ("ant", "bee", "cat", "dog", "elk", "fox")
    spec = (TensorSpec("y", "FP32", (-1, 6)),)
    model = kit.memory_model(kit.memory_manifest(outputs=spec), labels=names)
    y = np.array([[0.0, 0.1, 0.2, 0.4, 0.3, 0.0], [1, 0, 0, 0, 0, 0]], np.float32)
    response, _ = _respond(model, _request(_tensor(shape=(2, 4))), {"y": y})
    first, second = response.parameters["labels"]
    assert [label["name"] for label in first] == ["dog", "elk", "cat", "bee", "ant"]
    assert first[0] == {"index": 3, "name": "dog", "probability": pytest.approx(0.4)}
    assert second[0]["name"] == "ant"
    assert len(second) == 5


def test_as_many_labels_as_asked_for(kit: Any) -> None:
    spec = (TensorSpec("y", "FP32", (-1, 2)),)
    model = kit.memory_model(kit.memory_manifest(outputs=spec), labels=("no", "yes"))
    y = {"y": np.array([[0.25, 0.75]], np.float32)}
    one, _ = _respond(model, _request(parameters={"labels": 1}), y)
    assert [label["name"] for label in one.parameters["labels"][0]] == ["yes"]
    none, _ = _respond(model, _request(parameters={"labels": 0}), y)
    assert "labels" not in none.parameters


def test_labels_come_even_if_another_output_is_asked_for(kit: Any) -> None:
    specs = (TensorSpec("y", "FP32", (-1, 2)), TensorSpec("z", "FP32", (-1, 1)))
    model = kit.memory_model(kit.memory_manifest(outputs=specs), labels=("no", "yes"))
    outputs = {"y": np.array([[0.25, 0.75]], np.float32), "z": np.array([[9]], np.float32)}
    response, _ = _respond(model, _request(outputs=(RequestedOutput("z"),)), outputs)
    assert [tensor.name for tensor in response.outputs] == ["z"]
    assert response.parameters["labels"][0][0]["name"] == "yes"
