from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(code: str, home: Path) -> str:
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home)}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return shown.stdout


def test_loading_it_neither_reports_nor_leaves_anything_at_home(tmp_path: Path) -> None:
    code = (
        "import sys, threading\n"
        "from strongroom.models import openvino_runtime, importers\n"
        "print([name for name in sys.modules if 'telemetry' in name], threading.active_count())\n"
    )
    assert run(code, tmp_path) == "[] 1\n"
    assert list(tmp_path.iterdir()) == []


def test_an_application_may_still_want_the_converter(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from strongroom.models.quiet_openvino import ov\n"
        "print(hasattr(ov, 'convert_model'), 'openvino.tools.ovc' in sys.modules)\n"
    )
    assert run(code, tmp_path) == "False False\n"


def test_nothing_else_imports_openvino() -> None:
    """Else the first import could be one that reports."""
    pattern = re.compile(r"^\s*(import|from) openvino\b", re.MULTILINE)
    assert files_with(pattern) == ["quiet_openvino.py"]


STOPPED_LATE = """
import os, signal, sys
from pathlib import Path
import numpy as np
from strongroom.models.bundle import read_bundle
from strongroom.models.importers import import_model
from strongroom.models.openvino_runtime import OpenVinoRuntime
from strongroom.models.quiet_openvino import op, ov

x = op.parameter([1, 4], np.float32, name="x")
ov.save_model(ov.Model([op.result(op.relu(x))], [x]), "model.xml")
bundle = read_bundle(import_model(Path("model.xml"), name="relu"))
first, second = OpenVinoRuntime(bundle), OpenVinoRuntime(bundle)
first.close()
del first  # in the order in which they began
second.close()
del second
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_process_that_freed_its_models_can_still_be_stopped(tmp_path: Path) -> None:
    """With a core for each model it is killed by SIGSEGV."""
    ended = subprocess.run([sys.executable, "-c", STOPPED_LATE], cwd=tmp_path, check=False)
    assert ended.returncode == 5


def test_nothing_else_makes_a_core() -> None:
    assert files_with(re.compile(r"\bCore\(\)")) == ["quiet_openvino.py"]


def files_with(pattern: re.Pattern[str]) -> list[str]:
    """The files of the software that have it."""
    files = [file for folder in ("src", "demo", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    return [file.name for file in files if pattern.search(file.read_text(encoding="utf-8"))]
