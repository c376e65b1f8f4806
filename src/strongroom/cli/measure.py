"""`strongroom measure`: the measurement of the worker that is installed here."""

from __future__ import annotations

from typing import Annotated

import typer

from strongroom.cli._options import JsonOption


def add_to(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(epilog="Example: strongroom measure --json > measurement.json")(measure)


def measure(
    files: Annotated[
        bool, typer.Option("--files", help="List every measured file with its SHA-256.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Measure the worker installed here: interpreter, libraries, and every file it could import.

    The two digests are what evidence carries (MRENCLAVE for SGX, MRTD for TDX) and what a policy lists.
    """
    from strongroom.cli._show import show_measurement

    show_measurement(files=files, json_output=json_output)
