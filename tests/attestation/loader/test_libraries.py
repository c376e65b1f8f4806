"""The system's shared objects: every place where the loader may look, in a file system made for the test."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from strongroom.attestation import _tree
from strongroom.attestation._libraries import SystemFiles, shared_objects
from strongroom.attestation.measurement_errors import MeasurementError

FOREIGN_MACHINE = 40  # 32-bit ARM: nothing here loads it
ALWAYS_ABSENT = {"system/libgcc_s.so.1": "absent", "system/ld.so.preload": _tree.MISSING.hex()}


class World:
    """A program, a folder of measured files, and the system's folders."""

    def __init__(self, folder: Path, elf: Callable[..., bytes]) -> None:
        self.elf = elf
        self.root = folder / "root"
        self.lib = folder / "lib"
        self.usr = folder / "usr"
        self.other = folder / "other"
        for path in (self.root, self.lib, self.usr, self.other):
            path.mkdir()
        self.program = folder / "program"
        self.program.write_bytes(elf())
        self.system = SystemFiles(folder / "cache", folder / "preload", folder / "nss", (self.lib, self.usr))

    def add(self, path: Path, *args: object, **kwargs: object) -> str:
        """Write an ELF file; returns the SHA-256 of its content."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.elf(*args, **kwargs))
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def cache(self, entries: Sequence[tuple[str, Path]]) -> None:
        strings, rows = b"", b""
        base = 48 + 24 * len(entries)
        for name, path in entries:
            rows += struct.pack(
                "<iIIIQ", 0x303, base + len(strings), base + len(strings) + len(name) + 1, 0, 0
            )
            strings += name.encode() + b"\0" + os.fsencode(path) + b"\0"
        header = b"glibc-ld.so.cache1.1" + struct.pack("<II", len(entries), len(strings))
        self.system.cache.write_bytes(header.ljust(48, b"\0") + rows + strings)

    def found(self) -> dict[str, str]:
        """What is listed, by name, without the library that is always looked for."""
        measured = _tree.digest(_tree.walk(str(self.root), "r", lambda *_: False), threads=1)
        listed = shared_objects(str(self.program), measured, self.system, threads=1)
        shown = {name: file.sha256.hex() if file else "absent" for name, file in listed.items()}
        return dict(shown.items() - ALWAYS_ABSENT.items())


@pytest.fixture
def world(tmp_path: Path, elf: Callable[..., bytes]) -> World:
    return World(tmp_path, elf)


def test_follows_what_is_needed_through_the_default_folders(world: World) -> None:
    world.add(world.root / "extension.so", ["liba.so"])
    a = world.add(world.lib / "liba.so", ["libb.so"])
    b = world.add(world.usr / "libb.so", content=b"b")
    world.add(world.usr / "libunused.so", content=b"u")
    assert world.found() == {"system/liba.so": a, "system/libb.so": b}


def test_takes_what_the_program_needs_and_its_loader(world: World) -> None:
    c = world.add(world.lib / "libc.so.6", content=b"c")
    loader = world.add(world.other / "ld.so", content=b"l")
    world.add(world.program, ["libc.so.6"], interpreter=str(world.other / "ld.so"))
    assert world.found() == {"system/libc.so.6": c, f"system{world.other}/ld.so": loader}


def test_a_name_that_is_found_nowhere_counts_as_absent(world: World) -> None:
    world.add(world.root / "extension.so", ["libopt.so"])
    assert world.found() == {"system/libopt.so": "absent"}
    appeared = world.add(world.lib / "libopt.so")
    assert world.found() == {"system/libopt.so": appeared}


def test_a_name_among_the_measured_files_is_not_listed(world: World) -> None:
    world.add(world.root / "package" / "extension.so", ["libown.so"], run_path="$ORIGIN/../own.libs")
    world.add(world.root / "own.libs" / "libown.so", content=b"own")
    assert world.found() == {}
    system = world.add(world.lib / "libown.so", content=b"system")  # could it be loaded instead? it counts
    assert world.found() == {"system/libown.so": system}


@pytest.mark.parametrize("origin", ["$ORIGIN", "${ORIGIN}"])
def test_follows_run_paths_out_of_the_measured_files(world: World, origin: str) -> None:
    world.add(world.root / "extension.so", ["libx.so"], run_path=f"{origin}/../other")
    x = world.add(world.other / "libx.so", ["liby.so"], content=b"x")
    y = world.add(world.other / "liby.so", content=b"y")  # the run path of the one that loads it counts too
    assert world.found() == {"system/libx.so": x, "system/liby.so": y}


def test_rpath_tokens_and_relative_run_paths(world: World) -> None:
    world.add(
        world.root / "a.so",
        ["libl.so", "libp.so", "libr.so"],
        rpath=f"{world.other}/$LIB:{world.other}/${{PLATFORM}}",
    )
    world.add(world.root / "b.so", run_path=f"{world.other}".lstrip("/"))
    lib = world.add(world.other / "lib64" / "libl.so", content=b"l")
    platform = world.add(world.other / os.uname().machine / "libp.so", content=b"p")
    relative = world.add(world.other / "libr.so", content=b"r")  # workers start in /
    assert world.found() == {"system/libl.so": lib, "system/libp.so": platform, "system/libr.so": relative}


def test_every_candidate_counts(world: World) -> None:
    world.add(world.root / "extension.so", ["liba.so"])
    contents = sorted(
        world.add(folder / "liba.so", content=bytes(folder)) for folder in (world.lib, world.usr)
    )
    assert world.found() == {"system/liba.so": contents[0], "system/liba.so#2": contents[1]}


def test_equal_candidates_count_once(world: World) -> None:
    world.add(world.root / "extension.so", ["liba.so"])
    world.add(world.lib / "liba.so")
    (world.usr / "liba.so").symlink_to(world.lib / "liba.so")
    assert world.found().keys() == {"system/liba.so"}


def test_the_cache_counts(world: World) -> None:
    world.add(world.root / "extension.so", ["liba.so"])
    a = world.add(world.other / "liba.so.1.2", content=b"a")
    world.cache([("liba.so", world.other / "liba.so.1.2"), ("libunused.so", world.other / "liba.so.1.2")])
    assert world.found() == {"system/liba.so": a}


@pytest.mark.parametrize(
    "folder", ["glibc-hwcaps/x86-64-v3", "tls", "haswell", f"tls/{os.uname().machine}", "haswell/avx512_1"]
)
def test_folders_for_special_processors_count(world: World, folder: str) -> None:
    world.add(world.root / "extension.so", ["liba.so"], run_path=str(world.other))
    plain = world.add(world.lib / "liba.so", content=b"plain")
    for place in (world.lib, world.other):
        special = world.add(place / folder / "liba.so", content=b"special")
        assert set(world.found().values()) == {plain, special}
        (place / folder / "liba.so").unlink()


def test_what_this_machine_cannot_load_does_not_count(world: World) -> None:
    world.add(world.root / "extension.so", ["liba.so"])
    world.add(world.lib / "liba.so", ["libb.so"], machine=FOREIGN_MACHINE)
    (world.usr / "liba.so").write_text("/* GNU ld script */ GROUP ( libc.so.6 )")
    assert world.found() == {"system/liba.so": "absent"}
    (world.usr / "liba.so").write_bytes(b"")
    assert world.found() == {"system/liba.so": "absent"}


def test_foreign_and_broken_files_on_the_import_path_need_nothing(world: World) -> None:
    world.add(world.root / "foreign.so", ["liba.so"], machine=FOREIGN_MACHINE)
    (world.root / "broken.so").write_bytes(b"\x7fELF, or so it says")
    assert world.found() == {}


def test_preloaded_objects_count(world: World) -> None:
    by_path = world.add(world.other / "evil.so", ["libneeded.so"], content=b"e")
    needed = world.add(world.lib / "libneeded.so", content=b"n")
    by_name = world.add(world.usr / "libtrace.so", content=b"t")
    text = f"# comment /not/this.so\n{world.other}/evil.so:libtrace.so\n"
    world.system.preload.write_text(text)
    assert world.found() == {
        "system/ld.so.preload": hashlib.sha256(text.encode()).hexdigest(),
        f"system{world.other}/evil.so": by_path,
        "system/libneeded.so": needed,
        "system/libtrace.so": by_name,
    }


def test_name_service_modules_count(world: World) -> None:
    files = world.add(world.lib / "libnss_files.so.2", content=b"f")
    world.system.name_services.write_text("hosts: files [!UNAVAIL=return] sss  # not-this\n\npasswd: files\n")
    assert world.found() == {"system/libnss_files.so.2": files, "system/libnss_sss.so.2": "absent"}


def test_the_unwinder_is_always_looked_for(world: World) -> None:
    unwinder = world.add(world.lib / "libgcc_s.so.1", content=b"g")
    assert world.found() == {"system/libgcc_s.so.1": unwinder}


def test_two_places_with_the_same_content_list_the_same(tmp_path: Path, elf: Callable[..., bytes]) -> None:
    results = []
    for place in ("one", "two/deeper"):
        (tmp_path / place).mkdir(parents=True)
        world = World(tmp_path / place, elf)
        world.add(world.root / "extension.so", ["liba.so", "libb.so", "libc.so"], run_path="$ORIGIN/../other")
        world.add(world.other / "liba.so", content=b"a")
        world.add(world.lib / "libb.so", content=b"b")
        results.append(world.found())
    assert results[0] == results[1]
    assert len(results[0]) == 3


def test_a_program_that_is_no_elf_file_is_refused(world: World) -> None:
    world.program.write_text('#!/bin/sh\nexec python3 "$@"\n')
    with pytest.raises(MeasurementError, match="measurement-interpreter"):
        world.found()


def test_a_broken_cache_is_refused(world: World) -> None:
    world.system.cache.write_bytes(b"not a cache")
    with pytest.raises(MeasurementError, match="ld-cache-malformed"):
        world.found()


def test_system_files_are_bounded_and_must_be_readable(world: World) -> None:
    world.system.name_services.write_bytes(b"#" * 65537)
    with pytest.raises(MeasurementError, match="measurement-too-large"):
        world.found()
    world.system.name_services.unlink()
    world.system.name_services.mkdir()
    with pytest.raises(MeasurementError, match="measurement-unreadable"):
        world.found()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_measured_file_that_vanishes_is_refused(world: World, replaced: bool) -> None:
    gone = _tree.File("r/gone.so", str(world.root / "gone.so"), 4, b"", elf=True)
    if replaced:
        (world.root / "gone.so").mkdir()
    with pytest.raises(MeasurementError, match="measurement-unreadable"):
        shared_objects(str(world.program), [gone], world.system, threads=1)


def test_covers_all_that_this_interpreter_has_mapped() -> None:
    """The real loader is the judge: what it has mapped for some extension modules is what we list."""
    program = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    script = (
        "import _bz2, _ctypes, _hashlib, _lzma, _socket, _ssl, pwd; pwd.getpwuid(0)\n"
        "import socket; socket.getaddrinfo('localhost', 80)\n"
        "print(open('/proc/self/maps').read())"
    )
    command = [program, "-I", "-S", "-B", "-c", script]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={}).stdout
    mapped = set(re.findall(r" r-xp .* (/.*)$", shown, re.MULTILINE))
    dynload = Path(next(path for path in mapped if "/_ssl." in path)).parent
    extensions = _tree.digest(_tree.walk(str(dynload), "r", lambda *_: False), threads=2)
    listed = shared_objects(program, extensions, SystemFiles(), threads=2)
    known = {program} | {file.path for file in extensions}
    known |= {os.path.realpath(file.path) for file in listed.values() if file}
    assert len(mapped) > 8
    assert mapped - known == set()


def test_default_folders_exist_on_this_machine() -> None:
    assert any((folder / "libc.so.6").exists() for folder in SystemFiles().folders)
