"""Search processes and files for plaintext that should not be there.

A canary is random data that was sent sealed. It is sought in the forms in which plaintext would lie about:
raw, base64 at each of three alignments, JSON numbers, float32. A process that cannot be read is an error,
never "not found".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.engines.errors import MEMORY_UNREADABLE, EngineError

_CHUNK: Final = 8 << 20
_KERNEL_PAGES: Final = ("[vvar", "[vsyscall]")
_LEAST: Final = 16


@dataclass(frozen=True, slots=True)
class Sighting:
    """A canary that was found.

    Attributes:
        where: Process name and region, or file.
        form: The form in which it lay there.
    """

    where: str
    form: str


def byte_forms(canary: bytes) -> dict[str, bytes]:
    """The forms in which bytes would lie about.

    Args:
        canary: At least 16 random bytes.
    """
    forms = {"raw": canary, "hex": canary.hex().encode()}
    for offset in range(3):
        whole = canary[offset : offset + (len(canary) - offset) // 3 * 3]
        forms[f"base64 +{offset}"] = base64.b64encode(whole)
        forms[f"base64url +{offset}"] = base64.urlsafe_b64encode(whole)
    forms |= _numbers("JSON numbers", list(canary))
    forms["float32"] = np.frombuffer(canary, np.uint8).astype("<f4").tobytes()
    return forms


def array_forms(canary: npt.NDArray[np.float32]) -> dict[str, bytes]:
    """The forms in which a float32 array would lie about: raw, base64, and as JSON numbers."""
    forms = {f"float32 {form}": data for form, data in byte_forms(canary.astype("<f4").tobytes()).items()}
    forms |= _numbers("JSON float32", [float(value) for value in canary])
    # Printed with the fewest digits that give the float32 back, as msgspec and others do.
    forms["JSON short"] = ",".join(str(value) for value in canary).encode()
    return forms


def _numbers(name: str, values: list[int] | list[float]) -> dict[str, bytes]:
    return {
        f"{name}, dense": json.dumps(values, separators=(",", ":"))[1:-1].encode(),
        f"{name}, spaced": json.dumps(values)[1:-1].encode(),
    }


def search_process(pid: int, name: str, forms: Mapping[str, bytes]) -> list[Sighting]:
    """Search all readable memory of a process.

    Raises:
        EngineError: `memory-unreadable`: the process is gone or may not be read.
    """
    found: list[Sighting] = []
    overlap = max(len(form) for form in forms.values()) - 1
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for start, end, region in _regions(maps):
                tail = b""
                for position in range(start, end, _CHUNK):
                    memory.seek(position)
                    chunk = tail + memory.read(min(_CHUNK, end - position))
                    found += [Sighting(f"{name} {region}", form) for form in _found_in(chunk, forms)]
                    tail = chunk[-overlap:]
    except OSError as error:
        raise EngineError(MEMORY_UNREADABLE, f"{name} (pid {pid})", found=error.strerror) from None
    return found


def search_files(paths: Iterable[Path], forms: Mapping[str, bytes]) -> list[Sighting]:
    """Search files, and all files below folders.

    Raises:
        EngineError: `memory-unreadable`: a file cannot be read.
    """
    found: list[Sighting] = []
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                try:
                    data = file.read_bytes()
                except OSError as error:
                    raise EngineError(MEMORY_UNREADABLE, str(file), found=error.strerror) from None
                found += [Sighting(str(file), form) for form in _found_in(data, forms)]
    return found


def descendants(pid: int) -> dict[int, str]:
    """Process ids of a process and all its descendants, each with its command line."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    result: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        waiting += parents.get(current, [])
        try:
            line = (
                Path(f"/proc/{current}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            )
        except OSError:
            continue
        result[current] = line.strip()
    return result


def _regions(maps: str) -> Iterator[tuple[int, int, str]]:
    for line in maps.splitlines():
        span, permissions, *rest = line.split(maxsplit=5)
        region = rest[3] if len(rest) > 3 else "[anonymous]"
        if "r" in permissions and not region.startswith(_KERNEL_PAGES):
            start, _, end = span.partition("-")
            yield int(start, 16), int(end, 16), region


def _found_in(data: bytes, forms: Mapping[str, bytes]) -> list[str]:
    return [name for name, form in forms.items() if len(form) >= _LEAST and form in data]
