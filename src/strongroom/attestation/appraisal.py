"""The client's decision "may I seal to this service?", in one class.

    appraisal = ServiceAppraisal(policy, now)
    appraisal.keyset(served_keyset)
    appraisal.release_policy(served_policy)
    verdict = appraisal.evidence(served_evidence, nonce)

`ServiceAppraisal` moves forward only: keyset, then release policy, then evidence. It takes the bytes that were
served, returns checked values, and does no network, no disk and no clock. A step that refuses leaves it where it
was. There is a verdict only when all of these hold:

1. *The broker.* The keyset is signed by the key that the client's policy pins, names that key itself, is of the
   service that was asked for, and is valid now.
2. *The custodian.* The broker's own evidence binds the keyset and passes the policy's broker measurements; or the
   policy says that an unattested broker will do, and then the verdict warns.
3. *The release policy.* Its exact text has the digest that the signed keyset names, and it admits nothing that
   the client's policy would not: the client relies on this, not on the workers it happens to see.
4. *The workers.* For at least one: the evidence verifies up to a root that the policy trusts and passes the
   policy; its report data binds this keyset, the nonce, the init-data and the receipt key; and its init-data
   names this service, this broker and this release policy. A worker that does not pass is not counted, and the
   verdict warns.
5. *The time.* The nonce is the client's own; or it comes from a beacon that the pinned broker signed for this
   service, no older than the policy's `max_evidence_age` and not from the future.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from strongroom.attestation import initdata
from strongroom.attestation.beacon import SignedBeacon
from strongroom.attestation.claims import Claims
from strongroom.attestation.errors import (
    SERVICE_BEACON_FUTURE,
    SERVICE_BEACON_SERVICE,
    SERVICE_BEACON_SIGNATURE,
    SERVICE_BEACON_STALE,
    SERVICE_BROKER_KEY,
    SERVICE_CUSTODIAN,
    SERVICE_CUSTODIAN_EVIDENCE,
    SERVICE_INIT_DATA_BROKER,
    SERVICE_INIT_DATA_POLICY,
    SERVICE_INIT_DATA_SERVICE,
    SERVICE_KEYSET_DIGEST,
    SERVICE_KEYSET_EXPIRED,
    SERVICE_KEYSET_NOT_YET_VALID,
    SERVICE_KEYSET_SIGNATURE,
    SERVICE_NAME,
    SERVICE_NO_BEACON,
    SERVICE_NO_BROKER_KEY,
    SERVICE_NO_INIT_DATA,
    SERVICE_NO_WORKERS,
    SERVICE_NONCE,
    SERVICE_RELEASE_POLICY_DIGEST,
    SERVICE_RELEASE_POLICY_INVALID,
    SERVICE_RELEASE_POLICY_WIDER,
)
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.keyset import Keyset, SignedKeyset
from strongroom.attestation.policy import Policy, decode_policy
from strongroom.attestation.service_evidence import (
    EvidenceList,
    ServiceEvidence,
    broker_report_data,
    serve_report_data,
)
from strongroom.attestation.verdict import SIMULATED_WARNING, Verdict
from strongroom.attestation.verify import verify_evidence
from strongroom.errors import ConfigError, CryptoError, EvidenceError, PolicyRefused, StrongroomError

CLOCK_SKEW: Final = 60
"""Seconds by which the broker's clock may be ahead of the client's."""


@dataclass(frozen=True, slots=True)
class _Worker:
    """A worker whose evidence passed."""

    claims: Claims
    receipt_key: str
    fresh_until: int
    epoch: int


class ServiceAppraisal:
    """One appraisal of one service; see the module's docstring for the rules.

    Args:
        policy: The client's policy. It must pin a broker key.
        now: Unix time of the appraisal, by the client's clock.
        service: Name of the service, if the client means a certain one; else the policy's, if it has one.

    Raises:
        PolicyRefused: `service-no-broker-key`.
    """

    def __init__(self, policy: Policy, now: int, *, service: str | None = None) -> None:
        from strongroom.crypto.sign import VerifyingKey

        if policy.broker_key is None:
            raise PolicyRefused(SERVICE_NO_BROKER_KEY)
        self._policy = policy
        self._now = now
        self._service = service if service is not None else policy.service
        self._broker_key = VerifyingKey.parse(policy.broker_key)
        self._keyset: Keyset | None = None
        self._custodian: Claims | None = None
        self._release_policy: Policy | None = None

    def keyset(self, served: bytes) -> Keyset:
        """Rules 1 and 2.

        Args:
            served: The document of `/strongroom/v1/keyset`.

        Raises:
            EvidenceError: `keyset-malformed`, or a code of the broker's evidence.
            PolicyRefused: A code `service-...`.
            RuntimeError: Called out of order.
        """
        if self._keyset is not None:
            raise RuntimeError("the keyset is appraised already")
        signed = SignedKeyset.parse(served)
        try:
            keyset = signed.verify(self._broker_key)
        except CryptoError:
            raise PolicyRefused(SERVICE_KEYSET_SIGNATURE, expected=self._broker_key.text) from None
        self._check_keyset(keyset)
        custodian = self._check_custodian(keyset, signed.broker_evidence)
        self._keyset, self._custodian = keyset, custodian
        return keyset

    def release_policy(self, text: bytes) -> Policy:
        """Rule 3.

        Args:
            text: The document of `/strongroom/v1/policy`.

        Raises:
            PolicyRefused: A code `service-release-policy-...`.
            RuntimeError: Called out of order.
        """
        if self._keyset is None or self._release_policy is not None:
            raise RuntimeError("the release policy comes after the keyset, once")
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        if digest != self._keyset.release_policy:
            raise PolicyRefused(
                SERVICE_RELEASE_POLICY_DIGEST, found=digest, expected=self._keyset.release_policy
            )
        try:
            release = Policy.parse(decode_policy(text))
        except ConfigError as error:
            raise PolicyRefused(SERVICE_RELEASE_POLICY_INVALID, error.detail) from None
        differences = self._policy.differences(release)
        if differences:
            raise PolicyRefused(SERVICE_RELEASE_POLICY_WIDER, "; ".join(differences))
        self._release_policy = release
        return release

    def evidence(self, served: bytes, nonce: bytes | None = None) -> Verdict:
        """Rules 4 and 5.

        Args:
            served: The document of `/strongroom/v1/evidence`.
            nonce: The 32 bytes that the client asked it to bind; `None` if it sent none.

        Raises:
            EvidenceError: Evidence is malformed or does not verify.
            PolicyRefused: A code `service-...` or `policy-...`; of the first worker, if none passes.
            RuntimeError: Called out of order.
        """
        if self._keyset is None or self._release_policy is None:
            raise RuntimeError("evidence comes after keyset and release policy")
        passed: list[_Worker] = []
        refused: list[tuple[str, StrongroomError]] = []
        for document in EvidenceList.parse(served).workers:
            try:
                passed.append(self._appraise(document, self._keyset, nonce))
            except (EvidenceError, PolicyRefused) as error:
                refused.append((document.worker, error))
        if passed:
            return self._verdict(self._keyset, passed, refused)
        if refused:
            raise refused[0][1]
        raise PolicyRefused(SERVICE_NO_WORKERS)

    def _check_keyset(self, keyset: Keyset) -> None:
        """Rule 1, for a keyset whose signature holds."""
        if keyset.broker_key != self._broker_key.text:
            raise PolicyRefused(SERVICE_BROKER_KEY, found=keyset.broker_key, expected=self._broker_key.text)
        if self._service is not None and keyset.service != self._service:
            raise PolicyRefused(SERVICE_NAME, found=keyset.service, expected=self._service)
        if keyset.not_before > self._now + CLOCK_SKEW:
            raise PolicyRefused(SERVICE_KEYSET_NOT_YET_VALID, found=keyset.not_before, expected=self._now)
        if keyset.not_after <= self._now:
            raise PolicyRefused(SERVICE_KEYSET_EXPIRED, found=keyset.not_after, expected=f"after {self._now}")

    def _check_custodian(self, keyset: Keyset, evidence: Evidence | None) -> Claims | None:
        """Rule 2. Returns the broker's claims if it is attested."""
        if evidence is not None and self._policy.broker_measurements:
            bound = broker_report_data(keyset.digest(), keyset.broker_key)
            try:
                claims = verify_evidence(evidence, self._policy.roots, self._now)
                self._policy.for_broker().appraise(claims, now=self._now, report_data=bound)
            except (EvidenceError, PolicyRefused) as error:
                raise PolicyRefused(SERVICE_CUSTODIAN_EVIDENCE, str(error)) from None
            return claims
        if not self._policy.allow_unattested_broker:
            raise PolicyRefused(SERVICE_CUSTODIAN, found=keyset.key_custodian)
        return None

    def _appraise(self, document: ServiceEvidence, keyset: Keyset, nonce: bytes | None) -> _Worker:
        """Rules 4 and 5 for one worker."""
        if document.keyset != keyset.digest():
            raise PolicyRefused(SERVICE_KEYSET_DIGEST, found=document.keyset, expected=keyset.digest())
        fresh_from, epoch = self._check_fresh(document, keyset, nonce)
        init_data = document.evidence.init_data
        if init_data is None:
            raise PolicyRefused(SERVICE_NO_INIT_DATA)
        claims = verify_evidence(document.evidence, self._policy.roots, self._now)  # the init-data too
        bound = serve_report_data(document.keyset, document.nonce, init_data, document.receipt_key)
        self._policy.appraise(claims, now=self._now, report_data=bound)
        _check_init_data(initdata.parse(init_data), keyset)
        return _Worker(claims, document.receipt_key, fresh_from + self._policy.max_evidence_age, epoch)

    def _check_fresh(self, document: ServiceEvidence, keyset: Keyset, nonce: bytes | None) -> tuple[int, int]:
        """Rule 5. Returns the time from which the evidence is, and the broker's newest epoch at that time."""
        if nonce is not None:
            if document.nonce != nonce:
                raise PolicyRefused(SERVICE_NONCE, found=document.nonce.hex(), expected=nonce.hex())
            return self._now, keyset.epoch
        if document.beacon is None:
            raise PolicyRefused(SERVICE_NO_BEACON)
        if document.nonce != document.beacon.evidence_nonce:
            raise PolicyRefused(
                SERVICE_NONCE, found=document.nonce.hex(), expected=document.beacon.evidence_nonce.hex()
            )
        return self._check_beacon(document.beacon, keyset)

    def _check_beacon(self, signed: SignedBeacon, keyset: Keyset) -> tuple[int, int]:
        try:
            beacon = signed.verify(self._broker_key)
        except CryptoError:
            raise PolicyRefused(SERVICE_BEACON_SIGNATURE, expected=self._broker_key.text) from None
        if beacon.service != keyset.service:
            raise PolicyRefused(SERVICE_BEACON_SERVICE, found=beacon.service, expected=keyset.service)
        if beacon.time > self._now + CLOCK_SKEW:
            raise PolicyRefused(SERVICE_BEACON_FUTURE, found=beacon.time, expected=f"at most {self._now}")
        oldest = self._now - self._policy.max_evidence_age
        if beacon.time < oldest:
            raise PolicyRefused(SERVICE_BEACON_STALE, found=beacon.time, expected=f"at least {oldest}")
        return beacon.time, beacon.epoch

    def _verdict(
        self, keyset: Keyset, passed: list[_Worker], refused: Iterable[tuple[str, StrongroomError]]
    ) -> Verdict:
        claims = [worker.claims for worker in passed]
        vouching = claims if self._custodian is None else [*claims, self._custodian]
        simulated = any(claim.simulated for claim in vouching)
        receipt_keys = sorted({worker.receipt_key for worker in passed})
        # One worker's evidence is enough, so the verdict lives as long as the freshest.
        lifetime = max(min(worker.fresh_until, worker.claims.expires) for worker in passed)
        if self._custodian is not None:
            lifetime = min(lifetime, self._custodian.expires)
        return Verdict(
            service=keyset.service,
            epoch=keyset.epoch,
            simulated=simulated,
            anchors=tuple(sorted({claim.anchor for claim in vouching})),
            measurements=tuple(sorted({claim.measurement for claim in claims})),
            tcb_statuses=tuple(sorted({claim.tcb_status for claim in claims})),
            advisories=tuple(sorted({advisory for claim in claims for advisory in claim.advisories})),
            keyset_digest=keyset.digest(),
            keyset=keyset,
            custodian_attested=self._custodian is not None,
            # By receipt key, which the evidence binds: a document sent twice is one worker.
            workers=len(receipt_keys),
            receipt_keys=tuple(receipt_keys),
            warnings=tuple(self._warnings(keyset, passed, refused, simulated=simulated)),
            valid_until=min(keyset.not_after, lifetime),
        )

    def _warnings(
        self,
        keyset: Keyset,
        passed: list[_Worker],
        refused: Iterable[tuple[str, StrongroomError]],
        *,
        simulated: bool,
    ) -> Iterable[str]:
        if simulated:
            yield SIMULATED_WARNING
        if self._custodian is None:
            yield f"key custodian unattested: {keyset.key_custodian}"
        if keyset.key_release == "classical":
            yield "key release: classical"
        newest = max(worker.epoch for worker in passed)
        if newest > keyset.epoch:
            yield f"the keyset is of epoch {keyset.epoch}, but the broker is at epoch {newest}"
        for name, error in refused:
            yield f"worker {name} not counted: {error}"


def _check_init_data(init_data: initdata.InitData, keyset: Keyset) -> None:
    """The worker was started for this service, this broker and this release policy (rules 1 and 4)."""
    facts = (
        (SERVICE_INIT_DATA_SERVICE, init_data.service, keyset.service),
        (SERVICE_INIT_DATA_BROKER, init_data.broker_key, keyset.broker_key),
        (SERVICE_INIT_DATA_POLICY, init_data.release_policy, keyset.release_policy),
    )
    for kind, found, expected in facts:
        if found != expected:
            raise PolicyRefused(kind, found=found, expected=expected)
