"""What commands print: text for people on a terminal, JSON for machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from strongroom.errors import StrongroomError

_MACHINE = "STRONGROOM_JSON_OUTPUT"


def say(text: str = "") -> None:
    """One line of text for people, on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def emit(value: Any) -> None:
    """One JSON document for machines, on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def remember_json(value: bool) -> bool:  # noqa: FBT001 -- a typer callback
    """Note that this run speaks JSON, so that errors do too."""
    if value:
        os.environ[_MACHINE] = "1"
    return value


def show_error(error: StrongroomError) -> None:
    """Print an error on standard error: what was wrong, found, expected, what to do, and its code."""
    if os.environ.get(_MACHINE):
        sys.stderr.write(json.dumps({"error": error.to_problem()}, ensure_ascii=False) + "\n")
        return
    lines = [f"Error: {error.kind.title.rstrip('.')}" + (f": {error.detail}" if error.detail else "")]
    if error.found is not None:
        lines.append(f"  found:    {error.found}")
    if error.expected is not None:
        lines.append(f"  expected: {error.expected}")
    lines += [f"  to do:    {error.remedy}", f"  code:     {error.code}"]
    sys.stderr.write("\n".join(lines) + "\n")


def console() -> Console:
    """A rich console on standard error, for progress; results go to standard output."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show that something takes a while, on a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    with console().status(text):
        yield
