"""The checks of a policy. Each looks at one fact of the claims and refuses with a code of its own.

A check of the policy itself can also say what another policy's check of the same kind would let pass that
it would not (`wider`): by that a client compares a service's release policy with its own (rule 3).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from strongroom.attestation.claims import Claims
from strongroom.attestation.errors import (
    POLICY_ADVISORY,
    POLICY_DEBUG,
    POLICY_EXPIRED,
    POLICY_INIT_DATA,
    POLICY_KIND,
    POLICY_MEASUREMENT,
    POLICY_MIGRATION,
    POLICY_PCR,
    POLICY_PRIVILEGE,
    POLICY_REPORT_DATA,
    POLICY_REVOCATION,
    POLICY_SIMULATED,
    POLICY_SIMULATED_ROOT,
    POLICY_SVN,
    POLICY_TCB_FLOOR,
    POLICY_TCB_STATUS,
    POLICY_TPM_KEY,
)
from strongroom.attestation.evidence import INTEL_KINDS, SNP_KINDS, TPM_KINDS, EvidenceKind
from strongroom.errors import PolicyRefused


class Check(Protocol):
    """One fact that claims must fulfil."""

    def verify(self, claims: Claims) -> None:
        """Refuse claims that do not fulfil it.

        Raises:
            PolicyRefused: With the code of this check.
        """


class PolicyCheck(Check, Protocol):
    """A check whose expectation stands in a policy, so that two policies can be compared by it."""

    def wider(self, other: Self) -> Iterable[str]:
        """What `other` admits and this check does not, in words."""


@dataclass(frozen=True, slots=True)
class KindIs:
    """The evidence is of an accepted kind."""

    kinds: frozenset[EvidenceKind]

    def verify(self, claims: Claims) -> None:
        """Raises `policy-kind`."""
        if claims.kind not in self.kinds:
            raise PolicyRefused(POLICY_KIND, found=claims.kind, expected=listed(self.kinds))

    def wider(self, other: Self) -> Iterable[str]:
        """Kinds that only `other` accepts."""
        return [f"evidence of kind {kind}" for kind in sorted(other.kinds - self.kinds)]


@dataclass(frozen=True, slots=True)
class NotSimulated:
    """The evidence is of hardware, unless the policy allows simulated evidence."""

    allow: bool

    def verify(self, claims: Claims) -> None:
        """Raises `policy-simulated`."""
        if claims.simulated and not self.allow:
            raise PolicyRefused(POLICY_SIMULATED)

    def wider(self, other: Self) -> Iterable[str]:
        """Simulated evidence, if only `other` allows it."""
        return ["simulated evidence"] if other.allow and not self.allow else []


@dataclass(frozen=True, slots=True)
class SimulatedRootPinned:
    """Simulated evidence ends in a root that the policy pins by digest."""

    roots: frozenset[str]

    def verify(self, claims: Claims) -> None:
        """Raises `policy-simulated-root`."""
        for root in sorted(claims.simulated_roots - self.roots):
            raise PolicyRefused(POLICY_SIMULATED_ROOT, found=f"sha256:{root}", expected=listed(self.roots))

    def wider(self, other: Self) -> Iterable[str]:
        """Simulated roots that only `other` pins."""
        return [f"simulated root sha256:{root}" for root in sorted(other.roots - self.roots)]


@dataclass(frozen=True, slots=True)
class MeasurementIs:
    """The measured code is code that the policy lists for the kind."""

    measurements: Mapping[EvidenceKind, frozenset[str]]

    def verify(self, claims: Claims) -> None:
        """Raises `policy-measurement`."""
        if claims.kind is EvidenceKind.TPM:
            return  # nothing measures a machine but its PCRs
        accepted = self.measurements.get(claims.kind, frozenset())
        if claims.measurement not in accepted:
            raise PolicyRefused(POLICY_MEASUREMENT, found=claims.measurement, expected=listed(accepted))

    def wider(self, other: Self) -> Iterable[str]:
        """Measurements that only `other` lists."""
        for kind in sorted(other.measurements):
            own = self.measurements.get(kind, frozenset())
            for measurement in sorted(other.measurements[kind] - own):
                yield f"{kind} measurement {measurement}"


@dataclass(frozen=True, slots=True)
class TcbStatusIs:
    """The vendor's status of the platform is an accepted one."""

    statuses: frozenset[str]

    def verify(self, claims: Claims) -> None:
        """Raises `policy-tcb-status`."""
        if claims.kind not in INTEL_KINDS:
            return  # their vendors publish none
        if claims.tcb_status not in self.statuses:
            raise PolicyRefused(POLICY_TCB_STATUS, found=claims.tcb_status, expected=listed(self.statuses))

    def wider(self, other: Self) -> Iterable[str]:
        """Statuses that only `other` accepts."""
        return [f"TCB status {status}" for status in sorted(other.statuses - self.statuses)]


@dataclass(frozen=True, slots=True)
class TcbAtLeast:
    """The versions of an SNP platform's firmware are not below the floor of its product.

    A product that has no floor is refused. A part that a floor does not name may have any version.
    """

    floors: Mapping[str, Mapping[str, int]]

    def verify(self, claims: Claims) -> None:
        """Raises `policy-tcb-floor`."""
        if claims.kind not in SNP_KINDS:
            return
        if claims.product not in self.floors:
            raise PolicyRefused(POLICY_TCB_FLOOR, found=claims.product, expected=listed(self.floors))
        for part, least in self.floors[claims.product].items():
            found = claims.tcb.get(part, -1)
            if found < least:
                raise PolicyRefused(POLICY_TCB_FLOOR, part, found=found, expected=f"at least {least}")

    def wider(self, other: Self) -> Iterable[str]:
        """Products and versions that only `other` accepts."""
        for product in sorted(other.floors):
            if product not in self.floors:
                yield f"product {product}"
                continue
            for part, least in self.floors[product].items():
                lower = other.floors[product].get(part, 0)
                if lower < least:
                    yield f"{product} {part} from {lower}"


@dataclass(frozen=True, slots=True)
class PcrsAre:
    """The registers of a TPM that the policy names have values that it lists."""

    pcrs: Mapping[int, frozenset[str]]

    def verify(self, claims: Claims) -> None:
        """Raises `policy-pcr`."""
        if claims.kind not in TPM_KINDS:
            return
        for number, accepted in sorted(self.pcrs.items()):
            found = claims.pcrs.get(number)
            if found not in accepted:
                raise PolicyRefused(POLICY_PCR, f"PCR {number}", found=found, expected=listed(accepted))

    def wider(self, other: Self) -> Iterable[str]:
        """Registers that `other` leaves open, and values that only `other` lists."""
        for number, accepted in sorted(self.pcrs.items()):
            if number not in other.pcrs:
                yield f"any value of PCR {number}"
                continue
            for value in sorted(other.pcrs[number] - accepted):
                yield f"PCR {number} {value}"


@dataclass(frozen=True, slots=True)
class TpmKeyPinned:
    """The attestation key of a TPM is one that the policy pins; no vendor vouches for it in the evidence."""

    keys: frozenset[str]

    def verify(self, claims: Claims) -> None:
        """Raises `policy-tpm-key`."""
        if claims.kind is EvidenceKind.TPM and claims.root_sha256 not in self.keys:
            found = f"sha256:{claims.root_sha256}"
            raise PolicyRefused(POLICY_TPM_KEY, found=found, expected=listed(self.keys))

    def wider(self, other: Self) -> Iterable[str]:
        """Keys that only `other` pins."""
        return [f"TPM key sha256:{key}" for key in sorted(other.keys - self.keys)]


@dataclass(frozen=True, slots=True)
class PrivilegeAtMost:
    """An SNP report was asked for at a privilege level that is accepted; 0 is the highest."""

    level: int

    def verify(self, claims: Claims) -> None:
        """Raises `policy-privilege`."""
        if claims.privilege > self.level:
            raise PolicyRefused(POLICY_PRIVILEGE, found=claims.privilege, expected=f"at most {self.level}")

    def wider(self, other: Self) -> Iterable[str]:
        """The levels that only `other` accepts."""
        return [f"VMPL up to {other.level}"] if other.level > self.level else []


@dataclass(frozen=True, slots=True)
class NotMigratable:
    """No migration agent may move the guest's memory, unless the policy allows it."""

    allow: bool

    def verify(self, claims: Claims) -> None:
        """Raises `policy-migration`."""
        if claims.migratable and not self.allow:
            raise PolicyRefused(POLICY_MIGRATION)

    def wider(self, other: Self) -> Iterable[str]:
        """Guests with a migration agent, if only `other` allows them."""
        return ["guests with a migration agent"] if other.allow and not self.allow else []


@dataclass(frozen=True, slots=True)
class RevocationChecked:
    """A revocation list was at hand, if the policy asks for one."""

    required: bool

    def verify(self, claims: Claims) -> None:
        """Raises `policy-revocation`."""
        if self.required and not claims.revocation_checked:
            raise PolicyRefused(POLICY_REVOCATION)

    def wider(self, other: Self) -> Iterable[str]:
        """Evidence without a revocation list, if only `other` accepts it."""
        return ["evidence without a revocation list"] if self.required and not other.required else []


@dataclass(frozen=True, slots=True)
class NoAdvisory:
    """No rejected security advisory applies to the platform."""

    rejected: frozenset[str]

    def verify(self, claims: Claims) -> None:
        """Raises `policy-advisory`."""
        found = self.rejected.intersection(claims.advisories)
        if found:
            raise PolicyRefused(POLICY_ADVISORY, found=listed(found))

    def wider(self, other: Self) -> Iterable[str]:
        """Advisories that `other` does not reject."""
        return [f"platforms with advisory {advisory}" for advisory in sorted(self.rejected - other.rejected)]


@dataclass(frozen=True, slots=True)
class NotDebug:
    """The enclave is not a debug enclave, unless the policy allows it."""

    allow: bool

    def verify(self, claims: Claims) -> None:
        """Raises `policy-debug`."""
        if claims.debug and not self.allow:
            raise PolicyRefused(POLICY_DEBUG)

    def wider(self, other: Self) -> Iterable[str]:
        """Debug enclaves, if only `other` allows them."""
        return ["debug enclaves"] if other.allow and not self.allow else []


@dataclass(frozen=True, slots=True)
class SvnAtLeast:
    """The security version that the enclave's signer gave it is not below the minimum."""

    minimum: int

    def verify(self, claims: Claims) -> None:
        """Raises `policy-svn`."""
        if claims.svn < self.minimum:
            raise PolicyRefused(POLICY_SVN, found=claims.svn, expected=f"at least {self.minimum}")

    def wider(self, other: Self) -> Iterable[str]:
        """The versions below the own minimum, if `other` has a lower one."""
        return [f"security versions from {other.minimum}"] if other.minimum < self.minimum else []


@dataclass(frozen=True, slots=True)
class NotExpired:
    """The collateral behind the claims is still usable."""

    now: int

    def verify(self, claims: Claims) -> None:
        """Raises `policy-expired`."""
        if claims.expires <= self.now:
            raise PolicyRefused(POLICY_EXPIRED, found=claims.expires, expected=f"after {self.now}")


@dataclass(frozen=True, slots=True)
class ReportDataIs:
    """The attested code bound what it was asked to bind."""

    expected: bytes

    def verify(self, claims: Claims) -> None:
        """Raises `policy-report-data`."""
        if not hmac.compare_digest(claims.report_data, self.expected):
            raise PolicyRefused(
                POLICY_REPORT_DATA, found=claims.report_data.hex(), expected=self.expected.hex()
            )


@dataclass(frozen=True, slots=True)
class InitDataIs:
    """The TEE was started with the expected init-data."""

    digest: bytes

    def verify(self, claims: Claims) -> None:
        """Raises `policy-init-data`."""
        if not hmac.compare_digest(claims.init_data_digest, self.digest):
            raise PolicyRefused(
                POLICY_INIT_DATA, found=claims.init_data_digest.hex(), expected=self.digest.hex()
            )


def listed(values: Iterable[str]) -> str:
    """What is accepted, for a refusal."""
    return " or ".join(sorted(values)) or "none"
