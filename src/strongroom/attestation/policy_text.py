"""Writing a policy as TOML with comments, for people to read and edit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec

from strongroom.attestation import policy_file
from strongroom.attestation.evidence import SNP_KINDS, EvidenceKind
from strongroom.attestation.gpu_checks import GpuDemand
from strongroom.attestation.reference_checks import ReferenceDemand

_HEAD: Final = """\
# Strongroom appraisal policy. It says which attested code may see data (a client's policy)
# or get keys (a model owner's policy). What is not listed here is refused.
"""
_SIMULATED: Final = """\
SIMULATED evidence is accepted. It comes from a test key on an ordinary machine and
protects nothing: set this to false before you send data that matters."""

_OTHER_MEASUREMENTS: Final = (
    "\nThe launch digest for snp, PCR0:PCR1:PCR2 for nitro, the paravisor's for az-*."
)


def render_policy(
    *,
    kinds: Collection[EvidenceKind],
    measurements: Mapping[EvidenceKind, Collection[str]],
    tcb_statuses: Collection[str] = ("UpToDate",),
    tcb_floor: Mapping[str, Mapping[str, int]] | None = None,
    pcrs: Mapping[int, Collection[str]] | None = None,
    tpm_keys: Collection[str] = (),
    gpu: GpuDemand | None = None,
    reference_values: ReferenceDemand | None = None,
    max_vmpl: int = 0,
    allow_migration: bool = False,
    require_revocation: bool = True,
    allow_simulated: bool = False,
    simulated_roots: Collection[str] = (),
    allow_debug: bool = False,
    rejected_advisories: Collection[str] = (),
    min_svn: int = 0,
    max_evidence_age: int = 600,
    allow_unattested_broker: bool = False,
    allow_classical_release: bool = False,
    allow_classical_requests: bool = False,
    broker_key: str | None = None,
    broker_measurements: Mapping[EvidenceKind, Collection[str]] | None = None,
    service: str | None = None,
) -> str:
    """Write a policy as commented TOML; the arguments are the attributes of `Policy`.

    Raises:
        ConfigError: `policy-invalid`: `Policy.parse` would not read it back.
    """
    guests = not set(SNP_KINDS).isdisjoint(kinds)
    parts = [
        _HEAD + _line("version", 1),
        _key("service", service, "The service that is meant; another one of the same broker is refused."),
        _key("kinds", sorted(kinds), "Kinds of trusted execution environments."),
        _key("tcb_statuses", sorted(tcb_statuses), "The vendor's word on the platform's security level."),
        _key(
            "rejected_advisories",
            sorted(rejected_advisories),
            "Platforms to which one of these security advisories applies are refused.",
        ),
        _key(
            "min_svn",
            min_svn,
            "Lowest security version (ISVSVN) of an SGX enclave. A TD has none: it counts as 0.",
        ),
        _key(
            "max_vmpl",
            max_vmpl if guests else None,
            "Lowest privilege level at which an SNP guest may have asked for its report; 0 is the highest.",
        ),
        _key(
            "allow_migration",
            allow_migration if guests else None,
            "A migration agent may move an SNP guest's memory to another machine.",
        ),
        _key(
            "require_revocation",
            require_revocation if guests else None,
            "AMD's revocation list must come with the evidence of an SNP guest.",
        ),
        _key("allow_debug", allow_debug, "Debug enclaves can be read by their host."),
        _key(
            "allow_simulated",
            allow_simulated,
            _SIMULATED if allow_simulated else "Simulated evidence protects nothing.",
        ),
        _key(
            "simulated_roots",
            _digests(simulated_roots),
            "SHA-256 of the simulator's root certificate. No other simulated root is accepted.",
        ),
        _key(
            "tpm_keys",
            _digests(tpm_keys) or None,
            "SHA-256 of the attestation keys of the TPMs that were enrolled.",
        ),
        _key("max_evidence_age", max_evidence_age, "Seconds for which a worker's evidence counts as fresh."),
        _key(
            "allow_unattested_broker",
            allow_unattested_broker,
            "Whoever runs the key broker holds the keys. true: trust him without evidence of his own.",
        ),
        _key(
            "allow_classical_release",
            allow_classical_release or None,
            "Keys may travel to workers under P-256 or RSA, without post-quantum protection.",
        ),
        _key(
            "allow_classical_requests",
            allow_classical_requests or None,
            "Requests may be sealed to a service that offers no post-quantum suite.",
        ),
        _key(
            "broker_key",
            broker_key,
            "The key broker's signing key. Nothing that another key signed is believed.",
        ),
        _table(
            "measurements",
            measurements,
            "The approved code, as `strongroom measure` prints it: MRENCLAVE for sgx, MRTD for tdx."
            + _OTHER_MEASUREMENTS * (not {EvidenceKind.SGX, EvidenceKind.TDX}.issuperset(kinds)),
        ),
        _table(
            "broker_measurements",
            broker_measurements or {},
            "The approved code of a key broker that runs in a trusted execution environment itself.",
        ),
    ]
    parts += [
        _floors(tcb_floor or {}),
        _registers(pcrs or {}),
        _gpu(gpu),
        _reference_values(reference_values),
    ]
    text = "\n".join(part for part in parts if part)
    policy_file.read(text)
    return text


def _key(name: str, value: object, comment: str) -> str:
    return "" if value is None else _comment(comment) + _line(name, value)


def _table(name: str, measurements: Mapping[EvidenceKind, Collection[str]], comment: str) -> str:
    lines = "".join(_list(kind, sorted(measurements[kind])) for kind in sorted(measurements))
    return f"{_comment(comment)}[{name}]\n{lines}" if lines else ""


def _floors(floors: Mapping[str, Mapping[str, int]]) -> str:
    tables = []
    for product in sorted(floors):
        lines = "".join(_line(part, version) for part, version in sorted(floors[product].items()))
        tables.append(f"[tcb_floor.{product}]\n{lines}")
    comment = "Lowest accepted firmware versions of an SNP platform. A product that is not named is refused."
    return _comment(comment) + "\n".join(tables) if tables else ""


def _registers(pcrs: Mapping[int, Collection[str]]) -> str:
    lines = "".join(_list(str(number), sorted(pcrs[number])) for number in sorted(pcrs))
    comment = "Accepted values of the TPM's registers (SHA-256). One that is not named may have any."
    return f"{_comment(comment)}[pcrs]\n{lines}" if lines else ""


def _gpu(demand: GpuDemand | None) -> str:
    if demand is None:
        return ""
    comment = "What the GPUs beside the CPU must be. Without this table there must be none."
    lines = [
        _line("min_count", demand.min_count),
        _list("drivers", sorted(demand.drivers)),
        _list("vbioses", sorted(demand.vbioses)),
        _comment("The measurements must be those that NVIDIA has signed for driver and VBIOS."),
        _line("reference_values", demand.reference_values),
    ]
    return f"{_comment(comment)}[gpu]\n{''.join(lines)}"


def _reference_values(demand: ReferenceDemand | None) -> str:
    if demand is None:
        return ""
    comment = "Measurements that this publisher has signed are accepted too, while his file is valid."
    lines = [
        _line("key", demand.key),
        _line("name", demand.name),
        _comment("Lowest accepted version of his file."),
        _line("min_version", demand.min_version),
    ]
    return f"{_comment(comment)}[reference_values]\n{''.join(lines)}"


def _digests(values: Collection[str]) -> list[str]:
    return sorted(f"sha256:{value.removeprefix('sha256:')}" for value in values)


def _list(name: str, values: list[str]) -> str:
    """One entry a line, so that a change of a policy is easy to review."""
    entries: Iterator[str] = (f"    {msgspec.json.encode(value).decode()},\n" for value in values)
    return f"{name} = [\n{''.join(entries)}]\n"


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.splitlines())


def _line(name: str, value: object) -> str:
    # JSON's integers, booleans, strings and lists are TOML's too.
    return f"{name} = {msgspec.json.encode(value).decode()}\n"
