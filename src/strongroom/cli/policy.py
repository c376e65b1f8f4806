"""`strongroom policy`: policies that are written from evidence, explained, compared and rehearsed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli._options import HomeOption, JsonOption, StoreOption, ValuesOption

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
    values: ValuesOption = None,
    at: AtOption = "collected",
    json_output: JsonOption = False,
) -> None:
    """Say why the policy accepts or refuses: the shortest set of facts that decide. Exit 3 if it refuses."""
    from strongroom.cli._policy import run_explain

    run_explain(policy, evidence, values=values, at=at, json_output=json_output)


@app.command(epilog="Example: strongroom policy diff old.toml new.toml --evidence fleet/")
def diff(
    before: PolicyArgument,
    after: PolicyArgument,
    evidence: FolderOption,
    values: ValuesOption = None,
    at: AtOption = "collected",
    json_output: JsonOption = False,
) -> None:
    """Say what only one of two policies admits, and what changes for a fleet. Exit 3 if anything does."""
    from strongroom.cli._policy import run_diff

    run_diff(before, after, evidence, values=values, at=at, json_output=json_output)


@app.command(epilog="Example: strongroom policy simulate policy.toml --evidence fleet/ --expect accept")
def simulate(
    policy: PolicyArgument,
    evidence: FolderOption,
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect",
            metavar="accept|refuse|FILE",
            help="What all evidence must meet with; or a JSON file: name of an evidence file to `accepted`, "
            "`refused` or a code. Else: exit 3.",
        ),
    ] = None,
    values: ValuesOption = None,
    at: AtOption = "collected",
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write the verdicts as a JUnit report (XML).")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Run a policy over archived evidence: a gate for a CI, before the policy is rolled out."""
    from strongroom.cli._simulate import run_simulate

    run_simulate(policy, evidence, expect=expect, values=values, at=at, junit=junit, json_output=json_output)


@app.command(epilog="Example: strongroom policy keygen --out publisher.key")
def keygen(
    out: Annotated[Path, typer.Option("--out", help="File for the private key; it must not exist.")],
    json_output: JsonOption = False,
) -> None:
    """Make the key of a publisher of reference values; prints what policies name."""
    from strongroom.cli._values import run_keygen

    run_keygen(out, json_output=json_output)


@app.command(
    "sign-values",
    epilog="Example: strongroom policy sign-values --key publisher.key --publisher 'Example Models' "
    "--name pictures --version 3 --measurement 'sgx=...,pictures 1.4' -o values.json",
)
def sign_values(
    key: Annotated[Path, typer.Option("--key", help="The publisher's private key of `policy keygen`.")],
    publisher: Annotated[str, typer.Option("--publisher", help="Who publishes, in words for people.")],
    name: Annotated[str, typer.Option("--name", help="Name of the series, as policies name it.")],
    version: Annotated[int, typer.Option("--version", min=1, help="Higher than that of the last one.")],
    measurement: Annotated[
        list[str],
        typer.Option("--measurement", metavar="KIND=MEASUREMENT[,LABEL]", help="Approved code; repeatable."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    not_before: Annotated[
        str,
        typer.Option("--not-before", help="From when they count: `now`, RFC 3339, or Unix seconds."),
    ] = "now",
    days: Annotated[int, typer.Option("--days", min=1, max=3660, help="Days for which they count.")] = 90,
    json_output: JsonOption = False,
) -> None:
    """Sign the measurements of a release ahead of its roll-out. A file replaces the one before it."""
    from strongroom.cli._values import Publication, run_sign

    publication = Publication(publisher, name, version, not_before, days, tuple(measurement))
    run_sign(publication, key, output, json_output=json_output)


@app.command(epilog="Example: strongroom policy values values.json --key ed25519+mldsa65:...")
def values(
    file: Annotated[Path, typer.Argument(help="File of `strongroom policy sign-values`.")],
    key: Annotated[
        str | None, typer.Option("--key", help="The publisher's key. Without it nothing is verified.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Show signed reference values. Exit 1 if the key has not signed them."""
    from strongroom.cli._values import run_show

    run_show(file, key, json_output=json_output)


@app.command(epilog="Example: strongroom policy publish values.json")
def publish(
    file: Annotated[Path, typer.Argument(help="File of `strongroom policy sign-values`.")],
    home: HomeOption = None,
    config: StoreOption = None,
    json_output: JsonOption = False,
) -> None:
    """Take signed reference values into the key broker's store, on its machine. Exit 3 if refused."""
    from strongroom.cli._values import run_publish

    run_publish(file, home, config, json_output=json_output)
