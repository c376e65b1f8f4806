"""A builder of small ELF files."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence

import pytest

BASE = 0x10000
X86_64 = 62
THIS_MACHINE = {"x86_64": X86_64, "aarch64": 183}.get(os.uname().machine, X86_64)


def build_elf(
    needed: Sequence[str] = (),
    *,
    run_path: str | None = None,
    rpath: str | None = None,
    interpreter: str | None = None,
    machine: int = THIS_MACHINE,
    content: bytes = b"",
) -> bytes:
    """A 64-bit little-endian file with a dynamic section that asks for these things."""
    strings = bytearray(b"\0")

    def text(value: str) -> int:
        start = len(strings)
        strings.extend(value.encode() + b"\0")
        return start

    tags = [(1, text(name)) for name in needed]
    tags += [(29, text(run_path))] if run_path is not None else []
    tags += [(15, text(rpath))] if rpath is not None else []
    interp = text(interpreter) if interpreter is not None else None
    strings.extend(bytes(-len(strings) % 8) + content)
    segments = 2 + (interp is not None)
    start = 64 + 56 * segments
    tags += [(5, BASE + start), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", tag, value) for tag, value in tags)
    where = start + len(strings)
    total = where + len(dynamic)

    def segment(kind: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQQQ", kind, 4, offset, BASE + offset, BASE + offset, size, size, 8)

    table = segment(1, 0, total) + segment(2, where, len(dynamic))
    if interp is not None:
        table += segment(3, start + interp, len(interpreter or "") + 1)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, segments, 0, 0, 0)
    return header + table + bytes(strings) + dynamic


@pytest.fixture(scope="session")
def elf() -> Callable[..., bytes]:
    """`elf(needed, run_path=..., rpath=..., interpreter=..., machine=..., content=...)`: an ELF file."""
    return build_elf
