"""The appraisal policy: which attested code may see data (a client's) or get keys (a model owner's).

    policy = Policy.load(Path("policy.toml")) claims = verify_evidence(evidence, policy.roots, now)
    policy.appraise(claims, now=now, report_data=expected)      # raises PolicyRefused, one code for each
    check

A policy is a TOML file (docs/reference/policy.md). What it does not list is refused, and a file that leaves
open what it accepts is not a policy. Its digest is over the exact text, so that a comment changes it too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from strongroom.attestation import checks, policy_file
from strongroom.attestation.claims import Claims
from strongroom.attestation.errors import POLICY_INVALID, POLICY_UNREADABLE, VALUES_FOREIGN
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.gpu_checks import GpuDemand, GpusAre
from strongroom.attestation.policy_file import MAX_POLICY
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.reference_checks import ReferenceDemand, ValuesCount
from strongroom.attestation.reference_values import ReferenceValues, SignedReferenceValues
from strongroom.attestation.roots import TrustRoots
from strongroom.errors import ConfigError, PolicyRefused

__all__ = ["MAX_POLICY", "Finding", "Policy", "render_policy"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says to claims.

    Attributes:
        key: The key of the policy's file that it is about.
        code: With which it refuses; empty if it holds.
        found: What was found, if it refuses.
        expected: What was expected, if it refuses.
    """

    key: str
    code: str = ""
    found: str | None = None
    expected: str | None = None

    @classmethod
    def of(cls, key: str, check: checks.Check, claims: Claims) -> Finding:
        """Ask a check."""
        try:
            check.verify(claims)
        except PolicyRefused as error:
            return cls(key, error.code, error.found, error.expected)
        return cls(key)

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {"key": self.key, "code": self.code, "found": self.found, "expected": self.expected}


@dataclass(frozen=True, slots=True)
class Policy:
    """An appraisal policy. Read one with `parse` or `load`.

    Attributes:
        text: The exact text.
        kinds: Accepted kinds of evidence.
        measurements: Accepted measurements by kind; see `Claims.measurement`.
        tcb_statuses: Accepted TCB statuses of SGX and TDX platforms.
        tcb_floor: Lowest accepted versions of an SNP platform's firmware: by product, by part.
        pcrs: Accepted values of a TPM's registers in the bank SHA-256, lower-case hex, by number.
        tpm_keys: SHA-256 of accepted attestation keys of TPMs (SubjectPublicKeyInfo in DER), lower-case hex.
        gpu: What GPUs beside the CPU must be; None: there must be none.
        reference_values: Whose signed measurements are accepted too; None: nobody's.
        max_vmpl: Lowest accepted privilege level of an SNP guest's report; 0 is the highest.
        allow_migration: Whether SNP guests with a migration agent are accepted.
        require_revocation: Whether evidence without a revocation list is refused.
        allow_simulated: Whether simulated evidence is accepted. It protects nothing.
        simulated_roots: SHA-256 of accepted simulated roots, lower-case hex.
        allow_debug: Whether debug enclaves are accepted.
        rejected_advisories: Security advisories that must not apply to the platform.
        min_svn: Lowest accepted ISVSVN.
        max_evidence_age: Seconds for which evidence is fresh.
        allow_unattested_broker: Whether a key broker without evidence of its own is accepted.
        allow_classical_release: Whether keys may be released under a classical one-time key (P-256, RSA).
        allow_classical_requests: Whether a client may seal to a service that offers no post-quantum suite.
        broker_key: Signing key of the broker, `ed25519+mldsa65:...`; a client's policy needs it.
        broker_measurements: Accepted measurements of a broker that runs in a TEE itself, by kind.
        service: Name of the service, if only that one is meant.
        published: The signed measurements, once `with_values` has taken them. They are no part of the text.
    """

    text: str = field(repr=False, compare=False)
    kinds: frozenset[EvidenceKind]
    measurements: Mapping[EvidenceKind, frozenset[str]]
    tcb_statuses: frozenset[str] = frozenset({"UpToDate"})
    tcb_floor: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    pcrs: Mapping[int, frozenset[str]] = field(default_factory=dict)
    tpm_keys: frozenset[str] = frozenset()
    gpu: GpuDemand | None = None
    reference_values: ReferenceDemand | None = None
    max_vmpl: int = 0
    allow_migration: bool = False
    require_revocation: bool = True
    allow_simulated: bool = False
    simulated_roots: frozenset[str] = frozenset()
    allow_debug: bool = False
    rejected_advisories: frozenset[str] = frozenset()
    min_svn: int = 0
    max_evidence_age: int = 600
    allow_unattested_broker: bool = False
    allow_classical_release: bool = False
    allow_classical_requests: bool = False
    broker_key: str | None = None
    broker_measurements: Mapping[EvidenceKind, frozenset[str]] = field(default_factory=dict)
    service: str | None = None
    published: ReferenceValues | None = None

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Read a policy from its text, at most 64 KiB.

        Raises:
            ConfigError: `policy-invalid`; the message names the key.
        """
        return cls(text=text, **policy_file.read(text))

    @classmethod
    def load(cls, path: Path) -> Policy:
        """Read a policy from a file, byte for byte.

        Raises:
            ConfigError: `policy-unreadable` or `policy-invalid`.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MAX_POLICY + 1)
        except OSError as error:
            raise ConfigError(POLICY_UNREADABLE, f"{path}: {error.strerror}") from None
        return cls.parse(decode_policy(data))

    @property
    def digest(self) -> str:
        """`sha256:` and the hex digest of the exact text in UTF-8."""
        return f"sha256:{hashlib.sha256(self.text.encode()).hexdigest()}"

    @property
    def roots(self) -> TrustRoots:
        """Up to what evidence is verified: the vendors' roots, pinned simulated ones, pinned TPM keys."""
        return TrustRoots(simulated=self.simulated_roots, tpm_keys=self.tpm_keys)

    def to_toml(self) -> str:
        """The policy as commented TOML that `parse` reads back; the original's comments are not kept."""
        return render_policy(**self._members())

    def with_values(self, signed: SignedReferenceValues) -> Policy:
        """This policy with the measurements that a publisher has signed, as far as it names him.

        Text and digest stay as they are. Whether the measurements count is asked at each appraisal.

        Raises:
            EvidenceError: `reference-values-malformed`.
            PolicyRefused: `reference-values-signature`, `reference-values-foreign` or
                `reference-values-older`.
        """
        if self.reference_values is None:
            raise PolicyRefused(VALUES_FOREIGN, "the policy has no [reference_values]")
        return replace(self, published=self.reference_values.accept(signed))

    def appraise(
        self,
        claims: Claims,
        *,
        now: int,
        report_data: bytes | None = None,
        init_data_digest: bytes | None = None,
    ) -> None:
        """Refuse claims that this policy does not accept.

        Args:
            claims: What verified evidence says.
            now: Unix time of the appraisal.
            report_data: The 64 bytes that the evidence must carry; `None` leaves them unchecked.
            init_data_digest: The 48 bytes that the evidence must carry; `None` leaves them unchecked.

        Raises:
            PolicyRefused: A code `policy-...`, that of the first check that does not hold.
        """
        demanded: list[checks.Check] = [*self._named_checks(now).values(), checks.NotExpired(now)]
        if report_data is not None:
            demanded.append(checks.ReportDataIs(report_data))
        if init_data_digest is not None:
            demanded.append(checks.InitDataIs(init_data_digest))
        for check in demanded:
            check.verify(claims)

    def findings(self, claims: Claims, *, now: int | None = None) -> tuple[Finding, ...]:
        """What each check of the policy itself says, also after the first that does not hold.

        Args:
            claims: What verified evidence says.
            now: Unix time at which published measurements must count; None: whenever.
        """
        return tuple(Finding.of(key, check, claims) for key, check in self._named_checks(now).items())

    def differences(self, release: Policy, *, now: int | None = None) -> tuple[str, ...]:
        """What another policy admits that this one does not, in words; empty if it admits no more.

        Args:
            release: The other policy.
            now: Unix time at which this one's published measurements must count; None: whenever.
        """
        expired = now is not None and self.published is not None and not self.published.valid_at(now)
        own = replace(self, published=None) if expired else self
        pairs = zip(own._named_checks().values(), release._named_checks().values(), strict=True)
        words = [words for one, other in pairs for words in one.wider(other)]
        demanded = release.reference_values
        if own.reference_values is not None:
            words += own.reference_values.wider(demanded)
        elif demanded is not None:
            words.append(demanded.words())
        if release.allow_classical_release and not self.allow_classical_release:
            words.append("key release without post-quantum protection")
        return tuple(words)

    def for_broker(self) -> Policy:
        """The same demands on the key broker's own evidence: its measurements in place of the workers'."""
        return replace(self, measurements=self.broker_measurements, reference_values=None, published=None)

    def _named_checks(self, now: int | None = None) -> dict[str, checks.PolicyCheck]:
        """Each check by the key of the file that it is about, in the order in which they are made."""
        listed = {kind: values for kind, values in self.measurements.items() if kind in self.kinds}
        accepted = {
            kind: listed.get(kind, frozenset()) | self._published(kind)
            for kind in self.kinds
            if kind in listed or self._published(kind)
        }
        pinned = self.simulated_roots if self.allow_simulated else frozenset[str]()
        return {
            "kinds": checks.KindIs(self.kinds),
            "allow_simulated": checks.NotSimulated(self.allow_simulated),
            "simulated_roots": checks.SimulatedRootPinned(pinned),
            "measurements": checks.MeasurementIs(accepted),
            "reference_values": ValuesCount(listed, self.published, now),
            "allow_debug": checks.NotDebug(self.allow_debug),
            "tcb_statuses": checks.TcbStatusIs(self.tcb_statuses),
            "tcb_floor": checks.TcbAtLeast(self.tcb_floor),
            "pcrs": checks.PcrsAre(self.pcrs),
            "tpm_keys": checks.TpmKeyPinned(self.tpm_keys),
            "gpu": GpusAre(self.gpu),
            "max_vmpl": checks.PrivilegeAtMost(self.max_vmpl),
            "allow_migration": checks.NotMigratable(self.allow_migration),
            "require_revocation": checks.RevocationChecked(self.require_revocation),
            "rejected_advisories": checks.NoAdvisory(self.rejected_advisories),
            "min_svn": checks.SvnAtLeast(self.min_svn),
        }

    def _published(self, kind: EvidenceKind) -> frozenset[str]:
        return frozenset() if self.published is None else self.published.of_kind(kind)

    def _members(self) -> dict[str, Any]:
        names = (name for name in self.__slots__ if name not in {"text", "published"})
        return {name: getattr(self, name) for name in names}


def decode_policy(data: bytes) -> str:
    """The text of a policy that came as bytes.

    Raises:
        ConfigError: `policy-invalid`.
    """
    if len(data) > MAX_POLICY:
        raise ConfigError(POLICY_INVALID, "too long", expected=f"at most {MAX_POLICY} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(POLICY_INVALID, "not UTF-8") from None
