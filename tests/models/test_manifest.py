from __future__ import annotations

import copy
import hashlib
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from strongroom.codec import jcs
from strongroom.errors import ModelError
from strongroom.models.manifest import (
    FORMAT,
    MAX_MANIFEST,
    FileEntry,
    Manifest,
    TensorSpec,
    parse_manifest,
)
from strongroom.models.preprocess import ImagePreprocess

PICTURE = {"name": "image", "datatype": "UINT8", "shape": [-1, 8, 6, 3]}
VALUE: dict[str, Any] = {
    "format": FORMAT,
    "name": "net",
    "version": "1.2",
    "runtime": "openvino",
    "inputs": [PICTURE, {"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
    "labels": "labels.txt",
    "preprocess": {
        "input": "image",
        "width": 6,
        "height": 8,
        "resize": "bicubic",
        "resize_shorter": 9,
        "mean": [1, 2.5, 3],
        "scale": [4, 5, 6],
    },
    "files": {
        "model.xml": {"sha256": "ab" * 32, "size": 100},
        "model.bin": {"sha256": "cd" * 32, "size": 0},
        "labels.txt": {"sha256": "ef" * 32, "size": 6},
    },
    "provenance": {"source": "net.onnx"},
    "max_batch": 4,
}


def changed(**changes: Any) -> bytes:
    value = {**copy.deepcopy(VALUE), **changes}
    return jcs.canonical({key: item for key, item in value.items() if item is not ...})


def refusal(data: bytes, code: str = "manifest-invalid") -> str:
    with pytest.raises(ModelError) as caught:
        parse_manifest(data)
    assert caught.value.code == code
    return str(caught.value)


def test_reads_every_field() -> None:
    manifest = parse_manifest(changed())
    assert (manifest.name, manifest.version, manifest.runtime) == ("net", "1.2", "openvino")
    assert manifest.inputs[1] == TensorSpec("x", "FP32", (-1, 4))
    assert manifest.preprocess == ImagePreprocess(
        "image", 6, 8, resize="bicubic", resize_shorter=9, mean=(1.0, 2.5, 3.0), scale=(4.0, 5.0, 6.0)
    )
    assert manifest.files["model.bin"] == FileEntry("cd" * 32, 0)
    assert (manifest.labels, manifest.max_batch) == ("labels.txt", 4)
    assert manifest.provenance == {"source": "net.onnx"}


def test_bytes_are_read_and_written_alike() -> None:
    assert parse_manifest(changed()).to_bytes() == changed()
    assert parse_manifest(memoryview(changed())) == parse_manifest(changed())


def test_digest_is_that_of_the_bytes() -> None:
    assert parse_manifest(changed()).digest == "sha256:" + hashlib.sha256(changed()).hexdigest()
    assert parse_manifest(changed()).digest != parse_manifest(changed(version="2")).digest


def test_optional_fields_may_be_left_out_and_then_leave_no_trace() -> None:
    data = changed(labels=..., preprocess=..., provenance=..., max_batch=...)
    manifest = parse_manifest(data)
    assert (manifest.labels, manifest.preprocess, manifest.provenance, manifest.max_batch) == (
        None,
        None,
        {},
        None,
    )
    assert manifest.to_bytes() == data


def test_a_picture_input_has_two_forms() -> None:
    manifest = parse_manifest(changed())
    assert manifest.forms("image") == (
        TensorSpec("image", "BYTES", (-1,)),
        TensorSpec("image", "UINT8", (-1, 8, 6, 3)),
    )
    assert manifest.forms("x") == (TensorSpec("x", "FP32", (-1, 4)),)
    assert manifest.forms("y") == ()
    assert parse_manifest(changed(preprocess=...)).forms("image") == (
        TensorSpec("image", "UINT8", (-1, 8, 6, 3)),
    )


def test_batch_axis_needs_every_tensor_open_and_no_denial() -> None:
    fixed = [{"name": "p", "datatype": "FP32", "shape": [1, 3]}]
    assert parse_manifest(changed()).batch_axis
    assert parse_manifest(changed(max_batch=...)).batch_axis
    assert not parse_manifest(changed(max_batch=0)).batch_axis
    assert not parse_manifest(changed(outputs=fixed, max_batch=...)).batch_axis


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "strongroom-bundle/2"}, "$.format"),
        ({"format": ...}, "canonical"),
        ({"extra": 1}, "extra"),
        ({"name": ""}, "$.name"),
        ({"name": "a/b"}, "$.name"),
        ({"name": "a\n"}, "$.name"),
        ({"name": "a" * 101}, "$.name"),
        ({"name": 1}, "$.name"),
        ({"version": ".1"}, "$.version"),
        ({"version": "1" * 51}, "$.version"),
        ({"runtime": "python"}, "$.runtime"),
        ({"runtime": ...}, "runtime"),
        ({"inputs": []}, "$.inputs"),
        ({"outputs": []}, "$.outputs"),
        ({"outputs": [PICTURE] * 65}, "$.outputs"),
        ({"outputs": [PICTURE, PICTURE]}, "outputs: a name occurs twice"),
        ({"inputs": [PICTURE, PICTURE]}, "inputs: a name occurs twice"),
        ({"outputs": [{**PICTURE, "datatype": "FP8"}]}, "datatype"),
        ({"outputs": [{**PICTURE, "datatype": "BYTES"}]}, "BYTES"),
        ({"outputs": [{**PICTURE, "name": "a b"}]}, "name"),
        ({"outputs": [{**PICTURE, "name": "é"}]}, "name"),
        ({"outputs": [{**PICTURE, "shape": [-2]}]}, "shape"),
        ({"outputs": [{**PICTURE, "shape": [2**31]}]}, "shape"),
        ({"outputs": [{**PICTURE, "shape": [1] * 9}]}, "shape"),
        ({"outputs": [{**PICTURE, "unit": "m"}]}, "unit"),
        ({"labels": "nosuch.txt"}, "labels: no such file"),
        ({"files": {}}, "$.files"),
        ({"files": {**VALUE["files"], "x": {"sha256": "ab" * 32, "size": -1}}}, "$.files"),
        ({"files": {**VALUE["files"], "x": {"sha256": "ab" * 32, "size": 2**33}}}, "$.files"),
        ({"files": {**VALUE["files"], "x": {"sha256": "AB" * 32, "size": 1}}}, "$.files"),
        ({"files": {**VALUE["files"], "x": {"sha256": "ab" * 31, "size": 1}}}, "$.files"),
        ({"files": {f"f{i}": {"sha256": "ab" * 32, "size": 1} for i in range(65)}, "labels": ...}, "$.files"),
        ({"provenance": {"a": "b" * 1001}}, "$.provenance"),
        ({"provenance": {f"k{i}": "v" for i in range(33)}}, "$.provenance"),
        ({"max_batch": -1}, "$.max_batch"),
        ({"max_batch": 1025}, "$.max_batch"),
        ({"max_batch": 1.5}, "$.max_batch"),
        ({"outputs": [{"name": "p", "datatype": "FP32", "shape": [1, 3]}]}, "axis 0 is not a batch"),
        ({"preprocess": {**VALUE["preprocess"], "input": "z"}}, "preprocess: no such input"),
        ({"preprocess": {**VALUE["preprocess"], "input": "x"}}, "does not take pictures"),
        ({"preprocess": {**VALUE["preprocess"], "width": 8}}, "does not take pictures"),
        ({"preprocess": {**VALUE["preprocess"], "resize": "nearest"}}, "$.preprocess"),
        ({"preprocess": {**VALUE["preprocess"], "mean": [1, 2]}}, "$.preprocess"),
        ({"labels": None}, "canonical"),
    ],
)
def test_refuses(changes: dict[str, Any], says: str) -> None:
    assert says in refusal(changed(**changes))


@pytest.mark.parametrize(
    "path",
    [
        "", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "a\\b", "a b", "-a", ".hidden", "a/.b",
        "a\n", "a\0b", "é", "manifest.json", "a/b/c/d/e", "x" * 100,
    ],
)  # fmt: skip
def test_refuses_paths_that_are_not_plain(path: str) -> None:
    entry = {"sha256": "ab" * 32, "size": 1}
    assert "path" in refusal(changed(files={**VALUE["files"], path: entry}))


def test_accepts_plain_paths() -> None:
    entry = {"sha256": "ab" * 32, "size": 1}
    paths = ("a", "A1_-.txt", "a/b/c/d", "_x", "x" * 99)
    manifest = parse_manifest(changed(files={**VALUE["files"], **dict.fromkeys(paths, entry)}))
    assert set(paths) <= set(manifest.files)


def test_refuses_a_useless_picture() -> None:
    refusal(changed(preprocess={**VALUE["preprocess"], "scale": [0, 1, 1]}), "preprocess-invalid")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"{" * 100,
        changed() + b"\n",
        b" " + changed(),
        changed()[:-1],
        changed().replace(b'"name":"net"', b'"name":"net","name":"net"'),
        json.dumps(VALUE, indent=1).encode(),
        changed().replace(b"2.5", b"2.50"),
        changed().replace(b'"net"', b'"n\\u0065t"'),
    ],
)
def test_refuses_any_other_spelling(data: bytes) -> None:
    refusal(data)


def test_refuses_a_large_manifest_unread() -> None:
    assert "too large" in refusal(changed() + b" " * MAX_MANIFEST)


def test_types_are_checked_when_written_too(simple_manifest: Callable[..., Manifest]) -> None:
    manifest = simple_manifest({"model.xml": b"x"}, name="not a name")
    assert "$.name" in refusal(manifest.to_bytes())


def test_loads_no_runtime_and_no_image_library() -> None:
    code = (
        "import sys, strongroom.models.manifest, strongroom.models.bundle, strongroom.models.labels;"
        "print([m for m in ('openvino', 'PIL') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def _nodes(value: Any) -> list[tuple[Any, Any]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [pair for key in keys for pair in _nodes(value[key])]


def _mutant(rng: random.Random) -> bytes:
    """A manifest with one or two of its values changed, in canonical form."""
    value = copy.deepcopy(VALUE)
    for _ in range(rng.choice((1, 1, 2))):
        parent, key = rng.choice(_nodes(value))
        match rng.randrange(4):
            case 0:
                parent[key] = rng.choice(
                    (
                        None,
                        True,
                        0,
                        -1,
                        2**53 - 1,
                        1.5,
                        1e300,
                        "",
                        "x",
                        "../x",
                        "\u202e",
                        [],
                        {},
                        [[]],
                        {"a": 1},
                    )
                )
            case 1:
                del parent[key]
            case 2:
                parent[key] = copy.deepcopy(rng.choice([p[k] for p, k in _nodes(VALUE)]))
            case _ if isinstance(parent, dict):
                parent[rng.choice(("extra", "name", "labels", "size", ""))] = copy.deepcopy(parent[key])
            case _:
                parent.append(copy.deepcopy(parent[key]))
    return jcs.canonical(value)


@pytest.mark.slow
def test_mutants_meet_only_our_errors(spoil: Callable[[random.Random, bytes], bytes]) -> None:
    rng = random.Random(1)
    outcomes: Counter[str] = Counter()
    for number in range(20_000):
        data = _mutant(rng) if number % 2 else spoil(rng, changed())
        try:
            manifest = parse_manifest(data)
        except ModelError as error:
            outcomes[error.code] += 1
        else:
            outcomes["valid"] += 1
            if manifest.to_bytes() != data:
                outcomes["another spelling"] += 1
    assert set(outcomes) == {"valid", "manifest-invalid", "preprocess-invalid"}
    assert outcomes["valid"] > 200
