"""What `strongroom evidence` does."""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strongroom.attestation import ccel
from strongroom.attestation.evidence import (
    INTEL_KINDS,
    MAX_COLLATERAL,
    MAX_INIT_DATA,
    MAX_QUOTE,
    SNP_KINDS,
    Evidence,
    EvidenceKind,
)
from strongroom.attestation.evidence_file import MAX_FILE, MAX_RIMS_SIZE, EvidenceFile
from strongroom.attestation.runtime_data import MAX_RUNTIME_DATA, RuntimeData
from strongroom.cli._output import emit, say
from strongroom.cli.errors import FILE_UNREADABLE, OPTION_INVALID
from strongroom.errors import ConfigError, PolicyRefused

if TYPE_CHECKING:
    from strongroom.attestation.claims import Claims
    from strongroom.attestation.devices import Device
    from strongroom.cli._collateral import Sources

_PEM = b"-----BEGIN"


@dataclass(frozen=True, slots=True)
class Parts:
    """The files that `pack` puts together."""

    kind: str
    quote: Path
    collateral: Path | None
    vek: Path | None
    chain: Path | None
    crl: Path | None
    event_log: Path | None
    init_data: Path | None
    runtime_data: Path | None
    rims: tuple[Path, ...]


def run_pack(
    parts: Parts, output: Path, sources: Sources | None, *, collected: str, json_output: bool
) -> None:
    """Write an evidence file, with collateral that is fetched if there are sources of it."""
    when = moment(collected, "--collected")
    evidence = Evidence(
        EvidenceKind(parts.kind),
        read(parts.quote, MAX_QUOTE),
        _collateral(parts),
        None if parts.init_data is None else read(parts.init_data, MAX_INIT_DATA),
        None if parts.event_log is None else ccel.trimmed(read(parts.event_log, ccel.MAX_LOG)),
    )
    if sources is not None:
        from strongroom.attestation.collateral.complete import complete

        evidence = complete(evidence, sources.open(), when)
    packed = EvidenceFile(
        evidence,
        when,
        None if parts.runtime_data is None else read(parts.runtime_data, MAX_RUNTIME_DATA),
        tuple(read(path, MAX_RIMS_SIZE) for path in parts.rims),
    )
    output.write_bytes(packed.to_json_bytes())
    if json_output:
        emit({"file": str(output), "kind": parts.kind, "collected": packed.collected})
    else:
        say(f"{output}: {parts.kind} evidence, collected {shown(packed.collected)}. Nothing was verified.")


def run_verify(
    path: Path,
    *,
    at: str,
    policy: Path | None,
    values: Path | None,
    cache: Path | None,
    json_output: bool,
) -> None:
    """Verify and appraise an evidence file, and print what was found."""
    from strongroom.attestation.collateral.complete import complete
    from strongroom.attestation.collateral.source import open_source
    from strongroom.attestation.composite import verify_composite
    from strongroom.cli._values import load_policy
    from strongroom.client.errors import POLICY_MISSING

    if policy is None:
        raise PolicyRefused(POLICY_MISSING)
    demanded = load_policy(policy, values)
    file = EvidenceFile.parse(read(path, MAX_FILE))
    now = file.collected if at == "collected" else moment(at, "--at")
    evidence = file.evidence if cache is None else complete(file.evidence, open_source(cache), now)
    bound = None if file.runtime_data is None else RuntimeData.parse(file.runtime_data)
    claims = verify_composite(evidence, bound, demanded.roots, now, rims=file.rims)
    demanded.appraise(claims, now=now)
    label = "SIMULATED" if claims.simulated else "ATTESTED"
    source = at if at in {"collected", "now"} else "given"
    if json_output:
        emit(
            {
                "verdict": label,
                "at": now,
                "at_source": source,
                "collected": file.collected,
                "policy": demanded.digest,
                "reference_values": None if demanded.published is None else demanded.published.digest,
                "claims": claims.to_json(),
                "event_log": "matches" if file.evidence.event_log is not None else "none",
            }
        )
        return
    say(
        f"{label}: {path} passes {policy}" + (", which admits simulated evidence" if claims.simulated else "")
    )
    meaning = {
        "collected": "when the file says that it was collected; nothing is said of today",
        "now": "now",
        "given": "as you asked; nothing is said of today",
    }
    say(f"  as of         {shown(now)}, {meaning[source]}")
    _say_claims(claims)
    if demanded.published is not None:
        published = demanded.published
        say(f"  published     version {published.version} of {published.name}, {published.digest}")
    if file.evidence.event_log is not None:
        say("  event log     matches the registers of the quote; `strongroom evidence show` lists it")


def run_show(path: Path, *, json_output: bool) -> None:
    """Print what is in an evidence file."""
    file = EvidenceFile.parse(read(path, MAX_FILE))
    evidence = file.evidence
    parts = sorted(evidence.collateral or ())
    events = None if evidence.event_log is None else ccel.parse(evidence.event_log)
    if json_output:
        emit(
            {
                "kind": str(evidence.kind),
                "collected": file.collected,
                "quote_bytes": len(evidence.quote),
                "collateral": parts,
                "init_data_bytes": None if evidence.init_data is None else len(evidence.init_data),
                "events": None if events is None else len(events),
                "verified": False,
            }
        )
        return
    say(f"{path}: {evidence.kind} evidence, not verified")
    say(f"  collected     {shown(file.collected)}, as the file says")
    say(f"  quote         {len(evidence.quote)} bytes")
    say(f"  collateral    {', '.join(parts) or 'none'}")
    say(f"  init-data     {'none' if evidence.init_data is None else f'{len(evidence.init_data)} bytes'}")
    listed = "none" if events is None else f"{len(events)} events; data is shown where its digest covers it"
    say(f"  event log     {listed}")
    for event in events or ():
        say(f"    {ccel.describe(event)}")


def _say_claims(claims: Claims) -> None:
    rows: list[tuple[str, object]] = [
        ("kind", f"{claims.kind} {claims.product}".strip()),
        ("anchor", f"{claims.anchor}, root sha256:{claims.root_sha256}"),
        ("measurement", claims.measurement),
        ("signer", claims.signer),
        ("report data", claims.report_data.hex()),
        ("init-data", f"sha384:{claims.init_data_digest.hex()}"),
        ("TCB status", claims.tcb_status),
        ("TCB", ", ".join(f"{part} {version}" for part, version in claims.tcb.items())),
        *((f"GPU {place}", _gpu(device)) for place, device in enumerate(claims.devices)),
        *((f"PCR {number}", value) for number, value in sorted(claims.pcrs.items()) if int(value, 16)),
        ("advisories", ", ".join(claims.advisories)),
        ("valid until", shown(claims.expires)),
    ]
    for name, value in rows:
        if value:
            say(f"  {name:<13} {value}")
    if claims.kind is EvidenceKind.TPM:
        say("  A TPM says what the machine has started. It does not keep its owner from reading its memory.")


def _gpu(device: Device) -> str:
    gpu, differing = device.gpu, device.differing
    values = "no reference values" if differing is None else f"{len(differing)} measurements differ"
    return f"{gpu.product}, driver {gpu.driver_version}, VBIOS {gpu.vbios_version}, {values}"


def _collateral(parts: Parts) -> dict[str, str] | None:
    """The collateral of a kind; what belongs to another kind is refused, not ignored."""
    for option, path, kinds in (
        ("--collateral", parts.collateral, INTEL_KINDS),
        ("--vek", parts.vek, (EvidenceKind.SNP,)),
        ("--chain", parts.chain, SNP_KINDS),
        ("--crl", parts.crl, SNP_KINDS),
    ):
        if path is not None and parts.kind not in kinds:
            raise ConfigError(OPTION_INVALID, f"{option} has no meaning for {parts.kind} evidence")
    if parts.collateral is not None:
        return _json_object(parts.collateral)
    found = {}
    if parts.vek is not None:
        found["vek"] = _pem(parts.vek)
    if parts.chain is not None:
        found["chain"] = _pem(parts.chain)
    if parts.crl is not None:
        found["crl"] = _der(parts.crl).hex()
    if parts.kind == EvidenceKind.SNP and found and "vek" not in found:
        raise ConfigError(OPTION_INVALID, "--chain and --crl need --vek")
    return found or None


def _json_object(path: Path) -> dict[str, str]:
    try:
        value: Any = json.loads(read(path, 2 * MAX_COLLATERAL))
    except (ValueError, RecursionError) as error:
        raise ConfigError(FILE_UNREADABLE, f"{path} is not JSON") from error
    if not isinstance(value, dict):
        raise ConfigError(FILE_UNREADABLE, f"{path} is not a JSON object")
    return value


def _pem(path: Path) -> str:
    """A file of certificates, in PEM or one in DER, as PEM."""
    data = read(path, MAX_COLLATERAL)
    return data.decode("ascii", "replace") if _PEM in data else ssl.DER_cert_to_PEM_cert(data)


def _der(path: Path) -> bytes:
    """A revocation list in PEM or DER, as DER."""
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_pem_x509_crl

    data = read(path, MAX_COLLATERAL)
    if _PEM not in data:
        return data
    try:
        return load_pem_x509_crl(data).public_bytes(Encoding.DER)
    except ValueError as error:
        raise ConfigError(FILE_UNREADABLE, f"{path} is neither DER nor PEM") from error


def read(path: Path, limit: int) -> bytes:
    """A file of at most `limit` bytes, or one byte more: whoever takes it then refuses it."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise ConfigError(FILE_UNREADABLE, f"{path}: {error.strerror}") from None


def moment(text: str, option: str) -> int:
    """A time that was given on the command line, as Unix seconds."""
    if text == "now":
        return int(time.time())
    try:
        if text.isdecimal():
            moment = int(text)
        else:
            given = datetime.fromisoformat(text)
            moment = int(given.timestamp()) if given.tzinfo is not None else -1
        datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError, OSError):
        moment = -1
    if moment < 0:
        expected = "now, 2025-06-20T00:00:00Z or Unix seconds"
        raise ConfigError(OPTION_INVALID, option, found=text[:40], expected=expected)
    return moment


def shown(moment: int) -> str:
    """A Unix time for people."""
    try:
        return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):  # a file may name a time that no calendar has
        return f"Unix time {moment}"
