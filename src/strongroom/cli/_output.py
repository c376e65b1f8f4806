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


def say(text: str = "") -> None:
    """One line of text for people, on standard output."""
    _print(text + "\n")


def emit(value: Any) -> None:
    """One JSON document for machines, on standard output."""
    _print(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough (`| head`): go on in silence
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 -- a device
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def show_error(error: StrongroomError, *, json_output: bool) -> None:
    """Print an error on standard error: what was wrong, found, expected, what to do, and its code."""
    if json_output:
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
