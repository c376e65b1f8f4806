#!/usr/bin/env python
"""Print docs/reference/cli.md: what every command's `--help` says.

    python tools/cli_reference.py > docs/reference/cli.md

`tests/test_cli_reference.py` fails when the file says something else than this prints.
"""

from __future__ import annotations

import os
import sys

HEAD = """\
<!-- Made by tools/cli_reference.py from `--help`. Do not edit by hand. -->

# Command line

`strongroom` is installed with the package; `python -m strongroom` is the same.

- Results go to standard output, progress and errors to standard error.
- `--json` prints JSON for machines: one document, of `strongroom up` one for each event. Errors then are
  `{"error": {...}}` on standard error.
- Exit codes: 0 fine, 1 failed, 2 usage, 3 refused by a policy, 4 not reachable. [Error codes](errors.md) has
  the exit code of each error.
- `STRONGROOM_HOME` names the state folder: the key broker's store, the queue, the simulator's keys, the logs
  and the configuration that `up` writes. Without it, it is `strongroom` in `XDG_DATA_HOME`, else
  `~/.local/share/strongroom`.
"""
COMMANDS = (
    "",
    "up",
    "verify",
    "predict",
    "model",
    "model import",
    "model seal",
    "keys",
    "keys rotate",
    "keys list",
    "keys rotate-root",
    "keys backup",
    "keys restore",
    "admin",
    "admin list",
    "admin tenant",
    "admin seal",
    "admin secret",
    "admin service",
    "admin rotate",
    "admin grant",
    "admin statement",
    "admin approve",
    "admin withdraw",
    "admin revoke-model",
    "admin revoke-service",
    "log",
    "log verify",
    "log follow",
    "log export",
    "log receipt",
    "log key",
    "log keygen",
    "log witness",
    "evidence",
    "evidence collect",
    "evidence pack",
    "evidence fetch",
    "evidence verify",
    "evidence token",
    "evidence show",
    "evidence conformance",
    "policy",
    "policy init",
    "policy explain",
    "policy diff",
    "policy simulate",
    "policy keygen",
    "policy sign-values",
    "policy values",
    "tpm",
    "tpm identify",
    "tpm challenge",
    "tpm answer",
    "tpm accept",
    "policy publish",
    "measure",
    "broker",
    "worker",
    "frontend",
)
SURROUNDINGS = {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}


def help_text(command: str) -> str:
    """What `strongroom COMMAND --help` prints."""
    from typer.testing import CliRunner

    from strongroom.cli._run import app

    result = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="strongroom")
    if result.exit_code != 0:
        sys.exit(f"strongroom {command} --help: exit code {result.exit_code}\n{result.output}")
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


def page() -> str:
    """The whole page."""
    sections = [HEAD]
    for command in COMMANDS:
        name = f"strongroom {command}".strip()
        sections.append(f"\n## {name}\n\n```text\n{help_text(command)}\n```\n")
    return "".join(sections)


if __name__ == "__main__":
    os.environ.update(SURROUNDINGS)
    os.environ.pop("STRONGROOM_HOME", None)
    sys.stdout.write(page())
