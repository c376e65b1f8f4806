"""The public client: `connect` and `connect_async`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from strongroom.attestation.policy import Policy
from strongroom.attestation.serving import Verdict
from strongroom.client._answer import Answer, Input, get_request, infer_request, read_answer
from strongroom.client._drive import run, run_async
from strongroom.client._flow import Session
from strongroom.client._problem import error_of
from strongroom.client.errors import POLICY_MISSING
from strongroom.codec.jcs import parse
from strongroom.codec.oip import ModelMetadata
from strongroom.crypto.hpke import Suite
from strongroom.errors import PolicyRefused

PolicyLike = Policy | str | Path | None
DEFAULT_TIMEOUT = 30.0
# As many requests at once as the caller starts; the front end bounds what it takes.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64)
_MAX_METADATA = 1 << 20


def as_policy(policy: PolicyLike) -> Policy:
    """A policy, from itself or from the path of its file.

    Raises:
        PolicyRefused: `policy-missing`: with no policy nothing is sealed to anybody.
    """
    if policy is None:
        raise PolicyRefused(POLICY_MISSING)
    return policy if isinstance(policy, Policy) else Policy.load(Path(policy))


class Room:
    """A verified service. Made by `connect`; close it, or use it in a `with` statement.

    Safe to use from several threads.
    """

    def __init__(self, http: httpx.Client, session: Session) -> None:
        self._http = http
        self._session = session

    @property
    def verdict(self) -> Verdict | None:
        """The last verdict on the service."""
        return self._session.verdict

    @property
    def plain(self) -> bool | None:
        """Whether the service also takes plain requests, which its front end then sees; `None` if unsaid.

        Only the front end's word. What this client sends is sealed in any case.
        """
        return self._session.plain

    def verify(self, *, timeout: float = DEFAULT_TIMEOUT) -> Verdict:
        """Appraise the service now.

        Raises:
            PolicyRefused, EvidenceError, CryptoError: It did not pass.
            UnreachableError: It cannot be reached.
        """
        return run(self._session.appraise(time.time() + timeout), self._http)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Input],
        *,
        version: str | None = None,
        outputs: Sequence[str] = (),
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Answer:
        """Run a model on sealed inputs.

        Args:
            model: Name of the model.
            inputs: By input name: bytes (an encoded picture), a list of bytes, or a numpy array.
            version: Version of the model; None for the one served.
            outputs: Names of the outputs wanted; none for all.
            timeout: Seconds for the whole call, retries included.

        Raises:
            RequestError: The worker refused the request; `code` says why.
            PolicyRefused, EvidenceError, CryptoError: The service no longer passes.
            UnreachableError: No answer in time.
        """
        started = time.perf_counter()
        inner = infer_request(model, inputs, version=version, outputs=outputs)
        return read_answer(run(self._session.exchange(inner, time.time() + timeout), self._http), started)

    def model(self, name: str, *, timeout: float = DEFAULT_TIMEOUT) -> ModelMetadata:
        """The metadata of a model, asked for under seal.

        Raises:
            RequestError: `model-unknown`.
        """
        flow = self._session.exchange(get_request(f"/v2/models/{name}"), time.time() + timeout)
        return _metadata(run(flow, self._http).response)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRoom:
    """The asynchronous twin of `Room`. Made by `connect_async`."""

    def __init__(self, http: httpx.AsyncClient, session: Session) -> None:
        self._http = http
        self._session = session

    @property
    def verdict(self) -> Verdict | None:
        """The last verdict on the service."""
        return self._session.verdict

    @property
    def plain(self) -> bool | None:
        """Whether the service also takes plain requests; see `Room.plain`."""
        return self._session.plain

    async def verify(self, *, timeout: float = DEFAULT_TIMEOUT) -> Verdict:  # noqa: ASYNC109 -- a deadline
        """Appraise the service now; see `Room.verify`."""
        return await run_async(self._session.appraise(time.time() + timeout), self._http)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Input],
        *,
        version: str | None = None,
        outputs: Sequence[str] = (),
        timeout: float = DEFAULT_TIMEOUT,  # noqa: ASYNC109 -- becomes a deadline that travels along
    ) -> Answer:
        """Run a model on sealed inputs; see `Room.infer`."""
        started = time.perf_counter()
        inner = infer_request(model, inputs, version=version, outputs=outputs)
        flow = self._session.exchange(inner, time.time() + timeout)
        return read_answer(await run_async(flow, self._http), started)

    async def model(self, name: str, *, timeout: float = DEFAULT_TIMEOUT) -> ModelMetadata:  # noqa: ASYNC109
        """The metadata of a model; see `Room.model`."""
        flow = self._session.exchange(get_request(f"/v2/models/{name}"), time.time() + timeout)
        return _metadata((await run_async(flow, self._http)).response)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def connect(
    url: str,
    *,
    policy: PolicyLike,
    suite: Suite | None = None,
    fresh: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
    transport: httpx.BaseTransport | None = None,
) -> Room:
    """Connect to a service and verify it.

        with strongroom.connect("http://127.0.0.1:8470", policy="policy.toml") as room:
            answer = room.infer("lite0", {"image": jpeg_bytes})

    Args:
        url: Address of the front end.
        policy: What the service must satisfy: a `Policy` or the path of its TOML file.
        suite: HPKE suite; None for the keyset's first, which is post-quantum.
        fresh: Demand evidence made for a nonce of this client, not for the broker's last beacon.
        timeout: Seconds for the first appraisal.
        transport: How to reach the front end; None for the network.

    Raises:
        PolicyRefused, EvidenceError, CryptoError: The service did not pass.
        UnreachableError: It cannot be reached.
    """
    session = Session(as_policy(policy), suite=suite, fresh=fresh)
    room = Room(httpx.Client(base_url=url, transport=transport, trust_env=False, limits=LIMITS), session)
    try:
        room.verify(timeout=timeout)
    except BaseException:
        room.close()
        raise
    return room


async def connect_async(
    url: str,
    *,
    policy: PolicyLike,
    suite: Suite | None = None,
    fresh: bool = False,
    timeout: float = DEFAULT_TIMEOUT,  # noqa: ASYNC109 -- a deadline
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncRoom:
    """The asynchronous twin of `connect`."""
    session = Session(as_policy(policy), suite=suite, fresh=fresh)
    room = AsyncRoom(
        httpx.AsyncClient(base_url=url, transport=transport, trust_env=False, limits=LIMITS), session
    )
    try:
        await room.verify(timeout=timeout)
    except BaseException:
        await room.close()
        raise
    return room


def _metadata(response: Any) -> ModelMetadata:
    if response.status != 200:
        raise error_of(response.status, bytes(response.body), sealed=True)
    return ModelMetadata.from_json(parse(bytes(response.body), limit=_MAX_METADATA, what="model metadata"))
