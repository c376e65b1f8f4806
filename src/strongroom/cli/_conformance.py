"""What `strongroom evidence conformance` does."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from strongroom.cli._output import emit, say
from strongroom.cli.errors import CONFORMANCE_MISSED, FILE_UNREADABLE
from strongroom.conformance.case import Case
from strongroom.errors import ConfigError

MAX_FILE: Final = 256 * 1024 * 1024


def run_conformance(cases: Path | None, export: Path | None, *, json_output: bool) -> None:
    """Generate or read cases, and run them or write them."""
    from strongroom.conformance.kit import generate, results, summary

    found = list(generate(int(time.time()))) if cases is None else _read(cases)
    if export is not None:
        export.write_text(json.dumps([case.to_json() for case in found], indent=1) + "\n")
        if json_output:
            emit({"file": str(export), "cases": len(found)})
        else:
            say(f"{export}: {len(found)} cases with SIMULATED evidence. None was run.")
        return
    answers = results(found)
    numbers = summary(answers)
    if json_output:
        emit({**numbers, "results": [answer.to_json() for answer in answers]})
    else:
        for group, count in sorted(Counter(case.name.partition("/")[0] for case in found).items()):
            say(f"  {group:<13} {count} cases")
        total, refusals, codes = numbers["cases"], numbers["refusals"], len(numbers["codes"])
        say(f"{total} cases with SIMULATED evidence, {refusals} of them refusals with {codes} codes.")
    missed = [answer for answer in answers if not answer.passed]
    if missed:
        named = ", ".join(answer.case.name for answer in missed[:10])
        raise ConfigError(
            CONFORMANCE_MISSED,
            named,
            found=f"{len(missed)} missed, the first as {missed[0].found}",
            expected="none",
        )
    if not json_output:
        say("All ended as they must.")


def _read(path: Path) -> list[Case]:
    try:
        if path.stat().st_size > MAX_FILE:
            raise ConfigError(FILE_UNREADABLE, f"{path} is larger than {MAX_FILE} bytes")
        value: Any = json.loads(path.read_bytes())
        if not isinstance(value, list) or not value:
            raise ConfigError(FILE_UNREADABLE, f"{path} is no list of cases")
        return [Case.from_json(each) for each in value]
    except OSError as error:
        raise ConfigError(FILE_UNREADABLE, f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(FILE_UNREADABLE, f"{path} is no list of cases") from error
