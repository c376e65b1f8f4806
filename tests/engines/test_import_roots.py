"""The default roots: this installation's own, and that a linked environment measures the same."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from hashlib import sha256
from pathlib import Path

import pytest

import strongroom
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.measurement import measure
from strongroom.attestation.start_plan import ENTRY, FLAGS
from strongroom.engines import import_roots
from strongroom.engines.import_roots import base_interpreter, default_roots, measure_default
from strongroom.engines.launcher import Launcher

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


LOADS = """
import os, sys

def main():
    import hiredis, msgspec, numpy, pyrage, rfc8785
    import PIL.Image, PIL.JpegImagePlugin, PIL.PngImagePlugin
    import strongroom.worker.serve
    from strongroom.models.quiet_openvino import CORE
    CORE.get_property("CPU", "FULL_DEVICE_NAME")
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    with open("/proc/self/maps") as maps:
        files += ["/" + line.partition("/")[2].rstrip() for line in maps if " r-xp " in line and "/" in line]
    with os.fdopen(int(sys.argv[1])) as pipe, open(pipe.read(), "w") as out:
        out.write("\\n".join(filter(None, files)))
    return 9 if "openvino_telemetry" in sys.modules else 0
"""


class NoBackend:
    """Never asked."""

    def quote(self, report_data: bytes) -> Evidence:
        raise AssertionError(report_data)


@pytest.mark.slow
def test_all_that_a_real_worker_loads_is_measured(tmp_path: Path) -> None:
    """The kernel and the interpreter are the judges: mapped code and loaded modules, by path."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "loads.py").write_text(LOADS)
    measurement = measure(base_interpreter(), [root, *default_roots()], entry="loads:main")
    out = tmp_path / "out"
    status = Launcher(measurement, NoBackend(), str(out).encode()).start().wait(60)
    assert status == 0  # and not 9: nothing in an enclave may phone home
    places = dict(zip(("root.0", "root.1", "root.2"), measurement.path.roots, strict=False))
    places["standard.0"] = measurement.path.standard[0]
    known = {os.path.realpath(measurement.path.interpreter)}
    for name in measurement.digests:
        label, _, rest = name.partition("/")
        known |= {os.path.realpath(places[label] / rest)} if label in places else set()
    contents = set(measurement.digests.values())
    loaded = {os.path.realpath(line) for line in out.read_text().splitlines()}
    unknown = [path for path in loaded - known if sha256(Path(path).read_bytes()).hexdigest() not in contents]
    assert len(loaded) > 500
    assert any("libopenvino_intel_cpu_plugin" in path for path in loaded)
    assert unknown == []


@pytest.mark.slow
def test_the_whole_environment_measures_the_same_behind_a_link(tmp_path: Path) -> None:
    linked = []
    for index, root in enumerate(default_roots()[1:] or default_roots()):
        (tmp_path / f"linked{index}").symlink_to(root)
        linked.append(tmp_path / f"linked{index}")
    roots = default_roots()[1:] or default_roots()
    assert measure(base_interpreter(), linked).sha256 == measure(base_interpreter(), roots).sha256
