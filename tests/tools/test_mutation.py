"""The mutation run: what it changes, and that it tells a change that a test sees from one that none sees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="cosmic-ray is not installed (extra mutation)")

TOOL = Path(__file__).parents[2] / "tools" / "mutation.py"
MODULE = "tiny/attestation/limits.py"
SOURCE = '''
def allowed(size: int | None, *, most: int) -> bool:
    """Whether it is."""
    if size is None:
        raise ValueError("no size", 7)
    return size <= most and size != 13
'''
TESTS = """
import pytest
from tiny.attestation.limits import allowed

def test_sizes():
    assert allowed(5, most=5)
    assert not allowed(6, most=5)
    with pytest.raises(ValueError):
        allowed(None, most=5)
"""
PROGRAM = """
import json, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2] + "/src"]
import mutation
mutation.ROOT = Path(sys.argv[2])
mutation.SOURCE = mutation.ROOT / "src"
mutation.WHOLE = (sys.argv[3],)
chosen = mutation.select([sys.argv[3]], 1, 100)
assert chosen == mutation.select([sys.argv[3]], 1, 100)
mutation.check_unchanged([sys.argv[3]])
found = {each.name: outcome for each, outcome in mutation.try_all(chosen, 2)}
changes = {each.name: mutation.difference(each) for each in chosen}
print("\\n" + json.dumps([[name, outcome, changes[name]] for name, outcome in found.items()]))
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A package with one module and one test."""
    for folder in ("src/tiny/attestation", "tests/attestation"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("src/tiny", "src/tiny/attestation"):
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "src" / MODULE).write_text(SOURCE)
    (tmp_path / "tests/attestation/test_limits.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    system\n    alone\n")
    return tmp_path


def run(folder: Path) -> list[tuple[str, str, str]]:
    command = [sys.executable, "-c", PROGRAM, str(TOOL.parent), str(folder), MODULE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=True)
    return [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]


def test_a_change_that_a_test_sees_is_told_from_one_that_none_sees(tiny: Path) -> None:
    rows = run(tiny)
    outcomes = {change.splitlines()[1].strip("+ "): outcome for _, outcome, change in rows}
    assert outcomes["return size < most and size != 13"] == "killed"
    assert outcomes["return size >= most and size != 13"] == "killed"
    assert outcomes["if not size is None:"] == "killed"
    assert outcomes["return size <= most and size != 14"] == "survived"
    assert (tiny / "src" / MODULE).read_text() == SOURCE  # nothing was changed on disk


def test_only_what_code_does_is_changed(tiny: Path) -> None:
    changes = [change for _, _, change in run(tiny)]
    assert changes
    assert not any("def allowed" in change for change in changes)  # types, and the star between arguments
    assert not any("no size" in change for change in changes)  # what an error says


def test_where_tests_fail_as_it_is_nothing_is_tried(tiny: Path) -> None:
    (tiny / "tests/attestation/test_limits.py").write_text("def test_it():\n    assert False\n")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(tiny)
    assert "fails on the code as it is" in caught.value.stderr
