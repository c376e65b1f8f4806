"""`strongroom keys`: epochs, root key and backups of a broker's key store, on the broker's machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli._options import HomeOption, JsonOption, StoreOption
from strongroom.cli._output import emit, say

app = typer.Typer(
    help="Epochs, root key and backups of a key store, on the broker's machine.", no_args_is_help=True
)
ServiceOption = Annotated[str, typer.Option("--service", help="Name of the service.")]


@app.command(epilog="Example: strongroom keys rotate --service default --grace 600")
def rotate(
    service: ServiceOption = "default",
    grace: Annotated[
        int | None, typer.Option("--grace", min=0, help="Seconds that older epochs are honoured.")
    ] = None,
    home: HomeOption = None,
    config: StoreOption = None,
    json_output: JsonOption = False,
) -> None:
    """Begin a new epoch. Older ones are honoured for the grace period, then deleted."""
    from strongroom.broker import admin
    from strongroom.cli._show import open_store

    with open_store(home, config) as store:
        epoch = admin.rotate(store, service, grace)
    emit({"service": service, "epoch": epoch}) if json_output else say(
        f"Service {service} is in epoch {epoch}."
    )


@app.command("list", epilog="Example: strongroom keys list --service default")
def list_epochs(
    service: ServiceOption = "default",
    home: HomeOption = None,
    config: StoreOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show the epochs that the broker holds."""
    from strongroom.broker import admin
    from strongroom.cli._show import open_store, show_epochs

    with open_store(home, config) as store:
        show_epochs(service, admin.epochs(store, service), json_output=json_output)


@app.command("rotate-root", epilog="Example: strongroom keys rotate-root --config strongroom.toml")
def rotate_root(
    wait: Annotated[
        int, typer.Option("--wait", min=0, help="Seconds to wait for brokers with other root keys.")
    ] = 60,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", help="Name of a root key that shall open the store no more.")
    ] = None,
    home: HomeOption = None,
    config: StoreOption = None,
    json_output: JsonOption = False,
) -> None:
    """Wrap all keys under a new data key, while brokers serve, and delete the old one."""
    from strongroom.cli._keys import run_rotate_root
    from strongroom.cli._show import open_store

    with open_store(home, config) as store:
        run_rotate_root(store, wait, drop or [], json_output=json_output)


@app.command(epilog="Example: strongroom keys backup keys.backup --shares 5 --threshold 3")
def backup(
    output: Annotated[Path, typer.Argument(help="File to write. It must not be there.")],
    shares: Annotated[int, typer.Option("--shares", help="How many shares there are of its key.")] = 5,
    threshold: Annotated[int, typer.Option("--threshold", help="How many of them open it.")] = 3,
    home: HomeOption = None,
    config: StoreOption = None,
    json_output: JsonOption = False,
) -> None:
    """Write an encrypted backup, and print the shares of its key. Give each to another person."""
    from strongroom.cli._keys import run_backup
    from strongroom.cli._show import open_store

    with open_store(home, config) as store:
        run_backup(store, output, shares, threshold, json_output=json_output)


@app.command(epilog="Example: strongroom keys restore keys.backup --share a.txt --share b.txt --share c.txt")
def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    share: Annotated[list[Path], typer.Option("--share", help="File with the words of one share.")],
    home: HomeOption = None,
    config: StoreOption = None,
    json_output: JsonOption = False,
) -> None:
    """Fill a new, empty key store from a backup. No broker may run on it meanwhile."""
    from strongroom.cli._keys import run_restore
    from strongroom.cli._show import open_store

    with open_store(home, config) as store:
        run_restore(store, file, share, json_output=json_output)
