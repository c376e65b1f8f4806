"""ONNX, by OpenVINO's own reader: the packages `onnx` and `onnxruntime` are not needed."""

from __future__ import annotations

from pathlib import Path

from strongroom.models.importers._source import read_with_openvino, sha256_of
from strongroom.models.quiet_openvino import ov


def read(path: Path) -> ov.Model:
    """Read `path`, and the files of external weights that it names.

    Raises:
        ModelError: `model-unreadable`.
    """
    return read_with_openvino(path)


def describe(path: Path) -> dict[str, str]:
    """Where the model comes from, for the manifest."""
    return {"importer": "onnx", "source": path.name, "source_sha256": sha256_of(path)}
