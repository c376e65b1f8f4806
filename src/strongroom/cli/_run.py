"""The root command: assembles the groups and turns errors into exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from strongroom import __version__
from strongroom.cli import admin, evidence, keys, log, measure, model, parts, policy, service, tpm
from strongroom.cli._output import show_error
from strongroom.cli.errors import SYSTEM_REFUSED, USAGE_INVALID
from strongroom.errors import EXIT_USAGE, ConfigError, StrongroomError

# What the parser raises. Typer, which brings its own Click from some version on, names only a subclass of it.
_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]

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
app.add_typer(admin.app, name="admin")
app.add_typer(log.app, name="log")
app.add_typer(evidence.app, name="evidence")
app.add_typer(tpm.app, name="tpm")
app.add_typer(policy.app, name="policy")
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


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # `import openvino` would import its converter, which reports its use over the network.
    sys.modules.setdefault("openvino.tools", None)  # type: ignore[arg-type]  # None forbids the import
    arguments = sys.argv[1:] if arguments is None else arguments
    json_output = "--json" in arguments
    try:
        result = app(args=list(arguments), standalone_mode=False)
    except StrongroomError as error:
        show_error(error, json_output=json_output)
        return error.exit_code
    except OSError as error:
        about = [str(part) for part in (error.filename, error.strerror) if part]
        refused = ConfigError(SYSTEM_REFUSED, ": ".join(about))
        show_error(refused, json_output=json_output)
        return refused.exit_code
    except _UsageError as error:
        if json_output:
            show_error(ConfigError(USAGE_INVALID, error.format_message()), json_output=True)
        else:
            error.show()
        return EXIT_USAGE
    except typer.Abort:
        return 130
    return result if isinstance(result, int) else 0
