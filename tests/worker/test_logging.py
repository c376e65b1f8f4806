from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.worker.errors import ROUTE_UNKNOWN, WorkerError
from strongroom.worker.logging import Journal, where

SOURCES = Path(__file__).resolve().parents[2] / "src"


class Lines(list[bytes]):
    """Collects what a journal writes."""

    def objects(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def journal(lines: Lines) -> Journal:
    return Journal(lines.append, clock=lambda: 1700000000.1234)


def test_an_event_is_one_json_line_with_its_time(journal: Journal, lines: Lines) -> None:
    journal.event("serving", worker="worker-0", epoch=3, seconds=0.25)
    assert lines == [
        b'{"time":1700000000.123,"event":"serving","worker":"worker-0","epoch":3,"seconds":0.25}\n'
    ]


def test_a_field_that_is_not_allowed_is_left_out(journal: Journal, lines: Lines) -> None:
    journal.event("serving", body="plaintext", detail="plaintext")  # type: ignore[call-arg]
    assert lines.objects() == [{"time": 1700000000.123, "event": "serving"}]


@pytest.mark.parametrize(
    "value", ["a patient's name", "x" * 201, "two\nlines", "{}", b"bytes", ["list"], None]
)
def test_an_unsafe_value_is_a_question_mark(journal: Journal, lines: Lines, value: str) -> None:
    journal.event("serving", model=value)
    assert lines.objects()[0]["model"] == "?"


@given(st.text(), st.text())
def test_whatever_is_logged_stays_one_short_line(event: str, value: str) -> None:
    lines: list[bytes] = []
    Journal(lines.append, clock=lambda: 0.0).event(event, model=value)
    assert len(lines) == 1
    assert lines[0].count(b"\n") == 1
    assert re.fullmatch(rb"[ -~]{0,4000}\n", lines[0])


def test_a_failure_shows_class_code_and_place_but_no_message(journal: Journal, lines: Lines) -> None:
    try:
        raise WorkerError(ROUTE_UNKNOWN, "canary", found="canary")
    except WorkerError as error:
        journal.failure("request", error, worker="worker-0")
    assert b"canary" not in lines[0]
    line = lines.objects()[0]
    assert line["error"] == "WorkerError"
    assert line["code"] == "route-unknown"
    assert line["worker"] == "worker-0"
    assert re.fullmatch(r"test_logging\.py:\d+", str(line["where"]))


def test_a_failure_of_a_library_has_no_code(journal: Journal, lines: Lines) -> None:
    journal.failure("request", ValueError("canary"))
    assert lines.objects() == [
        {"time": 1700000000.123, "event": "request", "error": "ValueError", "where": ""}
    ]


def test_where_is_the_innermost_place() -> None:
    def deep() -> None:
        raise KeyError("canary")

    with pytest.raises(KeyError) as raised:
        deep()
    assert where(raised.value.__traceback__) == f"test_logging.py:{deep.__code__.co_firstlineno + 1}"
    assert where(None) == ""


def test_the_default_journal_writes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    Journal().event("serving", count=1)
    assert json.loads(capfd.readouterr().err)["count"] == 1


@pytest.mark.system
def test_nothing_that_python_prints_about_errors_shows_a_value() -> None:
    code = textwrap.dedent(f"""
        import asyncio, sys, threading, warnings
        sys.path.insert(0, {str(SOURCES)!r})
        sys.dont_write_bytecode = True
        from strongroom.worker.logging import Journal, silence_leaks
        silence_leaks(Journal())
        warnings.simplefilter("always")
        warnings.warn("canary")
        class Late:
            def __del__(self):
                raise ValueError("canary")
        Late()
        def task():
            raise RuntimeError("canary")
        thread = threading.Thread(target=task)
        thread.start()
        thread.join()
        canary = {{"canary": "canary"}}
        canary["missing canary"]
    """)
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=False, timeout=30)
    assert done.returncode == 1
    assert b"canary" not in done.stderr + done.stdout
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["error"]) for line in events] == [
        ("warning", "UserWarning"),
        ("unraisable", "ValueError"),
        ("uncaught", "RuntimeError"),
        ("uncaught", "KeyError"),
    ]


def test_losing_stderr_does_not_stop_the_worker() -> None:
    code = textwrap.dedent(f"""
        import os, sys
        sys.path.insert(0, {str(SOURCES)!r})
        sys.dont_write_bytecode = True
        from strongroom.worker.logging import Journal
        os.close(2)
        Journal().event("serving")
        print("alive")
    """)
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True, timeout=30)
    assert done.stdout == b"alive\n"


def test_a_code_that_is_unsafe_to_print_cannot_pass_for_one(journal: Journal, lines: Lines) -> None:
    class StrangeError(Exception):
        code = "a canary with spaces"

    journal.failure("request", StrangeError())
    assert lines.objects()[0]["code"] == "?"
