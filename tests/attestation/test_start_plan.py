"""The command line of a worker: fixed flags, a clean environment, a bootstrap that does what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.attestation.measurement_errors import MeasurementError
from strongroom.attestation.start_plan import ENTRY, ENVIRONMENT, FLAGS, StartPlan

PROGRAM = """
import gc, json, sys
enabled_at_import = gc.isenabled()
def main():
    print(json.dumps({
        "argv": sys.argv, "path": sys.path, "gc": [enabled_at_import, gc.isenabled()],
        "tools": sys.modules["openvino.tools"], "flags": [sys.flags.isolated, sys.flags.no_site,
        sys.flags.dont_write_bytecode, sys.flags.safe_path], "prefix": sys.pycache_prefix,
        "site": "site" in sys.modules,
    }))
    return 7
"""


def test_production_entry_and_flags_are_fixed() -> None:
    plan = StartPlan()
    assert plan.entry == ENTRY == "strongroom.worker.main:main"
    assert plan.flags == FLAGS
    assert {"-I", "-S", "-B"} <= set(plan.flags)
    assert "pycache_prefix=/dev/null/pycache" in plan.flags


def test_environment_has_nothing_that_loads_code_and_no_path() -> None:
    assert dict(StartPlan().environment) == {
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        "OPENSSL_CONF": "/dev/null",
    }
    with pytest.raises(TypeError):
        ENVIRONMENT["LD_PRELOAD"] = "/evil.so"  # type: ignore[index]


def test_command_line() -> None:
    plan = StartPlan(entry="a.b:c")
    command = plan.command(Path("/bin/python"), [Path("/std"), Path("/root")], ("5", "6"))
    assert command == ["/bin/python", *FLAGS, "-c", plan.boot, "5", "6", "/std", "/root"]
    assert "from a.b import c as entry\n" in plan.boot


def test_the_bootstrap_sets_the_path_and_runs_the_entry(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(PROGRAM)
    standard = [Path(json.__file__).parent.parent, *map(Path, (p for p in sys.path if "lib-dynload" in p))]
    plan = StartPlan(entry="tiny:main")
    command = plan.command(Path(sys.executable).resolve(), [*standard, tmp_path], ("5", "6"))
    done = subprocess.run(command, env=dict(plan.environment), capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert json.loads(done.stdout) == {
        "argv": ["strongroom-worker", "5", "6"],
        "path": [*map(str, standard), str(tmp_path)],
        "gc": [False, True],
        "tools": None,
        "flags": [1, 1, 1, True],
        "prefix": "/dev/null/pycache",
        "site": False,
    }


@pytest.mark.parametrize(
    "entry",
    ["", "a", "a:", ":b", "a:b:c", "a b:c", "a:b()", "a\n:b", "a:b\n", "a..b:c", "a;import os:b", "ä:b"],
)
def test_refuses_what_is_no_entry(entry: str) -> None:
    with pytest.raises(MeasurementError, match="measurement-entry"):
        StartPlan(entry=entry)


def test_documents_differ_with_each_part() -> None:
    plain = StartPlan().documents()
    assert plain.keys() == {"command/boot", "command/environment", "command/flags"}
    changed = [
        ("command/boot", StartPlan(entry="a:b")),
        ("command/flags", StartPlan(flags=(*FLAGS, "-O"))),
        ("command/environment", StartPlan(environment={**ENVIRONMENT, "A": "b"})),
    ]
    for name, plan in changed:
        differing = {key for key, text in plan.documents().items() if text != plain[key]}
        assert differing == {name}


def test_the_order_of_variables_does_not_matter() -> None:
    turned = dict(reversed(ENVIRONMENT.items()))
    assert StartPlan(environment=turned).documents() == StartPlan().documents()
