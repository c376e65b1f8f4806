"""Model files on the owner's disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

from strongroom.errors import ModelError
from strongroom.models.errors import MODEL_UNREADABLE
from strongroom.models.quiet_openvino import CORE, ov


def read_with_openvino(path: Path) -> ov.Model:
    """Read a model file of any format that OpenVINO knows.

    Raises:
        ModelError: `model-unreadable`, with OpenVINO's reason: this is the owner's machine and model.
    """
    try:
        return CORE.read_model(path)
    except RuntimeError as error:
        raise ModelError(MODEL_UNREADABLE, reason(error), found=path) from error


def reason(error: RuntimeError) -> str:
    """The last line of what OpenVINO says, which is the most specific."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else "OpenVINO gives no reason"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
