"""Forms are ready when their module is imported: several threads may come at once."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import strongroom
import strongroom_simulator

SOURCES = [
    path
    for package in (strongroom, strongroom_simulator)
    for path in sorted(Path(str(package.__file__)).parent.rglob("*.py"))
    if "msgspec.Struct" in path.read_text(encoding="utf-8")
]

AT_ONCE = """
import sys, threading
import msgspec
from strongroom.forms import ready
sys.setswitchinterval(1e-6)
forms = []
for number in range(200):
    leaf = msgspec.defstruct("Leaf", [(f"a{at}", int, 1) for at in range(10)])
    middle = msgspec.defstruct("Middle", [(f"a{at}", list[leaf] | None, None) for at in range(10)])
    fields = [(f"a{at}", dict[str, middle] | None, None) for at in range(10)]
    forms.append(ready(msgspec.defstruct("Form", fields)))
barrier = threading.Barrier(12)
outcomes = []
def convert():
    for form in forms:
        barrier.wait()
        outcomes.append(msgspec.convert({"a0": {"x": {"a0": [{"a1": 3}]}}}, form).a0["x"].a0[0].a1)
threads = [threading.Thread(target=convert) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sum(outcomes))
"""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_form_is_made_ready_where_it_is_defined(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and "msgspec.Struct" in [ast.unparse(base) for base in node.bases]:
            assert "ready" in [ast.unparse(each) for each in node.decorator_list], node.name


def test_the_first_use_by_many_threads_at_once() -> None:
    """Without `ready` this process ends with SIGSEGV."""
    command = [sys.executable, "-P", "-c", AT_ONCE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, f"{200 * 12 * 3}\n"), done.stderr
