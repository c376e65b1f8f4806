"""docs/reference/cli.md says what `--help` says, for every command there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "cli.md"
COMMAND = "python tools/cli_reference.py > docs/reference/cli.md"


@pytest.fixture(scope="module")
def printed() -> str:
    result = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "cli_reference.py")], capture_output=True, text=True, check=True
    )
    return result.stdout


def test_the_page_is_up_to_date(printed: str) -> None:
    assert PAGE.read_text(encoding="utf-8") == printed, f"The page is out of date. Run: {COMMAND}"


def test_every_command_has_a_section(printed: str) -> None:
    found = re.findall(r"^## (strongroom[a-z ]*)\n\n```text\n(.*?)```", printed, re.DOTALL | re.MULTILINE)
    sections = dict(found)
    listed = set()
    for name, text in sections.items():
        _, _, commands = text.partition("\nCommands:\n")
        listed |= {f"{name} {found}" for found in re.findall(r"^  ([a-z]+) ", commands, re.MULTILINE)}
    assert len(listed) > 10
    assert set(sections) == listed | {"strongroom"}


def test_every_command_that_does_something_shows_an_example(printed: str) -> None:
    texts = re.findall(r"```text\n(.*?)```", printed, re.DOTALL)
    leaves = [text for text in texts if "\nCommands:\n" not in text]
    assert leaves
    assert all("Example: strongroom " in text for text in leaves)
