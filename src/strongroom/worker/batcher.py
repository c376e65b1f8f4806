"""Groups requests for one model's inference slots. Sans-I/O: jobs in, batches out.

A batch is made when a slot is free, from what is waiting then: an idle model never waits for company. Only
jobs of one signature (the same item shapes and datatypes) share a batch, in the order of their arrival; the
oldest waiting job decides which signature is next. A job whose deadline has passed is taken out, not
computed. If a batch fails, each of its members is tried again alone, so that one bad input costs its
neighbours time, never their answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from strongroom.errors import ModelError
from strongroom.models.errors import INFERENCE_FAILED

Arrays = Mapping[str, npt.NDArray[np.generic]]


class Job(Protocol):
    """What the batcher needs to know of a request.

    Attributes:
        inputs: Arrays by input name; where `rows` > 0, each has `rows` as its first length.
        rows: Items on the first axis, or 0 where the model has no batch axis.
        signature: Equal for jobs that may share a batch.
        deadline: Unix milliseconds after which the answer is of no use.
    """

    @property
    def inputs(self) -> Arrays: ...  # noqa: D102 -- documented above
    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def signature(self) -> Hashable: ...  # noqa: D102
    @property
    def deadline(self) -> int: ...  # noqa: D102


J = TypeVar("J", bound=Job)


@dataclass(frozen=True, slots=True, eq=False)
class Batch(Generic[J]):
    """Jobs that share one inference."""

    jobs: tuple[J, ...]

    def inputs(self) -> Arrays:
        """The members' inputs, one after another on the first axis; a lone member's as they are."""
        if len(self.jobs) == 1:
            return self.jobs[0].inputs
        return {name: np.concatenate([job.inputs[name] for job in self.jobs]) for name in self.jobs[0].inputs}

    def split(self, outputs: Arrays) -> list[Arrays]:
        """Each member's rows of the outputs, in the members' order.

        Raises:
            ModelError: `inference-failed`: an output does not have one row for each item that went in.
        """
        if len(self.jobs) == 1:
            return [outputs]
        ends = np.cumsum([job.rows for job in self.jobs])
        if any(array.ndim == 0 or len(array) != ends[-1] for array in outputs.values()):
            raise ModelError(INFERENCE_FAILED, "an output does not follow the batch")
        return [
            {name: array[end - job.rows : end] for name, array in outputs.items()}
            for job, end in zip(self.jobs, ends.tolist(), strict=True)
        ]


class Batcher(Generic[J]):
    """The waiting jobs and the busy slots of one model.

    Args:
        slots: Batches that may be with the runtime at once; may be changed later.
        max_batch: Most items in one batch; 1 means that every job goes alone.
    """

    def __init__(self, *, slots: int, max_batch: int = 1) -> None:
        self.slots = slots
        self._max_batch = max_batch
        self._busy = 0
        self._waiting: deque[J] = deque()
        self._alone: deque[J] = deque()

    @property
    def waiting(self) -> int:
        """Jobs that have no slot yet."""
        return len(self._waiting) + len(self._alone)

    @property
    def busy(self) -> int:
        """Slots in use."""
        return self._busy

    def add(self, job: J) -> None:
        """Let a job wait for a slot."""
        self._waiting.append(job)

    def expired(self, now: int) -> list[J]:
        """Take out and return the waiting jobs whose deadline has passed at `now` (Unix milliseconds)."""
        if not self._waiting and not self._alone:
            return []
        late = [job for queue in (self._alone, self._waiting) for job in queue if job.deadline <= now]
        if late:
            gone = {id(job) for job in late}
            self._alone = deque(job for job in self._alone if id(job) not in gone)
            self._waiting = deque(job for job in self._waiting if id(job) not in gone)
        return late

    def next(self) -> Batch[J] | None:
        """The next batch, which holds a slot until `done` or `failed`; None without a free slot or a job."""
        if self._busy >= self.slots:
            return None
        if self._alone:
            batch = Batch((self._alone.popleft(),))
        elif self._waiting:
            batch = Batch(self._gather(self._waiting.popleft()))
        else:
            return None
        self._busy += 1
        return batch

    def done(self) -> None:
        """A batch's slot is free again."""
        self._busy -= 1

    def failed(self, batch: Batch[J]) -> J | None:
        """The batch's slot is free again, without outputs; its members will be tried alone.

        Returns:
            The job that failed for good: the only member of a batch of one. Else None.
        """
        self._busy -= 1
        if len(batch.jobs) == 1:
            return batch.jobs[0]
        self._alone.extend(batch.jobs)
        return None

    def _gather(self, first: J) -> tuple[J, ...]:
        jobs, rows = [first], first.rows
        if not first.rows or rows >= self._max_batch:
            return (first,)
        left: deque[J] = deque()
        while self._waiting and rows < self._max_batch:
            job = self._waiting.popleft()
            if job.rows and job.signature == first.signature and rows + job.rows <= self._max_batch:
                jobs.append(job)
                rows += job.rows
            else:
                left.append(job)
        self._waiting.extendleft(reversed(left))
        return tuple(jobs)
