"""The client's decision "may I seal to this service?", in one class.

    appraisal = ServiceAppraisal(policy, now)
    appraisal.keyset(served_keyset)
    appraisal.release_policy(served_policy)
    verdict = appraisal.evidence(served_evidence, nonce)

`ServiceAppraisal` moves forward only: keyset, then release policy, then evidence. It takes the bytes that
were served, returns checked values, and does no network, no disk and no clock. A step that refuses leaves it
where it was. There is a verdict only when all of these hold:

1. *The broker.* The keyset is signed by the key that the client's policy pins, names that key itself, is of
   the service that was asked for, and is valid now.
2. *The custodian.* The broker's own evidence binds the keyset and passes the policy's broker measurements; or
   the policy says that an unattested broker will do, and then the verdict warns.
3. *The release policy.* Its exact text has the digest that the signed keyset names, and it admits nothing
   that the client's policy would not: the client relies on this, not on the workers it happens to see.
4. *The workers.* For at least one: the evidence verifies up to a root that the policy trusts and passes the
   policy; its report data binds this keyset, the nonce, the init-data and the receipt key; and its init-data
   names this service, this broker and this release policy. A worker that does not pass is not counted, and
   the verdict warns.
5. *The suites.* What the signed keyset offers is post-quantum: a key configuration with MLKEM768-X25519, and
   private keys that travel to workers under it only. A policy can accept less, each by a name of its own.
6. *The time.* There is a beacon that the pinned broker signed for this service, no older than the policy's
   `max_evidence_age` and not from the future. The nonce is the client's own if it sent
   one, else the beacon's.
"""

from __future__ import annotations

import hashlib

from strongroom.attestation.claims import Claims
from strongroom.attestation.errors import (
    SERVICE_BROKER_KEY,
    SERVICE_CLASSICAL_RELEASE,
    SERVICE_CLASSICAL_REQUESTS,
    SERVICE_CUSTODIAN,
    SERVICE_CUSTODIAN_EVIDENCE,
    SERVICE_KEYSET_EXPIRED,
    SERVICE_KEYSET_NOT_YET_VALID,
    SERVICE_KEYSET_SIGNATURE,
    SERVICE_NAME,
    SERVICE_NO_BROKER_KEY,
    SERVICE_NO_WORKERS,
    SERVICE_RELEASE_POLICY_DIGEST,
    SERVICE_RELEASE_POLICY_INVALID,
    SERVICE_RELEASE_POLICY_WIDER,
)
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.keyset import CLASSICAL_RELEASE, POST_QUANTUM_RELEASE, Keyset, SignedKeyset
from strongroom.attestation.policy import Policy, decode_policy
from strongroom.attestation.service_evidence import EvidenceList, broker_report_data
from strongroom.attestation.verdict import Verdict
from strongroom.attestation.verify import verify_evidence
from strongroom.attestation.workers import CLOCK_SKEW, TrustedWorker, WorkerAppraisal
from strongroom.errors import ConfigError, CryptoError, EvidenceError, PolicyRefused, StrongroomError


class ServiceAppraisal:
    """One appraisal of one service; see the module's docstring for the rules.

    Args:
        policy: The client's policy. It must pin a broker key.
        now: Unix time of the appraisal, by the client's clock.
        service: Name of the service, if the caller means a certain one. A policy can name one as well.

    Raises:
        PolicyRefused: `service-no-broker-key`.
    """

    def __init__(self, policy: Policy, now: int, *, service: str | None = None) -> None:
        from strongroom.crypto.sign import VerifyingKey

        if policy.broker_key is None:
            raise PolicyRefused(SERVICE_NO_BROKER_KEY)
        self._policy = policy
        self._now = now
        self._services = {name for name in (service, policy.service) if name is not None}
        self._broker_key = VerifyingKey.parse(policy.broker_key)
        self._keyset: Keyset | None = None
        self._custodian: Claims | None = None
        self._release_policy: Policy | None = None

    def keyset(self, served: bytes) -> Keyset:
        """Rules 1, 2 and 5.

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
        self._check_suites(keyset)
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
        differences = self._policy.differences(release, now=self._now)
        if differences:
            raise PolicyRefused(SERVICE_RELEASE_POLICY_WIDER, "; ".join(differences))
        self._release_policy = release
        return release

    def evidence(self, served: bytes, nonce: bytes | None = None) -> Verdict:
        """Rules 4 and 6.

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
        appraisal = WorkerAppraisal(self._policy, self._broker_key, self._keyset, self._now, nonce)
        passed: list[TrustedWorker] = []
        refused: list[tuple[str, StrongroomError]] = []
        for document in EvidenceList.parse(served).workers:
            try:
                passed.append(appraisal.appraise(document))
            except (EvidenceError, PolicyRefused) as error:
                refused.append((document.worker, error))
        if passed:
            return Verdict.of(self._keyset, self._custodian, passed, refused)
        if refused:
            raise refused[0][1]
        raise PolicyRefused(SERVICE_NO_WORKERS)

    def _check_keyset(self, keyset: Keyset) -> None:
        """Rule 1, for a keyset whose signature holds."""
        if keyset.broker_key != self._broker_key.text:
            raise PolicyRefused(SERVICE_BROKER_KEY, found=keyset.broker_key, expected=self._broker_key.text)
        if self._services - {keyset.service}:
            raise PolicyRefused(
                SERVICE_NAME, found=keyset.service, expected=" and ".join(sorted(self._services))
            )
        if keyset.not_before > self._now + CLOCK_SKEW:
            raise PolicyRefused(SERVICE_KEYSET_NOT_YET_VALID, found=keyset.not_before, expected=self._now)
        if keyset.not_after <= self._now:
            raise PolicyRefused(SERVICE_KEYSET_EXPIRED, found=keyset.not_after, expected=f"after {self._now}")

    def _check_suites(self, keyset: Keyset) -> None:
        """Rule 5. The signature's own suite is fixed: there is no key for another."""
        if not keyset.post_quantum_configs and not self._policy.allow_classical_requests:
            raise PolicyRefused(
                SERVICE_CLASSICAL_REQUESTS, found=", ".join(keyset.suites), expected="MLKEM768-X25519/..."
            )
        if keyset.key_release == CLASSICAL_RELEASE and not self._policy.allow_classical_release:
            raise PolicyRefused(
                SERVICE_CLASSICAL_RELEASE, found=keyset.key_release, expected=POST_QUANTUM_RELEASE
            )

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
