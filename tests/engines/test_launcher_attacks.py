"""Rule 10: what a host can do to slip code into a worker has no effect, or changes the measurement.

Each test launches a real process. Where an attack has no effect, an ordinary interpreter shows that it would
have one: the positive control.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation.start_plan import ENVIRONMENT, FLAGS

# The fixtures' types live in conftest.py, which tests cannot import.
TinyWorker = Any

CONSTRUCTOR = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void run(void) {
    FILE *file = fopen("%s", "a");
    if (file) { fputs("ran", file); fclose(file); }
}
"""


def poisoned(source: Path, code: str, *, unchecked: bool = False) -> bytes:
    """Bytecode of `code` that claims to be that of `source`, as an ordinary interpreter would accept it."""
    compiled = marshal.dumps(compile(code, str(source), "exec"))
    if unchecked:
        return importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + bytes(8) + compiled
    status = source.stat()
    return (
        importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, int(status.st_mtime), status.st_size) + compiled
    )


def cache_of(source: Path) -> Path:
    path = Path(importlib.util.cache_from_source(str(source), optimization=""))
    path.parent.mkdir(exist_ok=True)
    return path


@pytest.fixture
def no_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cache_from_source` says where an ordinary interpreter looks."""
    monkeypatch.setattr("sys.pycache_prefix", None)


@pytest.fixture
def unaffected(tiny: TinyWorker) -> Callable[[], None]:
    """`unaffected()`: launched now, the worker runs as before, under the measurement from before."""
    return checker(tiny)


def checker(worker: TinyWorker) -> Callable[[], None]:
    measurement = worker.measure()
    good = worker.report()
    assert not worker.ran_evil_code()

    def check() -> None:
        assert worker.measure().sha256 == measurement.sha256
        now = worker.report()
        assert not worker.ran_evil_code()
        for key in ("value", "path", "modules", "environ", "flags", "cwd"):
            assert now[key] == good[key]

    return check


Check = Callable[[], None]


# What changes the measurement.


def test_a_changed_source_line(tiny: TinyWorker) -> None:
    before = tiny.measure()
    (tiny.root / "part.py").write_text("VALUE = 'evil'\n")
    assert tiny.report()["value"] == "evil"
    assert tiny.measure().sha256 != before.sha256
    assert tiny.measure().sha384 != before.sha384


def test_an_added_file(tiny: TinyWorker) -> None:
    before = tiny.measure()
    (tiny.root / "added.py").write_text("")
    assert tiny.measure().sha256 != before.sha256


@pytest.mark.parametrize("name", ["sitecustomize", "usercustomize"])
def test_a_customisation_module_on_the_import_path(tiny: TinyWorker, name: str) -> None:
    before = tiny.measure()
    (tiny.root / f"{name}.py").write_text(tiny.evil)
    env = {"PYTHONPATH": str(tiny.root)}
    tiny.ordinary("-c", "pass", env=env)
    assert tiny.ran_evil_code()
    tiny.report()
    assert not tiny.ran_evil_code()
    assert tiny.measure().sha256 != before.sha256


def test_sourceless_bytecode(tiny: TinyWorker) -> None:
    before = tiny.measure()
    source = tiny.root / "part.py"
    source.write_text("VALUE = 'sourceless'\n")
    py_compile.compile(str(source), cfile=str(tiny.root / "part.pyc"))
    source.unlink()
    assert tiny.report()["value"] == "sourceless"  # it is loaded, so it must be measured
    assert tiny.measure().sha256 != before.sha256


def test_sourceless_bytecode_of_a_module_that_was_not_there(tiny: TinyWorker) -> None:
    before = tiny.measure()
    (tiny.root / "extra.pyc").write_bytes(poisoned(tiny.root / "part.py", "x = 1"))
    assert tiny.measure().sha256 != before.sha256


@pytest.mark.parametrize(
    "flags", [(*FLAGS, "-O"), tuple(flag for flag in FLAGS if flag != "-B"), ("-v", *FLAGS)]
)
def test_another_interpreter_flag(tiny: TinyWorker, flags: tuple[str, ...]) -> None:
    assert tiny.measure(flags=flags).sha256 != tiny.measure().sha256


def test_another_entry(tiny: TinyWorker) -> None:
    assert tiny.measure(entry="program:report").sha256 != tiny.measure().sha256


# What has no effect.


def test_a_pth_file_on_the_import_path(tiny: TinyWorker, unaffected: Check) -> None:
    (tiny.root / "evil.pth").write_text(f"import os; {tiny.evil}")
    tiny.ordinary("-c", f"import site; site.addsitedir({str(tiny.root)!r})")
    assert tiny.ran_evil_code()
    unaffected()


@pytest.mark.parametrize("name", ["evil.pth", "sitecustomize.py", "usercustomize.py"])
def test_the_interpreters_own_site_folder(tiny_own_python: TinyWorker, name: str) -> None:
    worker = tiny_own_python
    unaffected = checker(worker)
    folder = worker.library / "site-packages"
    folder.mkdir()
    (folder / name).write_text(f"import os; {worker.evil}")
    worker.ordinary("-c", "pass")
    assert worker.ran_evil_code()
    unaffected()


def test_the_users_site_folder(
    tiny: TinyWorker, unaffected: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "user" / "lib" / tiny.library.name / "site-packages"
    folder.mkdir(parents=True)
    (folder / "usercustomize.py").write_text(tiny.evil)
    env = {"PYTHONUSERBASE": str(tmp_path / "user")}
    tiny.ordinary("-c", "pass", env=env)
    assert tiny.ran_evil_code()
    monkeypatch.setenv("PYTHONUSERBASE", env["PYTHONUSERBASE"])
    unaffected()


@pytest.mark.usefixtures("no_prefix")
@pytest.mark.parametrize("unchecked", [False, True])
def test_poisoned_bytecode_beside_an_untouched_source(
    tiny: TinyWorker, unaffected: Check, unchecked: bool
) -> None:
    source = tiny.root / "part.py"
    cache_of(source).write_bytes(poisoned(source, f"VALUE = 'evil'\n{tiny.evil}", unchecked=unchecked))
    tiny.import_part()
    assert tiny.ran_evil_code()
    unaffected()


@pytest.mark.usefixtures("no_prefix")
@pytest.mark.parametrize("module", ["encodings/__init__.py", "json/__init__.py"])
def test_poisoned_bytecode_of_the_standard_library(tiny_own_python: TinyWorker, module: str) -> None:
    worker = tiny_own_python
    unaffected = checker(worker)
    source = worker.library / module
    code = (
        source.read_text()
        + f"\nimport os\nos.close(os.open({str(worker.marker)!r}, os.O_CREAT | os.O_WRONLY))\n"
    )
    cache_of(source).write_bytes(poisoned(source, code))
    worker.ordinary("-I", "-S", "-B", "-c", "import json")
    assert worker.ran_evil_code()
    unaffected()


@pytest.mark.usefixtures("no_prefix")
def test_poisoned_bytecode_below_a_prefix(
    tiny: TinyWorker, unaffected: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "prefix"
    source = tiny.root / "part.py"
    monkeypatch.setattr("sys.pycache_prefix", str(prefix))
    path = Path(importlib.util.cache_from_source(str(source), optimization=""))
    path.parent.mkdir(parents=True)
    path.write_bytes(poisoned(source, f"VALUE = 'evil'\n{tiny.evil}"))
    tiny.import_part(env={"PYTHONPYCACHEPREFIX": str(prefix)})
    assert tiny.ran_evil_code()
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(prefix))
    unaffected()


def test_no_bytecode_is_written_anywhere(tiny_own_python: TinyWorker) -> None:
    tiny_own_python.report()
    folders = [tiny_own_python.root, tiny_own_python.library]
    assert [path for folder in folders for path in folder.rglob("*.pyc")] == []
    tiny_own_python.ordinary("-c", "import json")
    assert any(tiny_own_python.library.rglob("*.pyc"))  # an ordinary one writes it


@pytest.mark.parametrize("variable", ["PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"])
def test_variables_of_the_interpreter(
    tiny: TinyWorker, unaffected: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    value = str(evil)
    if variable == "PYTHONPATH":
        (evil / "part.py").write_text(f"VALUE = 'evil'\n{tiny.evil}")
        tiny.import_part(env={variable: value})
    elif variable == "PYTHONSTARTUP":
        value = str(evil / "startup.py")
        Path(value).write_text(tiny.evil)
        tiny.ordinary("-i", env={variable: value})
    else:
        shutil.copytree(tiny.library, evil / "lib" / tiny.library.name)
        with (evil / "lib" / tiny.library.name / "encodings" / "__init__.py").open("a") as file:
            file.write(f"\nimport os\nos.close(os.open({str(tiny.marker)!r}, os.O_CREAT | os.O_WRONLY))\n")
        tiny.ordinary("-c", "pass", env={variable: value})
    assert tiny.ran_evil_code()
    monkeypatch.setenv(variable, value)
    unaffected()


def test_a_preloaded_library(
    tiny: TinyWorker, unaffected: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    (tmp_path / "evil.c").write_text(CONSTRUCTOR % tiny.marker)
    library = tmp_path / "evil.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "evil.c"], check=True)
    tiny.ordinary("-c", "pass", env={"LD_PRELOAD": str(library)})
    assert tiny.ran_evil_code()
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("LD_AUDIT", str(library))
    unaffected()


def test_a_replaced_library_in_the_loaders_path(
    tiny: TinyWorker, unaffected: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    (tmp_path / "evil.c").write_text(CONSTRUCTOR % tiny.marker)
    (tmp_path / "lib").mkdir()
    command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libm.so.6", "-o", tmp_path / "lib" / "libm.so.6"]
    subprocess.run([*command, tmp_path / "evil.c"], check=True)
    tiny.ordinary("-c", "import math", env={"LD_LIBRARY_PATH": str(tmp_path / "lib"), "LD_BIND_NOW": ""})
    control = tiny.ran_evil_code()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "lib"))
    unaffected()
    if not control:
        pytest.skip("this interpreter does not load libm; the attack has no effect anyway")


def test_a_module_in_the_working_folder(
    tiny: TinyWorker, unaffected: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("part.py", "json.py"):
        (evil / name).write_text(f"VALUE = 'evil'\n{tiny.evil}")
    tiny.ordinary("-c", "import part", cwd=evil)
    assert tiny.ran_evil_code()
    monkeypatch.chdir(evil)
    unaffected()


def test_the_import_path_cannot_shadow_the_standard_library(tiny: TinyWorker) -> None:
    (tiny.root / "json.py").write_text(tiny.evil)
    tiny.report()
    assert not tiny.ran_evil_code()


def test_nothing_of_the_environment_arrives(tiny: TinyWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATH", "HOME", "GLIBC_TUNABLES", "OPENSSL_CONF", "OMP_NUM_THREADS", "PYTHONINSPECT"):
        monkeypatch.setenv(name, "evil")
    assert os.environ["PATH"] == "evil"
    report = tiny.report()
    assert report["environ"] == dict(ENVIRONMENT)
    assert report["flags"] == [1, 1, 1, 0]
    assert "site" not in report["modules"]
    assert report["path"] == [*map(str, (tiny.library, tiny.library / "lib-dynload")), str(tiny.root)]
