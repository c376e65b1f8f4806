"""docs/threat-model.md names tests; they must exist, and every rule must have its say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "threat-model.md"
NAMED = re.compile(r"`(tests/[a-z_/]+\.py)((?:::\w+)*)`")


@pytest.fixture(scope="module")
def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_every_test_that_is_named_exists(text: str) -> None:
    named = NAMED.findall(text)
    assert len(named) > 25
    for path, names in named:
        source = (ROOT / path).read_text(encoding="utf-8")
        for name in names.split("::")[1:]:
            assert re.search(rf"^ *(async def|def|class) {name}\b", source, re.MULTILINE), f"{path}::{name}"


def test_each_of_the_sixteen_rules_is_held_or_not_yet(text: str) -> None:
    sections = re.findall(r"^### (\d+)\. [^\n]+\n(.*?)(?=^##)", text, re.DOTALL | re.MULTILINE)
    assert [int(number) for number, _ in sections] == list(range(1, 17))
    for number, section in sections:
        assert re.search(r"\bHeld\b|\bNot yet\b|not yet", section), f"rule {number}"
        assert NAMED.search(section), f"rule {number} names no test"


def test_simulated_evidence_is_never_named_without_its_warning() -> None:
    pages = [ROOT / name for name in ("README.md", "SECURITY.md", "CHANGELOG.md")]
    pages += [page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "reference"]
    for page in pages:
        words = page.read_text(encoding="utf-8").lower()
        if "simulated evidence" in words:
            assert re.search(r"not\W+protection|protects nothing", words), page.name
