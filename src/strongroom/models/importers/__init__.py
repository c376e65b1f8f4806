"""Importers: from the files that training leaves behind to a bundle.

    data = import_model(Path("net.onnx"), name="net", preprocess=parse_preprocess("imagenet"))
    Path("net.model").write_bytes(data)

One module for each format; all of them give an OpenVINO graph, which `_finish` checks, tries out and packs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from strongroom.errors import ModelError
from strongroom.models.errors import MODEL_UNREADABLE, MODEL_UNSUPPORTED
from strongroom.models.importers import onnx, openvino_ir
from strongroom.models.importers._finish import Wishes, finish
from strongroom.models.preprocess import ImagePreprocess

IMPORTERS: Final = {".xml": openvino_ir, ".onnx": onnx}
"""Modules by file name suffix."""


def import_model(
    path: Path,
    *,
    name: str,
    version: str = "1",
    labels: bytes | None = None,
    preprocess: ImagePreprocess | None = None,
    softmax: bool = False,
    max_batch: int | None = None,
) -> bytes:
    """Make a bundle of a model file. The same arguments give the same bytes.

    Args:
        path: OpenVINO IR (.xml, with the .bin beside it) or ONNX (.onnx).
        name: The model's name in the service.
        version: Its version in the service.
        labels: The text of a labels file for the first output, which must then hold probabilities.
        preprocess: What makes pictures the model's input. If it names no input, it is for the only one.
        softmax: Turn the first output, [n, classes], into probabilities.
        max_batch: As `Manifest.max_batch`. None tries out whether the items of a batch are independent: if so
            it is left to a measurement at load, else it is 0.

    Raises:
        ModelError: `model-unreadable`, `model-unsupported`, `model-manifest-mismatch`, `manifest-invalid`,
            `preprocess-invalid`, `labels-invalid` or `labels-not-probabilities`.
    """
    importer = IMPORTERS.get(path.suffix.lower())
    if importer is None:
        raise ModelError(MODEL_UNSUPPORTED, "format", found=path.suffix, expected=" or ".join(IMPORTERS))
    if not path.is_file():
        raise ModelError(MODEL_UNREADABLE, "no such file", found=path)
    wishes = Wishes(name, version, labels, preprocess, softmax, max_batch)
    return finish(importer.read(path), wishes, importer.describe(path))
