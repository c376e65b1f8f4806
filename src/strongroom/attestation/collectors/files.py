"""Files that are devices in disguise: each read and each write is one call of the kernel or LibOS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Protocol

from strongroom.attestation.collectors.errors import COLLECTOR_ANSWER, COLLECTOR_FAILED
from strongroom.attestation.collectors.source import failed
from strongroom.errors import EvidenceError

_PART: Final = 64 * 1024


class Files(Protocol):
    """The operations that collectors need. Each raises OSError as the operating system does."""

    def read(self, path: Path, limit: int) -> bytes:
        """At most `limit` bytes, or one more if there are more."""
        ...

    def write(self, path: Path, data: bytes) -> int:
        """Write with one call to a file that is there; the number of bytes that it took."""
        ...

    def make_folder(self, path: Path) -> None:
        """Make a folder."""
        ...

    def remove_folder(self, path: Path) -> None:
        """Remove a folder."""
        ...


class HostFiles:
    """The files of this host."""

    def read(self, path: Path, limit: int) -> bytes:
        """As `Files.read`."""
        with path.open("rb", buffering=0) as file:
            found = bytearray()
            while len(found) <= limit and (part := file.read(min(_PART, limit + 1 - len(found)))):
                found += part
            return bytes(found)

    def write(self, path: Path, data: bytes) -> int:
        """As `Files.write`."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            return os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def make_folder(self, path: Path) -> None:
        """As `Files.make_folder`."""
        path.mkdir()

    def remove_folder(self, path: Path) -> None:
        """As `Files.remove_folder`."""
        path.rmdir()


HOST: Final[Files] = HostFiles()


def read(files: Files, path: Path, limit: int) -> bytes:
    """What is in a file, at most `limit` bytes.

    Raises:
        EvidenceError: `collector-answer-invalid`: there is more; else as `source.failed`.
    """
    try:
        found = files.read(path, limit)
    except OSError as error:
        raise failed(str(path), error) from error
    if len(found) > limit:
        raise EvidenceError(COLLECTOR_ANSWER, str(path), expected=f"at most {limit} bytes")
    return found


def read_text(files: Files, path: Path, limit: int = 256) -> str:
    """A short text without what surrounds it.

    Raises:
        EvidenceError: As `read`; `collector-answer-invalid` if it is not ASCII.
    """
    try:
        return read(files, path, limit).decode("ascii").strip()
    except UnicodeDecodeError:
        raise EvidenceError(COLLECTOR_ANSWER, f"{path} is not ASCII") from None


def write(files: Files, path: Path, data: bytes) -> None:
    """Write all of it in one call.

    Raises:
        EvidenceError: As `source.failed`; `collector-failed` if not all was taken.
    """
    try:
        taken = files.write(path, data)
    except OSError as error:
        raise failed(str(path), error) from error
    if taken != len(data):
        raise EvidenceError(COLLECTOR_FAILED, f"{path} took {taken} of {len(data)} bytes")
