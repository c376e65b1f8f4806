"""Where an interpreter will look for its standard library, told from the files around it.

The interpreter itself cannot be asked: what answers is code from the very folders in question. So this
repeats the search of CPython's Modules/getpath.py for POSIX (3.11 to 3.13), for an interpreter that is
started with its full path, no PYTHON* variables, and its links resolved.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from strongroom.attestation.measurement_errors import INTERPRETER, MeasurementError

_LIBRARY_FOLDERS: Final = ("lib", "lib64")
"""What `sys.platlibdir` can be; it is compiled in."""


def standard_library(program: Path, version: str) -> tuple[Path, Path, Path]:
    """The default import path: an archive, the standard library, its extension modules; each may be missing.

    Args:
        program: The interpreter's program file, links resolved.
        version: Its version as `3.11`.

    Raises:
        MeasurementError: `measurement-interpreter`: a file would lead it elsewhere, no standard library
            lies around it, or several do and which it takes is compiled in.
    """
    _refuse_settings(program)
    found = [path for name in _LIBRARY_FOLDERS if (path := _search(program, name, version))]
    if not found:
        raise MeasurementError(INTERPRETER, f"{program} has no standard library")
    if len({tuple(entry.resolve() for entry in path) for path in found}) > 1:
        raise MeasurementError(INTERPRETER, f"{program} has two standard libraries, in lib and lib64")
    return found[0]


def _refuse_settings(program: Path) -> None:
    """Files that lead an interpreter elsewhere; those of a base interpreter have none."""
    folder = program.parent
    names = ("pyvenv.cfg", "../pyvenv.cfg", "pybuilddir.txt", "Modules/Setup.local", f"{program.name}._pth")
    for name in names:
        if (folder / name).exists() or (folder / name).is_symlink():
            raise MeasurementError(INTERPRETER, f"{folder / name} would lead it to another standard library")


def _search(program: Path, library: str, version: str) -> tuple[Path, Path, Path] | None:
    archive = f"{library}/python{version.replace('.', '')}.zip"
    folder = f"{library}/python{version}"
    modules = f"{folder}/lib-dynload"
    # An archive anywhere above the program goes before any folder.
    prefix = _above(program, Path.is_file, archive) or _above(
        program, Path.is_file, f"{folder}/os.py", f"{folder}/os.pyc"
    )
    extensions = _above(program, Path.is_dir, modules)
    if prefix is None or extensions is None:
        return None
    return prefix / archive, prefix / folder, extensions / modules


def _above(program: Path, test: Callable[[Path], bool], *names: str) -> Path | None:
    """The first folder above the program that has one of these; getpath does not look into the root."""
    for folder in program.parents[:-1]:
        if any(test(folder / name) for name in names):
            return folder
    return None
