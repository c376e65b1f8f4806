"""Devices that are asked with ioctl."""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from strongroom.attestation.collectors.source import failed

Ioctl = Callable[[int, int, Any], object]
"""`fcntl.ioctl`, or what stands for it in a test: descriptor, request, argument that it may change."""


def _host(descriptor: int, request: int, argument: Any) -> None:
    fcntl.ioctl(descriptor, request, argument, True)


HOST: Final[Ioctl] = _host


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A device, open.

    Raises:
        EvidenceError: As `source.failed`.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise failed(str(path), error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def ask(ioctl: Ioctl, path: Path, descriptor: int, request: int, argument: Any) -> None:
    """One call of a device.

    Raises:
        EvidenceError: As `source.failed`.
    """
    try:
        ioctl(descriptor, request, argument)
    except OSError as error:
        raise failed(str(path), error) from error


def buffer(size: int, content: bytes = b"") -> ctypes.Array[ctypes.c_char]:
    """Memory whose address can be handed to a device."""
    return ctypes.create_string_buffer(content, size)
