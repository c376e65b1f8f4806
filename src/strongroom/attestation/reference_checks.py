"""What a policy demands of signed reference values, and the check that they count at the appraisal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from strongroom.attestation.claims import Claims
from strongroom.attestation.errors import (
    POLICY_VALUES_TIME,
    VALUES_FOREIGN,
    VALUES_OLDER,
    VALUES_SIGNATURE,
)
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.reference_values import ReferenceValues, SignedReferenceValues
from strongroom.errors import CryptoError, PolicyRefused


@dataclass(frozen=True, slots=True)
class ReferenceDemand:
    """Whose reference values a policy takes.

    Attributes:
        key: The publisher's signing key, `ed25519+mldsa65:...`.
        name: Name of the series.
        min_version: Lowest accepted version.
    """

    key: str
    name: str
    min_version: int

    def accept(self, signed: SignedReferenceValues) -> ReferenceValues:
        """Check that reference values are those that are demanded. Whether they count now is not looked at.

        Raises:
            EvidenceError: `reference-values-malformed`.
            PolicyRefused: `reference-values-signature`, `reference-values-foreign` or
                `reference-values-older`.
        """
        from strongroom.crypto.sign import VerifyingKey

        try:
            values = signed.verify(VerifyingKey.parse(self.key))
        except CryptoError:
            raise PolicyRefused(VALUES_SIGNATURE, expected=self.key) from None
        if values.name != self.name:
            raise PolicyRefused(VALUES_FOREIGN, found=values.name, expected=self.name)
        if values.version < self.min_version:
            raise PolicyRefused(
                VALUES_OLDER, found=f"version {values.version}", expected=f"at least {self.min_version}"
            )
        return values

    def wider(self, other: Self | None) -> Iterable[str]:
        """What `other` takes and this demand does not, in words."""
        if other is None:
            return []
        same = (other.key, other.name) == (self.key, self.name)
        return [] if same and other.min_version >= self.min_version else [other.words()]

    def words(self) -> str:
        """What is demanded, in words."""
        return f"code that {self.key} publishes as {self.name}, from version {self.min_version}"


@dataclass(frozen=True, slots=True)
class ValuesCount:
    """A measurement that only reference values have is accepted only while they are valid.

    Attributes:
        measurements: What the policy itself lists, by kind.
        published: The reference values, if there are any.
        now: Unix time of the appraisal; None: it is not looked at.
    """

    measurements: Mapping[EvidenceKind, frozenset[str]]
    published: ReferenceValues | None
    now: int | None

    def verify(self, claims: Claims) -> None:
        """Raises `policy-values-expired`."""
        if self.published is None or self.now is None:
            return
        if claims.measurement in self.measurements.get(claims.kind, frozenset()):
            return
        if claims.measurement in self.published.of_kind(claims.kind) and not self.published.valid_at(
            self.now
        ):
            raise PolicyRefused(
                POLICY_VALUES_TIME,
                f"version {self.published.version} of {self.published.name}",
                found=self.now,
                expected=f"{self.published.not_before} to {self.published.expires - 1}",
            )

    def wider(self, other: Self) -> Iterable[str]:  # noqa: ARG002 -- of the protocol
        """Nothing: which reference values a policy takes is compared by its demand."""
        return []
