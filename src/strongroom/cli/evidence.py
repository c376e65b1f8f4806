"""`strongroom evidence`: evidence files, to be appraised by anyone at any time, and their collateral."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli._options import JsonOption, ValuesOption

app = typer.Typer(help="Evidence files: collect, pack, fetch, verify, show.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="Evidence file of `strongroom evidence pack`.")]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder of collateral. Default: `collateral` in the state folder."),
]
FetchOption = Annotated[
    bool,
    typer.Option("--fetch", help="Add what the vendor states of the platform, from --cache or its services."),
]
PccsOption = Annotated[
    str | None, typer.Option("--pccs", help="Fetch Intel's collateral from this PCCS. Default: Intel's own.")
]
KdsOption = Annotated[
    str | None, typer.Option("--kds", help="Fetch AMD's certificates from this KDS. Default: AMD's own.")
]


class Kind(StrEnum):
    """Kinds of evidence; the names are those of `strongroom.attestation.evidence`."""

    SGX = "sgx"
    TDX = "tdx"
    SNP = "snp"
    NITRO = "nitro"
    AZ_SNP = "az-snp-vtpm"
    AZ_TDX = "az-tdx-vtpm"
    TPM = "tpm"


@app.command(
    epilog="Example: strongroom evidence pack --kind snp --report r.bin --vek vcek.der --chain milan.pem "
    "-o e.json"
)
def pack(
    kind: Annotated[Kind, typer.Option("--kind", help="Kind of the TEE.")],
    quote: Annotated[
        Path,
        typer.Option(
            "--quote",
            "--report",
            "--document",
            help="What the hardware signed, as it came: bytes, not hex. az-*, tpm: JSON as Trustee has it.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Evidence file to write.")],
    collateral: Annotated[
        Path | None, typer.Option("--collateral", help="sgx, tdx, az-tdx-vtpm: Intel's collateral (JSON).")
    ] = None,
    vek: Annotated[
        Path | None, typer.Option("--vek", help="snp: certificate of the VCEK or VLEK (DER or PEM).")
    ] = None,
    chain: Annotated[
        Path | None,
        typer.Option("--chain", help="snp, az-snp-vtpm: certificates of ASK or ASVK, and ARK (PEM)."),
    ] = None,
    crl: Annotated[
        Path | None, typer.Option("--crl", help="snp, az-snp-vtpm: AMD's revocation list (DER or PEM).")
    ] = None,
    event_log: Annotated[
        Path | None,
        typer.Option("--event-log", help="tdx: the guest's event log (CCEL), as the ACPI area has it."),
    ] = None,
    init_data: Annotated[
        Path | None, typer.Option("--init-data", help="What the TEE was started with.")
    ] = None,
    runtime_data: Annotated[
        Path | None,
        typer.Option(
            "--runtime-data",
            help="What the report data binds (KBS protocol): evidence of GPUs is in it.",
        ),
    ] = None,
    rim: Annotated[
        list[Path] | None,
        typer.Option(
            "--rim", help="NVIDIA's signed reference values for a GPU's driver or VBIOS; repeatable."
        ),
    ] = None,
    collected: Annotated[
        str, typer.Option("--collected", help="When it was collected: `now`, RFC 3339, or Unix seconds.")
    ] = "now",
    fetch: FetchOption = False,
    cache: CacheOption = None,
    pccs: PccsOption = None,
    kds: KdsOption = None,
    json_output: JsonOption = False,
) -> None:
    """Put evidence, and what its verification needs, into one file. Nothing is verified."""
    from strongroom.cli._collateral import Sources
    from strongroom.cli._evidence import Parts, run_pack

    rims = tuple(rim or ())
    parts = Parts(str(kind), quote, collateral, vek, chain, crl, event_log, init_data, runtime_data, rims)
    sources = Sources(cache, pccs, kds).only_if(fetch)
    run_pack(parts, output, sources, collected=collected, json_output=json_output)


@app.command(epilog="Example: strongroom evidence collect --kind tdx -o e.json")
def collect(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Evidence file to write.")] = None,
    list_sources: Annotated[
        bool, typer.Option("--list", help="Only say what this host has, and what is missing for the others.")
    ] = False,
    kind: Annotated[
        Kind | None, typer.Option("--kind", help="Kind to collect. Default: the first that is there.")
    ] = None,
    report_data: Annotated[
        str | None,
        typer.Option("--report-data", help="What it shall bind: hex, at most 64 bytes. Default: zeros."),
    ] = None,
    gpus: Annotated[
        bool, typer.Option("--gpus", help="With the evidence of NVIDIA GPUs; the report data binds it.")
    ] = False,
    nonce: Annotated[
        str | None,
        typer.Option("--nonce", help="With --gpus: the verifier's challenge, a text. Default: a random one."),
    ] = None,
    init_data: Annotated[
        Path | None, typer.Option("--init-data", help="What the TEE was started with, to go along.")
    ] = None,
    event_log: Annotated[
        bool, typer.Option("--event-log", help="tdx: with the event log (CCEL), which needs root.")
    ] = False,
    tcti: Annotated[
        str | None, typer.Option("--tcti", help="How to reach the TPM. Default: `device:/dev/tpmrm0`.")
    ] = None,
    ak_handle: Annotated[
        str | None,
        typer.Option(
            "--ak-handle", help="tpm: handle of the attestation key. Default: one made from its seed."
        ),
    ] = None,
    fetch: FetchOption = False,
    cache: CacheOption = None,
    pccs: PccsOption = None,
    kds: KdsOption = None,
    json_output: JsonOption = False,
) -> None:
    """Collect evidence about the place where this runs, into an evidence file. Nothing is verified."""
    from strongroom.cli._collateral import Sources
    from strongroom.cli._collect import Asked, run_collect, run_list

    asked = Asked(
        None if kind is None else str(kind),
        report_data,
        nonce,
        init_data,
        tcti,
        ak_handle,
        gpus=gpus,
        event_log=event_log,
    )
    if list_sources:
        run_list(asked, json_output=json_output)
    else:
        run_collect(asked, output, Sources(cache, pccs, kds).only_if(fetch), json_output=json_output)


@app.command(epilog="Example: strongroom evidence fetch e.json --cache ./collateral")
def fetch(
    files: Annotated[
        list[Path],
        typer.Argument(help="Evidence files of the platforms in question, with collateral or not."),
    ],
    cache: CacheOption = None,
    pccs: PccsOption = None,
    kds: KdsOption = None,
    json_output: JsonOption = False,
) -> None:
    """Fetch the vendors' present collateral for evidence into a folder, to be used without a network."""
    from strongroom.cli._collateral import Sources, run_fetch

    run_fetch(files, Sources(cache, pccs, kds), json_output=json_output)


@app.command(epilog="Example: strongroom evidence verify e.json --at collected --policy policy.toml")
def verify(
    file: FileArgument,
    at: Annotated[
        str,
        typer.Option(
            "--at",
            help="Time of the appraisal: `now`; `collected`, as the file says; RFC 3339; or Unix seconds.",
        ),
    ] = "now",
    policy: Annotated[
        Path | None, typer.Option("--policy", help="What it must satisfy (TOML). Without it: exit 3.")
    ] = None,
    values: ValuesOption = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder of collateral, for evidence that lacks it. Nothing is fetched."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Verify evidence up to its vendor's root and appraise it under a policy. Exit 3 if refused."""
    from strongroom.cli._evidence import run_verify

    run_verify(file, at=at, policy=policy, values=values, cache=cache, json_output=json_output)


@app.command(epilog="Example: strongroom evidence token e.json --policy policy.toml --key key.pem")
def token(
    file: FileArgument,
    policy: Annotated[Path, typer.Option("--policy", help="What it must satisfy (TOML).")],
    key: Annotated[
        Path,
        typer.Option("--key", help="The issuer's private key: P-256, PEM, readable by its owner only."),
    ],
    issuer: Annotated[str, typer.Option("--issuer", help="Who issues it (`iss`).")] = "strongroom",
    seconds: Annotated[
        int, typer.Option("--seconds", min=1, max=365 * 86400, help="Life of the token.")
    ] = 300,
    values: ValuesOption = None,
    at: Annotated[
        str,
        typer.Option("--at", help="Time of the appraisal, which the token names: as for `verify`."),
    ] = "now",
    json_output: JsonOption = False,
) -> None:
    """Hand a verdict on: an attestation token (EAR, a JWT) over evidence that passes. Exit 3 if refused.

    SIMULATED evidence is `contraindicated` in it whatever the policy says.
    """
    from strongroom.cli._token import Issue, run_token

    run_token(file, policy, Issue(key, issuer, seconds), values=values, at=at, json_output=json_output)


@app.command(epilog="Example: strongroom evidence conformance --json")
def conformance(
    cases: Annotated[
        Path | None, typer.Option("--cases", help="Run these cases instead of generated ones (JSON list).")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write the cases there and run none, for another verifier."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Try the verifiers and decisions with hundreds of cases, each wrong in one property. Exit 1 on a miss.

    The evidence is SIMULATED: in the production formats, under keys that are made on the spot.
    """
    from strongroom.cli._conformance import run_conformance

    run_conformance(cases, export, json_output=json_output)


@app.command(epilog="Example: strongroom evidence show e.json")
def show(file: FileArgument, json_output: JsonOption = False) -> None:
    """Show what is in an evidence file. Nothing is verified."""
    from strongroom.cli._evidence import run_show

    run_show(file, json_output=json_output)
