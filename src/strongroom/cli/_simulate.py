"""What `strongroom policy simulate` does: a policy over a folder of evidence, as a gate for a CI."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

from strongroom.cli._evidence import read
from strongroom.cli._output import emit, say
from strongroom.cli._policy import ACCEPTED, evidence_files, verdict_of
from strongroom.cli._values import load_policy
from strongroom.cli.errors import FILE_UNREADABLE, OPTION_INVALID, POLICY_UNMET
from strongroom.errors import ConfigError, PolicyRefused, registered

MAX_EXPECTATION: Final = 4 * 1024 * 1024
REFUSED: Final = "refused"
_WORDS: Final = {"accept": ACCEPTED, "refuse": REFUSED}
_ABSENT: Final = "no such evidence file"
_SHOWN: Final = 10


def run_simulate(
    policy: Path,
    folder: Path,
    *,
    expect: str | None,
    values: Path | None,
    at: str,
    junit: Path | None,
    json_output: bool,
) -> None:
    """Run a policy over a folder of evidence, and compare the verdicts with what is expected."""
    demanded = load_policy(policy, values)
    paths = evidence_files(folder)
    expected = _expected(expect, [path.name for path in paths])
    verdicts = {path.name: verdict_of(path, demanded, at) for path in paths}
    missed = _missed(verdicts, expected)
    if junit is not None:
        junit.write_bytes(_junit(demanded.digest, verdicts, missed))
    counts = Counter(verdicts.values())
    if json_output:
        emit(
            {
                "policy": demanded.digest,
                "counts": dict(sorted(counts.items())),
                "missed": sorted(missed),
                "verdicts": verdicts,
            }
        )
    else:
        for verdict, count in sorted(counts.items()):
            say(f"  {count:>6}  {verdict:<26} {_title(verdict)}".rstrip())
        say(f"{len(verdicts)} pieces of evidence.")
        for name, (found, wanted) in sorted(missed.items())[:_SHOWN]:
            say(f"  {name}: {found}, expected {wanted}")
    if missed:
        names = ", ".join(sorted(missed)[:_SHOWN])
        raise PolicyRefused(POLICY_UNMET, names, found=f"{len(missed)} others", expected=expect)


def _expected(expect: str | None, names: list[str]) -> Mapping[str, str]:
    """What each evidence file is to meet with, by name."""
    if expect is None:
        return {}
    if expect in _WORDS:
        return dict.fromkeys(names, _WORDS[expect])
    path = Path(expect)
    if not path.is_file():
        raise ConfigError(OPTION_INVALID, "--expect", found=expect[:200], expected="accept, refuse or a file")
    return _expectation(path)


def _expectation(path: Path) -> dict[str, str]:
    """A JSON object: name of an evidence file to `accepted`, `refused` or the code of the refusal."""
    data = read(path, MAX_EXPECTATION)
    if len(data) > MAX_EXPECTATION:
        raise ConfigError(FILE_UNREADABLE, f"{path} is too long", expected=f"{MAX_EXPECTATION} bytes")
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(FILE_UNREADABLE, f"{path} is not JSON") from error
    if not isinstance(value, dict) or not value:
        raise ConfigError(FILE_UNREADABLE, f"{path}", expected="a JSON object: file name to verdict")
    for name, verdict in value.items():
        if not isinstance(verdict, str) or verdict not in {ACCEPTED, REFUSED, *registered()}:
            raise ConfigError(
                FILE_UNREADABLE, f"{path}, {name[:80]}", expected="accepted, refused or the code of an error"
            )
    return value


def _missed(verdicts: Mapping[str, str], expected: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What was found and what was expected, by name, where they differ; all of it, where anything is."""
    if not expected:
        return {}
    missed = {}
    for name in verdicts.keys() | expected.keys():
        found, wanted = verdicts.get(name, _ABSENT), expected.get(name, "nothing")
        refused = wanted == REFUSED and found not in {ACCEPTED, _ABSENT}
        if found != wanted and not refused:
            missed[name] = (found, wanted)
    return missed


def _junit(digest: str, verdicts: Mapping[str, str], missed: Mapping[str, tuple[str, str]]) -> bytes:
    """A JUnit report: one test case for each evidence file, and each that was expected and is not there."""
    names = sorted(verdicts.keys() | missed.keys())
    suite = ET.Element(
        "testsuite",
        {"name": f"strongroom policy {digest}", "tests": str(len(names)), "failures": str(len(missed))},
    )
    for name in names:
        case = ET.SubElement(suite, "testcase", {"classname": "policy", "name": _printable(name)})
        if name in missed:
            found, wanted = missed[name]
            ET.SubElement(case, "failure", {"message": f"{found}, expected {wanted}"})
        else:
            ET.SubElement(case, "system-out").text = verdicts[name]
    report: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return report + b"\n"


def _title(verdict: str) -> str:
    kind = registered().get(verdict)
    return "" if kind is None else kind.title


def _printable(name: str) -> str:
    """A file's name may have bytes that XML has not."""
    return "".join(char if char.isprintable() else "?" for char in name)
