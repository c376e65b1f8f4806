#!/usr/bin/env python
"""Print docs/reference/errors.md: every error code of Strongroom, from the registry in the code.

    python tools/error_table.py > docs/reference/errors.md

Every module is imported, because a code is registered where it is defined. `tests/test_error_table.py` fails
when the file says something else than this prints.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import strongroom
import strongroom_simulator
from strongroom.errors import ErrorCode, registered

HEAD = """\
<!-- Made by tools/error_table.py from the code. Do not edit by hand. -->

# Error codes

Every failure that Strongroom raises on purpose has a code. A code, its HTTP status and its exit code are part
of the interface: they are not renamed. Texts may change.

- The command line prints the code in the last line of an error, and with `--json` as the member `code`.
- A service answers with problem details (RFC 9457), `application/problem+json`; `code` is a member. Errors
  inside the envelope have the same form. The key broker's attestation endpoints use the form of the
  [KBS protocol](broker.md#errors), with our `code` beside.
- In Python an error is a `strongroom.StrongroomError` with `code`, `status`, `exit_code`, `remedy`, `detail`,
  `found` and `expected`.

Exit codes: 0 fine, 1 failed, 2 usage, 3 refused by a policy, 4 not reachable.

| code | title | HTTP status | exit code | what to do |
|---|---|---|---|---|
"""


def import_everything() -> None:
    """Import every module of both packages, so that all codes are registered."""
    for package in (strongroom, strongroom_simulator):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def row(kind: ErrorCode) -> str:
    """One line of the table."""
    cells = (f"`{kind.code}`", kind.title.rstrip("."), str(kind.status), str(kind.exit_code), kind.remedy)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def table() -> str:
    """The whole page."""
    import_everything()
    kinds = sorted(registered().values(), key=lambda kind: kind.code)
    return HEAD + "".join(f"{row(kind)}\n" for kind in kinds)


if __name__ == "__main__":
    sys.stdout.write(table())
