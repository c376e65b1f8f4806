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
    files = [file for folder in ("src", "demo") for file in (ROOT / folder).rglob("*.py")]
    found = [file.name for file in files if pattern.search(file.read_text(encoding="utf-8"))]
    assert found == ["quiet_openvino.py"]
