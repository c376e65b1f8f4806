"""Reading the file form of a policy, strictly: unknown keys, open questions and unfit values are refused."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from strongroom.attestation._toml import parse_toml
from strongroom.attestation.errors import POLICY_INVALID
from strongroom.attestation.evidence import INTEL_KINDS, SNP_KINDS, TPM_KINDS, EvidenceKind
from strongroom.attestation.gpu_checks import GpuDemand
from strongroom.errors import ConfigError, CryptoError
from strongroom.forms import ready

if TYPE_CHECKING:
    from strongroom.attestation.reference_checks import ReferenceDemand

MAX_POLICY: Final = 64 * 1024
"""Largest policy in bytes."""

MAX_AGE: Final = 7 * 24 * 3600
_MAX_ENTRIES: Final = 512

_SgxMeasurement = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_TdxMeasurement = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{96}((:[0-9a-f]{96}){4})?\Z")]
_Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_GpuVersion = Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Za-z._-]{1,32}\Z")]
_Pcr = Annotated[int, msgspec.Meta(ge=0, le=23)]
_SnpMeasurement = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{96}\Z")]
_NitroMeasurement = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{96}(:[0-9a-f]{96}){2}\Z")]
_Version = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Digest = Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
_Advisory = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z0-9-]{1,64}\Z")]
_Service = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")]
_Few = msgspec.Meta(max_length=_MAX_ENTRIES)
_SomeFew = msgspec.Meta(min_length=1, max_length=_MAX_ENTRIES)

# What Intel's verification can answer, except Revoked, which nobody may accept.
_TcbStatus = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
]


@ready
class _Measurements(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    sgx: Annotated[tuple[_SgxMeasurement, ...], _Few] = ()
    tdx: Annotated[tuple[_TdxMeasurement, ...], _Few] = ()
    snp: Annotated[tuple[_SnpMeasurement, ...], _Few] = ()
    nitro: Annotated[tuple[_NitroMeasurement, ...], _Few] = ()
    az_snp_vtpm: Annotated[tuple[_SnpMeasurement, ...], _Few] = ()
    az_tdx_vtpm: Annotated[tuple[_TdxMeasurement, ...], _Few] = ()

    def by_kind(self) -> dict[EvidenceKind, frozenset[str]]:
        lists = msgspec.to_builtins(self)
        return {EvidenceKind(kind): frozenset(listed) for kind, listed in lists.items() if listed}


@ready
class _Floor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    bootloader: _Version = 0
    tee: _Version = 0
    snp: _Version = 0
    microcode: _Version = 0


class _TurinFloor(_Floor, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    fmc: _Version = 0


@ready
class _TcbFloor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    Milan: _Floor | None = None
    Genoa: _Floor | None = None
    Turin: _TurinFloor | None = None

    def by_product(self) -> dict[str, dict[str, int]]:
        floors = msgspec.structs.asdict(self)
        return {name: msgspec.to_builtins(each) for name, each in floors.items() if each is not None}


@ready
class _Gpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    drivers: Annotated[tuple[_GpuVersion, ...], _SomeFew]
    vbioses: Annotated[tuple[_GpuVersion, ...], _SomeFew]
    min_count: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    reference_values: bool = True

    def demand(self) -> GpuDemand:
        return GpuDemand(
            self.min_count, frozenset(self.drivers), frozenset(self.vbioses), self.reference_values
        )


@ready
class _ReferenceValues(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    name: _Service
    min_version: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)] = 1


@ready
class _PolicyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    kinds: Annotated[tuple[EvidenceKind, ...], _SomeFew]
    measurements: _Measurements = _Measurements()
    tcb_statuses: Annotated[tuple[_TcbStatus, ...], _Few] = ()
    tcb_floor: _TcbFloor = _TcbFloor()
    pcrs: dict[_Pcr, Annotated[tuple[_Sha256, ...], _SomeFew]] = {}
    tpm_keys: Annotated[tuple[_Digest, ...], _Few] = ()
    gpu: _Gpu | None = None
    reference_values: _ReferenceValues | None = None
    max_vmpl: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0
    allow_migration: bool = False
    require_revocation: bool = True
    allow_simulated: bool = False
    simulated_roots: Annotated[tuple[_Digest, ...], _Few] = ()
    allow_debug: bool = False
    rejected_advisories: Annotated[tuple[_Advisory, ...], _Few] = ()
    min_svn: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    max_evidence_age: Annotated[int, msgspec.Meta(ge=1, le=MAX_AGE)] = 600
    allow_unattested_broker: bool = False
    allow_classical_release: bool = False
    allow_classical_requests: bool = False
    broker_key: str | None = None
    broker_measurements: _Measurements = _Measurements()
    service: _Service | None = None


def read(text: str) -> dict[str, Any]:
    """Read the text of a policy into the members of `Policy`, by name, without `text`.

    Raises:
        ConfigError: `policy-invalid`; the message names the key.
    """
    file = _convert(_toml(text))
    _check_whole(file)
    return {
        "kinds": frozenset(file.kinds),
        "measurements": file.measurements.by_kind(),
        "tcb_statuses": frozenset(file.tcb_statuses),
        "tcb_floor": file.tcb_floor.by_product(),
        "pcrs": {number: frozenset(values) for number, values in file.pcrs.items()},
        "tpm_keys": frozenset(key.removeprefix("sha256:") for key in file.tpm_keys),
        "gpu": None if file.gpu is None else file.gpu.demand(),
        "reference_values": _reference_demand(file.reference_values),
        "max_vmpl": file.max_vmpl,
        "allow_migration": file.allow_migration,
        "require_revocation": file.require_revocation,
        "allow_simulated": file.allow_simulated,
        "simulated_roots": frozenset(root.removeprefix("sha256:") for root in file.simulated_roots),
        "allow_debug": file.allow_debug,
        "rejected_advisories": frozenset(file.rejected_advisories),
        "min_svn": file.min_svn,
        "max_evidence_age": file.max_evidence_age,
        "allow_unattested_broker": file.allow_unattested_broker,
        "allow_classical_release": file.allow_classical_release,
        "allow_classical_requests": file.allow_classical_requests,
        "broker_key": file.broker_key,
        "broker_measurements": file.broker_measurements.by_kind(),
        "service": file.service,
    }


def measurement_lists(value: object) -> dict[EvidenceKind, frozenset[str]]:
    """Read lists of measurements by kind, in the forms that a policy has them in.

    Raises:
        ConfigError: `policy-invalid`; the message names the kind.
    """
    try:
        return msgspec.convert(value, _Measurements).by_kind()
    except msgspec.ValidationError as error:
        raise ConfigError(POLICY_INVALID, _printable(str(error))) from None


def _reference_demand(file: _ReferenceValues | None) -> ReferenceDemand | None:
    from strongroom.attestation.reference_checks import ReferenceDemand

    return None if file is None else ReferenceDemand(file.key, file.name, file.min_version)


def _toml(text: str) -> dict[str, Any]:
    if len(text) > MAX_POLICY or len(text.encode("utf-8", "surrogatepass")) > MAX_POLICY:
        raise ConfigError(POLICY_INVALID, "too long", expected=f"at most {MAX_POLICY} bytes")
    try:
        return parse_toml(text)
    except (ValueError, RecursionError) as error:  # ValueError: TOML errors, integers too long for Python
        raise ConfigError(POLICY_INVALID, f"not TOML: {_printable(str(error))}") from None


def _convert(value: dict[str, Any]) -> _PolicyFile:
    try:
        return msgspec.convert(value, _PolicyFile, str_keys=True)
    except msgspec.ValidationError as error:
        raise ConfigError(POLICY_INVALID, _printable(str(error))) from None


def _check_whole(file: _PolicyFile) -> None:
    """What no single key shows: a policy that leaves open what it accepts is none."""
    accepted = file.measurements.by_kind()
    for kind in file.kinds:
        if kind not in accepted and kind is not EvidenceKind.TPM and file.reference_values is None:
            raise ConfigError(POLICY_INVALID, f"measurements.{kind} is empty, but kinds has {kind}")
    if not file.tcb_statuses and not set(INTEL_KINDS).isdisjoint(file.kinds):
        raise ConfigError(POLICY_INVALID, f"tcb_statuses is empty, but kinds has {_which(file, INTEL_KINDS)}")
    if not set(SNP_KINDS).isdisjoint(file.kinds) and not file.tcb_floor.by_product():
        raise ConfigError(
            POLICY_INVALID, f"tcb_floor names no product, but kinds has {_which(file, SNP_KINDS)}"
        )
    if not set(TPM_KINDS).isdisjoint(file.kinds) and not file.pcrs:
        raise ConfigError(POLICY_INVALID, f"pcrs is empty, but kinds has {_which(file, TPM_KINDS)}")
    if EvidenceKind.TPM in file.kinds and not file.tpm_keys:
        raise ConfigError(POLICY_INVALID, "tpm_keys is empty, but kinds has tpm")
    if file.allow_simulated and not file.simulated_roots:
        raise ConfigError(POLICY_INVALID, "allow_simulated = true needs simulated_roots")
    if file.broker_key is not None:
        _check_key("broker_key", file.broker_key)
    if file.reference_values is not None:
        _check_key("reference_values.key", file.reference_values.key)


def _which(file: _PolicyFile, kinds: Collection[EvidenceKind]) -> str:
    return next(kind for kind in file.kinds if kind in kinds)


def _check_key(name: str, text: str) -> None:
    from strongroom.crypto.sign import VerifyingKey

    try:
        VerifyingKey.parse(text)
    except CryptoError as error:
        raise ConfigError(POLICY_INVALID, f"{name}: {error.kind.title}") from None


def _printable(text: str) -> str:
    """Bound and clean a message that may quote a policy from outside."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text[:200])
