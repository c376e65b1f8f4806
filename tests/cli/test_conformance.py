"""`strongroom evidence conformance`: it runs, exports, and takes cases from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lxml.etree")


def test_all_cases_end_as_they_must(cli: Any) -> None:
    result = cli("evidence", "conformance")
    assert result.code == 0, result.err
    assert "SIMULATED" in result.out
    assert result.out.endswith("All ended as they must.\n")


def test_cases_go_out_and_come_in(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "cases.json"
    assert cli("evidence", "conformance", "--export", path).code == 0
    cases = json.loads(path.read_text())
    path.write_text(json.dumps(cases[::15]))
    result = cli("evidence", "conformance", "--cases", path, "--json")
    assert result.code == 0, result.err
    assert result.json["cases"] == len(result.json["results"]) == len(cases[::15])
    assert {each["passed"] for each in result.json["results"]} == {True}


def test_a_miss_is_named_and_fails(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "cases.json"
    case = {
        "id": "x/y",
        "changes": "nothing",
        "expected": "evidence-key",
        "type": "document",
        "document": "{",
    }
    path.write_text(json.dumps([case]))
    result = cli("evidence", "conformance", "--cases", path)
    assert result.code == 1
    assert "x/y" in result.err
    assert "evidence-malformed" in result.err
    assert "conformance-missed" in result.err


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", '[{"id": "x"}]', "[" * 5000])
def test_what_is_no_list_of_cases_is_refused(cli: Any, tmp_path: Path, text: str) -> None:
    path = tmp_path / "cases.json"
    path.write_text(text)
    result = cli("evidence", "conformance", "--cases", path, "--json")
    assert (result.code, result.error["code"]) == (2, "file-unreadable")


def test_a_file_that_is_not_there(cli: Any, tmp_path: Path) -> None:
    result = cli("evidence", "conformance", "--cases", tmp_path / "none", "--json")
    assert (result.code, result.error["code"]) == (2, "file-unreadable")
