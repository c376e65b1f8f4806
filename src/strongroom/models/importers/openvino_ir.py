"""OpenVINO's own format: a graph in XML, and its weights in a file beside it."""

from __future__ import annotations

from pathlib import Path

from strongroom.errors import ModelError
from strongroom.models.errors import MODEL_UNREADABLE
from strongroom.models.importers._source import read_with_openvino, sha256_of
from strongroom.models.quiet_openvino import ov


def read(path: Path) -> ov.Model:
    """Read `path`, and the .bin beside it.

    Raises:
        ModelError: `model-unreadable`.
    """
    if not path.with_suffix(".bin").is_file():
        raise ModelError(MODEL_UNREADABLE, "its weights are missing", expected=path.with_suffix(".bin"))
    return read_with_openvino(path)


def describe(path: Path) -> dict[str, str]:
    """Where the model comes from, for the manifest."""
    return {
        "importer": "openvino_ir",
        "source": path.name,
        "source_sha256": sha256_of(path),
        "weights_sha256": sha256_of(path.with_suffix(".bin")),
    }
