"""An interpreter of a test's own, with a small standard library."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from strongroom.attestation._libraries import SystemFiles

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
NO_SYSTEM = SystemFiles(Path("/nonexistent"), Path("/nonexistent"), Path("/nonexistent"), ())
LEFT_OUT = (
    "__pycache__",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "lib2to3",
    "ensurepip",
    "pydoc_data",
    "turtledemo",
)


def copy_python(target: Path) -> Path:
    """This interpreter with a small standard library, on another path."""
    standard = Path(sysconfig.get_path("stdlib"))
    ignore = shutil.ignore_patterns(*LEFT_OUT, "config-*", "*-packages")
    shutil.copytree(standard, target / "lib" / VERSION, ignore=ignore)
    for library in standard.parent.glob("libpython3*"):
        shutil.copy2(library, target / "lib", follow_symlinks=True)
    (target / "bin").mkdir()
    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    return Path(shutil.copy2(base, target / "bin" / VERSION))
