"""The appraisal of one worker: rules 4 and 6 of the decision "may I seal?" (`appraisal`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strongroom.attestation import initdata
from strongroom.attestation.beacon import SignedBeacon
from strongroom.attestation.claims import Claims
from strongroom.attestation.errors import (
    SERVICE_BEACON_FUTURE,
    SERVICE_BEACON_SERVICE,
    SERVICE_BEACON_SIGNATURE,
    SERVICE_BEACON_STALE,
    SERVICE_INIT_DATA_BROKER,
    SERVICE_INIT_DATA_POLICY,
    SERVICE_INIT_DATA_SERVICE,
    SERVICE_KEYSET_DIGEST,
    SERVICE_NO_BEACON,
    SERVICE_NO_INIT_DATA,
    SERVICE_NONCE,
)
from strongroom.attestation.keyset import Keyset
from strongroom.attestation.policy import Policy
from strongroom.attestation.service_evidence import ServiceEvidence, serve_report_data
from strongroom.attestation.verify import verify_evidence
from strongroom.errors import CryptoError, PolicyRefused

if TYPE_CHECKING:
    from strongroom.crypto.sign import VerifyingKey

CLOCK_SKEW: Final = 60
"""Seconds by which the broker's clock may be ahead of the client's."""


@dataclass(frozen=True, slots=True)
class TrustedWorker:
    """A worker whose evidence passed.

    Attributes:
        claims: What the evidence says.
        receipt_key: The worker's receipt key, which the evidence binds.
        fresh_until: Unix time after which the evidence is too old for the policy.
        epoch: The newest epoch that the broker had when the evidence was made, as far as it shows.
        witnesses: How many witnesses must have cosigned the broker's log before it takes a key.
    """

    claims: Claims
    receipt_key: str
    fresh_until: int
    epoch: int
    witnesses: int = 0


@dataclass(frozen=True, slots=True)
class WorkerAppraisal:
    """What a worker of the service must show.

    Attributes:
        policy: The client's policy.
        broker_key: The key of the broker that the policy pins.
        keyset: The keyset that was accepted.
        now: Unix time of the appraisal.
        nonce: The client's own nonce, if it sent one; the beacon then stands beside it.
    """

    policy: Policy
    broker_key: VerifyingKey
    keyset: Keyset
    now: int
    nonce: bytes | None

    def appraise(self, document: ServiceEvidence) -> TrustedWorker:
        """Refuse a worker that may not be trusted with the keyset's keys.

        Raises:
            EvidenceError: The evidence is malformed or does not verify.
            PolicyRefused: A code `service-...` or `policy-...`.
        """
        digest = self.keyset.digest()
        if document.keyset != digest:
            raise PolicyRefused(SERVICE_KEYSET_DIGEST, found=document.keyset, expected=digest)
        fresh_from, epoch = self._check_fresh(document)
        init_data = document.evidence.init_data
        if init_data is None:
            raise PolicyRefused(SERVICE_NO_INIT_DATA)
        # This compares the init-data with the digest in the quote, too.
        claims = verify_evidence(document.evidence, self.policy.roots, self.now)
        bound = serve_report_data(digest, document.nonce, init_data, document.receipt_key)
        self.policy.appraise(claims, now=self.now, report_data=bound)
        started_with = initdata.parse(init_data)
        self._check_init_data(started_with)
        return TrustedWorker(
            claims,
            document.receipt_key,
            fresh_from + self.policy.max_evidence_age,
            epoch,
            started_with.witness_threshold,
        )

    def _check_fresh(self, document: ServiceEvidence) -> tuple[int, int]:
        """Returns the time from which the evidence is, and the broker's newest epoch at that time.

        A client's nonce shows that the worker lives, not that it has heard of its broker lately: a host that
        keeps it from a rotation would go on with the old keys. So there is a fresh beacon in both cases.
        """
        if document.beacon is None:
            raise PolicyRefused(SERVICE_NO_BEACON)
        time, epoch = self._check_beacon(document.beacon)
        if self.nonce is None:
            _check_nonce(document.nonce, document.beacon.evidence_nonce)
        else:
            _check_nonce(document.nonce, self.nonce)
        return time, epoch

    def _check_beacon(self, signed: SignedBeacon) -> tuple[int, int]:
        try:
            beacon = signed.verify(self.broker_key)
        except CryptoError:
            raise PolicyRefused(SERVICE_BEACON_SIGNATURE, expected=self.broker_key.text) from None
        if beacon.service != self.keyset.service:
            raise PolicyRefused(SERVICE_BEACON_SERVICE, found=beacon.service, expected=self.keyset.service)
        if beacon.time > self.now + CLOCK_SKEW:
            raise PolicyRefused(SERVICE_BEACON_FUTURE, found=beacon.time, expected=f"at most {self.now}")
        oldest = self.now - self.policy.max_evidence_age
        if beacon.time < oldest:
            raise PolicyRefused(SERVICE_BEACON_STALE, found=beacon.time, expected=f"at least {oldest}")
        return beacon.time, beacon.epoch

    def _check_init_data(self, init_data: initdata.InitData) -> None:
        """The worker was started for this service, this broker and this release policy."""
        facts = (
            (SERVICE_INIT_DATA_SERVICE, init_data.service, self.keyset.service),
            (SERVICE_INIT_DATA_BROKER, init_data.broker_key, self.keyset.broker_key),
            (SERVICE_INIT_DATA_POLICY, init_data.release_policy, self.keyset.release_policy),
        )
        for kind, found, expected in facts:
            if found != expected:
                raise PolicyRefused(kind, found=found, expected=expected)


def _check_nonce(found: bytes, expected: bytes) -> None:
    if found != expected:
        raise PolicyRefused(SERVICE_NONCE, found=found.hex(), expected=expected.hex())
