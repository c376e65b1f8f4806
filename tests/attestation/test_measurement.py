"""The measurement: what changes it, what does not, and that two places with the same content give one."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from copied_python import NO_SYSTEM, VERSION, copy_python
from strongroom.attestation._libraries import SystemFiles
from strongroom.attestation.measurement import ImportPath, Measurement, measure
from strongroom.attestation.measurement_errors import MeasurementError
from strongroom.attestation.start_plan import FLAGS, StartPlan


@pytest.fixture(scope="module")
def shared_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed by tests."""
    return copy_python(tmp_path_factory.mktemp("python"))


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """To be changed by one test."""
    return copy_python(tmp_path / "python")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "__init__.py").write_text("")
    (folder / "tiny" / "main.py").write_text("def main():\n    return 0\n")
    (folder / "tiny-1.0.dist-info").mkdir()
    (folder / "tiny-1.0.dist-info" / "METADATA").write_text("Name: tiny\nVersion: 1.0\n")
    (folder / "tiny-1.0.dist-info" / "RECORD").write_text("tiny/main.py,,\n")
    return folder


@pytest.fixture
def measured(shared_python: Path, root: Path) -> Callable[..., Measurement]:
    """`measured(**options)`: measure the root as it is now, without the system's libraries."""

    def run(*roots: Path, **options: Any) -> Measurement:
        return measure(
            shared_python, roots or (root,), **{"entry": "tiny.main:main", "system": NO_SYSTEM, **options}
        )

    return run


Measured = Callable[..., Measurement]


def test_the_digests_are_those_of_the_manifest(measured: Measured) -> None:
    measurement = measured()
    text = measurement.manifest().encode()
    assert measurement.sha256 == hashlib.sha256(text).digest()
    assert measurement.sha384 == hashlib.sha384(text).digest()
    lines = text.decode().splitlines()
    assert lines[0] == "strongroom-measurement/1"
    assert all(re.fullmatch(r"[0-9a-f]{64}  \S.*", line) for line in lines[1:])
    assert [line[66:] for line in lines[1:]] == sorted(measurement.digests)


def test_the_manifest_names_every_part(measured: Measured, shared_python: Path) -> None:
    digests = measured(system=SystemFiles()).digests
    assert digests["interpreter"] == hashlib.sha256(shared_python.read_bytes()).hexdigest()
    assert digests["root.0/tiny/main.py"] == hashlib.sha256(b"def main():\n    return 0\n").hexdigest()
    assert {"standard.0/os.py", "standard.0/encodings/__init__.py", "system/libc.so.6"} <= digests.keys()
    assert any(name.startswith("standard.0/lib-dynload/_ssl") for name in digests)
    commands = {name for name in digests if name.startswith("command/")}
    assert commands == {"command/boot", "command/environment", "command/flags", "command/path"}


def test_no_name_tells_where_things_are(measured: Measured, root: Path, shared_python: Path) -> None:
    manifest = measured().manifest()
    assert str(root) not in manifest
    assert str(shared_python.parent) not in manifest


def test_components_sum_up(measured: Measured) -> None:
    measurement = measured()
    components = {component.name: component for component in measurement.components()}
    assert components.keys() == {
        *("command", "interpreter", "root.0", "standard.0", "system"),
    }
    assert sum(component.files for component in components.values()) == len(measurement.digests)
    assert (components["root.0"].files, components["root.0"].size) == (3, 49)
    line = f"{measurement.digests['interpreter']}  interpreter\n"
    assert components["interpreter"].sha256 == hashlib.sha256(line.encode()).hexdigest()


def test_the_command_is_what_was_measured(measured: Measured, root: Path, shared_python: Path) -> None:
    measurement = measured()
    plan = StartPlan(entry="tiny.main:main")
    library = shared_python.parent.parent / "lib" / VERSION
    assert measurement.command(("3", "4")) == [
        *(str(shared_python), *FLAGS, "-c", plan.boot, "3", "4"),
        *(str(library), str(library / "lib-dynload"), str(root)),
    ]
    assert measurement.environment == dict(plan.environment)


# Two places, one measurement.


def test_a_copied_root_gives_the_same(measured: Measured, root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "deep"
    shutil.copytree(root, copy)
    assert measured(copy).sha256 == measured().sha256


def test_a_linked_root_gives_the_same(measured: Measured, root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert measured(tmp_path / "link").sha256 == measured().sha256


def test_a_copied_interpreter_gives_the_same(measured: Measured, python: Path, root: Path) -> None:
    copied = measure(python, [root], entry="tiny.main:main", system=NO_SYSTEM)
    assert copied.manifest() == measured().manifest()


def test_a_linked_interpreter_gives_the_same(
    shared_python: Path, measured: Measured, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "python").symlink_to(shared_python)
    linked = measure(tmp_path / "python", [root], entry="tiny.main:main", system=NO_SYSTEM)
    assert linked.sha256 == measured().sha256


# What has no effect.


@pytest.mark.parametrize(
    "name",
    [
        "__pycache__/tiny.cpython-311.pyc",
        "tiny/__pycache__/main.cpython-311.pyc",
        "evil.pth",
        "tiny-1.0.dist-info/RECORD",
        "tiny-1.0.dist-info/INSTALLER",
        "tiny-1.0.dist-info/REQUESTED",
        "tiny-1.0.dist-info/direct_url.json",
    ],
)
def test_does_not_change_with(measured: Measured, root: Path, name: str) -> None:
    before = measured().sha256
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(b"import evil")
    assert measured().sha256 == before


def test_bytecode_and_site_folders_of_the_standard_library_do_not_count(python: Path, root: Path) -> None:
    before = measure(python, [root], system=NO_SYSTEM).sha256
    library = python.parent.parent / "lib" / VERSION
    for folder in ("__pycache__", "encodings/__pycache__", "site-packages", "dist-packages"):
        (library / folder).mkdir()
        (library / folder / "evil.py").write_text("evil")
    assert measure(python, [root], system=NO_SYSTEM).sha256 == before


# What changes it.


@pytest.mark.parametrize(
    "name",
    [
        "tiny/main.py",
        "tiny/extra.py",
        "sitecustomize.py",
        "usercustomize.py",
        "tiny/sourceless.pyc",
        "os.py",
        "json/__init__.py",
        "tiny/data.txt",
        "tiny/evil.pth",
        "__pycache__",  # a file of this name is no folder of bytecode
        "tiny-1.0.dist-info/METADATA",
        "tiny-1.0.dist-info/entry_points.txt",
        "tiny-1.0.dist-info/licenses/RECORD",
        "tiny/inner-1.0.dist-info/RECORD",
        "RECORD",
        "tiny/_speed.cpython-311-x86_64-linux-gnu.so",
    ],
)
def test_changes_with(measured: Measured, root: Path, name: str) -> None:
    before = measured()
    (root / name).parent.mkdir(exist_ok=True, parents=True)
    (root / name).write_bytes(b"changed")
    after = measured()
    assert after.sha256 != before.sha256
    assert after.sha384 != before.sha384
    changed = after.digests.items() ^ before.digests.items()
    assert {key for key, _ in changed} == {f"root.0/{name}"}


@pytest.mark.parametrize("name", ["encodings/__init__.py", "os.py", "sitecustomize.py", "new.py"])
def test_changes_with_the_standard_library(python: Path, root: Path, name: str) -> None:
    before = measure(python, [root], system=NO_SYSTEM).sha256
    with (python.parent.parent / "lib" / VERSION / name).open("a") as file:
        file.write("\n# changed\n")
    assert measure(python, [root], system=NO_SYSTEM).sha256 != before


def test_changes_with_the_interpreter(python: Path, root: Path) -> None:
    before = measure(python, [root], system=NO_SYSTEM).sha256
    with python.open("ab") as file:
        file.write(b"\0")
    assert measure(python, [root], system=NO_SYSTEM).sha256 != before


def test_changes_with_flags_entry_and_order_of_roots(
    measured: Measured, root: Path, tmp_path: Path, shared_python: Path
) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "m.py").write_text("")
    roots = (root, tmp_path / "second")
    digests = {
        measured(*roots).sha256,
        measured(*roots, flags=(*FLAGS, "-O")).sha256,
        measured(*roots, entry="tiny.main:other").sha256,
        measured(*reversed(roots)).sha256,
        measured(roots[0]).sha256,
    }
    assert len(digests) == 5


def test_changes_with_what_the_system_preloads(measured: Measured, tmp_path: Path) -> None:
    preload = tmp_path / "preload"
    system = replace(NO_SYSTEM, preload=preload)
    before = measured(system=system)
    preload.write_text("/no/such/library.so\n")
    after = measured(system=system)
    added = after.digests.keys() - before.digests.keys()
    assert added == {"system/no/such/library.so"}
    text = hashlib.sha256(preload.read_bytes()).hexdigest()
    assert before.digests["system/ld.so.preload"] != after.digests["system/ld.so.preload"] == text
    assert after.sha256 != before.sha256


SETTINGS = ["pyvenv.cfg", "../pyvenv.cfg", "pybuilddir.txt", "Modules/Setup.local", f"{VERSION}._pth"]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_file_that_leads_the_interpreter_elsewhere_is_refused(python: Path, root: Path, name: str) -> None:
    measure(python, [root], system=NO_SYSTEM)
    (python.parent / name).parent.mkdir(exist_ok=True)
    (python.parent / name).write_text("")
    with pytest.raises(MeasurementError, match="would lead it to another"):
        measure(python, [root], system=NO_SYSTEM)


HIDE = """
import _io, sys
with _io.FileIO(MARKER, "w") as marker:
    marker.write(b"ran")
sys.path[:] = GENUINE
sys.path_importer_cache.clear()
__path__[:] = [GENUINE[1] + "/encodings"]
with _io.FileIO(__path__[0] + "/__init__.py") as source:
    exec(source.read())
"""


@pytest.mark.parametrize("place", ["lib/python.zip", "bin/lib/python.zip", "bin/lib/folder"])
def test_planted_code_that_hides_itself_is_refused(
    python: Path, root: Path, tmp_path: Path, place: str
) -> None:
    """It runs before any other code and tells the interpreter's own story: the answer is that of before."""
    top = python.parent.parent
    asked = [python, *FLAGS, "-c", "import sys; print(sys.path)"]
    before = subprocess.run(asked, env={}, capture_output=True, text=True, check=True).stdout
    compact = VERSION.replace(".", "")
    genuine = [f"{top}/lib/{compact}.zip", f"{top}/lib/{VERSION}", f"{top}/lib/{VERSION}/lib-dynload"]
    code = f"MARKER = {str(tmp_path / 'marker')!r}\nGENUINE = {genuine!r}\n"
    code += HIDE
    folder = (top / place).parent
    folder.mkdir(exist_ok=True)
    if place.endswith(".zip"):
        with zipfile.ZipFile(folder / f"{compact}.zip", "w") as archive:
            archive.writestr("encodings/__init__.py", code)
    else:
        (folder / VERSION / "encodings").mkdir(parents=True)
        (folder / VERSION / "encodings" / "__init__.py").write_text(code)
        (folder / VERSION / "os.py").write_text("")
    after = subprocess.run(asked, env={}, capture_output=True, text=True, check=True).stdout
    assert after == before  # the positive controls: it hides, and it ran
    assert (tmp_path / "marker").exists()
    if place == "lib/python.zip":
        changed = measure(python, [root], system=NO_SYSTEM)
        assert "standard.0" in changed.digests  # named because it is there, not because it says so
    else:
        with pytest.raises(MeasurementError, match="does not look where"):
            measure(python, [root], system=NO_SYSTEM)


def test_two_standard_libraries_are_refused(python: Path, root: Path) -> None:
    top = python.parent.parent
    before = measure(python, [root], system=NO_SYSTEM).sha256
    (top / "lib64").symlink_to("lib")
    assert measure(python, [root], system=NO_SYSTEM).sha256 == before
    (top / "lib64").unlink()
    shutil.copytree(top / "lib", top / "lib64")
    with pytest.raises(MeasurementError, match="two standard libraries"):
        measure(python, [root], system=NO_SYSTEM)


def test_an_interpreter_without_a_standard_library_is_refused(python: Path, root: Path) -> None:
    (python.parent.parent / "lib" / VERSION / "os.py").unlink()
    with pytest.raises(MeasurementError, match="no standard library"):
        measure(python, [root], system=NO_SYSTEM)


def test_a_file_that_makes_the_interpreter_import_site_is_refused(python: Path, root: Path) -> None:
    """`import site` in a `._pth` file takes back `-S`; then `.pth` files and `sitecustomize` would run."""
    library = python.parent.parent / "lib" / VERSION
    (python.parent / f"{VERSION}._pth").write_text(f"{library}\n{library}/lib-dynload\nimport site\n")
    shown = subprocess.run(
        [python, "-I", "-S", "-c", "import sys; print('site' in sys.modules)"],
        env={},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown == "True\n"  # the positive control
    with pytest.raises(MeasurementError, match="measurement-interpreter"):
        measure(python, [root], system=NO_SYSTEM)


def test_a_standard_library_that_imports_site_is_refused(python: Path, root: Path) -> None:
    """No file beside the interpreter does it here, but a module that every start imports."""
    measure(python, [root], system=NO_SYSTEM)
    encodings = python.parent.parent / "lib" / VERSION / "encodings" / "__init__.py"
    encodings.write_text(encodings.read_text() + "\nimport site\n")
    with pytest.raises(MeasurementError, match="measurement-interpreter"):
        measure(python, [root], system=NO_SYSTEM)


def test_a_zipped_standard_library_counts(python: Path, root: Path) -> None:
    before = measure(python, [root], system=NO_SYSTEM)
    archive = python.parent.parent / "lib" / f"{VERSION.replace('.', '')}.zip"
    archive.write_bytes(b"PK\x05\x06" + bytes(18))
    after = measure(python, [root], system=NO_SYSTEM)
    assert after.digests["standard.0"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert after.path.standard[0] == archive
    assert after.sha256 != before.sha256


# What is refused.


@pytest.mark.parametrize("name", [b"line\nbreak.py", b"not-utf8-\xff.py"])
def test_names_with_two_meanings_are_refused(measured: Measured, root: Path, name: bytes) -> None:
    (root / os.fsdecode(name)).write_bytes(b"")
    with pytest.raises(MeasurementError, match="measurement-unsupported-file"):
        measured()


def test_a_name_of_another_script_is_fine(measured: Measured, root: Path) -> None:
    (root / "tiny" / "fichier-\u00e9\u4e2d\u200b.txt").write_bytes(b"")
    assert "root.0/tiny/fichier-\u00e9\u4e2d\u200b.txt" in measured().digests


def test_a_missing_root_is_refused(measured: Measured, root: Path) -> None:
    with pytest.raises(MeasurementError, match="measurement-unreadable"):
        measured(root / "missing")


def test_an_interpreter_that_is_none_is_refused(root: Path, tmp_path: Path) -> None:
    for text in (None, "not a program", "#!/bin/sh\nexit 3\n", "#!/bin/sh\necho relative/path\n"):
        program = tmp_path / "program"
        if text is not None:
            program.write_text(text)
            program.chmod(0o700)
        with pytest.raises(MeasurementError, match="measurement-interpreter"):
            measure(program, [root], system=NO_SYSTEM)


def test_a_script_in_front_of_an_interpreter_is_refused(python: Path, root: Path) -> None:
    wrapper = python.parent / "python"
    wrapper.write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    wrapper.chmod(0o700)
    assert ImportPath.probe(
        wrapper, [root], StartPlan()
    ).standard  # it works, so the check below alone refuses
    with pytest.raises(MeasurementError, match="measurement-interpreter"):
        measure(wrapper, [root], system=NO_SYSTEM)
