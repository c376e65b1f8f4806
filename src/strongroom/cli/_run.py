"""The root command: assembles the groups and turns errors into exit codes."""

from __future__ import annotations

import sys

import click
import typer

from strongroom import __version__
from strongroom.cli import keys, measure, model, parts, service
from strongroom.cli._output import show_error
from strongroom.errors import StrongroomError

app = typer.Typer(
    name="strongroom",
    help="Confidential inference: verify a service, seal to it, and run the service yourself.",
    epilog="Exit codes: 0 fine, 1 failed, 2 usage, 3 refused by a policy, 4 not reachable.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
service.add_to(app)
app.add_typer(model.app, name="model")
app.add_typer(keys.app, name="keys")
measure.add_to(app)
parts.add_to(app)


def _show_version(value: bool) -> None:  # noqa: FBT001 -- a typer callback
    if value:
        typer.echo(f"strongroom {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(  # noqa: FBT001 -- handled by the callback
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    pass


def run() -> int:
    """Run the command line; returns the exit code."""
    # `import openvino` would import its converter, which reports its use over the network.
    sys.modules.setdefault("openvino.tools", None)  # type: ignore[arg-type]  # None forbids the import
    try:
        result = app(standalone_mode=False)
    except StrongroomError as error:
        show_error(error)
        return error.exit_code
    except click.exceptions.Abort:
        return 130
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return result if isinstance(result, int) else 0
