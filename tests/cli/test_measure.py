"""`strongroom measure`: what evidence of the worker installed here carries."""

from __future__ import annotations

import hashlib
import re

import pytest

from strongroom.engines.import_roots import default_roots


@pytest.fixture(scope="module")
def measured(process):
    return process("measure", "--files", "--json")


def test_it_prints_both_digests(measured) -> None:
    assert (measured.code, measured.err) == (0, "")
    assert re.fullmatch("[0-9a-f]{64}", measured.json["sgx"])
    assert re.fullmatch("[0-9a-f]{96}", measured.json["tdx"])
    assert measured.json["seconds"] > 0


def test_the_digests_are_those_of_the_files(measured) -> None:
    """The measurement is the digest of a text that anybody can make from the list."""
    files = measured.json["files"]
    text = "strongroom-measurement/1\n" + "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    assert hashlib.sha256(text.encode()).hexdigest() == measured.json["sgx"]
    assert hashlib.sha384(text.encode()).hexdigest() == measured.json["tdx"]


def test_it_covers_interpreter_library_and_this_package(measured) -> None:
    components = {part["name"]: part for part in measured.json["components"]}
    assert {"command", "interpreter", "root.0", "standard.0", "system"} <= set(components)
    assert components["standard.0"]["files"] > 1000
    source = default_roots()[0] / "strongroom" / "cli" / "measure.py"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert measured.json["files"]["root.0/strongroom/cli/measure.py"] == digest
    assert sum(part["files"] for part in components.values()) == len(measured.json["files"])


def test_for_people(process) -> None:
    result = process("measure")
    assert result.code == 0
    assert re.search(r"^sgx \(MRENCLAVE\)    [0-9a-f]{64}$", result.out, re.MULTILINE)
    assert re.search(r"^tdx \(MRTD\)         [0-9a-f]{96}$", result.out, re.MULTILINE)
    assert re.search(r"^  standard\.0 +\d+ files +\d+\.\d MB  [0-9a-f]{64}$", result.out, re.MULTILINE)
    assert "strongroom/cli/measure.py" not in result.out


def test_for_people_with_every_file(process) -> None:
    result = process("measure", "--files")
    assert result.code == 0
    assert re.search(r"^[0-9a-f]{64}  root\.0/strongroom/cli/measure\.py$", result.out, re.MULTILINE)
