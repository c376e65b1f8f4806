"""Changes of a policy, one key each: the least that lets given claims pass, and what keeps them out again.

`strongroom policy init` widens a policy that accepts nothing; `explain` asks which changes decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from strongroom.attestation.claims import Claims
from strongroom.attestation.evidence import TPM_KINDS
from strongroom.attestation.gpu_checks import GpuDemand
from strongroom.attestation.policy import Policy

STRICTEST: Final = Policy(
    text="",
    kinds=frozenset(),
    measurements={},
    tcb_statuses=frozenset(),
    pcrs=dict.fromkeys(range(24), frozenset[str]()),
    min_svn=2**16,
)
"""A policy that accepts nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one key of a policy.

    Attributes:
        key: The key, as in the file.
        value: What is added, taken away or set there, in words.
        policy: The policy with the change.
    """

    key: str
    value: str
    policy: Policy


def widen(policy: Policy, key: str, claims: Claims) -> Change:
    """The least change of a key under which its check accepts the claims."""
    value, members = _WIDER[key](policy, claims)
    return Change(key, value, replace(policy, **members))


def tighten(policy: Policy, claims: Claims) -> Iterator[Change]:
    """Changes that each take away one entry, or one permission, that the claims may need."""
    for key, narrow in _NARROWER.items():
        for value, members in narrow(policy, claims):
            yield Change(key, value, replace(policy, **members))


_Members = Mapping[str, Any]


def _kinds(policy: Policy, claims: Claims) -> tuple[str, _Members]:
    return f"add {claims.kind}", {"kinds": policy.kinds | {claims.kind}}


def _measurements(policy: Policy, claims: Claims) -> tuple[str, _Members]:
    listed = policy.measurements.get(claims.kind, frozenset()) | {claims.measurement}
    value = f"add {claims.measurement} to {claims.kind}"
    return value, {"measurements": {**policy.measurements, claims.kind: listed}}


def _statuses(policy: Policy, claims: Claims) -> tuple[str, _Members]:
    return f"add {claims.tcb_status}", {"tcb_statuses": policy.tcb_statuses | {claims.tcb_status}}


def _roots(policy: Policy, claims: Claims) -> tuple[str, _Members]:
    roots = claims.simulated_roots - policy.simulated_roots
    value = ", ".join(f"sha256:{root}" for root in sorted(roots))
    return f"add {value}", {"simulated_roots": policy.simulated_roots | roots}


def _floor(policy: Policy, claims: Claims) -> tuple[str, _Members]:
    before = policy.tcb_floor.get(claims.product)
    parts = (
        claims.tcb
        if before is None
        else {part: min(at, claims.tcb.get(part, 0)) for part, at in before.items()}
    )
    value = ", ".join(f"{part} {version}" for part, version in parts.items())
    return f"{claims.product}: at least {value}", {
        "tcb_floor": {**policy.tcb_floor, claims.product: dict(parts)}
    }


def _pcrs(policy: Policy, claims: Claims) -> tuple[str, _Members]:
    found = {number: claims.pcrs[number] for number in sorted(policy.pcrs) if number in claims.pcrs}
    value = ", ".join(f"{number}: {each}" for number, each in found.items())
    added = {number: policy.pcrs[number] | {each} for number, each in found.items()}
    return f"add {value}", {"pcrs": {**policy.pcrs, **added}}


def _tpm_keys(policy: Policy, claims: Claims) -> tuple[str, _Members]:
    return f"add sha256:{claims.root_sha256}", {"tpm_keys": policy.tpm_keys | {claims.root_sha256}}


def _gpu(policy: Policy, claims: Claims) -> tuple[str, _Members]:
    if not claims.devices:
        return "none is demanded", {"gpu": None}
    before = policy.gpu or GpuDemand(len(claims.devices), frozenset(), frozenset(), reference_values=True)
    demand = GpuDemand(
        min(before.min_count, len(claims.devices)),
        before.drivers | {device.gpu.driver_version for device in claims.devices},
        before.vbioses | {device.gpu.vbios_version for device in claims.devices},
        before.reference_values and all(device.differing == () for device in claims.devices),
    )
    value = f"at least {demand.min_count}, drivers {sorted(demand.drivers)}, VBIOSes {sorted(demand.vbioses)}"
    return value, {"gpu": demand}


def _advisories(policy: Policy, claims: Claims) -> tuple[str, _Members]:
    applying = policy.rejected_advisories.intersection(claims.advisories)
    return f"remove {', '.join(sorted(applying))}", {
        "rejected_advisories": policy.rejected_advisories - applying
    }


def _flag(key: str, value: bool) -> Callable[[Policy, Claims], tuple[str, _Members]]:  # noqa: FBT001
    return lambda policy, claims: (str(value).lower(), {key: value})  # noqa: ARG005


_WIDER: Final[Mapping[str, Callable[[Policy, Claims], tuple[str, _Members]]]] = {
    "kinds": _kinds,
    "allow_simulated": _flag("allow_simulated", True),
    "simulated_roots": _roots,
    "measurements": _measurements,
    "reference_values": _measurements,
    "allow_debug": _flag("allow_debug", True),
    "tcb_statuses": _statuses,
    "tcb_floor": _floor,
    "pcrs": _pcrs,
    "tpm_keys": _tpm_keys,
    "gpu": _gpu,
    "max_vmpl": lambda policy, claims: (str(claims.privilege), {"max_vmpl": claims.privilege}),  # noqa: ARG005
    "allow_migration": _flag("allow_migration", True),
    "require_revocation": _flag("require_revocation", False),
    "rejected_advisories": _advisories,
    "min_svn": lambda policy, claims: (str(claims.svn), {"min_svn": claims.svn}),  # noqa: ARG005
}


def _without(
    key: str, entry: Callable[[Claims], str]
) -> Callable[[Policy, Claims], Iterator[tuple[str, _Members]]]:
    def narrow(policy: Policy, claims: Claims) -> Iterator[tuple[str, _Members]]:
        yield entry(claims), {key: getattr(policy, key) - {entry(claims)}}

    return narrow


def _without_flag(key: str, strict: bool) -> Callable[[Policy, Claims], Iterator[tuple[str, _Members]]]:  # noqa: FBT001
    def narrow(policy: Policy, claims: Claims) -> Iterator[tuple[str, _Members]]:  # noqa: ARG001
        if getattr(policy, key) is not strict:
            yield str(not strict).lower(), {key: strict}

    return narrow


def _without_measurement(policy: Policy, claims: Claims) -> Iterator[tuple[str, _Members]]:
    listed = policy.measurements.get(claims.kind, frozenset()) - {claims.measurement}
    yield (
        f"{claims.kind} {claims.measurement}",
        {"measurements": {**policy.measurements, claims.kind: listed}},
    )


def _without_published(policy: Policy, claims: Claims) -> Iterator[tuple[str, _Members]]:
    published = policy.published
    if published is not None and claims.measurement in published.of_kind(claims.kind):
        label = published.measurements[claims.kind][claims.measurement]
        yield (
            f"{claims.measurement} ({label}) in {published.name}, version {published.version}",
            {"published": None},
        )


def _without_roots(policy: Policy, claims: Claims) -> Iterator[tuple[str, _Members]]:
    for root in sorted(claims.simulated_roots):
        yield f"sha256:{root}", {"simulated_roots": policy.simulated_roots - {root}}


def _without_product(policy: Policy, claims: Claims) -> Iterator[tuple[str, _Members]]:
    left = {product: floor for product, floor in policy.tcb_floor.items() if product != claims.product}
    yield claims.product, {"tcb_floor": left}


def _without_pcr(policy: Policy, claims: Claims) -> Iterator[tuple[str, _Members]]:
    if claims.kind not in TPM_KINDS:
        return
    for number, listed in sorted(policy.pcrs.items()):
        found = claims.pcrs.get(number, "")
        yield f"{number}: {found}", {"pcrs": {**policy.pcrs, number: listed - {found}}}


def _without_level(policy: Policy, claims: Claims) -> Iterator[tuple[str, _Members]]:
    if claims.privilege:
        yield str(policy.max_vmpl), {"max_vmpl": claims.privilege - 1}


def _without_gpu(policy: Policy, claims: Claims) -> Iterator[tuple[str, _Members]]:  # noqa: ARG001
    if policy.gpu is not None:
        yield f"at least {policy.gpu.min_count}", {"gpu": None}


_NARROWER: Final[Mapping[str, Callable[[Policy, Claims], Iterator[tuple[str, _Members]]]]] = {
    "kinds": _without("kinds", lambda claims: claims.kind),
    "allow_simulated": _without_flag("allow_simulated", strict=False),
    "simulated_roots": _without_roots,
    "measurements": _without_measurement,
    "reference_values": _without_published,
    "allow_debug": _without_flag("allow_debug", strict=False),
    "tcb_statuses": _without("tcb_statuses", lambda claims: claims.tcb_status),
    "tcb_floor": _without_product,
    "pcrs": _without_pcr,
    "tpm_keys": _without("tpm_keys", lambda claims: claims.root_sha256),
    "gpu": _without_gpu,
    "max_vmpl": _without_level,
    "allow_migration": _without_flag("allow_migration", strict=False),
    "require_revocation": _without_flag("require_revocation", strict=True),
}
