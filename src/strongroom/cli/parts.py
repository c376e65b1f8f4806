"""`strongroom broker`, `worker`, `frontend`: each part alone."""

from __future__ import annotations

from typing import Annotated

import typer

from strongroom.cli._options import ConfigOption


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(epilog="Example: strongroom broker --config strongroom.toml")(broker)
    app.command(epilog="Example: strongroom worker --config strongroom.toml --name worker-0")(worker)
    app.command(epilog="Example: strongroom frontend --config strongroom.toml")(frontend)


def broker(config: ConfigOption) -> None:
    """Run the key broker, which releases keys to workers whose evidence passes the policy."""
    from strongroom.broker.service import run
    from strongroom.config import load_config

    run(load_config(config))


def worker(
    config: ConfigOption,
    name: Annotated[str, typer.Option("--name", help="Stable name of this worker in the queue.")] = "",
) -> None:
    """Launch one worker: measure its code, start it, and answer its requests for quotes."""
    from strongroom.config import load_config
    from strongroom.engines.start_worker import run

    raise typer.Exit(run(load_config(config), name))


def frontend(config: ConfigOption) -> None:
    """Run the HTTP front end. In sealed mode it holds nothing secret."""
    from strongroom.config import load_config
    from strongroom.frontend.server import run

    run(load_config(config))
