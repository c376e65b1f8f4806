"""docs/reference/errors.md says what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "errors.md"
COMMAND = "python tools/error_table.py > docs/reference/errors.md"
ROW = re.compile(r"\| `([a-z0-9-]+)` \| (.+) \| ([1-5]\d\d) \| ([1-4]) \| (.+) \|")


@pytest.fixture(scope="module")
def printed() -> str:
    # A process of its own: codes that tests define are not Strongroom's.
    result = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "error_table.py")], capture_output=True, text=True, check=True
    )
    return result.stdout


def test_the_page_is_up_to_date(printed: str) -> None:
    assert PAGE.read_text(encoding="utf-8") == printed, f"The table is out of date. Run: {COMMAND}"


def test_every_code_has_one_whole_row(printed: str) -> None:
    rows = [line for line in printed.splitlines() if line.startswith("| `")]
    codes = []
    for line in rows:
        match = ROW.fullmatch(line)
        assert match, line
        codes.append(match[1])
    assert len(codes) > 200
    assert codes == sorted(set(codes))


def test_codes_of_every_layer_are_there(printed: str) -> None:
    for code in (
        "policy-missing",  # client
        "no-worker",  # front end
        "launch-refused",  # engines
        "hardening-failed",  # worker
        "queue-full",
        "nonce-foreign",  # broker
        "bundle-malformed",  # models
        "policy-measurement",  # attestation
        "ohttp-unknown-key",  # crypto
        "json-invalid",  # codec
        "config-invalid",
        "file-unreadable",  # cli
        "simulator-field-size",
    ):
        assert f"| `{code}` |" in printed
