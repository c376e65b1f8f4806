"""The broker without its HTTP: challenges, attestations, resources, beacons.

Each public method handles one request. Nothing of policies, services or epochs is kept between requests: what
the command line changes in the store holds from the next request on. A release is logged, and the log entry
committed, before the key is encrypted for the attester. Refusals are logged with their codes: one by one
where the requester has shown evidence, in bulk where it has proved nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.beacon import BEACON_TYPE, Beacon, SignedBeacon
from strongroom.attestation.collateral.complete import complete
from strongroom.attestation.collateral.source import CollateralSource
from strongroom.attestation.policy import Policy
from strongroom.broker import (
    epochs,
    hpke_release,
    jwe,
    log,
    log_tiles,
    messages,
    published,
    registry,
    teekey,
)
from strongroom.broker.decision import ReleaseDecision
from strongroom.broker.ear import TOKEN_SECONDS, EarIssuer
from strongroom.broker.errors import (
    NO_EPOCH,
    SESSION_EXPIRED,
    SESSION_SPENT,
    SIMULATED_ANCHOR,
    TOKEN_INVALID,
    TOKEN_MISSING,
)
from strongroom.broker.journal import Journal
from strongroom.broker.refusals import RefusalCounter
from strongroom.broker.releasing import Releases
from strongroom.broker.resource import Resource
from strongroom.broker.sessions import DEFAULT_LIMIT, DEFAULT_SECONDS, Session, Sessions, digest_of
from strongroom.broker.store import Store
from strongroom.broker.witnessing import Witnessing
from strongroom.errors import BrokerError, StrongroomError

_SERVER_FAULT: Final = 500
"""Status from which on an error is the broker's own fault and no refusal."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The answer to /kbs/v0/auth.

    Attributes:
        session: The session's identifier, for the cookie.
        nonce: What the evidence must bind.
        expires: Unix time at which the session ends.
    """

    session: str
    nonce: str
    expires: int


class KeyBroker:
    """Serves one store. Safe to share between threads.

    Args:
        store: The store.
        now: The clock.
        rng: Source of identifiers, nonces and one-time keys.
        session_seconds: Life of a session.
        token_seconds: Life of an attestation token.
        max_sessions: Most sessions at a time.
        production: Release nothing on simulated evidence, whatever a policy says.
        rims: NVIDIA's signed reference values, for attesters with GPUs.
        witnessing: Witnesses that must have cosigned the log before a key leaves; None asks none.
        collateral: Completes evidence that comes without collateral; None refuses it.

    Raises:
        BrokerError: A code of the store; in production `simulated-anchor`, if a policy in it allows simulated
            evidence.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], float] = time.time,
        rng: Callable[[int], bytes] = os.urandom,
        session_seconds: int = DEFAULT_SECONDS,
        token_seconds: int = TOKEN_SECONDS,
        max_sessions: int = DEFAULT_LIMIT,
        production: bool = False,
        rims: Sequence[bytes] = (),
        witnessing: Witnessing | None = None,
        collateral: CollateralSource | None = None,
    ) -> None:
        if production:
            _refuse_simulated(store)
        if witnessing is None:
            _forget_cosigned(store)
        self._store = store
        self._now = now
        self._rng = rng
        self._issuer = EarIssuer.of(store, seconds=token_seconds)
        self._sessions = Sessions(
            store.signing_key.verifying_key.text,
            now=now,
            rng=rng,
            limit=max_sessions,
            seconds=session_seconds,
            production=production,
            rims=rims,
        )
        self._refusals = RefusalCounter(store, now)
        self._journal = Journal(store, now)
        self._witnessing = witnessing
        self._releases = Releases(store, now, self._journal, witnessing)
        self._collateral = collateral

    def auth(self, body: bytes) -> Challenge:
        """Begin a session.

        Raises:
            BrokerError: `kbs-body-invalid`, `kbs-version`, `tee-unsupported` or `sessions-full`.
        """
        identifier, session = self._sessions.open(messages.parse_auth(body))
        return Challenge(identifier, session.nonce, int(session.expires))

    def attest(self, identifier: str | None, body: bytes) -> str:
        """Take the answer to a challenge.

        Args:
            identifier: The session, from the cookie.
            body: The attestation.

        Returns:
            The attestation token.

        Raises:
            StrongroomError: The code of the check that refused; the session is then at its end.
        """
        session = self._session(identifier or "", None)
        try:
            session.check_alive(self._now())
            token = session.take_answer(body)
            if token is None:
                token = self._appraise(session, body)
        except StrongroomError as error:
            if error.kind is not SESSION_SPENT:  # whoever answers a second time does not end the session
                self._sessions.drop(session)
            self._log_refusal(session.decision, error, stage="attest")
            raise
        return token

    def resource(self, identifier: str | None, bearer: str | None, path: str) -> bytes:
        """Release a resource.

        Args:
            identifier: The session, from the cookie, or None.
            bearer: The token from the Authorization header, or None.
            path: `repository/type/tag`.

        Returns:
            The resource, sealed to the attester's one-time key: a JWE if that is a classical one.

        Raises:
            StrongroomError: The code of the check that refused.
        """
        resource = Resource.parse(path)
        session = self._session(identifier, bearer)
        try:
            session.check_alive(self._now())
            session.check_token(bearer, self._now())
            released = self._releases.release(session.decision, resource)
        except StrongroomError as error:
            if error.kind is SESSION_EXPIRED:
                self._sessions.drop(session)
            self._log_refusal(session.decision, error, stage="release", resource=resource.path)
            raise
        key = session.decision.tee_key
        assert key is not None  # noqa: S101 -- the decision was appraised
        if isinstance(key, teekey.HpkePublicKey):
            return hpke_release.seal(key, released, resource=resource.path, rng=self._rng)
        return jwe.seal(key, released, rng=self._rng)

    def beacon(self, service: str) -> bytes:
        """A fresh beacon of a service, as served.

        Raises:
            BrokerError: `service-unknown` or `epoch-missing`.
        """
        now = int(self._now())
        with self._store.read() as db:
            record = registry.service(db, service)
            honoured = epochs.honoured(db, record.name, now)
        if not honoured:
            raise BrokerError(NO_EPOCH)
        payload = Beacon(record.name, honoured[0].epoch, now, self._rng(messages.NONCE_BYTES)).payload()
        signature = self._store.signing_key.sign(BEACON_TYPE, payload)
        return SignedBeacon(payload, signature).to_json_bytes()

    def policy(self, service: str) -> str:
        """The text of a service's release policy.

        Raises:
            BrokerError: `service-unknown`.
        """
        with self._store.read() as db:
            return registry.service(db, service).policy

    def log_part(self, path: str) -> bytes:
        """A part of the log: `checkpoint`, a tile or a bundle of entries (C2SP tlog-tiles).

        Raises:
            BrokerError: `log-entry-unknown` or a code of the store.
        """
        return log_tiles.read(self._store, path)

    def count_refusal(self, code: str) -> None:
        """Count a refusal of someone who has proved nothing; it is logged in bulk.

        Raises:
            BrokerError: A code of the store.
        """
        self._refusals.add(code)

    def check(self) -> None:
        """Touch the store.

        Raises:
            BrokerError: A code of the store.
        """
        with self._store.read() as db:
            registry.services(db)

    def maintain(self) -> None:
        """Delete epochs that are over, begin those that are due, and log refusals that were counted.

        None of these waits for another to succeed: above all, keys go when their time is over.

        Raises:
            BrokerError: A code of the store; call again later.
        """
        now = int(self._now())
        try:
            epochs.delete_expired(self._store, now)
        finally:
            try:
                if epochs.rotate_due(self._store, now):
                    epochs.delete_expired(self._store, now)  # a grace of 0 ends the older ones at once
            finally:
                try:
                    self._refusals.flush()
                finally:
                    if self._witnessing is not None:
                        self._witnessing.refresh()

    def close(self) -> None:
        """Log refusals that were counted and not yet logged. The store stays open.

        Raises:
            BrokerError: A code of the store.
        """
        self._refusals.flush(force=True)

    def _appraise(self, session: Session, body: bytes) -> str:
        decision = session.decision
        attestation = messages.parse_attest(body, decision.kind)
        service = decision.answer(attestation)
        with self._store.read() as db:
            record, values = registry.find_service(db, service), published.find(db)
        # On the network, if at all, only after the cheap checks, and with no transaction open.
        collateral = None
        if self._collateral is not None and record is not None:
            completed = complete(attestation.evidence, self._collateral, int(self._now()))
            collateral = completed.collateral
        now = int(self._now())
        claims = decision.appraise(record, now, published=values, collateral=collateral)
        assert decision.init_data is not None  # noqa: S101 -- the decision was appraised
        self._journal.attested(decision)
        # Without the evidence of devices, which can be large; the claims say what is in it.
        runtime_data = {"nonce": attestation.nonce, "tee-pubkey": dict(attestation.tee_pubkey)}
        policy_id = decision.init_data.release_policy
        token = self._issuer.issue(
            claims, runtime_data=runtime_data, token_id=session.digest, policy_id=policy_id, now=now
        )
        self._sessions.attested(session, token, now + self._issuer.seconds)
        return token

    def _session(self, identifier: str | None, bearer: str | None) -> Session:
        try:
            return self._find_session(identifier, bearer)
        except StrongroomError as error:
            self._refusals.add(error.code)
            raise

    def _find_session(self, identifier: str | None, bearer: str | None) -> Session:
        if identifier is not None:
            return self._sessions.find(digest_of(identifier))
        if bearer is None:
            raise BrokerError(TOKEN_MISSING)
        token_id = self._issuer.read(bearer).get("jti")
        if not isinstance(token_id, str):
            raise BrokerError(TOKEN_INVALID)
        return self._sessions.find(token_id)

    def _log_refusal(
        self, decision: ReleaseDecision, error: StrongroomError, *, stage: str, resource: str | None = None
    ) -> None:
        if error.status >= _SERVER_FAULT:
            return  # the broker's own trouble is no decision, and may be that it cannot write
        if not decision.proven:
            self._refusals.add(error.code)
            return
        self._journal.refused(decision, error, stage=stage, resource=resource)


def _forget_cosigned(store: Store) -> None:
    """Drop a cosigned checkpoint from a time with witnesses: auditors would be shown it for ever."""
    with store.write() as db:
        log.save_cosigned(db, b"")


def _refuse_simulated(store: Store) -> None:
    """Refuse a store in which any policy allows simulated evidence."""
    with store.read() as db:
        policies = [(f"service {each.name}", each.policy) for each in registry.services(db)]
        policies += [(each.resource, each.policy) for each in registry.models(db) if each.policy is not None]
    for what, text in policies:
        if Policy.parse(text).allow_simulated:
            raise BrokerError(SIMULATED_ANCHOR, what)
