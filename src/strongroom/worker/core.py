"""The heart of the enclave: sealed bytes in, steps, sealed bytes out. No I/O, no threads, no loop.

    step = core.receive(sealed, deadline)       # an Answer, or a Task
    answer = core.prepare(task)                 # an Answer if it fails; else the task's inputs are ready
    answer = core.complete(task, outputs)       # or core.refuse(task, error)

A step may run in any thread, and different tasks in different threads at a time. Nothing that goes wrong
inside a request leaves this module as an exception:

1. What cannot be opened is answered in the clear, with problem details that say nothing but the code.
2. What fails after it was opened is answered sealed, with problem details and a code.
3. A deadline inside the envelope counts (design, rule 9): past it, a request is answered and not computed.
   The outer one may be earlier; if it is later, somebody on the way has changed it: the request is refused.
4. A failure of our own (a bug) is answered as `internal-error` and reported without its message.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from strongroom.codec.bhttp import Fields, Limits, Request, Response, decode_request, encode_response, header
from strongroom.crypto.errors import OHTTP_UNKNOWN_KEY
from strongroom.crypto.ohttp import MAX_MESSAGE, Gateway, OpenedRequest
from strongroom.errors import StrongroomError
from strongroom.worker.app import App, problem
from strongroom.worker.errors import (
    DEADLINE_EXCEEDED,
    DEADLINE_INVALID,
    DEADLINE_MISMATCH,
    INTERNAL,
    WorkerError,
)
from strongroom.worker.inference import Arrays, Inference

SEALED: Final = "message/ohttp-res"
PROBLEM: Final = "application/problem+json"
OHTTP_KEY_PROBLEM: Final = "https://iana.org/assignments/http-problem-types#ohttp-key"
"""Problem type that tells a client to fetch the keys anew (RFC 9458, section 5.2)."""

DEADLINE_HEADER: Final = b"strongroom-deadline"
TIMING_HEADER: Final = b"strongroom-timing"

_DIGITS: Final = 15


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back through the queue.

    Attributes:
        status: HTTP status of the outer response.
        content_type: Media type of the body.
        body: The sealed answer, or problem details of a request that could not be opened.
        unknown_key: Whether the key of the request is not known here; newer keys may open it.
        refused: Whether it tells of an error.
    """

    status: int
    content_type: str
    body: bytes
    unknown_key: bool = False
    refused: bool = False


@dataclass(slots=True, eq=False)
class Task:
    """A request on its way to a model. It implements the batcher's `Job`.

    Attributes:
        inference: What to compute.
        deadline: Unix milliseconds.
        opened_for: Seconds it took to open the request.
        decoded_for: Seconds it took to decode its inputs.
        queued_at: When it began to wait for its model, by `time.perf_counter`.
        started_at: When it went to its model's runtime.
        inputs: Arrays by input name, once they are decoded.
        rows: Items on the first axis, or 0.
        signature: Equal for tasks that may share a batch.
    """

    inference: Inference
    deadline: int
    opened: OpenedRequest = field(repr=False)
    opened_for: float
    decoded_for: float = 0.0
    queued_at: float = 0.0
    started_at: float = 0.0
    inputs: Arrays = field(default_factory=dict)
    rows: int = 0
    signature: Hashable = None


class Core:
    """Opens, checks, answers and seals.

    Args:
        gateway: Gives the gateway with the keys that are in use now.
        app: The resources.
        now: Unix time in seconds.
        clock: A monotonic clock in seconds.
        report: Told of failures of our own.
        limits: Bounds of the binary HTTP message.
        max_answer: Most bytes of an answer before it is sealed.
    """

    def __init__(
        self,
        gateway: Callable[[], Gateway],
        app: App,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.perf_counter,
        report: Callable[[BaseException], None] | None = None,
        limits: Limits | None = None,
        max_answer: int = MAX_MESSAGE,
    ) -> None:
        self._gateway = gateway
        self._app = app
        self._now = now
        self._clock = clock
        self._report = report
        self._limits = limits or Limits()
        self._max_answer = max_answer

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return int(self._now() * 1000)

    def receive(self, sealed: bytes, outer_deadline: int) -> Answer | Task:
        """Open a request, and answer it unless it needs a model.

        Args:
            sealed: An encapsulated request (RFC 9458).
            outer_deadline: The hint that came with it, Unix milliseconds.
        """
        start = self._clock()
        try:
            opened = self._gateway().open_request(sealed)
        except Exception as error:
            return self.problem(error)
        try:
            request = decode_request(opened.plaintext, self._limits)
            deadline = self._deadline(request, outer_deadline)
            handled = self._app.handle(request)
        except Exception as error:
            return self._sealed_problem(opened, error)
        spent = self._clock() - start
        if isinstance(handled, Inference):
            return Task(handled, deadline, opened, spent)
        return self._seal(opened, handled, (_timing((("open", spent),)),))

    def prepare(self, task: Task) -> Answer | None:
        """Decode and check the inputs; an answer means that the task has ended."""
        start = self._clock()
        try:
            self._check_deadline(task.deadline)
            inference = task.inference
            inference.prepare()
        except Exception as error:
            return self.refuse(task, error)
        task.inputs, task.rows, task.signature = inference.inputs, inference.rows, inference.signature
        task.queued_at = self._clock()
        task.decoded_for = task.queued_at - start
        return None

    def start(self, task: Task) -> None:
        """Note that the task goes to its model's runtime now."""
        task.started_at = self._clock()

    def complete(self, task: Task, outputs: Arrays) -> Answer:
        """Seal the answer to a task that was computed."""
        times = (
            ("open", task.opened_for),
            ("decode", task.decoded_for),
            ("wait", task.started_at - task.queued_at),
            ("infer", self._clock() - task.started_at),
        )
        try:
            response = self._app.respond(task.inference, outputs)
            return self._seal(task.opened, response, (_timing(times),))
        except Exception as error:
            return self.refuse(task, error)

    def refuse(self, task: Task, error: Exception) -> Answer:
        """Seal an error as the answer to a task."""
        return self._sealed_problem(task.opened, error)

    def expire(self, task: Task) -> Answer:
        """Seal the answer to a task whose deadline has passed."""
        return self.refuse(task, WorkerError(DEADLINE_EXCEEDED))

    def problem(self, error: Exception) -> Answer:
        """An error as an answer in the clear, for what is not sealed."""
        return _unopenable(self._known(error))

    def _deadline(self, request: Request, outer: int) -> int:
        value = header(request.headers, DEADLINE_HEADER)
        deadline = outer
        if value is not None:
            if not value.isdigit() or len(value) > _DIGITS:
                raise WorkerError(DEADLINE_INVALID)
            deadline = int(value)
            if outer > deadline:
                raise WorkerError(DEADLINE_MISMATCH)
            deadline = min(deadline, outer)
        self._check_deadline(deadline)
        return deadline

    def _check_deadline(self, deadline: int) -> None:
        if deadline <= self.now_ms():
            raise WorkerError(DEADLINE_EXCEEDED)

    def _sealed_problem(self, opened: OpenedRequest, error: Exception) -> Answer:
        response = problem(self._known(error))
        sealed = opened.seal_response(encode_response(response), limit=self._max_answer)
        return Answer(200, SEALED, sealed, refused=True)

    def _seal(self, opened: OpenedRequest, response: Response, extra: Fields) -> Answer:
        message = Response(response.status, (*response.headers, *extra), response.body)
        return Answer(200, SEALED, opened.seal_response(encode_response(message), limit=self._max_answer))

    def _known(self, error: Exception) -> StrongroomError:
        """An error that may be shown: one of ours, and for a bug one that says nothing."""
        if isinstance(error, StrongroomError):
            return error
        if self._report is not None:
            self._report(error)
        return WorkerError(INTERNAL)


def _unopenable(error: StrongroomError) -> Answer:
    """Answer in the clear; for an unknown key, as RFC 9458 section 5.2 says."""
    details = error.to_problem()
    unknown = error.kind is OHTTP_UNKNOWN_KEY
    if unknown:
        details["type"] = OHTTP_KEY_PROBLEM
    return Answer(error.status, PROBLEM, msgspec.json.encode(details), unknown, refused=True)


def _timing(times: tuple[tuple[str, float], ...]) -> tuple[bytes, bytes]:
    """Durations in milliseconds, in the form of Server-Timing."""
    return TIMING_HEADER, ", ".join([f"{name};dur={1000 * spent:.3f}" for name, spent in times]).encode()
