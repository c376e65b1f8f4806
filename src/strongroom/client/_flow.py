"""The client without I/O: what to send, what to wait for, what the answers mean.

A flow is a generator. It yields an `Outgoing` request or a `Pause`, is sent the `Incoming` answer, and
returns its result. The sync and the async client drive the same flows, so that they cannot differ.

1. Nothing is sealed before the service has passed the policy; a verdict holds until its `valid_until`.
2. A request is sealed once. A retry sends the same bytes.
3. Within a session the epoch never goes back.
4. Told of an unknown key, the client appraises the service again, once for each epoch, and seals anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from strongroom.attestation.errors import SERVICE_KEYSET_DIGEST
from strongroom.attestation.policy import Policy
from strongroom.attestation.serving import ServiceAppraisal, Verdict
from strongroom.client._problem import error_of, is_unknown_key
from strongroom.client.errors import (
    DEADLINE_PASSED,
    EPOCH_ROLLED_BACK,
    KEY_UNKNOWN,
    SERVICE_ANSWER_INVALID,
    SERVICE_UNREACHABLE,
)
from strongroom.codec.b64 import encode_url
from strongroom.codec.bhttp import Request, Response, decode_response, encode_request
from strongroom.crypto.hpke import Suite
from strongroom.crypto.ohttp import KeyConfig, seal_request
from strongroom.errors import PolicyRefused, RequestError, StrongroomError, UnreachableError

GATEWAY: Final = "/.well-known/ohttp-gateway"
REQUEST_TYPE: Final = "message/ohttp-req"
RESPONSE_TYPE: Final = "message/ohttp-res"
PLAIN_HEADER: Final = "strongroom-plain"
_RETRY_STATUS: Final = frozenset({429, 502, 503})
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_ROTATION_PAUSE: Final = 0.2
_NONCE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to the front end; `deadline` is Unix seconds."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    deadline: float


@dataclass(frozen=True, slots=True)
class Incoming:
    """The front end's answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for some seconds before going on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Exchanged:
    """An inner response, and the seconds that sealing and opening took."""

    response: Response
    seal_seconds: float
    open_seconds: float


Step = Outgoing | Pause


class Session:
    """One client's view of one service.

    Args:
        policy: What the service must satisfy.
        suite: HPKE suite to seal with; None takes the first post-quantum one of the keyset.
        fresh: Send a nonce of our own, so that a worker makes evidence for this client alone.
        now: Wall clock in seconds; the time of every appraisal.
        rng: Randomness for nonces and encapsulations.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        suite: Suite | None = None,
        fresh: bool = False,
        now: Callable[[], float] = time.time,
        rng: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._policy = policy
        self._suite = suite
        self._fresh = fresh
        self._now = now
        self._rng = rng
        self.verdict: Verdict | None = None
        self.plain: bool | None = None
        self._newest_epoch = 0

    def appraise(self, deadline: float) -> Generator[Step, Incoming, Verdict]:
        """Fetch keyset, release policy and evidence, and decide whether this service may see data.

        Keyset and evidence are fetched one after the other; if the keys are rotated in between, they do not
        belong together, and both are fetched once more.

        Raises:
            PolicyRefused, EvidenceError, CryptoError: The service did not pass; nothing may be sealed to it.
            UnreachableError: It cannot be reached.
        """
        try:
            return (yield from self._appraise(deadline))
        except PolicyRefused as error:
            if error.kind is not SERVICE_KEYSET_DIGEST:
                raise
        yield Pause(_ROTATION_PAUSE)
        return (yield from self._appraise(deadline))

    def _appraise(self, deadline: float) -> Generator[Step, Incoming, Verdict]:
        nonce = self._rng(_NONCE_BYTES) if self._fresh else None
        query = "" if nonce is None else f"?nonce={encode_url(nonce)}"
        keyset = yield from self._document("keyset", deadline)
        policy = yield from self._document("policy", deadline)
        evidence = yield from self._document(f"evidence{query}", deadline)
        appraisal = ServiceAppraisal(self._policy, int(self._now()))
        try:
            appraisal.keyset(keyset)
            appraisal.release_policy(policy)
            verdict = appraisal.evidence(evidence, nonce)
            if verdict.epoch < self._newest_epoch:
                raise PolicyRefused(
                    EPOCH_ROLLED_BACK,
                    found=f"epoch {verdict.epoch}",
                    expected=f"epoch {self._newest_epoch} or later",
                )
        except StrongroomError:
            self.verdict = None  # what was found before does not hold any more
            raise
        self._newest_epoch = verdict.epoch
        self.verdict = verdict
        return verdict

    def exchange(self, inner: Request, deadline: float) -> Generator[Step, Incoming, Exchanged]:
        """Send one inner request sealed, and open its answer.

        Args:
            inner: The request for a worker; its `strongroom-deadline` is set here.
            deadline: Unix seconds.

        Raises:
            RequestError: The service answered with an error of its own, outside the envelope.
            UnreachableError: No answer before the deadline.
            CryptoError: The answer was not made for this request.
        """
        message = encode_request(_stamped(inner, deadline))
        verdict = yield from self._current(deadline)
        while True:
            started = time.perf_counter()
            sealed = seal_request(_key_config(verdict, self._suite), self._suite, message, rng=self._rng)
            seal_seconds = time.perf_counter() - started
            incoming = yield from self._deliver(sealed.data, deadline)
            if incoming.status == 200 and incoming.headers.get("content-type") == RESPONSE_TYPE:
                started = time.perf_counter()
                response = decode_response(sealed.open_response(incoming.body))
                return Exchanged(response, seal_seconds, time.perf_counter() - started)
            if not is_unknown_key(incoming.body):
                raise error_of(incoming.status, incoming.body)
            epoch = verdict.epoch
            verdict = yield from self.appraise(deadline)
            if verdict.epoch <= epoch:
                raise RequestError(KEY_UNKNOWN, found=f"epoch {epoch}")

    def _current(self, deadline: float) -> Generator[Step, Incoming, Verdict]:
        verdict = self.verdict
        if verdict is not None and self._now() < verdict.valid_until:
            return verdict
        return (yield from self.appraise(deadline))

    def _document(self, name: str, deadline: float) -> Generator[Step, Incoming, bytes]:
        outgoing = Outgoing("GET", f"/strongroom/v1/{name}", {}, b"", deadline)
        incoming = yield from self._retried(outgoing)
        if incoming.status != 200:
            raise error_of(incoming.status, incoming.body)
        if (plain := incoming.headers.get(PLAIN_HEADER)) is not None:
            self.plain = plain == "enabled"
        return incoming.body

    def _deliver(self, body: bytes, deadline: float) -> Generator[Step, Incoming, Incoming]:
        headers = {"content-type": REQUEST_TYPE, "strongroom-deadline": _milliseconds(deadline)}
        return (yield from self._retried(Outgoing("POST", GATEWAY, headers, body, deadline)))

    def _retried(self, outgoing: Outgoing) -> Generator[Step, Incoming, Incoming]:
        """Send the same bytes until there is an answer that is not "busy" or "away", or the deadline."""
        pause = _FIRST_PAUSE
        while True:
            if self._now() >= outgoing.deadline:
                raise UnreachableError(DEADLINE_PASSED)
            try:
                incoming = yield outgoing
            except UnreachableError as error:
                if self._now() + pause >= outgoing.deadline or error.kind is not SERVICE_UNREACHABLE:
                    raise
            else:
                if incoming.status not in _RETRY_STATUS or self._now() + pause >= outgoing.deadline:
                    return incoming
            yield Pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _stamped(inner: Request, deadline: float) -> Request:
    header = (b"strongroom-deadline", _milliseconds(deadline).encode())
    return replace(inner, headers=(*inner.headers, header))


def _milliseconds(deadline: float) -> str:
    return str(int(deadline * 1000))


def _key_config(verdict: Verdict, suite: Suite | None) -> KeyConfig:
    configs = verdict.keyset.key_configs
    if suite is None:  # classical ones only where the policy allows it: the appraisal refuses the keyset else
        return (verdict.keyset.post_quantum_configs or configs)[0]
    chosen = next((config for config in configs if config.kem == suite.kem), None)
    if chosen is None:
        raise RequestError(SERVICE_ANSWER_INVALID, "the keyset has no key for the wanted suite")
    return chosen
