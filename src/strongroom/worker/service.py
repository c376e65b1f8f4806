"""The worker at work: from the queue through the core and the models, and back.

The event loop's thread fetches, opens what is small, feeds the models and sends answers; a pool of threads
decodes pictures and opens what is large. Everything is bounded: requests and bytes held at once, and the
time that stopping takes. Nothing polls: the loop sleeps until the queue, a model or the pool has something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final

from strongroom.errors import StrongroomError
from strongroom.queue.consumer import Delivery, WorkQueue
from strongroom.queue.records import Reply
from strongroom.worker.core import SEALED, Answer, Core, Task
from strongroom.worker.dispatch import Dispatcher
from strongroom.worker.inference import Arrays, ServedModel
from strongroom.worker.logging import Journal
from strongroom.worker.pace import Pace

BLOCK_MS: Final = 5000
"""How long one fetch waits at the queue server."""

INLINE_BYTES: Final = 256 * 1024
"""Messages up to this size are opened and sealed on the loop's thread: another thread would cost more."""

MAX_HELD_BYTES: Final = 512 * 1024 * 1024
"""No more is fetched while the requests held are larger than this together."""

MAX_PARKED: Final = 8
"""Requests with unknown keys that may wait for newer keys at a time; more are refused at once."""

MAX_PARKED_SECONDS: Final = 1.0
"""How long one of them may wait: the broker may not answer at all."""


@dataclass(slots=True)
class Counters:
    """What a worker has done since it started.

    Attributes:
        taken: Requests fetched.
        answered: Answers that were stored.
        outrun: Answers that came after another worker's.
        expired: Requests whose deadline passed while they waited.
        unopenable: Requests and control records that were refused in the clear.
        failed: Requests refused inside the envelope. It is not logged: only who sent them is told.
    """

    taken: int = 0
    answered: int = 0
    outrun: int = 0
    expired: int = 0
    unopenable: int = 0
    failed: int = 0


class Control:
    """What the service needs of its keeper.

    Args:
        evidence: Makes the evidence document over a nonce.
        refresh: Looks for newer keys; says whether there are any.
    """

    def __init__(
        self,
        evidence: Callable[[bytes], Awaitable[bytes]],
        refresh: Callable[[], Awaitable[bool]],
    ) -> None:
        self.evidence = evidence
        self.refresh = refresh


class Service:
    """Serves until it is told to stop.

    Args:
        core: Opens and seals.
        models: The models that are loaded.
        queue: Where requests come from and answers go to.
        control: Evidence and keys.
        pace: How many requests to hold.
        pool: Threads for what takes long.
        journal: The log.
        claim_after: Seconds of silence after which another worker may claim what is held.
    """

    def __init__(
        self,
        core: Core,
        models: Iterable[ServedModel],
        queue: WorkQueue,
        control: Control,
        *,
        pace: Pace,
        pool: Executor,
        journal: Journal,
        claim_after: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._core = core
        self._queue = queue
        self._control = control
        self._pace = pace
        self._pool = pool
        self._journal = journal
        self._touch_every = claim_after / 4
        self._dispatcher = Dispatcher(
            self._loop,
            models,
            starting=core.start,
            outcome=self._computed,
            expired=self._expired,
            settled=self._flush,
            now_ms=core.now_ms,
        )
        self.counters = Counters()
        self._deliveries: dict[Task, Delivery] = {}
        self._answers: list[tuple[Delivery, Reply]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = 0
        self._held_bytes = 0
        self._parked = 0
        self._room = asyncio.Event()

    @property
    def held(self) -> int:
        """Requests that were taken and not yet answered."""
        return self._held

    async def run(self, stop: asyncio.Event, *, drain: float) -> None:
        """Serve until `stop` is set, then answer what is held.

        Args:
            stop: Set it to stop.
            drain: Seconds that answering what is held may take. What is not answered then stays in the
                queue for others.

        Raises:
            QueueError: The queue server refuses this worker.
        """
        working = [
            asyncio.create_task(self._fetch(), name="fetch"),
            asyncio.create_task(self._touch(), name="touch"),
        ]
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait([*working, stopping], return_when=asyncio.FIRST_COMPLETED)
            await _cancel([working[0], stopping])
            await self._drained(drain)
        finally:
            await _cancel([*working, stopping, *self._tasks])
        for task in working:
            if not task.cancelled():
                task.result()

    async def _drained(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self._held:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            self._journal.event("drain-timeout", held=self._held)

    async def _fetch(self) -> None:
        while True:
            free = self._free()
            if not free or self._held_bytes > MAX_HELD_BYTES:
                self._room.clear()
                await self._room.wait()
                continue
            for delivery in await self._queue.take(free, BLOCK_MS):
                self._accept(delivery)
            self._flush()

    async def _touch(self) -> None:
        """Tell the queue that what is held is being worked on."""
        while True:
            await asyncio.sleep(self._touch_every)
            if self._held:
                await self._queue.touch()

    def _accept(self, delivery: Delivery) -> None:
        record = delivery.record
        self.counters.taken += 1
        self._held += 1
        self._held_bytes += len(record.body)
        if record.asks_for_evidence:
            self._spawn(self._show_evidence(delivery))
        elif len(record.body) > INLINE_BYTES:
            self._spawn(self._open_elsewhere(delivery))
        else:
            self._opened(delivery, self._core.receive(record.body, record.deadline))

    async def _open_elsewhere(self, delivery: Delivery) -> None:
        record = delivery.record
        step = await self._loop.run_in_executor(self._pool, self._core.receive, record.body, record.deadline)
        self._opened(delivery, step)

    def _opened(self, delivery: Delivery, step: Answer | Task) -> None:
        if isinstance(step, Task):
            self._deliveries[step] = delivery
            if step.inference.has_pictures:
                self._spawn(self._prepare_elsewhere(step))
            else:
                self._prepared(step, self._core.prepare(step))
        elif step.unknown_key and self._parked < MAX_PARKED:
            self._parked += 1
            self._room.set()
            self._spawn(self._open_with_newer_keys(delivery))
        else:
            self._answer(delivery, step)

    async def _open_with_newer_keys(self, delivery: Delivery) -> None:
        """Another worker may have learnt of a new epoch before this one: look before refusing."""
        record = delivery.record
        left = (record.deadline - self._core.now_ms()) / 1000
        try:
            async with asyncio.timeout(min(max(left, 0.0), MAX_PARKED_SECONDS)):
                await self._control.refresh()
        except TimeoutError:
            pass  # the search goes on, for later requests
        finally:
            self._parked -= 1
        step = self._core.receive(record.body, record.deadline)
        if isinstance(step, Task):
            self._opened(delivery, step)
        else:
            self._answer(delivery, step)

    async def _prepare_elsewhere(self, task: Task) -> None:
        self._prepared(task, await self._loop.run_in_executor(self._pool, self._core.prepare, task))

    def _prepared(self, task: Task, refused: Answer | None) -> None:
        if refused is not None:
            self._answer(self._deliveries.pop(task), refused)
        else:
            self._dispatcher.add(task)

    def _computed(self, task: Task, result: Arrays | Exception, share: float) -> None:
        delivery = self._deliveries.pop(task)
        if isinstance(result, Exception):
            self._answer(delivery, self._core.refuse(task, result))
            return
        self._pace.observe(prepare=task.opened_for + task.decoded_for, share=share)
        if sum(array.nbytes for array in result.values()) > INLINE_BYTES:
            self._spawn(self._complete_elsewhere(delivery, task, result))
        else:
            self._answer(delivery, self._core.complete(task, result))

    async def _complete_elsewhere(self, delivery: Delivery, task: Task, outputs: Arrays) -> None:
        answer = await self._loop.run_in_executor(self._pool, self._core.complete, task, outputs)
        self._answer(delivery, answer)

    def _expired(self, task: Task) -> None:
        self.counters.expired += 1
        self._answer(self._deliveries.pop(task), self._core.expire(task))

    async def _show_evidence(self, delivery: Delivery) -> None:
        try:
            document = await self._control.evidence(delivery.record.body)
            answer = Answer(200, "application/json", document)
        except Exception as error:
            self._journal.failure("evidence", error)
            answer = self._core.problem(error)
        self._answer(delivery, answer)

    def _answer(self, delivery: Delivery, answer: Answer) -> None:
        """Give an answer; `_flush` sends it with all others of its turn of the loop."""
        if answer.refused:
            if answer.content_type == SEALED:
                self.counters.failed += 1
            else:
                self.counters.unopenable += 1
        reply = Reply(delivery.record.id, answer.status, answer.content_type, answer.body)
        self._answers.append((delivery, reply))

    def _flush(self) -> None:
        if self._answers:
            answers, self._answers = self._answers, []
            self._spawn(self._send(answers))

    async def _send(self, answers: list[tuple[Delivery, Reply]]) -> None:
        try:
            stored = await self._queue.answer(answers)
            self.counters.answered += sum(stored)
            self.counters.outrun += len(stored) - sum(stored)
        except StrongroomError as error:
            # What is not answered stays in the queue and is delivered again.
            self._journal.failure("answer", error, count=len(answers))
        finally:
            self._held -= len(answers)
            self._held_bytes -= sum(len(delivery.record.body) for delivery, _ in answers)
            if not self._held or self._free():
                self._room.set()

    def _free(self) -> int:
        """How many to fetch now; what is parked takes nobody's place."""
        return self._pace.free(self._held - self._parked)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._journal.failure("uncaught", error)
        self._flush()


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    waiting = [task for task in tasks if not task.done()]
    for task in waiting:
        task.cancel()
    if waiting:
        await asyncio.wait(waiting)
