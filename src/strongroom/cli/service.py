"""`strongroom up`, `verify`, `predict`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli._options import (
    DEFAULT_URL,
    HomeOption,
    JsonOption,
    PolicyOption,
    SuiteOption,
    TimeoutOption,
    UrlOption,
    ValuesOption,
)


class Tee(enum.Enum):
    """Formats of simulated evidence."""

    SGX = "sgx"
    TDX = "tdx"
    SNP = "snp"


class Durable(enum.Enum):
    """What an accepted request survives."""

    PROCESS = "process"
    POWER = "power"


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        epilog="Example: strongroom up lite0.sealed --policy-out policy.toml",
    )(up)
    app.command(
        epilog="Example: strongroom verify --url http://127.0.0.1:8470 --policy policy.toml",
    )(verify)
    app.command(
        epilog="Example: strongroom predict --policy policy.toml --model lite0 cat.jpg dog.jpg",
    )(predict)


def up(
    sealed: Annotated[list[Path], typer.Argument(help="Sealed model bundles (`strongroom model seal`).")],
    policy_out: Annotated[
        Path | None, typer.Option("--policy-out", help="Write the policy for clients to this file.")
    ] = None,
    service: Annotated[str, typer.Option("--service", help="Name of the service.")] = "default",
    tee: Annotated[Tee, typer.Option("--tee", help="Format of the simulated evidence.")] = Tee.SGX,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Worker processes.")] = 1,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the front end.")] = 8470,
    broker_port: Annotated[
        int, typer.Option("--broker-port", min=1, max=65535, help="Port of the key broker.")
    ] = 8471,
    plain: Annotated[
        bool, typer.Option("--plain", help="Also take plain requests, which the front end then sees.")
    ] = False,
    durability: Annotated[
        Durable, typer.Option("--durability", help="Survive the death of any process, or a power cut.")
    ] = Durable.PROCESS,
    threads: Annotated[int, typer.Option("--threads", min=0, help="Opening threads; 0: one per core.")] = 0,
    streams: Annotated[int, typer.Option("--streams", min=0, help="Inference streams; 0: one per core.")] = 0,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Run a whole service on this machine, with SIMULATED evidence, until Ctrl-C.

    Starts queue, key broker, workers and front end, restarts what dies, and stops all at the end. Simulated
    evidence is NOT protection: it shows how the service works on a machine without a TEE.
    """
    from strongroom.cli._up import run_up
    from strongroom.config import home as default_home
    from strongroom.engines.local import LocalOptions

    options = LocalOptions(
        home=home or default_home(),
        sealed=sealed,
        service=service,
        tee=tee.value,
        workers=workers,
        port=port,
        broker_port=broker_port,
        plain=plain,
        durability=durability.value,
        threads=threads,
        streams=streams,
    )
    run_up(options, policy_out, json_output=json_output)


def verify(
    url: UrlOption = DEFAULT_URL,
    policy: PolicyOption = None,
    values: ValuesOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Demand evidence made for this check, over a nonce of ours.")
    ] = False,
    timeout: TimeoutOption = 30.0,
    json_output: JsonOption = False,
) -> None:
    """Appraise a service: where the code runs, which code, under whose keys. Exit 3 if refused."""
    from strongroom.cli._show import client_policy, show_verdict
    from strongroom.client import connect

    with connect(url, policy=client_policy(policy, values), fresh=fresh, timeout=timeout) as room:
        show_verdict(room, url, json_output=json_output)


def predict(
    files: Annotated[list[Path], typer.Argument(help="Pictures (JPEG or PNG), or .npy arrays.")],
    model: Annotated[str, typer.Option("--model", help="Name of the model.")],
    url: UrlOption = DEFAULT_URL,
    policy: PolicyOption = None,
    values: ValuesOption = None,
    top: Annotated[int, typer.Option("--top", min=1, max=5, help="Labels to show for each file.")] = 1,
    suite: SuiteOption = "default",
    timeout: TimeoutOption = 30.0,
    json_output: JsonOption = False,
) -> None:
    """Verify a service, seal files to it, and show its predictions."""
    from strongroom.cli._show import client_policy, show_predictions, suite_by_name
    from strongroom.client import connect

    with connect(
        url, policy=client_policy(policy, values), suite=suite_by_name(suite), timeout=timeout
    ) as room:
        show_predictions(room, model, files, top=top, timeout=timeout, json_output=json_output)
