"""The release decision: may a key leave the broker?

One `ReleaseDecision` stands behind each session. It only moves forward, does no I/O, and takes what it judges
as arguments: the clock's time and the rows of the store as they are at that moment.

    decision = ReleaseDecision(kind, nonce, broker_key)
    service = decision.answer(attestation)          # who asks, and for which service
    decision.appraise(record_of(service), now)      # is it what the release policy demands?
    decision.service_key(resource, record, now)     # may it have this key? As often as it asks
    decision.model_key(resource, record, model, consent, now)
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from strongroom.attestation import initdata
from strongroom.attestation.claims import Claims
from strongroom.attestation.composite import add_devices
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.initdata import InitData
from strongroom.attestation.policy import Policy
from strongroom.attestation.verify import verify_evidence
from strongroom.broker import teekey
from strongroom.broker.admin_errors import SERVICE_REVOKED
from strongroom.broker.consent import Consent
from strongroom.broker.errors import (
    INIT_DATA_BROKER,
    INIT_DATA_MISSING,
    INIT_DATA_MODEL,
    INIT_DATA_POLICY,
    MODEL_FOREIGN,
    NONCE_FOREIGN,
    POLICY_SERVICE,
    RELEASE_CLASSICAL,
    RESOURCE_UNKNOWN,
    SERVICE_FOREIGN,
    SERVICE_UNKNOWN,
)
from strongroom.broker.messages import Attestation
from strongroom.broker.policies import policy_of
from strongroom.broker.published import Published, with_published
from strongroom.broker.registry import ModelRecord, ServiceRecord
from strongroom.broker.resource import Resource
from strongroom.errors import BrokerError, PolicyRefused

_NOTHING_PUBLISHED: Final[Published] = {}


class _Stage(Enum):
    CHALLENGED = auto()
    ANSWERED = auto()
    APPRAISED = auto()
    REFUSED = auto()


class ReleaseDecision:
    """Decides on the keys that one attester may get.

    The attestation is refused unless
     1. the nonce is the one of this session;
     2. the one-time key is usable;
     3. there is init-data, and it names this broker's key (rule 1 of the design);
     4. the service that the init-data names is registered and not revoked, and its release policy is the one
        that the init-data names;
     5. the evidence verifies up to a root that this policy trusts, at the broker's time, and carries the
        digest of the init-data;
     6. the policy accepts the claims: kind, root, measurement, debug, TCB status, advisories, SVN, expiry;
     7. the report data binds the nonce, the one-time key and the evidence of devices, which verifies too.

    After that, a key is refused unless
     8. the service still has that policy, and the policy still accepts the claims;
     9. a service key is that of the service in the init-data;
    10. a model is registered, belongs to the service, and stands in the init-data;
    11. the model's own policy, if it has one, accepts the claims too and is not of another service;
    12. the model's owner consents: it was not revoked, it was granted to the service's tenant if that is
        another one, and as many people as it asks for have approved the release as it is now;
    13. the one-time key is an HPKE key, or each of these policies allows a release under a classical one.

    A policy that names a publisher accepts what he has signed besides what it lists, while that is valid.
    In the production profile no policy's permission of simulated evidence counts.

    A refused attestation is final. Using the methods out of order is a `RuntimeError`.

    Args:
        kind: The kind of evidence that the attester announced.
        nonce: The challenge that it was given.
        broker_key: This broker's signing key, `ed25519+mldsa65:...`.
        production: Whether the broker is in the production profile.
        rims: NVIDIA's signed reference values, for GPUs.
    """

    def __init__(
        self,
        kind: EvidenceKind,
        nonce: str,
        broker_key: str,
        *,
        production: bool = False,
        rims: Sequence[bytes] = (),
    ) -> None:
        self.kind = kind
        self._rims = rims
        self._production = production
        self._nonce = nonce
        self._broker_key = broker_key
        self._stage = _Stage.CHALLENGED
        self._attestation: Attestation | None = None
        self._tee_key: teekey.PublicKey | None = None
        self._init_data: InitData | None = None
        self._claims: Claims | None = None
        self._proven = False
        self._reference_values: tuple[str, ...] = ()

    @property
    def tee_key(self) -> teekey.PublicKey | None:
        """The attester's one-time key, once it is known to be usable."""
        return self._tee_key

    @property
    def init_data(self) -> InitData | None:
        """What the attester was started with, once it is read."""
        return self._init_data

    @property
    def claims(self) -> Claims | None:
        """What the evidence says, once it is verified."""
        return self._claims

    @property
    def reference_values(self) -> tuple[str, ...]:
        """Digests of the signed reference values that the last appraisal was offered by its policies."""
        return self._reference_values

    @property
    def proven(self) -> bool:
        """Whether evidence was verified that is of this session, be it accepted or not.

        Verified evidence of another session proves nothing: workers show theirs to anyone.
        """
        return self._proven

    def answer(self, attestation: Attestation) -> str:
        """Rules 1 to 3.

        Returns:
            The name of the service that the init-data names.

        Raises:
            BrokerError: `nonce-foreign`, `tee-key-unsupported`, `init-data-missing` or `init-data-broker`.
            EvidenceError: `init-data-malformed`.
        """
        with self._step(_Stage.CHALLENGED, _Stage.ANSWERED):
            if not hmac.compare_digest(attestation.nonce.encode(), self._nonce.encode()):
                raise BrokerError(NONCE_FOREIGN)
            self._tee_key = teekey.parse_jwk(attestation.tee_pubkey)
            if attestation.evidence.init_data is None:
                raise BrokerError(INIT_DATA_MISSING)
            self._init_data = initdata.parse(attestation.evidence.init_data)
            if self._init_data.broker_key != self._broker_key:
                raise BrokerError(
                    INIT_DATA_BROKER, found=self._init_data.broker_key, expected=self._broker_key
                )
            self._attestation = attestation
            return self._init_data.service

    def appraise(
        self,
        service: ServiceRecord | None,
        now: int,
        *,
        published: Published = _NOTHING_PUBLISHED,
        collateral: Mapping[str, str] | None = None,
    ) -> Claims:
        """Rules 4 to 7.

        Args:
            service: The service that `answer` named, None where it is not registered.
            now: Unix time.
            published: Signed reference values, for policies that name their publisher.
            collateral: What the broker has found itself, in place of what came along; None for the latter.

        Raises:
            BrokerError: `service-unknown`, `service-revoked` or `init-data-policy`.
            EvidenceError: A code `evidence-...`.
            PolicyRefused: A code `policy-...`.
        """
        with self._step(_Stage.ANSWERED, _Stage.APPRAISED):
            attestation, self._attestation = self._attestation, None
            assert attestation is not None  # noqa: S101 -- the stage says so
            policy = self._policy(service, published)
            evidence = attestation.evidence
            if collateral is not None:
                evidence = replace(evidence, collateral=collateral)
            claims = verify_evidence(evidence, policy.roots, now)
            runtime_data = attestation.runtime_data
            report_data = runtime_data.report_data()
            self._claims = claims
            self._proven = hmac.compare_digest(claims.report_data, report_data)
            if self._proven:
                claims = add_devices(claims, runtime_data, policy.roots, now, rims=self._rims)
                self._claims = claims
            with _policy_of("service"):
                policy.appraise(claims, now=now, report_data=report_data)
            return claims

    def service_key(
        self,
        resource: Resource,
        service: ServiceRecord | None,
        now: int,
        *,
        published: Published = _NOTHING_PUBLISHED,
    ) -> None:
        """Rules 8, 9 and 13.

        Args:
            resource: The service key asked for.
            service: The service of the init-data, as it is registered now.
            now: Unix time.
            published: Signed reference values, as they are now.

        Raises:
            BrokerError: `service-unknown`, `service-revoked`, `init-data-policy`, `service-foreign` or
                `release-classical`.
            PolicyRefused: A code `policy-...`.
        """
        claims, init_data = self._appraised()
        policy = self._policy(service, published)
        with _policy_of("service"):
            policy.appraise(claims, now=now)
        if resource != Resource.service_key(init_data.service):
            raise BrokerError(SERVICE_FOREIGN, found=resource.repository, expected=init_data.service)
        self._check_form(policy, "service")

    def model_key(
        self,
        resource: Resource,
        service: ServiceRecord | None,
        model: ModelRecord | None,
        consent: Consent,
        now: int,
        *,
        published: Published = _NOTHING_PUBLISHED,
    ) -> None:
        """Rules 8 and 10 to 13.

        Args:
            resource: The model asked for.
            service: The service of the init-data, as it is registered now.
            model: The model, as it is registered now, None where it is not.
            consent: What its owner and its approvers have said about it and the service.
            now: Unix time.
            published: Signed reference values, as they are now.

        Raises:
            BrokerError: `service-unknown`, `service-revoked`, `init-data-policy`, `resource-unknown`,
                `model-foreign`, `init-data-model`, `model-policy-service`, `resource-revoked`,
                `model-not-granted`, `approval-missing` or `release-classical`.
            PolicyRefused: A code `policy-...`.
        """
        claims, init_data = self._appraised()
        release_policy = self._policy(service, published)
        with _policy_of("service"):
            release_policy.appraise(claims, now=now)
        if model is None:
            raise BrokerError(RESOURCE_UNKNOWN, resource.path)
        if service is None or resource.path not in service.models:
            raise BrokerError(MODEL_FOREIGN, resource.path)
        if resource.uri not in init_data.models:
            raise BrokerError(INIT_DATA_MODEL, resource.path)
        self._check_form(release_policy, "service")
        if model.policy is not None:
            policy = self._with_published(policy_of(model.policy), published)
            if policy.service not in {None, service.name}:
                raise BrokerError(POLICY_SERVICE, found=policy.service, expected=service.name)
            with _policy_of("model"):
                policy.appraise(claims, now=now)
            self._check_form(policy, "model")
        consent.check(service, model, now)

    def _check_form(self, policy: Policy, whose: str) -> None:
        """Rule 13, for one policy."""
        if not isinstance(self._tee_key, teekey.HpkePublicKey) and not policy.allow_classical_release:
            raise BrokerError(RELEASE_CLASSICAL, f"policy of the {whose}", expected=teekey.HPKE_ALG)

    def _policy(self, service: ServiceRecord | None, published: Published) -> Policy:
        """The release policy, if it is the one that the init-data names."""
        self._reference_values = ()
        assert self._init_data is not None  # noqa: S101 -- the stage says so
        if service is None:
            raise BrokerError(SERVICE_UNKNOWN, found=self._init_data.service)
        if service.name != self._init_data.service:
            raise RuntimeError("the record is of another service than the init-data")
        if service.revoked:
            raise BrokerError(SERVICE_REVOKED, found=service.name)
        policy = policy_of(service.policy)
        if policy.digest != self._init_data.release_policy:
            raise BrokerError(INIT_DATA_POLICY, found=self._init_data.release_policy, expected=policy.digest)
        if self._production:
            policy = replace(policy, allow_simulated=False, simulated_roots=frozenset())
        return self._with_published(policy, published)

    def _with_published(self, policy: Policy, published: Published) -> Policy:
        """A policy with what its publisher has signed, whose digest is noted."""
        complete = with_published(policy, published)
        if complete.published is not None:
            used = {*self._reference_values, complete.published.digest}
            self._reference_values = tuple(sorted(used))
        return complete

    def _appraised(self) -> tuple[Claims, InitData]:
        if self._stage is not _Stage.APPRAISED or self._claims is None or self._init_data is None:
            raise RuntimeError("there is no appraised attestation")
        return self._claims, self._init_data

    @contextmanager
    def _step(self, before: _Stage, after: _Stage) -> Iterator[None]:
        if self._stage is not before:
            raise RuntimeError(f"the decision is {self._stage.name}, not {before.name}")
        self._stage = _Stage.REFUSED  # until the step is through
        yield
        self._stage = after


@contextmanager
def _policy_of(whose: str) -> Iterator[None]:
    """Say in a refusal whose policy it was: two owners meet in a release."""
    try:
        yield
    except PolicyRefused as error:
        detail = f"policy of the {whose}" + (f", {error.detail}" if error.detail else "")
        raise PolicyRefused(error.kind, detail, found=error.found, expected=error.expected) from error
