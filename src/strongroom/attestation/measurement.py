"""The measurement of a worker: one digest over all that its process will load.

A process cannot measure itself. A launcher, which stands for the loader of a TEE, measures and then starts
exactly what it measured:

    measurement = measure(interpreter, roots)
    measurement.sha256, measurement.sha384          # MRENCLAVE, MRTD
    measurement.command(("3", "4"))                 # what to start
    measurement.environment

It covers the base interpreter's program file, the standard library, every file on
the import path, the system's shared objects that these need, and the command line: flags, bootstrap text,
environment and the order of the import path. Left out is what has no effect under these flags
(`start_plan`): `__pycache__` folders, the `.pth` files of a site folder, and what installers note in
`*.dist-info` about themselves.

Names in the manifest are relative to their root: two environments with the same content on two paths give
one measurement. Links are followed (`_tree`).

What it cannot do: nothing stops the host from changing a file after it was measured and before the process
loads it. In a TEE the loader copies what it measures into protected memory; here it cannot. Nor are data
files outside the roots covered, such as time zones and certificates. The measurement decides what simulated
evidence says; it does not protect a process from its host.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from strongroom.attestation import _getpath, _libraries, _tree
from strongroom.attestation._libraries import SystemFiles
from strongroom.attestation.measurement_errors import INTERPRETER, UNSUPPORTED_FILE, MeasurementError
from strongroom.attestation.start_plan import ENTRY, FLAGS, StartPlan

FORMAT: Final = "strongroom-measurement/1"

_PYCACHE: Final = "__pycache__"
_INSTALLER_NOTES: Final = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})
_SITE_FOLDERS: Final = frozenset({"site-packages", "dist-packages"})
_PROBE: Final = """\
import sys
if "site" in sys.modules:
    sys.exit(3)
sys.stdout.buffer.write("\\0".join(sys.path).encode("utf-8", "surrogateescape"))
"""
_PROBE_TIMEOUT: Final = 30
_VERSION: Final = re.compile(rb"Python (3\.[0-9]{1,3})\.[0-9]{1,3}\S{0,16}\n")


@dataclass(frozen=True, slots=True)
class ImportPath:
    """What a worker may import.

    Attributes:
        interpreter: The base interpreter's program file, links resolved.
        standard: Where the isolated interpreter finds its standard library.
        roots: The folders after these, in order.
    """

    interpreter: Path
    standard: tuple[Path, ...]
    roots: tuple[Path, ...]

    @classmethod
    def probe(cls, interpreter: Path, roots: Sequence[Path], plan: StartPlan) -> ImportPath:
        """Find the standard library, and check that the interpreter, started as the worker, agrees.

        Its answer alone would mean nothing: code planted where it looks first would give it. So what the
        files around it say is measured (`_getpath`), and another answer is refused.

        Raises:
            MeasurementError: `measurement-interpreter`: it does not start, it imports `site`, or where its
                standard library is, is not clear.
        """
        program = interpreter.resolve()
        # The version is compiled in; to tell it, the interpreter imports nothing.
        version = _VERSION.fullmatch(_run(program, ["-I", "-S", "-V"], plan))
        if version is None:
            raise MeasurementError(INTERPRETER, f"{program} does not tell its version")
        standard = _getpath.standard_library(program, version[1].decode())
        answer = _run(program, [*plan.flags, "-c", _PROBE], plan)
        if answer != b"\0".join(map(os.fsencode, standard)):
            raise MeasurementError(INTERPRETER, f"{program} does not look where its standard library is")
        existing = tuple(entry for entry in standard if entry.exists())
        return cls(program, existing, tuple(root.absolute() for root in roots))

    @property
    def entries(self) -> tuple[Path, ...]:
        """The whole import path, in order."""
        return (*self.standard, *self.roots)


def _run(program: Path, arguments: Sequence[str], plan: StartPlan) -> bytes:
    """What an interpreter writes, started in the worker's environment."""
    try:
        result = subprocess.run(
            [str(program), *arguments],
            env=dict(plan.environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=_PROBE_TIMEOUT,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MeasurementError(INTERPRETER, f"{program}: {type(error).__name__}") from None
    return result.stdout


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a measurement, for people.

    Attributes:
        name: First part of the names in the manifest.
        files: How many files it has.
        size: Their bytes together.
        sha256: Digest of its lines in the manifest, lower-case hex.
    """

    name: str
    files: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Measurement:
    """A measured worker, ready to be started.

    Attributes:
        path: What it may import.
        plan: How it is started.
        digests: SHA-256 in lower-case hex of each part, by name.
        sizes: Bytes of each file, by name.
    """

    path: ImportPath
    plan: StartPlan
    digests: Mapping[str, str]
    sizes: Mapping[str, int]

    def manifest(self) -> str:
        """One line `SHA256  NAME` for each part, sorted by name, after a line that names the format.

        The measurement is the digest of exactly this text in UTF-8.
        """
        lines = (f"{digest}  {name}\n" for name, digest in sorted(self.digests.items()))
        return "".join([f"{FORMAT}\n", *lines])

    @cached_property
    def sha256(self) -> bytes:
        """SHA-256 of the manifest: MRENCLAVE."""
        return hashlib.sha256(self.manifest().encode()).digest()

    @cached_property
    def sha384(self) -> bytes:
        """SHA-384 of the manifest: MRTD."""
        return hashlib.sha384(self.manifest().encode()).digest()

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of the process."""
        return dict(self.plan.environment)

    def command(self, arguments: tuple[str, str]) -> list[str]:
        """The command line of the process; it is to be started in `/`."""
        return self.plan.command(self.path.interpreter, self.path.entries, arguments)

    def components(self) -> tuple[Component, ...]:
        """What the measurement is made of, summed up."""

        def part(name: str) -> str:
            return name.partition("/")[0]

        result = []
        for name, group in itertools.groupby(sorted(self.digests), key=part):
            names = list(group)
            lines = "".join(f"{self.digests[name]}  {name}\n" for name in names)
            size = sum(self.sizes.get(name, 0) for name in names)
            result.append(Component(name, len(names), size, hashlib.sha256(lines.encode()).hexdigest()))
        return tuple(result)


def measure(
    interpreter: Path,
    roots: Sequence[Path],
    *,
    entry: str = ENTRY,
    flags: Sequence[str] = FLAGS,
    system: SystemFiles | None = None,
    threads: int | None = None,
) -> Measurement:
    """Measure a worker.

    Args:
        interpreter: The base interpreter (not that of a virtual environment).
        roots: Folders of the import path after the standard library, in order.
        entry: `MODULE:FUNCTION` that the process runs.
        flags: Interpreter flags; part of the measurement.
        system: Where the dynamic loader looks.
        threads: Threads that hash; by default as many as there are usable cores.

    Raises:
        MeasurementError: Something cannot be measured; then nothing is to be started.
    """
    threads = threads or len(os.sched_getaffinity(0))
    plan = StartPlan(entry=entry, flags=tuple(flags))
    path = ImportPath.probe(interpreter, roots, plan)
    program = str(path.interpreter)
    order, walks = _places(path)
    files = _tree.digest(itertools.chain([("interpreter", program)], *walks), threads=threads)
    libraries = _libraries.shared_objects(program, files, system or SystemFiles(), threads=threads)
    documents = plan.documents() | {"command/path": json.dumps(order).encode()}
    digests = {file.name: file.sha256 for file in files}
    digests |= {name: file.sha256 if file else _tree.MISSING for name, file in libraries.items()}
    digests |= {name: hashlib.sha256(text).digest() for name, text in documents.items()}
    _check_names(digests)
    sizes = {file.name: file.size for file in files}
    sizes |= {name: file.size for name, file in libraries.items() if file}
    return Measurement(path, plan, {name: value.hex() for name, value in digests.items()}, sizes)


def _places(path: ImportPath) -> tuple[list[str], list[Iterator[tuple[str, str]]]]:
    """Labels of the import path's entries in order, and the files of each.

    A standard entry below another (`lib-dynload`) is measured once, as part of it.
    """
    order: list[str] = []
    walks: list[Iterator[tuple[str, str]]] = []
    walked: list[tuple[Path, str]] = []
    for entry in path.standard:
        real = entry.resolve()
        above = next(((top, label) for top, label in walked if real.is_relative_to(top)), None)
        if above:
            order.append(f"{above[1]}/{real.relative_to(above[0])}")
            continue
        label = f"standard.{len(walked)}"
        walked.append((real, label))
        order.append(label)
        walks.append(_files(entry, label, _skip_in_standard))
    for index, root in enumerate(path.roots):
        order.append(f"root.{index}")
        walks.append(_files(root, f"root.{index}", _skip_in_root))
    return order, walks


def _files(place: Path, label: str, skip: _tree.Skip) -> Iterator[tuple[str, str]]:
    if place.is_file():  # a zipped standard library
        return iter([(label, str(place))])
    return _tree.walk(str(place), label, skip)


def _skip_in_standard(name: str, is_folder: bool) -> bool:  # noqa: FBT001 -- a callback's fixed form
    return is_folder and (name in _SITE_FOLDERS or name.rpartition("/")[2] == _PYCACHE)


def _skip_in_root(name: str, is_folder: bool) -> bool:  # noqa: FBT001 -- a callback's fixed form
    if is_folder:
        return name.rpartition("/")[2] == _PYCACHE
    folder, _, file = name.rpartition("/")
    if not folder:
        return file.endswith(".pth")
    return file in _INSTALLER_NOTES and "/" not in folder and folder.endswith(".dist-info")


def _check_names(digests: Mapping[str, bytes]) -> None:
    """Each name must be one line of UTF-8, or the manifest would have two meanings."""
    for name in digests:
        if not name.isprintable() and ("\n" in name or any("\ud800" <= char <= "\udfff" for char in name)):
            raise MeasurementError(UNSUPPORTED_FILE, "a file name with a line break or not in UTF-8")
