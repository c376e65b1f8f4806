"""`strongroom policy`: policies that are written from evidence, explained, compared and rehearsed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli._options import JsonOption

app = typer.Typer(help="Policies: write, explain, compare, rehearse.", no_args_is_help=True)

PolicyArgument = Annotated[Path, typer.Argument(help="Policy (TOML).")]
FolderOption = Annotated[
    Path,
    typer.Option("--evidence", help="Folder with evidence files (*.json) of `strongroom evidence pack`."),
]
AtOption = Annotated[
    str,
    typer.Option("--at", help="Time of the appraisal: `collected`, `now`, RFC 3339, or Unix seconds."),
]


class Expected(StrEnum):
    """What `simulate` expects of all evidence."""

    ACCEPT = "accept"
    REFUSE = "refuse"


@app.command(epilog="Example: strongroom policy init good.json -o policy.toml")
def init(
    evidence: Annotated[list[Path], typer.Argument(help="Evidence files that are known to be good.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Policy to write.")],
    at: AtOption = "collected",
    allow_simulated: Annotated[
        bool, typer.Option("--allow-simulated", help="Accept SIMULATED evidence, which is not protection.")
    ] = False,
    allow_debug: Annotated[
        bool, typer.Option("--allow-debug", help="Accept enclaves that their host can read.")
    ] = False,
    allow_migration: Annotated[
        bool, typer.Option("--allow-migration", help="Accept guests with a migration agent.")
    ] = False,
    without_revocation: Annotated[
        bool, typer.Option("--without-revocation", help="Accept evidence without a revocation list.")
    ] = False,
    pin_tpm: Annotated[
        bool, typer.Option("--pin-tpm", help="Pin the attestation key of a TPM that you have enrolled.")
    ] = False,
    status: Annotated[
        list[str] | None,
        typer.Option("--status", help="A TCB status to accept besides UpToDate; repeatable."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Write the strictest policy that accepts this evidence. What weakens it must be named."""
    from strongroom.cli._policy import Permissions, run_init

    permissions = Permissions(
        simulated=allow_simulated,
        debug=allow_debug,
        migration=allow_migration,
        without_revocation=without_revocation,
        pin_tpm=pin_tpm,
        statuses=tuple(status or ()),
    )
    run_init(evidence, output, at=at, permissions=permissions, json_output=json_output)


@app.command(epilog="Example: strongroom policy explain policy.toml e.json")
def explain(
    policy: PolicyArgument,
    evidence: Annotated[Path, typer.Argument(help="Evidence file.")],
    at: AtOption = "collected",
    json_output: JsonOption = False,
) -> None:
    """Say why the policy accepts or refuses: the shortest set of facts that decide. Exit 3 if it refuses."""
    from strongroom.cli._policy import run_explain

    run_explain(policy, evidence, at=at, json_output=json_output)


@app.command(epilog="Example: strongroom policy diff old.toml new.toml --evidence fleet/")
def diff(
    before: PolicyArgument,
    after: PolicyArgument,
    evidence: FolderOption,
    at: AtOption = "collected",
    json_output: JsonOption = False,
) -> None:
    """Say what only one of two policies admits, and what changes for a fleet. Exit 3 if anything does."""
    from strongroom.cli._policy import run_diff

    run_diff(before, after, evidence, at=at, json_output=json_output)


@app.command(epilog="Example: strongroom policy simulate policy.toml --evidence fleet/ --expect accept")
def simulate(
    policy: PolicyArgument,
    evidence: FolderOption,
    expect: Annotated[
        Expected | None, typer.Option("--expect", help="What all evidence must meet with. Else: exit 3.")
    ] = None,
    at: AtOption = "collected",
    json_output: JsonOption = False,
) -> None:
    """Run a policy over archived evidence: a gate for a CI, before the policy is rolled out."""
    from strongroom.cli._policy import run_simulate

    run_simulate(
        policy, evidence, expect=None if expect is None else str(expect), at=at, json_output=json_output
    )
