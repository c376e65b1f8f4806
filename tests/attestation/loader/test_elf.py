"""The ELF reader: what it finds, that it agrees with readelf, and what it refuses."""

from __future__ import annotations

import mmap
import os
import random
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.attestation import _elf
from strongroom.attestation.measurement_errors import MeasurementError

PROGRAM_HEADERS = 64
SEGMENT = 56
Elf = Callable[..., bytes]


def refused(data: bytes) -> str:
    with pytest.raises(MeasurementError) as caught:
        _elf.parse(data)
    assert caught.value.code == "elf-malformed"
    return caught.value.detail


def patched(data: bytes, form: str, offset: int, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, offset, value)
    return bytes(changed)


def test_finds_what_the_loader_would(elf: Elf) -> None:
    data = elf(
        ["libm.so.6", "libc.so.6"], run_path="$ORIGIN/../lib:/opt", interpreter="/lib64/ld.so", machine=183
    )
    found = _elf.parse(data)
    assert found == _elf.Dynamic(183, ("libm.so.6", "libc.so.6"), ("$ORIGIN/../lib", "/opt"), "/lib64/ld.so")


def test_rpath_counts_only_without_runpath(elf: Elf) -> None:
    assert _elf.parse(elf(rpath="/old")).search == ("/old",)
    assert _elf.parse(elf(rpath="/old", run_path="/new")).search == ("/new",)


def test_a_file_without_dynamic_section_needs_nothing(elf: Elf) -> None:
    data = patched(elf(["libc.so.6"]), "<I", PROGRAM_HEADERS + SEGMENT, 0)  # PT_DYNAMIC becomes PT_NULL
    assert _elf.parse(data) == _elf.Dynamic(_elf.parse(elf()).machine, (), (), None)


def test_a_dynamic_section_may_end_without_a_null_tag(elf: Elf) -> None:
    data = elf(["libc.so.6"])
    size = PROGRAM_HEADERS + SEGMENT + 32
    (length,) = struct.unpack_from("<Q", data, size)
    assert _elf.parse(patched(data, "<Q", size, length - 16)).needed == ("libc.so.6",)


def test_a_mapped_file_reads_the_same(elf: Elf, tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(elf(["libc.so.6"]))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert _elf.parse(data) == _elf.parse(path.read_bytes())


def test_agrees_with_readelf_on_this_interpreter() -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("readelf is not installed")
    program = os.path.realpath(sys.executable)
    shown = subprocess.run(
        [readelf, "-d", "-l", program], capture_output=True, text=True, check=True, env={}
    ).stdout
    found = _elf.parse(Path(program).read_bytes())
    assert list(found.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", shown)
    assert [found.interpreter] == re.findall(r"interpreter: (.*)\]", shown)
    assert ":".join(found.search) == "".join(re.findall(r"\(R(?:UN)?PATH\).*\[(.*)\]", shown))


def test_refuses_other_formats(elf: Elf) -> None:
    data = elf()
    assert refused(b"") == "identification"
    assert refused(b"#!/bin/sh\n") == "identification"
    assert refused(patched(data, "<B", 4, 1)) == "identification"  # 32-bit
    assert refused(patched(data, "<B", 5, 2)) == "identification"  # big-endian


def test_refuses_a_cut_header(elf: Elf) -> None:
    assert refused(elf()[:63]) == "header"


def test_refuses_program_headers_of_another_size_or_number(elf: Elf) -> None:
    assert refused(patched(elf(), "<H", 54, 32)) == "program headers"
    assert refused(patched(elf(), "<H", 56, 257)) == "program headers"


@pytest.mark.parametrize("offset", [10**6, 2**63, 2**64 - 1])
def test_refuses_program_headers_outside_the_file(elf: Elf, offset: int) -> None:
    assert refused(patched(elf(), "<Q", 32, offset)) == "program headers"


@pytest.mark.parametrize("offset", [10**6, 2**63, 2**64 - 1])
def test_refuses_a_dynamic_section_outside_the_file(elf: Elf, offset: int) -> None:
    assert refused(patched(elf(["a"]), "<Q", PROGRAM_HEADERS + SEGMENT + 8, offset)) == "dynamic section"


def test_refuses_too_many_tags(elf: Elf) -> None:
    assert refused(patched(elf(), "<Q", PROGRAM_HEADERS + SEGMENT + 32, 16 * 4097)) == "dynamic section"


def test_refuses_a_string_table_outside_all_segments(elf: Elf) -> None:
    data = elf(["a"])
    tag = data.rindex(struct.pack("<qQ", 5, 0x10000 + PROGRAM_HEADERS + 2 * SEGMENT))
    assert refused(patched(data, "<Q", tag + 8, 0)) == "string table"


def test_refuses_names_without_a_string_table(elf: Elf) -> None:
    data = elf(["a"])
    tag = data.rindex(struct.pack("<qQ", 5, 0x10000 + PROGRAM_HEADERS + 2 * SEGMENT))
    assert refused(patched(data, "<q", tag, 99)) == "string table"


@pytest.mark.parametrize("place", [10**6, 2**62])
def test_refuses_a_name_outside_the_file(elf: Elf, place: int) -> None:
    data = elf(["a"])
    tag = data.rindex(struct.pack("<qQ", 1, 1))
    assert refused(patched(data, "<Q", tag + 8, place)) == "string"


def test_refuses_an_endless_name(elf: Elf) -> None:
    assert refused(elf(["x" * 4096])) == "string"
    assert _elf.parse(elf(["x" * 4095])).needed == ("x" * 4095,)


def test_refuses_a_name_that_is_not_text(elf: Elf) -> None:
    assert refused(elf(["name"]).replace(b"name\0", b"\xff\xff\xff\xff\0")) == "string"


@given(
    needed=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), max_size=5),
    folders=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0:"), max_size=20), min_size=1, max_size=3
    ),
    machine=st.integers(0, 65535),
)
def test_reads_back_whatever_is_written(
    elf: Elf, needed: list[str], folders: list[str], machine: int
) -> None:
    found = _elf.parse(elf(needed, run_path=":".join(folders), machine=machine))
    assert found == _elf.Dynamic(machine, tuple(needed), tuple(folders), None)


@given(st.binary(max_size=300))
def test_random_tails_give_only_our_error(tail: bytes) -> None:
    try:
        found = _elf.parse(b"\x7fELF\x02\x01\x01" + tail)
    except MeasurementError:
        return
    assert isinstance(found, _elf.Dynamic)


def mutants(plain: bytes, count: int) -> Iterator[bytes]:
    """Files that keep identification and header size, so that they reach the inner parts."""
    rng = random.Random(7)
    odd = [0, 1, 8, 64, 255, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
    for _ in range(count):
        data = bytearray(plain)
        for _ in range(rng.choice([1, 1, 2, 4])):
            at = rng.randrange(16, len(data) - 8)
            action = rng.randrange(4)
            if action == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif action == 1:
                struct.pack_into("<Q", data, at & ~7, rng.choice(odd))
            elif action == 2:
                struct.pack_into("<Q", data, at & ~7, rng.randrange(len(data)))
            else:
                del data[max(at, 80) :]
                data += bytes(max(0, 96 - len(data)))
        yield bytes(data)


def test_20000_mutants_give_only_our_error(elf: Elf) -> None:
    plain = elf(["libm.so.6", "libc.so.6"], run_path="$ORIGIN:/opt", interpreter="/lib64/ld.so")
    outcomes = {"parsed": 0}
    for data in mutants(plain, 20_000):
        try:
            _elf.parse(data)
            outcomes["parsed"] += 1
        except MeasurementError as error:
            outcomes[error.detail] = outcomes.get(error.detail, 0) + 1
    assert sum(outcomes.values()) == 20_000
    assert "identification" not in outcomes
    assert outcomes.keys() == {"parsed", "program headers", "dynamic section", "string table", "string"}
