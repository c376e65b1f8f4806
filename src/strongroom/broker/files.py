"""Files that are replaced whole or not at all, and are on disk when the call returns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from strongroom.broker.keyfile import sync_folder

_NEW: Final = ".new"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or replace it; a reader, or a kill at any moment, finds the old content or the new one.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + _NEW)
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_folder(path.parent)
