"""`strongroom model import` and `seal`: from a small graph to a sealed bundle whose key the broker holds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strongroom.broker import admin
from strongroom.broker.store import Store
from strongroom.models.bundle import read_bundle


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OpenVINO model: float32 [-1, 3, 8, 8] to the softmax of the mean colour, [-1, 3]."""
    from strongroom.models.quiet_openvino import op, ov

    image = op.parameter([-1, 3, 8, 8], np.float32, name="image")
    mean = op.reduce_mean(image, op.constant(np.array([2, 3])), keep_dims=False)
    model = ov.Model([op.result(op.softmax(mean, axis=1))], [image], "colour")
    model.inputs[0].tensor.set_names({"image"})
    model.outputs[0].tensor.set_names({"probabilities"})
    path = tmp_path_factory.mktemp("graph") / "colour.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    return path


@pytest.fixture(scope="module")
def labels(graph: Path) -> Path:
    path = graph.with_name("labels.txt")
    path.write_text("red\ngreen\nblue\n")
    return path


@pytest.fixture(scope="module")
def bundle(process: Any, graph: Path, labels: Path) -> Path:
    """A bundle as a user makes it."""
    path = graph.with_name("colour.model")
    preprocess = "resize=8,crop=8,mean=127,scale=128"
    options = ["--name", "colour", "--version", "7", "--labels", labels, "--preprocess", preprocess]
    result = process("model", "import", graph, *options, "--max-batch", "4", "-o", path, "--json")
    assert result.code == 0, result.err
    made = read_bundle(path.read_bytes())
    assert result.json == {
        "bundle": str(path),
        "name": "colour",
        "version": "7",
        "manifest": made.manifest.digest,
    }
    return path


def test_a_bundle_has_what_was_asked_for(bundle: Path) -> None:
    manifest = read_bundle(bundle.read_bytes()).manifest
    assert (manifest.name, manifest.version, manifest.runtime) == ("colour", "7", "openvino")
    assert manifest.max_batch == 4
    assert manifest.labels is not None
    assert manifest.preprocess is not None
    assert (manifest.preprocess.width, manifest.preprocess.height) == (8, 8)
    assert manifest.preprocess.mean == (127.0, 127.0, 127.0)


def test_an_import_for_people(cli, graph: Path, tmp_path: Path) -> None:
    path = tmp_path / "plain.model"
    result = cli("model", "import", graph, "--name", "plain", "-o", path)
    assert (result.code, result.err) == (0, "")
    digest = read_bundle(path.read_bytes()).manifest.digest
    assert result.out.startswith(f"Wrote {path}: plain version 1, ")
    assert result.out.endswith(f" MB, manifest {digest}\n")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"--name": "Not A Name"}, "manifest-invalid"),
        ({"--preprocess": "resize=big"}, "preprocess-invalid"),
        ({"--preprocess": "colour=8"}, "preprocess-invalid"),
        ({"--labels": "none.txt"}, "file-unreadable"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(*value.items()),
)
def test_options_that_do_not_fit_are_refused(
    cli, graph: Path, tmp_path: Path, change: dict[str, str], code: str
) -> None:
    options = {"--name": "colour", "-o": str(tmp_path / "out.model"), **change}
    result = cli("model", "import", graph, "--json", *(part for item in options.items() for part in item))
    assert (result.code > 0, result.out) == (True, "")
    assert result.error["code"] == code
    assert list(tmp_path.glob("*.model")) == []


def test_labels_that_do_not_fit_the_output_are_refused(cli, graph: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    result = cli(
        "model",
        "import",
        graph,
        "--name",
        "c",
        "--labels",
        tmp_path / "labels.txt",
        "-o",
        tmp_path / "out",
        "--json",
    )
    assert result.code > 0
    assert result.error["code"] == "labels-invalid"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("model.bmp", b"BM", "model-unsupported"),
        ("none.xml", None, "model-unreadable"),
        ("model.xml", b"<net", "model-unreadable"),
        ("model.onnx", b"\xff" * 100, "model-unreadable"),
    ],
)
def test_a_file_that_is_no_model_is_refused(
    cli, tmp_path: Path, name: str, content: bytes | None, code: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = cli("model", "import", tmp_path / name, "--name", "m", "-o", tmp_path / "out", "--json")
    assert (result.code > 0, result.error["code"]) == (True, code)
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_an_error(cli, graph: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "out.model"
    result = cli("model", "import", graph, "--name", "m", "-o", missing)
    assert result.code == 1
    assert f"{missing}: No such file or directory" in result.err
    assert "code:     system-refused" in result.err


# seal


def test_sealing_puts_the_key_into_the_brokers_store(cli, home: Path, bundle: Path, tmp_path: Path) -> None:
    sealed = tmp_path / "colour.sealed"
    result = cli("model", "seal", bundle, "-o", sealed, "--json")
    assert (result.code, result.err) == (0, "")
    manifest = read_bundle(bundle.read_bytes()).manifest
    assert result.json == {
        "sealed": str(sealed),
        "name": "colour",
        "version": "7",
        "manifest": manifest.digest,
        "resource": "kbs:///default/model/colour",
    }
    with Store.open(home / "broker") as store:
        found = admin.find_model(store, hashlib.sha256(sealed.read_bytes()).hexdigest())
    assert found is not None
    assert (found.name, found.version, found.manifest) == ("colour", "7", manifest.digest)


def test_a_sealed_file_shows_nothing_of_the_bundle(cli, bundle: Path, tmp_path: Path) -> None:
    sealed = tmp_path / "colour.sealed"
    result = cli("model", "seal", bundle, "-o", sealed)
    assert result.out.startswith(
        f"Sealed {sealed}: colour version 7. Its key is kbs:///default/model/colour "
    )
    data = sealed.read_bytes()
    assert data.startswith(b"age-encryption.org/v1\n")
    for word in (b"colour", b"manifest", b"red\ngreen", b"<net", b"probabilities"):
        assert word in bundle.read_bytes()
        assert word not in data


def test_no_key_leaves_the_store(cli, home: Path, bundle: Path, tmp_path: Path) -> None:
    result = cli("model", "seal", bundle, "-o", tmp_path / "colour.sealed")
    assert "AGE-SECRET-KEY" not in result.out + result.err
    for path in [*home.rglob("*"), *tmp_path.rglob("*")]:
        assert path.is_dir() or b"AGE-SECRET-KEY" not in path.read_bytes(), path


def test_each_seal_has_a_key_of_its_own_and_the_newest_counts(
    cli, home: Path, bundle: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.sealed", tmp_path / "second.sealed"
    for path in (first, second):
        assert cli("model", "seal", bundle, "-o", path).code == 0
    assert first.read_bytes() != second.read_bytes()
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, second)]
    with Store.open(home / "broker") as store:
        assert admin.find_model(store, digests[0]) is None
        assert admin.find_model(store, digests[1]) is not None


def test_another_state_folder_by_option(cli, home: Path, bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert cli("model", "seal", bundle, "-o", tmp_path / "x", "--home", other).code == 0
    assert (other / "broker" / "store.db").exists()
    assert not home.exists()


def test_a_bundle_that_is_not_there_is_named(cli, home: Path, tmp_path: Path) -> None:
    result = cli("model", "seal", tmp_path / "none.model", "-o", tmp_path / "x")
    assert result.code == 2
    assert f"{tmp_path / 'none.model'}: No such file or directory" in result.err
    assert "code:     file-unreadable" in result.err
    assert not home.exists(), "no store is made for nothing"


def broken(data: bytes, how: str) -> bytes:
    """A bundle with something wrong."""
    if how == "empty":
        return b""
    if how == "cut":
        return data[: len(data) // 2]
    if how == "changed":
        at = data.index(b"<net")
        return data[: at + 1] + b"N" + data[at + 2 :]
    return b"no bundle at all" * 100


@pytest.mark.parametrize("how", ["empty", "cut", "changed", "other"])
def test_a_broken_bundle_is_not_sealed(cli, home: Path, bundle: Path, tmp_path: Path, how: str) -> None:
    path, sealed = tmp_path / "broken.model", tmp_path / "broken.sealed"
    path.write_bytes(broken(bundle.read_bytes(), how))
    result = cli("model", "seal", path, "-o", sealed, "--json")
    assert result.code == 1
    assert result.error["code"] in {"bundle-malformed", "bundle-digest-mismatch", "bundle-digest"}
    assert not sealed.exists()
    assert not home.exists(), "no key is registered"


def test_an_older_version_below_the_floor_is_refused(cli, home: Path, bundle: Path, tmp_path: Path) -> None:
    assert cli("model", "seal", bundle, "-o", tmp_path / "x").code == 0
    with Store.open(home / "broker") as store:
        admin.register_model(
            store,
            resource="default/model/colour",
            name="colour",
            version="8",
            manifest_digest="sha256:" + "1" * 64,
            sealed_sha256="2" * 64,
            identity=_identity(),
            version_floor=8,
        )
    before = (tmp_path / "x").read_bytes()
    result = cli("model", "seal", bundle, "-o", tmp_path / "x", "--json")
    assert result.error["code"] == "model-version-older"
    assert {path.name for path in tmp_path.iterdir()} == {"home", "x"}
    assert (tmp_path / "x").read_bytes() == before


def test_a_file_that_cannot_be_written_takes_no_key_away(
    cli, home: Path, bundle: Path, tmp_path: Path
) -> None:
    """A second sealing replaces the key of the first, so it must not fail half-way."""
    first = tmp_path / "first.sealed"
    assert cli("model", "seal", bundle, "-o", first).code == 0
    result = cli("model", "seal", bundle, "-o", tmp_path / "missing" / "x", "--json")
    assert (result.code, result.error["code"]) == (1, "system-refused")
    with Store.open(home / "broker") as store:
        assert admin.find_model(store, hashlib.sha256(first.read_bytes()).hexdigest()) is not None


def _identity() -> str:
    from strongroom.crypto import agefile

    return agefile.generate_identity()


def test_a_file_larger_than_any_bundle_is_not_read(cli, home: Path, tmp_path: Path) -> None:
    huge = tmp_path / "huge.model"
    with huge.open("wb") as file:
        file.truncate((8 << 30) + 1)  # a hole: it takes no room
    result = cli("model", "seal", huge, "-o", tmp_path / "x", "--json")
    assert (result.code, result.error["code"]) == (2, "file-unreadable")
    assert result.error["found"] == f"{(8 << 30) + 1} bytes"
