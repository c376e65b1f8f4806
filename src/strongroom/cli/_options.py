"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
UrlOption = Annotated[str, typer.Option("--url", help="Address of the service's front end.")]
PolicyOption = Annotated[
    Path | None, typer.Option("--policy", help="What the service must satisfy (TOML). Without it: exit 3.")
]
ValuesOption = Annotated[
    Path | None,
    typer.Option("--values", help="Signed reference values, of a publisher that the policy names."),
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for an answer.")]
SuiteOption = Annotated[
    str, typer.Option("--suite", help="HPKE suite: `default` (post-quantum hybrid) or `classical` (X25519).")
]
ConfigOption = Annotated[Path, typer.Option("--config", help="Configuration file of the service (TOML).")]
HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="State folder; default: STRONGROOM_HOME, else ~/.local/share/strongroom."),
]
StoreOption = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration of the broker whose key store it is (TOML), not --home."),
]

DEFAULT_URL = "http://127.0.0.1:8470"
