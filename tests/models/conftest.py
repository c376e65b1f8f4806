"""Fixtures of the models layer: small bundles, graphs to run, and mutants of what the parsers read."""

from __future__ import annotations

import importlib.util
import queue
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from strongroom.models.bundle import Bundle, describe_files, read_bundle, write_bundle
from strongroom.models.manifest import Manifest, TensorSpec
from strongroom.models.openvino_runtime import OpenVinoRuntime
from strongroom.models.quiet_openvino import ov
from strongroom.models.runtime import Runtime
from strongroom.models.tensors import Tensors

ROOT = Path(__file__).resolve().parents[2]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_loaded_{path.stem.strip('_')}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def graphs() -> ModuleType:
    """The model builders of the benchmarks: resnet50, mlp, echo."""
    return _load(ROOT / "benchmarks" / "_models.py")


@pytest.fixture(scope="session")
def lite0() -> ModuleType:
    """The demo's builder of EfficientNet-Lite0."""
    return _load(ROOT / "demo" / "lite0.py")


@pytest.fixture(scope="session")
def package() -> Callable[[str], Path]:
    """The folder of an installed package; skips the test if it is not installed."""

    def find(name: str) -> Path:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            pytest.skip(
                f"the package {name} is not installed: pip install --no-deps {name.replace('_', '-')}"
            )
        return Path(spec.submodule_search_locations[0])

    return find


@pytest.fixture(scope="session")
def simple_manifest() -> Callable[..., Manifest]:
    """Make a manifest for some files; keyword arguments change it."""

    def make(files: dict[str, bytes], **changes: Any) -> Manifest:
        fields: dict[str, Any] = {
            "name": "net",
            "version": "1",
            "runtime": "openvino",
            "inputs": (TensorSpec("x", "FP32", (-1, 4)),),
            "outputs": (TensorSpec("y", "FP32", (-1, 4)),),
            "files": describe_files(files),
        }
        return Manifest(**{**fields, **changes})

    return make


@pytest.fixture
def bundle_of(tmp_path: Path) -> Callable[..., Bundle]:
    """Make a bundle of a graph by hand, without an importer."""

    def make(graph: ov.Model, **changes: Any) -> Bundle:
        ov.save_model(graph, tmp_path / "model.xml", compress_to_fp16=False)
        files = {name: (tmp_path / name).read_bytes() for name in ("model.xml", "model.bin")}
        files.update(changes.pop("more_files", {}))
        fields: dict[str, Any] = {
            "name": "net",
            "version": "1",
            "runtime": "openvino",
            "inputs": _specs(graph.inputs),
            "outputs": _specs(graph.outputs),
            "files": describe_files(files),
        }
        return read_bundle(write_bundle(Manifest(**{**fields, **changes}), files))

    return make


def _specs(ports: list[Any]) -> tuple[TensorSpec, ...]:
    names = {"f32": "FP32", "u8": "UINT8", "i64": "INT64", "f16": "FP16", "boolean": "BOOL"}
    return tuple(
        TensorSpec(
            port.any_name,
            names[port.element_type.get_type_name()],  # type: ignore[arg-type]
            tuple(-1 if size.is_dynamic else size.get_length() for size in port.partial_shape),
        )
        for port in ports
    )


@pytest.fixture
def start() -> Iterator[Callable[..., OpenVinoRuntime]]:
    """Load a bundle; the runtimes are closed at the end of the test."""
    started: list[OpenVinoRuntime] = []

    def load(bundle: Bundle, **options: Any) -> OpenVinoRuntime:
        runtime = OpenVinoRuntime(bundle, **options)
        started.append(runtime)
        return runtime

    yield load
    for runtime in started:
        runtime.close()


@pytest.fixture(scope="session")
def infer() -> Callable[[Runtime, Tensors], Tensors]:
    """Run one inference and wait for it."""

    def run(runtime: Runtime, inputs: Tensors) -> Tensors:
        answers: queue.SimpleQueue[tuple[Tensors | None, Exception | None]] = queue.SimpleQueue()
        runtime.submit(inputs, lambda outputs, error: answers.put((outputs, error)))
        outputs, error = answers.get(timeout=60)
        if error is not None:
            raise error
        assert outputs is not None
        return outputs

    return run


@pytest.fixture(scope="session")
def spoil() -> Callable[[random.Random, bytes], bytes]:
    """Change a few bytes: flip, overwrite, insert, delete, repeat, cut."""
    numbers = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff" * 8)

    def change(rng: random.Random, data: bytes) -> bytes:
        spoiled = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(len(spoiled) + 1)
            match rng.randrange(7):
                case 0 if at < len(spoiled):
                    spoiled[at] ^= 1 << rng.randrange(8)
                case 1 if at < len(spoiled):
                    spoiled[at] = rng.randrange(256)
                case 2:
                    number = rng.choice(numbers)
                    spoiled[at : at + len(number)] = number
                case 3:
                    spoiled[at:at] = rng.randbytes(rng.randrange(1, 9))
                case 4:
                    del spoiled[at : at + rng.randrange(1, 9)]
                case 5:
                    spoiled[at:at] = spoiled[at : at + rng.randrange(1, 65)]
                case _:
                    if rng.randrange(4) == 0:
                        del spoiled[at:]
        return bytes(spoiled)

    return change
