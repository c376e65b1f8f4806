"""Folders to digests: which files there are, and their SHA-256, fast.

A link counts as what it leads to, under its own name, so that a linked and a copied environment measure the
same. A link that leads nowhere counts as just that: it cannot be loaded, and the measurement changes as soon
as its target appears. A link to a folder that holds the link is refused, and so is whatever is neither a
file nor a folder. Empty folders do not count: nothing in them can be loaded.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

from strongroom.attestation import _elf
from strongroom.attestation.measurement_errors import (
    TOO_LARGE,
    UNREADABLE,
    UNSUPPORTED_FILE,
    MeasurementError,
)

MAX_FILES: Final = 200_000
MAX_FILE_SIZE: Final = 16 * 1024**3

MISSING: Final = hashlib.sha256(b"strongroom: there is no such file").digest()
"""Stands for the content of what is looked for and not there, as behind a link that leads nowhere."""

_BUFFER: Final = 1024 * 1024
_CHUNK: Final = 32
_NOWHERE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}

Skip = Callable[[str, bool], bool]
"""Whether to leave out a name relative to the root; the second argument tells whether it is a folder."""


@dataclass(frozen=True, slots=True)
class File:
    """One measured file.

    Attributes:
        name: Name in the manifest.
        path: Where it is on this machine.
        size: Length in bytes.
        sha256: Digest of its content.
        elf: Whether it begins like an ELF file.
    """

    name: str
    path: str
    size: int
    sha256: bytes
    elf: bool


def walk(root: str, label: str, skip: Skip) -> Iterator[tuple[str, str]]:
    """Names and paths of all files below a folder, in no order.

    Args:
        root: The folder.
        label: What stands for the folder in the names.
        skip: What to leave out, by name below the folder.

    Raises:
        MeasurementError: `measurement-unsupported-file`, `measurement-unreadable` or `measurement-too-large`.
    """
    count = 0
    pending: list[tuple[str, str, tuple[str, ...]]] = [("", root, (os.path.realpath(root),))]
    while pending:
        prefix, folder, chain = pending.pop()
        for entry in _scan(folder):
            name = prefix + entry.name
            mode = _mode(entry)
            is_folder = stat.S_ISDIR(mode)
            if skip(name, is_folder):
                continue
            count += 1
            if count > MAX_FILES:
                raise MeasurementError(TOO_LARGE, "files", found=f"more than {MAX_FILES}")
            if is_folder:
                real = os.path.realpath(entry.path) if entry.is_symlink() else f"{chain[-1]}/{entry.name}"
                if real in chain:
                    raise MeasurementError(UNSUPPORTED_FILE, "a link leads back to a folder that holds it")
                pending.append((f"{name}/", entry.path, (*chain, real)))
            elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                yield f"{label}/{name}", entry.path
            else:
                raise MeasurementError(UNSUPPORTED_FILE, f"{entry.path} is neither file nor folder")


def digest(files: Iterable[tuple[str, str]], *, threads: int) -> list[File]:
    """Hash files, by name and path, on several threads. A path where nothing is gives `MISSING`.

    Raises:
        MeasurementError: `measurement-unreadable` or `measurement-too-large`, and what the iterable raises.
    """
    names = iter(files)
    chunks = iter(lambda: list(islice(names, _CHUNK)), [])
    with ThreadPoolExecutor(threads, thread_name_prefix="measure") as pool:
        return [file for part in pool.map(_digest_chunk, chunks) for file in part]


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise MeasurementError(UNREADABLE, f"{folder}: {error.strerror}") from None


def _mode(entry: os.DirEntry[str]) -> int:
    """File type as in `st_mode`, links followed; S_IFLNK for a link that leads nowhere."""
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    try:
        return os.stat(entry.path).st_mode  # noqa: PTH116 -- as fast as it gets
    except OSError as error:
        if error.errno in _NOWHERE:
            return stat.S_IFLNK
        raise MeasurementError(UNREADABLE, f"{entry.path}: {error.strerror}") from None


def _digest_chunk(files: list[tuple[str, str]]) -> list[File]:
    buffer = memoryview(bytearray(_BUFFER))
    return [_digest_file(name, path, buffer) for name, path in files]


def _digest_file(name: str, path: str, buffer: memoryview) -> File:
    state = hashlib.sha256()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _NOWHERE:
            return File(name, path, 0, MISSING, elf=False)
        raise MeasurementError(UNREADABLE, f"{path}: {error.strerror}") from None
    size, elf = 0, False
    try:
        while count := os.readv(fd, [buffer]):
            if not size:
                elf = bytes(buffer[:4]) == _elf.MAGIC
            size += count
            if size > MAX_FILE_SIZE:
                raise MeasurementError(TOO_LARGE, path, found=f"more than {MAX_FILE_SIZE} bytes")
            state.update(buffer[:count])
    except OSError as error:
        raise MeasurementError(UNREADABLE, f"{path}: {error.strerror}") from None
    finally:
        os.close(fd)
    return File(name, path, size, state.digest(), elf)
