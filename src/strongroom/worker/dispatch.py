"""Feeds the models: tasks in, batches to the runtimes, outcomes out. Runs on the event loop's thread.

A runtime calls back from threads of its own. Its outcomes are collected and handled together in the next
turn of the loop, so that a thousand small inferences do not cost a thousand wake-ups, and a free slot is
filled before the answer of the inference that left it is sealed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from strongroom.errors import ModelError
from strongroom.models.errors import INFERENCE_FAILED
from strongroom.worker.batcher import Arrays, Batch, Batcher
from strongroom.worker.core import Task
from strongroom.worker.inference import ServedModel

AHEAD: Final = 0.05
"""Seconds of work that a runtime is given beyond its slots: its threads then need not wait for the loop."""

SPARE: Final = 6
"""Most batches beyond its slots."""

Outcome = Callable[[Task, "Arrays | Exception", float], None]
"""Takes a task with its outputs, or with the reason why there are none, and its share of the model's time.

The share is in seconds: the time from one outcome to the next while the model is busy, divided by the tasks
of the batch.
"""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What has become of a batch."""

    model: ServedModel
    batch: Batch[Task]
    result: Arrays | Exception
    seconds: float


class Dispatcher:
    """One batcher for each model, and the way to the runtimes and back.

    Args:
        loop: The event loop on whose thread this object is used.
        models: The models.
        starting: Told of each task when it goes to its runtime.
        outcome: Takes each task when it is computed or has failed.
        expired: Takes each task whose deadline passed while it waited.
        settled: Called when all outcomes of one turn of the loop have been given.
        now_ms: Unix time in milliseconds.
        clock: A monotonic clock in seconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        models: Iterable[ServedModel],
        *,
        starting: Callable[[Task], None],
        outcome: Outcome,
        expired: Callable[[Task], None],
        settled: Callable[[], None],
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._loop = loop
        self._starting = starting
        self._outcome = outcome
        self._expired = expired
        self._settled = settled
        self._now_ms = now_ms
        self._clock = clock
        self._batchers: Mapping[ServedModel, Batcher[Task]] = {
            model: Batcher(slots=model.runtime.slots, max_batch=model.runtime.max_batch) for model in models
        }
        self._finished: deque[_Outcome] = deque()
        self._woken = False

    @property
    def waiting(self) -> int:
        """Tasks that have no slot yet."""
        return sum(batcher.waiting for batcher in self._batchers.values())

    def add(self, task: Task) -> None:
        """Let a task wait for its model; it starts at once if there is a free slot."""
        model = task.inference.model
        self._batchers[model].add(task)
        self._feed(model)

    def _feed(self, model: ServedModel) -> None:
        batcher = self._batchers[model]
        for task in batcher.expired(self._now_ms()):
            self._expired(task)
        while (batch := batcher.next()) is not None:
            for task in batch.jobs:
                self._starting(task)
            try:
                inputs = batch.inputs()
            except Exception as error:
                self._done(model, batch, 0.0, None, error)
                continue
            model.runtime.submit(inputs, partial(self._done, model, batch, self._clock()))

    def _done(
        self,
        model: ServedModel,
        batch: Batch[Task],
        started: float,
        outputs: Arrays | None,
        error: Exception | None,
    ) -> None:
        """Called by the runtime, from any thread, perhaps before `submit` returns."""
        failure = error if error is not None else ModelError(INFERENCE_FAILED)
        # By Little's law: the time in the runtime over the number that are there.
        seconds = (self._clock() - started) / max(1, self._running(model))
        self._finished.append(_Outcome(model, batch, failure if outputs is None else outputs, seconds))
        if not self._woken and not self._can_wait(model, seconds):
            self._woken = True
            self._loop.call_soon_threadsafe(self._collect)

    def _running(self, model: ServedModel) -> int:
        """Batches in the runtime, or a few less while other models have outcomes."""
        return self._batchers[model].busy - len(self._finished)

    def _can_wait(self, model: ServedModel, seconds: float) -> bool:
        """Whether the outcomes that there are may be handled together with the next one.

        Together they cost half of what they cost one by one, for the reason that `Pace.free` gives. It is
        safe only while the model has more to do than its streams can do at once: then no core waits for the
        loop, and the next outcome is sure to come and wake it. `busy` falls before `_collect` looks for the
        last time whether there are outcomes, so that none is left behind.
        """
        soon = len(self._finished) * seconds < AHEAD
        return soon and self._running(model) > model.runtime.streams + 1

    def _collect(self) -> None:
        self._woken = False
        while self._finished:
            self._settle(self._finished.popleft())
        self._settled()

    def _settle(self, outcome: _Outcome) -> None:
        model, batch, result = outcome.model, outcome.batch, outcome.result
        batcher = self._batchers[model]
        if model.runtime.max_batch <= 1:  # where requests are joined, they had better wait here
            batcher.slots = model.runtime.slots + _spare(outcome.seconds)
        parts: list[Arrays] = []
        if not isinstance(result, Exception):
            try:
                parts = batch.split(result)
            except Exception as error:
                result = error
        if isinstance(result, Exception):
            given_up = batcher.failed(batch)
            self._feed(model)
            if given_up is not None:
                self._outcome(given_up, result, outcome.seconds)
            return
        batcher.done()
        self._feed(model)
        share = outcome.seconds / len(parts)
        for task, outputs in zip(batch.jobs, parts, strict=True):
            self._outcome(task, outputs, share)


def _spare(seconds: float) -> int:
    """Batches beyond its slots for a runtime that ends one every so many seconds."""
    return max(0, min(SPARE, int(AHEAD / seconds))) if seconds > 0.0 else SPARE
