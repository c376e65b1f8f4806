"""Drive the client's flows over httpx, sync and async."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

import httpx

from strongroom.client._flow import Incoming, Outgoing, Pause, Step
from strongroom.client.errors import DEADLINE_PASSED, SERVICE_ANSWER_INVALID, SERVICE_UNREACHABLE
from strongroom.errors import RequestError, UnreachableError

T = TypeVar("T")
Flow = Generator[Step, Incoming, T]
Outcome = Incoming | UnreachableError | None

MAX_ANSWER: Final = 128 << 20
"""Most bytes of an answer that are read."""
_CONNECT_SECONDS: Final = 5.0
_CHUNK: Final = 1 << 16


def run(flow: Flow[T], client: httpx.Client, *, now: Callable[[], float] = time.time) -> T:
    """Drive a flow to its result with blocking I/O."""
    outcome: Outcome = None
    while True:
        try:
            step = _advance(flow, outcome)
        except StopIteration as stop:
            result: T = stop.value
            return result
        outcome = _perform(step, client, now)


async def run_async(flow: Flow[T], client: httpx.AsyncClient, *, now: Callable[[], float] = time.time) -> T:
    """Drive a flow to its result with asynchronous I/O."""
    outcome: Outcome = None
    while True:
        try:
            step = _advance(flow, outcome)
        except StopIteration as stop:
            result: T = stop.value
            return result
        outcome = await _perform_async(step, client, now)


def _advance(flow: Flow[Any], outcome: Outcome) -> Step:
    if isinstance(outcome, UnreachableError):
        return flow.throw(outcome)
    return flow.send(outcome)  # type: ignore[arg-type]  # None starts the flow and ends a pause


def _perform(step: Step, client: httpx.Client, now: Callable[[], float]) -> Outcome:
    if isinstance(step, Pause):
        time.sleep(step.seconds)
        return None
    body = _Body(step.deadline, now)
    try:
        with client.stream(**_arguments(step, now())) as response:
            for chunk in response.iter_bytes(_CHUNK):
                body.add(chunk)
            return body.incoming(response)
    except httpx.RequestError as error:
        return _unreachable(error)


async def _perform_async(step: Step, client: httpx.AsyncClient, now: Callable[[], float]) -> Outcome:
    if isinstance(step, Pause):
        await asyncio.sleep(step.seconds)
        return None
    body = _Body(step.deadline, now)
    try:
        async with (
            asyncio.timeout(max(step.deadline - now(), 0)),
            client.stream(**_arguments(step, now())) as response,
        ):
            async for chunk in response.aiter_bytes(_CHUNK):
                body.add(chunk)
            return body.incoming(response)
    except TimeoutError:
        return UnreachableError(DEADLINE_PASSED)
    except httpx.RequestError as error:
        return _unreachable(error)


class _Body:
    """The bytes of an answer, bounded in number and in time while they come in."""

    def __init__(self, deadline: float, now: Callable[[], float]) -> None:
        self._deadline = deadline
        self._now = now
        self._chunks: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        if self._now() >= self._deadline:
            raise UnreachableError(DEADLINE_PASSED)
        self._size += len(chunk)
        if self._size > MAX_ANSWER:
            raise RequestError(SERVICE_ANSWER_INVALID, "the answer is too large", expected=f"<= {MAX_ANSWER}")
        self._chunks.append(chunk)

    def incoming(self, response: httpx.Response) -> Incoming:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise RequestError(SERVICE_ANSWER_INVALID, "the answer is compressed, which was not asked for")
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Incoming(response.status_code, headers, b"".join(self._chunks))


def _arguments(step: Outgoing, now: float) -> dict[str, Any]:
    remaining = max(step.deadline - now, 0.001)
    return {
        "method": step.method,
        "url": step.path,
        "headers": {"accept-encoding": "identity", **step.headers},
        "content": step.body or None,
        "timeout": httpx.Timeout(remaining, connect=min(remaining, _CONNECT_SECONDS)),
    }


def _unreachable(error: httpx.RequestError) -> UnreachableError:
    return UnreachableError(SERVICE_UNREACHABLE, type(error).__name__)
