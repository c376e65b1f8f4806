"""`strongroom tpm`: enrol the TPM of a machine, so that a policy can pin its attestation key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli._options import JsonOption

app = typer.Typer(
    help="Enrol a machine's TPM: its attestation key for a policy's tpm_keys.", no_args_is_help=True
)

OutputOption = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]
TctiOption = Annotated[
    str | None, typer.Option("--tcti", help="How to reach the TPM. Default: `device:/dev/tpmrm0`.")
]
HandleOption = Annotated[
    str | None,
    typer.Option("--ak-handle", help="Handle of the attestation key. Default: one that is made anew."),
]


@app.command(epilog="Example: strongroom tpm identify -o machine.json")
def identify(
    output: OutputOption,
    tcti: TctiOption = None,
    ak_handle: HandleOption = None,
    json_output: JsonOption = False,
) -> None:
    """On the machine: write its attestation key, and the certificate of its endorsement key."""
    from strongroom.cli._tpm import run_identify

    run_identify(output, tcti, ak_handle, json_output=json_output)


@app.command(
    epilog="Example: strongroom tpm challenge machine.json --chain maker.pem -o challenge.json"
    " --keep kept.json"
)
def challenge(
    identity: Annotated[Path, typer.Argument(help="File of `strongroom tpm identify`.")],
    chain: Annotated[
        Path,
        typer.Option("--chain", help="The maker's certificates above the TPM's own, the root last (PEM)."),
    ],
    output: OutputOption,
    keep: Annotated[
        Path, typer.Option("--keep", help="File for what the answer must be. Only you may read it.")
    ],
    root: Annotated[
        str | None,
        typer.Option("--root", help="SHA-256 of the maker's root (DER), hex: --chain must end in it."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """As the owner: verify the maker's certificate, and write a challenge that only this TPM can answer."""
    from strongroom.cli._tpm import run_challenge

    run_challenge(identity, chain, root, output, keep, json_output=json_output)


@app.command(epilog="Example: strongroom tpm answer challenge.json -o answer.json")
def answer(
    challenge: Annotated[Path, typer.Argument(help="File of `strongroom tpm challenge`.")],
    output: OutputOption,
    tcti: TctiOption = None,
    ak_handle: HandleOption = None,
    json_output: JsonOption = False,
) -> None:
    """On the machine: let the TPM answer the challenge."""
    from strongroom.cli._tpm import run_answer

    run_answer(challenge, output, tcti, ak_handle, json_output=json_output)


@app.command(epilog="Example: strongroom tpm accept answer.json --kept kept.json")
def accept(
    answer: Annotated[Path, typer.Argument(help="File of `strongroom tpm answer`.")],
    kept: Annotated[Path, typer.Option("--kept", help="File that `strongroom tpm challenge` kept.")],
    json_output: JsonOption = False,
) -> None:
    """As the owner: check the answer, and print what to pin. Exit 3 if it is not the TPM's."""
    from strongroom.cli._tpm import run_accept

    run_accept(answer, kept, json_output=json_output)
