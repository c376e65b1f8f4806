"""`strongroom keys`: epochs of a service's keys, on the broker's machine."""

from __future__ import annotations

from typing import Annotated

import typer

from strongroom.cli._options import HomeOption, JsonOption
from strongroom.cli._output import emit, say

app = typer.Typer(help="Epochs of a service's keys, on the broker's machine.", no_args_is_help=True)
ServiceOption = Annotated[str, typer.Option("--service", help="Name of the service.")]


@app.command(epilog="Example: strongroom keys rotate --service default --grace 600")
def rotate(
    service: ServiceOption = "default",
    grace: Annotated[
        int | None, typer.Option("--grace", min=0, help="Seconds that older epochs are honoured.")
    ] = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Begin a new epoch. Older ones are honoured for the grace period, then deleted."""
    from strongroom.broker import admin
    from strongroom.cli._show import open_store

    with open_store(home) as store:
        epoch = admin.rotate(store, service, grace)
    emit({"service": service, "epoch": epoch}) if json_output else say(
        f"Service {service} is in epoch {epoch}."
    )


@app.command("list", epilog="Example: strongroom keys list --service default")
def list_epochs(
    service: ServiceOption = "default", home: HomeOption = None, json_output: JsonOption = False
) -> None:
    """Show the epochs that the broker holds."""
    from strongroom.broker import admin
    from strongroom.cli._show import open_store, show_epochs

    with open_store(home) as store:
        show_epochs(service, admin.epochs(store, service), json_output=json_output)
