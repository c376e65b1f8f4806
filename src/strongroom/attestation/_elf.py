"""What a 64-bit little-endian ELF file asks the dynamic loader for (System V gABI, chapters 4 and 5)."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.measurement_errors import ELF_MALFORMED, MeasurementError

MAGIC: Final = b"\x7fELF"

Data = bytes | mmap.mmap

_IDENT: Final = MAGIC + b"\x02\x01\x01"  # 64-bit, little-endian, version 1
_HEADER: Final = struct.Struct("<16xHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_TAG: Final = struct.Struct("<qQ")

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 15, 29

_MAX_SEGMENTS: Final = 256
_MAX_TAGS: Final = 4096
_MAX_STRING: Final = 4096


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The loader's view of one file.

    Attributes:
        machine: Architecture (`e_machine`).
        needed: Names of the shared objects that it needs (DT_NEEDED), in order.
        search: Folders to look in before the system's (DT_RUNPATH, else DT_RPATH), `$ORIGIN` unexpanded.
        interpreter: Path of the loader itself (PT_INTERP), in programs.
    """

    machine: int
    needed: tuple[str, ...]
    search: tuple[str, ...]
    interpreter: str | None


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def parse(data: Data) -> Dynamic:
    """Read the dynamic section; a file without one needs nothing.

    Raises:
        MeasurementError: `elf-malformed`: no ELF file that a 64-bit little-endian machine could load.
    """
    if data[: len(_IDENT)] != _IDENT:
        raise _malformed("identification")
    machine, segments = _segments(data)
    interpreter = next((_string(data, s.offset) for s in segments if s.kind == _PT_INTERP), None)
    dynamic = next((segment for segment in segments if segment.kind == _PT_DYNAMIC), None)
    tags = list(_tags(data, dynamic)) if dynamic else []
    tables = [value for tag, value in tags if tag == _DT_STRTAB]
    strings = _offset(segments, tables[-1]) if tables else 0

    def texts(wanted: int) -> tuple[str, ...]:
        return tuple(_string(data, strings + value) for tag, value in tags if tag == wanted)

    if not tables and any(tag in {_DT_NEEDED, _DT_RPATH, _DT_RUNPATH} for tag, _ in tags):
        raise _malformed("string table")
    search = texts(_DT_RUNPATH) or texts(_DT_RPATH)
    folders = tuple(folder for entry in search for folder in entry.split(":"))
    return Dynamic(machine, texts(_DT_NEEDED), folders, interpreter)


def _segments(data: Data) -> tuple[int, list[_Segment]]:
    try:
        _, machine, _, _, table, _, _, _, size, count, _, _, _ = _HEADER.unpack_from(data)
    except struct.error:
        raise _malformed("header") from None
    if size != _SEGMENT.size or count > _MAX_SEGMENTS:
        raise _malformed("program headers")
    segments = []
    for index in range(count):
        try:
            kind, _, offset, address, _, length, _, _ = _SEGMENT.unpack_from(data, table + index * size)
        except (struct.error, OverflowError):
            raise _malformed("program headers") from None
        segments.append(_Segment(kind, offset, address, length))
    return machine, segments


def _tags(data: Data, dynamic: _Segment) -> Iterator[tuple[int, int]]:
    count = dynamic.size // _TAG.size
    if count > _MAX_TAGS:
        raise _malformed("dynamic section")
    for index in range(count):
        try:
            tag, value = _TAG.unpack_from(data, dynamic.offset + index * _TAG.size)
        except (struct.error, OverflowError):
            raise _malformed("dynamic section") from None
        if tag == _DT_NULL:
            return
        yield tag, value


def _offset(segments: list[_Segment], address: int) -> int:
    for segment in segments:
        if segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.size:
            return address - segment.address + segment.offset
    raise _malformed("string table")


def _string(data: Data, start: int) -> str:
    end = data.find(b"\0", start, start + _MAX_STRING) if start < len(data) else -1
    if end < 0:
        raise _malformed("string")
    try:
        return data[start:end].decode()
    except UnicodeDecodeError:
        raise _malformed("string") from None


def _malformed(part: str) -> MeasurementError:
    return MeasurementError(ELF_MALFORMED, part)
