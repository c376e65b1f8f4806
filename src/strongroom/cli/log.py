"""`strongroom log`: verify, follow and export the release log, take receipts, run a witness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli._options import HomeOption, JsonOption, StoreOption
from strongroom.cli._output import emit, say

app = typer.Typer(
    help="The key broker's release log: verify, follow, export, receipts, witness.", no_args_is_help=True
)

KeyOption = Annotated[
    str | None, typer.Option("--key", help="The log's key, or its broker's: NAME+ID+BASE64 or ed25519:...")
]
WitnessOption = Annotated[
    list[str] | None, typer.Option("--witness", help="Key of a witness; may be given several times.")
]
ThresholdOption = Annotated[
    int | None, typer.Option("--threshold", min=1, help="How many of them must have cosigned; default: all.")
]
ServiceOption = Annotated[str | None, typer.Option("--service", help="Name of a service.")]
ResourceOption = Annotated[
    str | None, typer.Option("--resource", help="A resource: REPOSITORY/TYPE/TAG or kbs:///...")
]


@app.command(
    epilog="Example: strongroom log verify https://broker.example/strongroom/v1/log --key ed25519:..."
)
def verify(
    source: Annotated[
        str | None, typer.Argument(help="Address or folder of a log; without it: the broker's own store.")
    ] = None,
    key: KeyOption = None,
    witness: WitnessOption = None,
    threshold: ThresholdOption = None,
    since: Annotated[
        Path | None,
        typer.Option("--since", help="A checkpoint kept earlier; the log must have grown from it."),
    ] = None,
    keep: Annotated[Path | None, typer.Option("--keep", help="Write the checkpoint to this file.")] = None,
    receipt: Annotated[
        list[Path] | None,
        typer.Option("--receipt", help="Verify receipts instead, offline: a file with one on each line."),
    ] = None,
    home: HomeOption = None,
    config: StoreOption = None,
    json_output: JsonOption = False,
) -> None:
    """Check a whole log: signatures, every entry, every tile, growth. Exit 3 if it does not hold."""
    from strongroom.cli import _log

    witnesses = _log.witnesses(witness, threshold)
    if receipt:
        _log.verify_receipts(receipt, _log.log_key(key), witnesses, json_output=json_output)
        return
    with _log.opened(source, key, home, config) as (log, found):
        _log.verify_log(log, found, witnesses, since=since, keep=keep, json_output=json_output)


@app.command(
    epilog="Example: strongroom log follow https://broker.example/strongroom/v1/log --key ... --state s"
)
def follow(
    source: Annotated[str, typer.Argument(help="Address or folder of the log.")],
    state: Annotated[Path, typer.Option("--state", help="File that keeps what has been checked.")],
    key: KeyOption = None,
    witness: WitnessOption = None,
    threshold: ThresholdOption = None,
    audit_key: Annotated[
        Path | None,
        typer.Option("--audit-key", help="File with an owner's audit key: mark what is about him."),
    ] = None,
    interval: Annotated[float, typer.Option("--interval", min=1, help="Seconds between two looks.")] = 30.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
) -> None:
    """Print each new entry as a line of JSON, having checked that the log only grew. Exit 3 if it forked."""
    from strongroom.cli import _log

    _log.follow(
        source,
        _log.log_key(key),
        _log.witnesses(witness, threshold),
        state,
        audit_key,
        interval=None if once else interval,
    )


@app.command(epilog="Example: strongroom log export /srv/www/log")
def export(
    folder: Annotated[Path, typer.Argument(help="Folder; any web server can serve it.")],
    home: HomeOption = None,
    config: StoreOption = None,
    json_output: JsonOption = False,
) -> None:
    """Write the log as static files (C2SP tlog-tiles); a later call adds what is new."""
    from strongroom.broker import log_tiles
    from strongroom.cli._show import open_store

    with open_store(home, config) as store:
        size = log_tiles.export(store, folder)
    emit({"folder": str(folder), "size": size}) if json_output else say(f"{size} entries are in {folder}.")


@app.command(epilog="Example: strongroom log receipt --service pictures --out receipts.jsonl")
def receipt(
    index: Annotated[int | None, typer.Option("--index", min=0, help="Number of one entry.")] = None,
    service: ServiceOption = None,
    resource: ResourceOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file.")] = None,
    home: HomeOption = None,
    config: StoreOption = None,
) -> None:
    """Take receipts from the broker's store, one on a line: for the owner of a service or resource only."""
    from strongroom.cli import _log
    from strongroom.cli._show import open_store

    with open_store(home, config) as store:
        _log.take_receipts(store, index=index, service=service, resource=resource, out=out)


@app.command("key", epilog="Example: strongroom log key --service pictures")
def show_key(
    service: ServiceOption = None,
    resource: ResourceOption = None,
    home: HomeOption = None,
    config: StoreOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show the log's public key; with --service or --resource, the audit key for its owner (secret)."""
    from strongroom.cli import _log
    from strongroom.cli._show import open_store

    with open_store(home, config) as store:
        _log.show_key(store, service=service, resource=resource, json_output=json_output)


@app.command(epilog="Example: strongroom log keygen witness.example/w1 --out witness.key")
def keygen(
    name: Annotated[str, typer.Argument(help="Name of the witness, for example witness.example/w1.")],
    out: Annotated[Path, typer.Option("--out", help="File for the private key; it must not exist.")],
    json_output: JsonOption = False,
) -> None:
    """Make the key of a witness; prints the public half."""
    from strongroom.cli import _log

    key = _log.make_witness_key(name, out)
    emit({"key": key, "file": str(out)}) if json_output else say(key)


@app.command(epilog="Example: strongroom log witness --key witness.key --state /var/lib/witness --log ...")
def witness(
    key: Annotated[Path, typer.Option("--key", help="File with the witness's private key, mode 0600.")],
    state: Annotated[Path, typer.Option("--state", help="Folder for what has been cosigned.")],
    log: Annotated[
        list[str], typer.Option("--log", help="Key of a log to witness; may be given several times.")
    ],
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT.")] = "127.0.0.1:8480",
) -> None:
    """Run a witness: cosign checkpoints of logs that have only grown (C2SP tlog-witness)."""
    from strongroom.cli import _log

    _log.run_witness(key, state, log, listen)
