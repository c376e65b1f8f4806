"""The evidence file: what is written is read, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.evidence_file import MAX_FILE, MAX_RIMS, TYPE, EvidenceFile
from strongroom.errors import EvidenceError

FILE = EvidenceFile(Evidence(EvidenceKind.NITRO, b"document"), 1_800_000_000)


def _text(**changes: Any) -> bytes:
    return json.dumps({**json.loads(FILE.to_json_bytes()), **changes}).encode()


def test_what_is_written_is_read() -> None:
    assert EvidenceFile.parse(FILE.to_json_bytes()) == FILE
    assert json.loads(FILE.to_json_bytes())["type"] == TYPE == "strongroom-evidence/1"


def test_any_layout_is_read() -> None:
    assert EvidenceFile.parse(json.dumps(json.loads(FILE.to_json_bytes()), indent=4).encode()) == FILE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"{",
        b"\xff",
        _text(type="strongroom-evidence/2"),
        _text(type=None),
        _text(collected=-1),
        _text(collected=2**40 + 1),
        _text(collected=1.5),
        _text(collected=True),
        _text(collected="now"),
        _text(evidence=None),
        _text(evidence={}),
        _text(more=1),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        EvidenceFile.parse(data)


def test_a_file_is_bounded() -> None:
    EvidenceFile.parse(FILE.to_json_bytes().ljust(MAX_FILE))
    with pytest.raises(EvidenceError, match="evidence-too-large"):
        EvidenceFile.parse(FILE.to_json_bytes().ljust(MAX_FILE + 1))


def test_20000_mutants_give_our_errors_only(mutants: Any, survey: Any) -> None:
    value = json.loads(FILE.to_json_bytes())
    found = survey(EvidenceFile.parse, mutants(value, lambda each: json.dumps(each).encode(), 20_000, 9))
    assert set(found.codes) <= {"evidence-malformed", "evidence-too-large"}
    for _, accepted in found.accepted:
        assert EvidenceFile.parse(accepted.to_json_bytes()) == accepted


def test_runtime_data_and_reference_values_come_along() -> None:
    plain = EvidenceFile(Evidence(EvidenceKind.NITRO, b"q"), 5)
    whole = replace(plain, runtime_data=b"{}", rims=(b"<a/>", b""))
    assert EvidenceFile.parse(whole.to_json_bytes()) == whole
    assert b"rims" not in plain.to_json_bytes()
    value = json.loads(whole.to_json_bytes())
    for changed in (
        value | {"runtime_data": 1},
        value | {"runtime_data": "="},
        value | {"rims": "AAAA"},
        value | {"rims": [1]},
        value | {"rims": ["="]},
        value | {"rims": ["AAAA"] * (MAX_RIMS + 1)},
        value | {"more": 1},
    ):
        with pytest.raises(EvidenceError, match="evidence-malformed"):
            EvidenceFile.parse(json.dumps(changed).encode())
