"""The default roots: this installation's own, and that a linked environment measures the same."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

import strongroom
from strongroom.attestation.measurement import measure
from strongroom.attestation.start_plan import ENTRY, FLAGS
from strongroom.engines import import_roots
from strongroom.engines.import_roots import base_interpreter, default_roots, measure_default

PACKAGE = Path(strongroom.__file__).parent


def test_the_base_interpreter_is_not_the_environments() -> None:
    interpreter = base_interpreter()
    assert interpreter.is_file()
    assert not interpreter.is_symlink()
    assert not interpreter.is_relative_to(sys.prefix) or sys.prefix == sys.base_prefix


def test_without_a_virtual_environment_it_is_this_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys, "_base_executable")
    assert base_interpreter() == Path(os.path.realpath(sys.executable))


def test_roots_hold_the_package_and_the_site_folder_each_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    roots = default_roots()
    assert roots[0] == PACKAGE.parent
    assert Path(sysconfig.get_path("purelib")) in roots
    assert len({root.resolve() for root in roots}) == len(roots)
    installed = Path(sysconfig.get_path("purelib"), "strongroom", "engines", "import_roots.py")
    monkeypatch.setattr(import_roots, "__file__", str(installed))
    assert default_roots() == (Path(sysconfig.get_path("purelib")),)
    (tmp_path / "lib64").symlink_to(sysconfig.get_path("purelib"))
    monkeypatch.setattr(
        sysconfig, "get_path", lambda name: str(tmp_path / "lib64") if name == "platlib" else str(roots[-1])
    )
    assert len(default_roots()) == 1


def test_the_default_measurement_is_that_of_the_production_worker() -> None:
    measurement = measure_default()
    assert measurement.plan.entry == ENTRY
    assert measurement.plan.flags == FLAGS
    assert measurement.path.roots == default_roots()
    assert "root.0/strongroom/worker/main.py" in measurement.digests
    assert any(name.endswith("/numpy/__init__.py") for name in measurement.digests)
    assert "system/libc.so.6" in measurement.digests


def test_the_package_measures_the_same_copied_and_linked(tmp_path: Path) -> None:
    copy = tmp_path / "a" / "copy"
    copy.mkdir(parents=True)
    for name in ("strongroom", "strongroom_simulator"):
        shutil.copytree(PACKAGE.parent / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "link").symlink_to(copy)
    results = {
        measure(base_interpreter(), [root]).sha256
        for root in (copy, tmp_path / "link", tmp_path / "a/../link")
    }
    assert len(results) == 1
    with (copy / "strongroom" / "worker" / "__init__.py").open("a") as file:
        file.write("# one more line\n")
    assert measure(base_interpreter(), [copy]).sha256 not in results


@pytest.mark.slow
def test_the_whole_environment_measures_the_same_behind_a_link(tmp_path: Path) -> None:
    linked = []
    for index, root in enumerate(default_roots()[1:] or default_roots()):
        (tmp_path / f"linked{index}").symlink_to(root)
        linked.append(tmp_path / f"linked{index}")
    roots = default_roots()[1:] or default_roots()
    assert measure(base_interpreter(), linked).sha256 == measure(base_interpreter(), roots).sha256
