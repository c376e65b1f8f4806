"""The system's shared objects that measured files make the dynamic loader load (ld.so(8)).

The loader looks for a needed name in the folders that files name themselves (RUNPATH, RPATH), in its cache
and in its default folders. This module takes more rather than less: every candidate for this machine in any
of these places counts, not only the one that the loader prefers. A name that is found nowhere counts as
absent. So a file that is put in front of another changes the measurement, as does one that was missing.

Some are loaded without being needed by any file: what /etc/ld.so.preload names, the modules of
/etc/nsswitch.conf (by getaddrinfo and getpwnam), and libgcc_s (by glibc, to unwind threads). What a library
opens by name at run time (dlopen) beyond that is not seen, unless it lies on the import path.
"""

from __future__ import annotations

import itertools
import mmap
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from strongroom.attestation import _elf, _ldcache
from strongroom.attestation._tree import File, digest
from strongroom.attestation.measurement_errors import (
    INTERPRETER,
    TOO_LARGE,
    UNREADABLE,
    MeasurementError,
)

LABEL: Final = "system"

_ALWAYS: Final = ("libgcc_s.so.1",)
_MAX_TEXT: Final = 64 * 1024
_MACHINE: Final = os.uname().machine
_MULTIARCH: Final = f"{_MACHINE}-linux-gnu"
_TOKENS: Final = {
    "LIB": ("lib", "lib64", f"lib/{_MULTIARCH}"),
    "PLATFORM": (_MACHINE, "haswell", "xeon_phi"),
}
# Older loaders (glibc before 2.37) look into any nesting of these, in this order, below each folder.
_LEGACY: Final = ("tls", "haswell", "xeon_phi", "avx512_1", _MACHINE)
_ACTIONS: Final = re.compile(r"\[[^][]*\]")  # stops at the next "[", so it is linear where none is closed
_FOLDERS: Final = (
    f"lib/{_MULTIARCH}",
    f"usr/lib/{_MULTIARCH}",
    "lib64",
    "usr/lib64",
    "lib",
    "usr/lib",
    "usr/local/lib",
)


@dataclass(frozen=True, slots=True)
class SystemFiles:
    """Where the dynamic loader and the C library look.

    Attributes:
        cache: The loader's cache.
        preload: Names of shared objects that the loader adds to every program.
        name_services: Names of the modules that look up hosts and users.
        folders: The loader's default folders.
    """

    cache: Path = Path("/etc/ld.so.cache")
    preload: Path = Path("/etc/ld.so.preload")
    name_services: Path = Path("/etc/nsswitch.conf")
    folders: tuple[Path, ...] = field(default_factory=lambda: tuple(Path("/") / name for name in _FOLDERS))


def shared_objects(
    program: str, measured: Sequence[File], system: SystemFiles, *, threads: int
) -> dict[str, File | None]:
    """The system's shared objects that a program and measured files need, directly or not.

    Args:
        program: Path of the program; its architecture decides which candidates count.
        measured: Files that are measured already; they are not listed again.
        system: Where to look.
        threads: Threads that hash.

    Returns:
        Files by name in the manifest; None for a name that is found nowhere.

    Raises:
        MeasurementError: `measurement-interpreter`, `measurement-unreadable` or `ld-cache-malformed`.
    """
    search = _Search(program, measured, system)
    found: dict[str, dict[bytes, File]] = {}
    while fresh := search.fresh():
        for file in digest(fresh, threads=threads):
            found.setdefault(file.name, {}).setdefault(file.sha256, file)
            search.follow(file.path)
    listed: dict[str, File | None] = {}
    for name in sorted(search.needed):
        contents = sorted(found.get(name, {}).items())
        for index, (_, file) in enumerate(contents):
            listed[_label(name, index)] = file
        if not contents and name not in search.measured:
            listed[_label(name, 0)] = None
    for file in digest([(_label("ld.so.preload", 0), str(system.preload))], threads=1):
        listed[file.name] = file
    return listed


def _label(name: str, index: int) -> str:
    return f"{LABEL}/{name.lstrip('/')}" + (f"#{index + 1}" if index else "")


class _Search:
    """Which names are needed, where they may lie, and which of those places are new.

    Attributes:
        needed: All names met so far.
        measured: Those for which a measured file is a candidate.
    """

    def __init__(self, program: str, measured: Iterable[File], system: SystemFiles) -> None:
        own = _dynamic(program)
        if own is None:
            raise MeasurementError(INTERPRETER, f"{program} is no 64-bit ELF program")
        self._machine = own.machine
        self._cache = _ldcache.parse(_read(system.cache, _ldcache.MAX_CACHE) or _ldcache.EMPTY)
        self._folders: dict[str, None] = {}
        self._tried: set[tuple[str, str]] = set()
        self.measured: set[str] = set()
        self.needed = {*_ALWAYS, *_name_services(system), *_preloaded(system)}
        self.needed |= {own.interpreter} if own.interpreter else set()
        paths = [file.path for file in measured if file.elf]
        self._identities = {_identity(path) for path in paths}
        for folder in system.folders:
            self._add_folder(str(folder))
        for path in [program, *paths]:
            self.follow(path)

    def follow(self, path: str) -> None:
        """Take up what a file needs, and where it says to look."""
        dynamic = _dynamic(path)
        if dynamic is None or dynamic.machine != self._machine:
            return
        self.needed.update(dynamic.needed)
        for entry in dynamic.search:
            for folder in _expand(entry, os.path.dirname(path)):  # noqa: PTH120 -- $ORIGIN keeps links
                self._add_folder(folder)

    def fresh(self) -> list[tuple[str, str]]:
        """Candidates not returned before, as name and path, without the measured files."""
        result = []
        for name in sorted(self.needed):
            for path in self._places(name):
                if (name, path) in self._tried:
                    continue
                self._tried.add((name, path))
                if not Path(path).is_file() or (dynamic := _dynamic(path)) is None:
                    continue
                if dynamic.machine != self._machine:
                    continue
                if _identity(path) in self._identities:
                    self.measured.add(name)
                else:
                    result.append((name, path))
        return result

    def _places(self, name: str) -> Iterator[str]:
        if "/" in name:
            yield f"/{name.lstrip('/')}"
            return
        for folder in self._folders:
            yield f"{folder}/{name}"
        yield from self._cache.get(name, ())

    def _add_folder(self, folder: str) -> None:
        real = os.path.realpath(folder)
        if real not in self._folders:
            self._folders.update(dict.fromkeys([real, *_subfolders(real)]))


def _subfolders(folder: str) -> list[str]:
    """Folders for special processors that the loader tries below a folder."""
    nested = [
        f"{folder}/{'/'.join(parts)}"
        for length in range(1, len(_LEGACY) + 1)
        for parts in itertools.combinations(_LEGACY, length)
    ]
    modern = Path(folder, "glibc-hwcaps")
    levels = sorted(str(level) for level in modern.iterdir()) if modern.is_dir() else []
    return [path for path in nested + levels if Path(path).is_dir()]


def _expand(entry: str, origin: str) -> list[str]:
    """Folders that one run path entry can stand for; workers start in `/`, so a relative one lies there."""
    expanded = [re.sub(r"\$(ORIGIN\b|\{ORIGIN\})", lambda _: origin, entry)]
    for token, values in _TOKENS.items():
        pattern = re.compile(rf"\$({token}\b|\{{{token}\}})")
        expanded = [pattern.sub(value, text) for text in expanded for value in values]
    return [os.path.join("/", text) for text in dict.fromkeys(expanded)]  # noqa: PTH118 -- text, not yet a path


def _name_services(system: SystemFiles) -> Iterator[str]:
    for line in _lines(system.name_services):
        _, _, services = line.partition(":")
        for service in _ACTIONS.sub(" ", services).split():
            yield f"libnss_{service}.so.2"


def _preloaded(system: SystemFiles) -> Iterator[str]:
    for line in _lines(system.preload):
        yield from line.replace(":", " ").split()


def _lines(path: Path) -> Iterator[str]:
    text = (_read(path, _MAX_TEXT) or b"").decode("utf-8", "surrogateescape")
    for line in text.splitlines():
        yield line.partition("#")[0]


def _read(path: Path, limit: int) -> bytes | None:
    """A small file, or None if there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MeasurementError(UNREADABLE, f"{path}: {error.strerror}") from None
    if len(data) > limit:
        raise MeasurementError(TOO_LARGE, str(path), found=f"more than {limit} bytes")
    return data


def _dynamic(path: str) -> _elf.Dynamic | None:
    """What a file asks the loader for; None if the loader could not load it either."""
    try:
        with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _elf.parse(data)
    except OSError as error:
        raise MeasurementError(UNREADABLE, f"{path}: {error.strerror}") from None
    except (ValueError, MeasurementError):  # mmap says ValueError for an empty file
        return None


def _identity(path: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except OSError as error:
        raise MeasurementError(UNREADABLE, f"{path}: {error.strerror}") from None
    return status.st_dev, status.st_ino
