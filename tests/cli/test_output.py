"""What commands print, and where."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from strongroom.cli._output import console, emit, say, show_error, working
from strongroom.cli.errors import OPTION_INVALID
from strongroom.errors import ConfigError


def test_text_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    say("a line")
    say()
    assert capsys.readouterr() == ("a line\n\n", "")


def test_json_is_one_document_and_keeps_letters(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"name": "Gämse", "values": [1, 2.5, None, True]})
    out, err = capsys.readouterr()
    assert err == ""
    assert "Gämse" in out
    assert json.loads(out) == {"name": "Gämse", "values": [1, 2.5, None, True]}


@pytest.mark.parametrize(
    ("members", "lines"),
    [
        ({}, ["Error: An option has a value that is not known"]),
        ({"detail": "--suite"}, ["Error: An option has a value that is not known: --suite"]),
        ({"found": 0}, ["Error: An option has a value that is not known", "  found:    0"]),
        ({"expected": "x"}, ["Error: An option has a value that is not known", "  expected: x"]),
    ],
)
def test_an_error_shows_what_is_known(
    capsys: pytest.CaptureFixture[str], members: dict[str, object], lines: list[str]
) -> None:
    show_error(ConfigError(OPTION_INVALID, **members), json_output=False)  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    rest = ["  to do:    Choose one of the values that are named.", "  code:     option-invalid"]
    assert out == ""
    assert err.splitlines() == lines + rest


def test_an_error_as_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(ConfigError(OPTION_INVALID, "a\nb"), json_output=True)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert json.loads(err)["error"]["detail"] == "a\nb"


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with working("Sealing ..."):
        say("done")
    assert capsys.readouterr() == ("done\n", "")


def test_progress_goes_to_standard_error() -> None:
    assert console().stderr
    code = (
        "import sys\n"
        "sys.stderr.isatty = lambda: True\n"
        "from strongroom.cli._output import say, working\n"
        "with working('Sealing ...'):\n"
        "    pass\n"
        "say('done')\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"TERM": "xterm", "FORCE_COLOR": "1", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "done\n"
    assert "Sealing ..." in done.stderr


def test_a_reader_that_has_seen_enough_ends_no_command() -> None:
    """`strongroom up | head -1` goes on; everything after the first line goes nowhere."""
    code = (
        "import sys\n"
        "from strongroom.cli._output import emit, say\n"
        "say('first')\n"
        "sys.stdin.readline()\n"
        "for _ in range(3):\n"
        "    say('more')\n"
        "    emit({})\n"
        "sys.exit(7)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout
        assert command.stdin
        assert command.stderr
        assert command.stdout.readline() == "first\n"
        command.stdout.close()
        command.stdin.write("\n")
        command.stdin.close()
        assert command.stderr.read() == ""
        assert command.wait(60) == 7
