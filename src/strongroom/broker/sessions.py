"""Sessions of the KBS protocol: bounded in number and time, each with a challenge that is answered once.

They live in the memory of the server. A client that never answers costs one entry for five minutes at most;
when all places are taken the oldest session without an attestation goes, so that a flood of challenges cannot
push out attested workers.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

from strongroom.attestation.evidence import EvidenceKind
from strongroom.broker.decision import ReleaseDecision
from strongroom.broker.errors import (
    SESSION_EXPIRED,
    SESSION_SPENT,
    SESSION_UNKNOWN,
    SESSIONS_FULL,
    TOKEN_EXPIRED,
    TOKEN_INVALID,
    TOKEN_MISSING,
)
from strongroom.broker.messages import NONCE_BYTES
from strongroom.codec import b64
from strongroom.errors import BrokerError

DEFAULT_SECONDS: Final = 300
DEFAULT_LIMIT: Final = 10_000
_ID_BYTES: Final = 16
_MAX_ID: Final = 128


class Session:
    """One attester's session.

    Attributes:
        digest: SHA-256 of the session's identifier, hex; tokens carry it.
        nonce: The challenge, standard base64 of 32 bytes.
        expires: Unix time.
        decision: What the broker thinks of the attester.
        token: The attestation token, once there is one.
        token_expires: Unix time.
    """

    __slots__ = ("_answered", "_lock", "decision", "digest", "expires", "nonce", "token", "token_expires")

    def __init__(self, digest: str, nonce: str, expires: float, decision: ReleaseDecision) -> None:
        self.digest = digest
        self.nonce = nonce
        self.expires = expires
        self.decision = decision
        self.token: str | None = None
        self.token_expires = 0
        self._answered: bytes | None = None
        self._lock = threading.Lock()

    def check_alive(self, now: float) -> None:
        """Refuse a session whose time is over.

        Raises:
            BrokerError: `session-expired`.
        """
        if self.expires <= now:
            raise BrokerError(SESSION_EXPIRED)

    def check_token(self, bearer: str | None, now: float) -> None:
        """Refuse an attester that has no token, shows another one, or whose token's time is over.

        Args:
            bearer: The token that came with the request. Without one the session's own stands.
            now: Unix time.

        Raises:
            BrokerError: `token-missing`, `token-invalid` or `token-expired`.
        """
        if self.token is None:
            raise BrokerError(TOKEN_MISSING)
        if bearer is not None and not hmac.compare_digest(bearer.encode(), self.token.encode()):
            raise BrokerError(TOKEN_INVALID, "not the one of this session")
        if self.token_expires <= now:
            raise BrokerError(TOKEN_EXPIRED)

    def take_answer(self, body: bytes) -> str | None:
        """Take the one answer to the challenge.

        Returns:
            None for the first answer; the token where the same answer comes again because a reply got lost.

        Raises:
            BrokerError: `session-spent`, the challenge was answered with something else, or is just being
                appraised.
        """
        digest = hashlib.sha256(body).digest()
        with self._lock:
            if self._answered is None:
                self._answered = digest
                return None
            if self.token is not None and hmac.compare_digest(self._answered, digest):
                return self.token
            raise BrokerError(SESSION_SPENT)


class Sessions:
    """All sessions of a server. Safe to share between threads.

    Args:
        broker_key: The broker's signing key, for the decisions.
        now: The clock.
        rng: Source of identifiers and nonces.
        limit: Most sessions at a time.
        seconds: Life of a session.
        production: Whether the broker is in the production profile.
        rims: NVIDIA's signed reference values, for GPUs.
    """

    def __init__(
        self,
        broker_key: str,
        *,
        now: Callable[[], float],
        rng: Callable[[int], bytes] = os.urandom,
        limit: int = DEFAULT_LIMIT,
        seconds: int = DEFAULT_SECONDS,
        production: bool = False,
        rims: Sequence[bytes] = (),
    ) -> None:
        self._rims = rims
        self._broker_key = broker_key
        self._production = production
        self._now = now
        self._rng = rng
        self._limit = limit
        self._seconds = seconds
        self._lock = threading.Lock()
        # Both in the order in which sessions were put in, so that the oldest come first.
        self._waiting: dict[str, Session] = {}
        self._attested: dict[str, Session] = {}

    def __len__(self) -> int:
        with self._lock:
            return len(self._waiting) + len(self._attested)

    def open(self, kind: EvidenceKind) -> tuple[str, Session]:
        """Begin a session.

        Returns:
            Its identifier, for the client only, and the session.

        Raises:
            BrokerError: `sessions-full`, all places are taken by attested sessions.
        """
        identifier = self._rng(_ID_BYTES).hex()
        nonce = b64.encode_std(self._rng(NONCE_BYTES))
        now = self._now()
        decision = ReleaseDecision(
            kind, nonce, self._broker_key, production=self._production, rims=self._rims
        )
        session = Session(digest_of(identifier), nonce, now + self._seconds, decision)
        with self._lock:
            self._drop_expired(now)
            if len(self._waiting) + len(self._attested) >= self._limit:
                if not self._waiting:
                    raise BrokerError(SESSIONS_FULL, expected=f"at most {self._limit}")
                del self._waiting[next(iter(self._waiting))]
            self._waiting[session.digest] = session
        return identifier, session

    def find(self, digest: str) -> Session:
        """The session whose identifier has this digest; it may have expired (`Session.check_alive`).

        Raises:
            BrokerError: `session-unknown`.
        """
        with self._lock:
            session = self._waiting.get(digest) or self._attested.get(digest)
        if session is None:
            raise BrokerError(SESSION_UNKNOWN)
        return session

    def attested(self, session: Session, token: str, expires: int) -> None:
        """Note that the session's evidence was accepted, and the token that says so until `expires`.

        Raises:
            BrokerError: `session-unknown`, it had to make room meanwhile.
        """
        with self._lock:
            if self._waiting.pop(session.digest, None) is None:
                raise BrokerError(SESSION_UNKNOWN)
            session.token, session.token_expires = token, expires
            self._attested[session.digest] = session

    def drop(self, session: Session) -> None:
        """Forget a session."""
        with self._lock:
            self._waiting.pop(session.digest, None)
            self._attested.pop(session.digest, None)

    def _drop_expired(self, now: float) -> None:
        for sessions in (self._waiting, self._attested):
            while sessions:
                oldest = next(iter(sessions.values()))
                if oldest.expires > now:
                    break
                del sessions[oldest.digest]


def digest_of(identifier: str) -> str:
    """SHA-256 of a session's identifier, hex: what the server keeps and what tokens carry.

    Raises:
        BrokerError: `session-unknown`, it is too long to be one.
    """
    if len(identifier) > _MAX_ID:
        raise BrokerError(SESSION_UNKNOWN)
    return hashlib.sha256(identifier.encode()).hexdigest()
