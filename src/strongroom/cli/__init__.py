"""The command line. One module per command group; no logic.

Exit codes: 0 fine, 1 failed, 2 usage, 3 refused by a policy, 4 not reachable.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit."""
    from strongroom.cli._run import run

    sys.exit(run())
