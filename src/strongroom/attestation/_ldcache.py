"""The dynamic loader's cache, /etc/ld.so.cache, in glibc's format 1.1 (glibc, sysdeps/generic/dl-cache.h)."""

from __future__ import annotations

import struct
from typing import Final

from strongroom.attestation.measurement_errors import LD_CACHE_MALFORMED, MeasurementError

MAX_CACHE: Final = 16 * 1024 * 1024

_MAGIC: Final = b"glibc-ld.so.cache1.1"
_HEADER: Final = struct.Struct("<20xI24x")
_ENTRY: Final = struct.Struct("<iIIIQ")
_MAX_STRING: Final = 4096

EMPTY: Final = _MAGIC + bytes(_HEADER.size - len(_MAGIC))
"""A cache without entries."""


def parse(data: bytes) -> dict[str, tuple[str, ...]]:
    """The paths that the cache has for each shared object's name, in the cache's order.

    The cache lists every architecture and hardware capability; choosing among them is the caller's part.

    Raises:
        MeasurementError: `ld-cache-malformed`.
    """
    if len(data) > MAX_CACHE:
        raise MeasurementError(LD_CACHE_MALFORMED, "size", found=f"{len(data)} bytes", expected=MAX_CACHE)
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise MeasurementError(LD_CACHE_MALFORMED, "header")
    (count,) = _HEADER.unpack_from(data)
    if count > (len(data) - _HEADER.size) // _ENTRY.size:
        raise MeasurementError(LD_CACHE_MALFORMED, "number of entries")
    found: dict[str, list[str]] = {}
    for index in range(count):
        _, name, path, _, _ = _ENTRY.unpack_from(data, _HEADER.size + index * _ENTRY.size)
        found.setdefault(_string(data, name), []).append(_string(data, path))
    return {name: tuple(paths) for name, paths in found.items()}


def _string(data: bytes, start: int) -> str:
    end = data.find(b"\0", start, start + _MAX_STRING)
    if end < 0:
        raise MeasurementError(LD_CACHE_MALFORMED, "string")
    try:
        return data[start:end].decode()
    except UnicodeDecodeError:
        raise MeasurementError(LD_CACHE_MALFORMED, "string") from None
