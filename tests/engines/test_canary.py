from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.engines.canary import (
    array_forms,
    byte_forms,
    descendants,
    search_files,
    search_process,
)
from strongroom.engines.errors import EngineError

# The decoy makes its own copy of the canary from two halves, so that only its memory holds the whole.
DECOY = """
import base64, json, sys
import numpy as np
a, b, how = bytes.fromhex(sys.argv[1]), bytes.fromhex(sys.argv[2]), sys.argv[3]
whole = a + b
kept = {
    "raw": lambda: whole + b"",
    "base64": lambda: base64.b64encode(b"x" + whole),
    "json": lambda: json.dumps(list(whole)).encode(),
    "float32": lambda: np.frombuffer(whole, np.uint8).astype(np.float32).tobytes(),
    "nothing": lambda: b"",
}[how]()
del whole
print("ready", flush=True)
sys.stdin.read()
"""


def decoy(canary: bytes, how: str) -> subprocess.Popen[str]:
    half = len(canary) // 2
    process = subprocess.Popen(
        [sys.executable, "-c", DECOY, canary[:half].hex(), canary[half:].hex(), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("how", "form"), [("raw", "raw"), ("base64", "base64"), ("json", "JSON numbers"), ("float32", "float32")]
)
def test_a_decoy_that_holds_the_canary_is_found(how: str, form: str) -> None:
    canary = os.urandom(64)
    process = decoy(canary, how)
    try:
        found = search_process(process.pid, "decoy", byte_forms(canary))
    finally:
        process.communicate()
    assert any(sighting.form.startswith(form) for sighting in found)


def test_another_canary_is_not_found() -> None:
    process = decoy(os.urandom(64), "raw")
    try:
        assert search_process(process.pid, "decoy", byte_forms(os.urandom(64))) == []
    finally:
        process.communicate()


def test_a_process_that_cannot_be_read_is_an_error() -> None:
    process = decoy(os.urandom(64), "nothing")
    process.communicate()
    with pytest.raises(EngineError) as caught:
        search_process(process.pid, "decoy", byte_forms(os.urandom(64)))
    assert caught.value.code == "memory-unreadable"


@given(st.binary(min_size=48, max_size=64), st.binary(max_size=7))
def test_base64_is_found_at_any_alignment(canary: bytes, before: bytes) -> None:
    text = base64.b64encode(before + canary + b"after")
    assert any(form in text for name, form in byte_forms(canary).items() if name.startswith("base64"))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=8, max_size=16))
def test_arrays_are_found_as_json_of_either_precision(values: list[float]) -> None:
    array = np.array(values, np.float32)
    forms = array_forms(array)
    assert (
        forms["JSON float32, dense"] in json.dumps([float(v) for v in array], separators=(",", ":")).encode()
    )
    assert forms["float32 raw"] in b"x" + array.tobytes()


def test_files_below_folders_are_searched(tmp_path: Path) -> None:
    canary = os.urandom(64)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "log").write_bytes(b"before" + canary)
    (tmp_path / "clean").write_bytes(os.urandom(1000))
    found = search_files([tmp_path], byte_forms(canary))
    assert [Path(sighting.where).name for sighting in found] == ["log"]
    assert search_files([tmp_path / "clean"], byte_forms(canary)) == []


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    path.symlink_to(tmp_path)  # a folder under a file's name is walked, a file that vanishes is not
    with pytest.raises(EngineError, match="memory-unreadable"):
        search_files([_Vanishing(tmp_path / "x")], byte_forms(os.urandom(64)))


class _Vanishing(type(Path())):  # type: ignore[misc]
    """A file that is there when it is listed and gone when it is read."""

    def is_dir(self, **_: object) -> bool:
        return False

    def is_file(self, **_: object) -> bool:
        return True


def test_descendants_are_found() -> None:
    process = decoy(b"0" * 16, "nothing")
    try:
        family = descendants(os.getpid())
    finally:
        process.communicate()
    assert os.getpid() in family
    assert "ready" in family[process.pid]
