from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strongroom.errors import ModelError
from strongroom.models.bundle import read_bundle
from strongroom.models.importers import import_model
from strongroom.models.manifest import TensorSpec
from strongroom.models.openvino_runtime import OpenVinoRuntime
from strongroom.models.preprocess import parse_preprocess
from strongroom.models.quiet_openvino import op, ov
from strongroom.models.runtime import Runtime
from strongroom.models.tensors import Tensors

Start = Callable[..., OpenVinoRuntime]
Infer = Callable[[Runtime, Tensors], Tensors]


def save(folder: Path, *results: Any, inputs: tuple[Any, ...]) -> Path:
    """Write a graph as IR; inputs keep their friendly names, outputs are called y0, y1 ..."""
    model = ov.Model([op.result(result) for result in results], list(inputs), "net")
    for port, parameter in zip(model.inputs, inputs, strict=True):
        port.tensor.set_names({parameter.friendly_name})
    for number, port in enumerate(model.outputs):
        port.tensor.set_names({f"y{number}"})
    ov.save_model(model, folder / "net.xml", compress_to_fp16=False)
    return folder / "net.xml"


def parameter(name: str, *shape: int, dtype: Any = np.float32) -> Any:
    return op.parameter(list(shape), dtype, name=name)


def scores(folder: Path) -> Path:
    """[n, 3] to [n, 3], not probabilities."""
    x = parameter("x", -1, 3)
    return save(folder, op.multiply(x, op.constant(np.float32(2))), inputs=(x,))


def even(folder: Path) -> Path:
    """[n, 3] to [n, 3], for even n only."""
    x = parameter("x", -1, 3)
    pairs = op.relu(op.reshape(x, op.constant(np.array([-1, 2, 3])), special_zero=False))
    single = op.reshape(
        op.multiply(pairs, op.constant(np.float32(2))), op.constant(np.array([-1, 3])), special_zero=False
    )
    return save(folder, single, inputs=(x,))


def refusal(path: Path, **options: Any) -> tuple[str, str]:
    with pytest.raises(ModelError) as caught:
        import_model(path, **{"name": "net", **options})
    return caught.value.code, str(caught.value)


def test_the_manifest_says_what_was_imported(tmp_path: Path) -> None:
    bundle = read_bundle(import_model(scores(tmp_path), name="my-net", version="7"))
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.runtime) == ("my-net", "7", "openvino")
    assert manifest.inputs == (TensorSpec("x", "FP32", (-1, 3)),)
    assert manifest.outputs == (TensorSpec("y0", "FP32", (-1, 3)),)
    assert (manifest.labels, manifest.preprocess, manifest.max_batch) == (None, None, None)
    assert set(bundle.files) == {"model.xml", "model.bin"}
    assert manifest.provenance["source"] == "net.xml"
    assert manifest.provenance["importer"] == "openvino_ir"
    assert manifest.provenance["openvino"] == ov.__version__
    assert str(tmp_path) not in str(manifest.to_bytes())


def test_the_same_model_gives_the_same_bundle(tmp_path: Path) -> None:
    path = scores(tmp_path)
    assert import_model(path, name="net") == import_model(path, name="net")


def test_the_bundle_runs(tmp_path: Path, start: Start, infer: Infer) -> None:
    runtime = start(read_bundle(import_model(scores(tmp_path), name="net")))
    assert infer(runtime, {"x": np.ones((2, 3), np.float32)})["y0"].tolist() == [[2.0] * 3] * 2


def test_weights_are_kept_in_full_precision(tmp_path: Path, start: Start, infer: Infer) -> None:
    x = parameter("x", -1, 1)
    third = np.float32(1 / 3)
    path = save(tmp_path, op.multiply(x, op.constant(np.full((1, 1), third))), inputs=(x,))
    found = infer(start(read_bundle(import_model(path, name="net"))), {"x": np.ones((1, 1), np.float32)})
    assert found["y0"][0, 0] == third


def test_nameless_inputs_and_outputs_get_names(tmp_path: Path, start: Start, infer: Infer) -> None:
    x = parameter("x", -1, 2)
    path = save(tmp_path, op.relu(x), op.negative(x), inputs=(x,))
    path.write_text(re.sub(r' names="[^"]*"| output_names="[^"]*"', "", path.read_text()))
    manifest = read_bundle(import_model(path, name="net")).manifest
    assert [spec.name for spec in manifest.inputs] == ["input_0"]
    assert [spec.name for spec in manifest.outputs] == ["output_0", "output_1"]
    runtime = start(read_bundle(import_model(path, name="net")))
    assert infer(runtime, {"input_0": np.array([[1, -1]], np.float32)})["output_1"].tolist() == [[-1, 1]]


@pytest.mark.parametrize("suffix", [".pb", ".h5", ".tflite", ""])
def test_refuses_other_formats(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"x")
    code, text = refusal(path)
    assert code == "model-unsupported"
    assert ".xml or .onnx" in text


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.onnx")[0] == "model-unreadable"
    assert refusal(tmp_path / "no.xml")[0] == "model-unreadable"


def test_refuses_an_ir_without_its_weights(tmp_path: Path) -> None:
    path = scores(tmp_path)
    path.with_suffix(".bin").unlink()
    code, text = refusal(path)
    assert code == "model-unreadable"
    assert "net.bin" in text


def test_refuses_a_broken_file_with_openvinos_reason(tmp_path: Path) -> None:
    path = scores(tmp_path)
    path.write_text(path.read_text().replace("Multiply", "Nonesuch"))
    code, text = refusal(path)
    assert code == "model-unreadable"
    assert "Nonesuch" in text


def test_refuses_what_openvino_cannot_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Exception from a.cpp:1:\nno kernel for Multiply\n\n")

    path = scores(tmp_path)
    monkeypatch.setattr(ov.Core, "compile_model", fail)
    code, text = refusal(path)
    assert code == "model-unreadable"
    assert "no kernel for Multiply" in text


@pytest.mark.parametrize("changes", [{"name": "not a name"}, {"version": ""}, {"max_batch": 2000}])
def test_refuses_what_no_manifest_may_say(changes: dict[str, Any], tmp_path: Path) -> None:
    assert refusal(scores(tmp_path), **changes)[0] == "manifest-invalid"


def test_refuses_types_that_cannot_be_sent(tmp_path: Path) -> None:
    x = op.parameter([-1, 2], ov.Type.bf16, name="x")
    assert refusal(save(tmp_path, op.relu(x), inputs=(x,)))[0] == "model-unsupported"


# ---- batches


def test_items_that_influence_each_other_are_never_batched(tmp_path: Path) -> None:
    x = parameter("x", -1, 3)
    mean = op.reduce_mean(x, op.constant(np.array([0])), keep_dims=True)
    path = save(tmp_path, op.subtract(x, mean), inputs=(x,))
    assert read_bundle(import_model(path, name="net")).manifest.max_batch == 0


def test_outputs_that_do_not_follow_the_batch_are_never_batched(tmp_path: Path) -> None:
    x = parameter("x", -1, 3)
    path = save(tmp_path, op.reshape(x, op.constant(np.array([-1])), special_zero=False), inputs=(x,))
    assert read_bundle(import_model(path, name="net")).manifest.max_batch == 0


def test_a_model_that_takes_one_item_only_is_never_batched(tmp_path: Path) -> None:
    x = parameter("x", -1, 3)
    one = op.reshape(x, op.constant(np.array([1, 3])), special_zero=False)
    path = save(tmp_path, op.concat([one, x], 0), inputs=(x,))
    assert read_bundle(import_model(path, name="net")).manifest.max_batch == 0


def test_a_model_that_fails_on_one_item_alone_is_never_batched(tmp_path: Path) -> None:
    path = even(tmp_path)
    assert read_bundle(import_model(path, name="net")).manifest.max_batch == 0


def test_a_model_of_fixed_shape_is_never_batched(tmp_path: Path) -> None:
    x = parameter("x", 1, 3)
    assert (
        read_bundle(import_model(save(tmp_path, op.relu(x), inputs=(x,)), name="net")).manifest.max_batch == 0
    )


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, np.float16])
def test_independence_is_seen_with_every_type(dtype: Any, tmp_path: Path) -> None:
    x = parameter("x", -1, -1, dtype=dtype)
    shape = op.constant(np.array([0, 0]))
    path = save(tmp_path, op.reshape(x, shape, special_zero=True), inputs=(x,))
    assert read_bundle(import_model(path, name="net")).manifest.max_batch is None


@pytest.mark.parametrize("max_batch", [0, 1, 16])
def test_the_owners_word_is_taken(max_batch: int, tmp_path: Path) -> None:
    data = import_model(scores(tmp_path), name="net", max_batch=max_batch)
    assert read_bundle(data).manifest.max_batch == max_batch


# ---- labels


def test_labels_go_with_probabilities(tmp_path: Path) -> None:
    x = parameter("x", -1, 3)
    path = save(tmp_path, op.softmax(x, axis=1), inputs=(x,))
    bundle = read_bundle(import_model(path, name="net", labels=b"a\nb\nc\n"))
    assert bundle.labels == ("a", "b", "c")
    assert bundle.manifest.labels == "labels.txt"


def test_labels_do_not_go_with_scores(tmp_path: Path) -> None:
    assert refusal(scores(tmp_path), labels=b"a\nb\nc\n")[0] == "labels-not-probabilities"


def test_softmax_makes_probabilities_of_scores(tmp_path: Path, start: Start, infer: Infer) -> None:
    x = parameter("x", -1, 3)
    path = save(tmp_path, op.multiply(x, op.constant(np.float32(2))), op.negative(x), inputs=(x,))
    bundle = read_bundle(import_model(path, name="net", labels=b"a\nb\nc\n", softmax=True))
    assert [spec.name for spec in bundle.manifest.outputs] == ["probabilities", "y1"]
    row = np.array([[1, 2, 3]], np.float32)
    found = infer(start(bundle), {"x": row})
    wanted = np.exp(2 * row) / np.exp(2 * row).sum()
    assert np.allclose(found["probabilities"], wanted, rtol=1e-5)
    assert np.array_equal(found["y1"], -row)


def test_softmax_is_for_rows_of_classes(tmp_path: Path) -> None:
    x = parameter("x", -1, 3, 4)
    assert refusal(save(tmp_path, op.relu(x), inputs=(x,)), softmax=True)[0] == "model-unsupported"


@pytest.mark.parametrize("labels", [b"a\nb\n", b"a\nb\nc\nd\n", b""])
def test_labels_must_be_as_many_as_classes(labels: bytes, tmp_path: Path) -> None:
    assert refusal(scores(tmp_path), labels=labels)[0] == "labels-invalid"


@pytest.mark.parametrize("shape", [(-1, -1), (3,), (-1,)])
def test_labels_need_a_fixed_number_of_classes(shape: tuple[int, ...], tmp_path: Path) -> None:
    x = parameter("x", *shape)
    assert refusal(save(tmp_path, op.relu(x), inputs=(x,)), labels=b"a\nb\nc\n")[0] == "labels-invalid"


def test_labels_of_a_model_that_cannot_be_tried_out_are_believed(tmp_path: Path) -> None:
    path = even(tmp_path)
    assert read_bundle(import_model(path, name="net", labels=b"a\nb\nc\n")).labels == ("a", "b", "c")


# ---- preprocessing


def pictures(folder: Path) -> Path:
    image = parameter("pixels", -1, 3, -1, -1)
    return save(folder, op.relu(image), inputs=(image,))


def test_preprocessing_is_for_the_only_input(tmp_path: Path) -> None:
    manifest = read_bundle(
        import_model(pictures(tmp_path), name="net", preprocess=parse_preprocess("crop=8x6"))
    ).manifest
    assert manifest.preprocess is not None
    assert manifest.preprocess.input == "pixels"
    assert manifest.inputs == (TensorSpec("pixels", "UINT8", (-1, 6, 8, 3)),)
    assert manifest.outputs == (TensorSpec("y0", "FP32", (-1, 3, 6, 8)),)


def test_preprocessing_may_name_its_input(tmp_path: Path) -> None:
    image, x = parameter("pixels", -1, 3, 6, 8), parameter("x", -1, 2)
    path = save(tmp_path, op.relu(image), op.relu(x), inputs=(image, x))
    code, text = refusal(path, preprocess=parse_preprocess("crop=8x6"))
    assert code == "preprocess-invalid"
    assert "pixels, x" in text
    named = parse_preprocess("crop=8x6,input=pixels")
    manifest = read_bundle(import_model(path, name="net", preprocess=named)).manifest
    assert [spec.datatype for spec in manifest.inputs] == ["UINT8", "FP32"]


@pytest.mark.parametrize("spec", ["crop=8x6,input=z", "crop=8x6,layout=NHWC,input=pixels"])
def test_preprocessing_must_fit_the_model(spec: str, tmp_path: Path) -> None:
    image = parameter("pixels", -1, 3, 6, 8)
    path = save(tmp_path, op.relu(image), inputs=(image,))
    assert refusal(path, preprocess=parse_preprocess(spec))[0] == "model-manifest-mismatch"


def test_preprocessing_of_a_fixed_batch_keeps_it(tmp_path: Path) -> None:
    image = parameter("pixels", 2, 3, 6, 8)
    path = save(tmp_path, op.relu(image), inputs=(image,))
    manifest = read_bundle(import_model(path, name="net", preprocess=parse_preprocess("crop=8x6"))).manifest
    assert manifest.inputs[0].shape == (2, 6, 8, 3)
