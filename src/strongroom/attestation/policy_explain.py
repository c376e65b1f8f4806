"""Why a policy says what it says: each check with what it found, and the shortest set of facts that decide.

The checks look at one fact each and are joined by "and". So a refusal is decided by a set of changes of the
policy that are enough together, and none of which can be left out. An acceptance is decided by the entries
and permissions of the policy each of which, taken away alone, makes it a refusal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from strongroom.attestation.claims import Claims
from strongroom.attestation.errors import POLICY_INIT
from strongroom.attestation.policy import Finding, Policy
from strongroom.attestation.policy_change import STRICTEST, Change, tighten, widen
from strongroom.errors import ConfigError

CONSENT: Final = ("allow_debug", "allow_migration", "require_revocation", "allow_simulated")
"""What `initial` does not accept by itself; and a TCB status other than `UpToDate`."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a policy says to claims, and why.

    Attributes:
        accepted: Whether it accepts them.
        findings: What each check found.
        deciding: Refused: the changes, all of which are needed, under which it would accept. Accepted: the
            entries and permissions that it could not do without.
    """

    accepted: bool
    findings: tuple[Finding, ...]
    deciding: tuple[Change, ...]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "accepted": self.accepted,
            "checks": [finding.to_json() for finding in self.findings],
            "deciding": [{"key": change.key, "value": change.value} for change in self.deciding],
        }


def explain(policy: Policy, claims: Claims, *, now: int | None = None) -> Explanation:
    """Say what decides. That the collateral is still usable is not the policy's, and not looked at.

    Args:
        policy: The policy.
        claims: What verified evidence says.
        now: Unix time at which published measurements must count; None: whenever.
    """
    findings = policy.findings(claims, now=now)
    failed = [finding.key for finding in findings if finding.code]
    if failed:
        return Explanation(False, findings, tuple(_needed(policy, claims, failed, now)))
    needed = (change for change in tighten(policy, claims) if _refuses(change.policy, claims, now))
    return Explanation(True, findings, tuple(needed))


def initial(
    claims: Iterable[Claims], *, consent: Collection[str] = (), statuses: Collection[str] = ()
) -> Policy:
    """The strictest policy that accepts all of these claims; its text is to be written by `Policy.to_toml`.

    Args:
        claims: What pieces of evidence say that are known to be good.
        consent: Which of `CONSENT` may be given up.
        statuses: TCB statuses that may be accepted besides `UpToDate`.

    Raises:
        ConfigError: `policy-init-refused`: that would take a consent that was not given.
    """
    policy = STRICTEST
    for each in claims:
        for finding in policy.findings(each):
            if not finding.code:
                continue
            if finding.key in CONSENT and finding.key not in consent:
                raise ConfigError(POLICY_INIT, finding.key)
            if finding.key == "tcb_statuses" and each.tcb_status not in {"UpToDate", *statuses}:
                raise ConfigError(POLICY_INIT, "tcb_statuses", found=each.tcb_status, expected="UpToDate")
            policy = widen(policy, finding.key, each).policy
    return replace(policy, pcrs={number: listed for number, listed in policy.pcrs.items() if listed})


def _needed(policy: Policy, claims: Claims, failed: Sequence[str], now: int | None) -> Iterator[Change]:
    """A set of changes with which the policy accepts, and with none less.

    A check can fail for another's sake: what is listed for a kind counts only where the kind is accepted.
    """
    keys = list(failed)
    for key in failed:
        rest = [each for each in keys if each != key]
        if not _refuses(_widened(policy, claims, rest), claims, now):
            keys = rest
    for key in keys:
        yield widen(policy, key, claims)


def _widened(policy: Policy, claims: Claims, keys: Iterable[str]) -> Policy:
    for key in keys:
        policy = widen(policy, key, claims).policy
    return policy


def _refuses(policy: Policy, claims: Claims, now: int | None) -> bool:
    return any(finding.code for finding in policy.findings(claims, now=now))
