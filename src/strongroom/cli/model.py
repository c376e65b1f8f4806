"""`strongroom model`: import and seal models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli._options import HomeOption, JsonOption, StoreOption

app = typer.Typer(help="Import and seal models.", no_args_is_help=True)


@app.command(
    "import",
    epilog="Example: strongroom model import lite0.onnx --name lite0 --labels labels.txt -o lite0.model",
)
def import_(
    path: Annotated[Path, typer.Argument(help="Model file: OpenVINO IR (.xml) or ONNX (.onnx).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Bundle to write.")],
    name: Annotated[str, typer.Option("--name", help="Name that requests use.")],
    version: Annotated[str, typer.Option("--version", help="Version, a number.")] = "1",
    labels: Annotated[Path | None, typer.Option("--labels", help="Text file, one label a line.")] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            "--preprocess",
            help="How pictures become tensors, for example "
            "'resize=256,crop=224,mean=127,scale=128,interpolation=bicubic', or a preset's name.",
        ),
    ] = None,
    softmax: Annotated[
        bool, typer.Option("--softmax", help="Turn the first output into probabilities.")
    ] = False,
    max_batch: Annotated[
        int | None,
        typer.Option("--max-batch", min=0, help="Most items computed together; default: measured at load."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Turn a model file into a bundle: manifest, model, labels, preprocessing."""
    from strongroom.cli._model import run_import

    run_import(
        path,
        output,
        name=name,
        version=version,
        labels=labels,
        preprocess=preprocess,
        softmax=softmax,
        max_batch=max_batch,
        json_output=json_output,
    )


@app.command(epilog="Example: strongroom model seal lite0.model -o lite0.sealed")
def seal(
    bundle: Annotated[Path, typer.Argument(help="Bundle of `strongroom model import`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Sealed file to write.")],
    home: HomeOption = None,
    config: StoreOption = None,
    json_output: JsonOption = False,
) -> None:
    """Seal a bundle with a fresh key. The key goes into the key broker's store, and nowhere else."""
    from strongroom.cli._admin import Administration
    from strongroom.cli._model import Wishes, run_seal

    register = Administration(home=home, config=config).perform
    run_seal(bundle, output, register, Wishes(), json_output=json_output)
