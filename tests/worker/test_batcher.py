from __future__ import annotations

import itertools
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import ModelError
from strongroom.worker.batcher import Batch, Batcher

_numbers = itertools.count()


@dataclass(eq=False)
class Job:
    rows: int = 1
    signature: Hashable = "a"
    deadline: int = 1000
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def inputs(self) -> dict[str, Any]:
        return {"x": np.full((max(self.rows, 1), 2), self.number, np.float32)}


def _filled(jobs: list[Job], *, slots: int = 1, max_batch: int = 4) -> Batcher[Job]:
    batcher: Batcher[Job] = Batcher(slots=slots, max_batch=max_batch)
    for job in jobs:
        batcher.add(job)
    return batcher


def _next(batcher: Batcher[Job]) -> list[Job]:
    batch = batcher.next()
    assert batch is not None
    return list(batch.jobs)


def test_an_idle_model_takes_the_first_job_at_once() -> None:
    job = Job()
    assert _next(_filled([job])) == [job]


def test_there_is_no_batch_without_a_job() -> None:
    assert _filled([]).next() is None


def test_there_is_no_batch_without_a_free_slot() -> None:
    batcher = _filled([Job(), Job(), Job()], slots=2, max_batch=1)
    assert batcher.next() is not None
    assert batcher.next() is not None
    assert batcher.next() is None
    assert (batcher.busy, batcher.waiting) == (2, 1)
    batcher.done()
    assert batcher.next() is not None


def test_waiting_jobs_share_a_batch_in_their_order_up_to_the_bound() -> None:
    jobs = [Job() for _ in range(6)]
    batcher = _filled(jobs, slots=2)
    assert _next(batcher) == jobs[:4]
    assert _next(batcher) == jobs[4:]


def test_a_model_without_batches_takes_one_by_one() -> None:
    jobs = [Job(), Job()]
    assert _next(_filled(jobs, max_batch=1)) == jobs[:1]


def test_jobs_without_a_batch_axis_are_never_joined() -> None:
    jobs = [Job(rows=0), Job(rows=0)]
    assert _next(_filled(jobs, max_batch=4)) == jobs[:1]
    after = [Job(rows=1), Job(rows=0)]
    assert _next(_filled(after, max_batch=4)) == after[:1]


def test_another_signature_waits_for_a_batch_of_its_own() -> None:
    a, b, c = Job(), Job(signature="b"), Job()
    batcher = _filled([a, b, c], slots=2)
    assert _next(batcher) == [a, c]
    assert _next(batcher) == [b]


def test_the_oldest_job_decides_which_signature_is_next() -> None:
    b, a, second = Job(signature="b"), Job(), Job(signature="b")
    batcher = _filled([b, a, second], slots=1)
    assert _next(batcher) == [b, second]


def test_rows_count_and_not_jobs() -> None:
    jobs = [Job(rows=3), Job(rows=2), Job(rows=1)]
    batcher = _filled(jobs, slots=2)
    assert _next(batcher) == [jobs[0], jobs[2]]
    assert _next(batcher) == [jobs[1]]


def test_a_job_larger_than_the_bound_goes_alone() -> None:
    jobs = [Job(rows=9), Job()]
    assert _next(_filled(jobs)) == jobs[:1]


def test_expired_jobs_are_taken_out_and_not_computed() -> None:
    late, good, just = Job(deadline=99), Job(deadline=101), Job(deadline=100)
    batcher = _filled([late, good, just])
    assert batcher.expired(100) == [late, just]
    assert batcher.expired(100) == []
    assert _next(batcher) == [good]


def test_a_failed_batch_is_tried_again_one_by_one_before_anything_else() -> None:
    jobs, later = [Job(), Job(), Job()], Job()
    batcher = _filled(jobs, slots=1)
    batch = batcher.next()
    assert batch is not None
    batcher.add(later)
    assert batcher.failed(batch) is None
    for job in jobs:
        alone = batcher.next()
        assert alone is not None
        assert alone.jobs == (job,)
        if job is jobs[1]:
            assert batcher.failed(alone) is job
        else:
            batcher.done()
    assert _next(batcher) == [later]


def test_a_retried_job_expires_too() -> None:
    jobs = [Job(deadline=50), Job(deadline=200)]
    batcher = _filled(jobs)
    batch = batcher.next()
    assert batch is not None
    batcher.failed(batch)
    assert batcher.expired(100) == jobs[:1]
    assert _next(batcher) == jobs[1:]


def test_inputs_of_a_batch_stand_one_after_another() -> None:
    jobs = (Job(rows=1), Job(rows=2))
    joined = Batch(jobs).inputs()["x"]
    assert joined.shape == (3, 2)
    assert [row[0] for row in joined] == [jobs[0].number, jobs[1].number, jobs[1].number]


def test_a_lone_job_is_not_copied() -> None:
    job = Job()
    inputs = {"x": np.zeros((1, 2))}
    alone = type("Alone", (Job,), {"inputs": property(lambda self: inputs)})()
    assert Batch((alone,)).inputs() is inputs
    outputs = {"y": np.float32(3)}
    assert Batch((job,)).split(outputs) == [outputs]  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [np.zeros((4, 1)), np.zeros(()), np.zeros((0, 3))])
def test_an_output_that_does_not_follow_the_batch_is_a_failure(bad: Any) -> None:
    batch = Batch((Job(rows=1), Job(rows=2)))
    with pytest.raises(ModelError, match="inference-failed"):
        batch.split({"good": np.zeros((3, 1)), "bad": bad})


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(1, 3))
def test_what_goes_in_comes_out_for_each_in_its_place(rows: list[int], outputs: int) -> None:
    jobs = tuple(Job(rows=count) for count in rows)
    batch = Batch(jobs)
    joined = batch.inputs()["x"]
    parts = batch.split({f"y{n}": joined * (n + 1) for n in range(outputs)})
    assert len(parts) == len(jobs)
    for job, part in zip(jobs, parts, strict=True):
        for n in range(outputs):
            assert np.array_equal(part[f"y{n}"], job.inputs["x"] * (n + 1))


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from("ab"), st.integers(0, 20)), max_size=30),
    st.integers(1, 3),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_every_job_ends_exactly_once(
    given_jobs: list[tuple[int, str, int]], slots: int, max_batch: int, random: Any
) -> None:
    """Whatever fails or expires on the way, no job is lost and none is answered twice."""
    jobs = [Job(rows=rows, signature=name, deadline=due) for rows, name, due in given_jobs]
    batcher = _filled(jobs, slots=slots, max_batch=max_batch)
    ended: list[Job] = []
    running: list[Batch[Job]] = []
    for now in range(200):
        ended += batcher.expired(min(now, 10))
        while (batch := batcher.next()) is not None:
            assert len({job.signature for job in batch.jobs}) == 1
            assert len(batch.jobs) == 1 or sum(job.rows for job in batch.jobs) <= max_batch
            running.append(batch)
        assert batcher.busy == len(running) <= slots
        if not running:
            break
        batch = running.pop(random.randrange(len(running)))
        if random.random() < 0.4:
            given_up = batcher.failed(batch)
            ended += [given_up] if given_up is not None else []
        else:
            batcher.done()
            ended += batch.jobs
    assert sorted(job.number for job in ended) == sorted(job.number for job in jobs)
    assert batcher.waiting == 0
