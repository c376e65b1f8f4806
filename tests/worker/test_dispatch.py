from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from strongroom.codec.oip import InferRequest
from strongroom.crypto.ohttp import Gateway
from strongroom.errors import ModelError
from strongroom.worker.core import Task
from strongroom.worker.dispatch import AHEAD, SPARE, Dispatcher
from strongroom.worker.inference import Inference, ServedModel

QUICK = 0.001


@dataclass
class Seen:
    """What a dispatcher has told."""

    started: list[Task] = field(default_factory=list)
    outcomes: list[tuple[Task, Any]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    expired: list[Task] = field(default_factory=list)
    now: int = 0
    time: float = 0.0
    turns: int = 0

    def take(self, task: Task, result: Any, share: float) -> None:
        self.outcomes.append((task, result))
        self.shares.append(share)

    def settle(self) -> None:
        self.turns += 1


@pytest.fixture
def seen() -> Seen:
    return Seen()


def _dispatcher(seen: Seen, *models: ServedModel) -> Dispatcher:
    return Dispatcher(
        asyncio.get_running_loop(),
        models,
        starting=seen.started.append,
        outcome=seen.take,
        expired=seen.expired.append,
        settled=seen.settle,
        now_ms=lambda: seen.now,
        clock=lambda: seen.time,
    )


def _task(kit: Any, model: ServedModel, *values: float, deadline: int = 1000) -> Task:
    key = kit.gateway_key()
    inference = Inference(model, InferRequest((kit.x(*values),)))
    inference.prepare()
    sealed = kit.Sealer(key.config).infer("double", kit.x(*values))
    opened = Gateway([key]).open_request(sealed.data)
    task = Task(inference, deadline, opened, 0.0)
    task.inputs, task.rows, task.signature = inference.inputs, inference.rows, inference.signature
    return task


async def _turn() -> None:
    """Let the loop handle what was called back."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_outcomes_come_back_on_the_loops_thread(seen: Seen, kit: Any) -> None:
    model = kit.memory_model(slots=2)
    dispatcher = _dispatcher(seen, model)
    task = _task(kit, model, 1, 2, 3, 4)
    dispatcher.add(task)
    assert seen.started == [task]
    thread = threading.Thread(target=model.runtime.run)
    thread.start()
    thread.join()
    assert seen.outcomes == []
    await _turn()
    [(ended, outputs)] = seen.outcomes
    assert ended is task
    assert outputs["y"].tolist() == [[2, 4, 6, 8]]


async def test_a_runtime_may_answer_before_submit_returns(seen: Seen, kit: Any) -> None:
    model = kit.memory_model(slots=1)
    model.runtime.immediate = True
    dispatcher = _dispatcher(seen, model)
    for number in range(5):
        dispatcher.add(_task(kit, model, *[number] * 4))
    for _ in range(5):
        await _turn()
    assert [outputs["y"][0, 0] for _, outputs in seen.outcomes] == [0, 2, 4, 6, 8]


async def test_a_free_slot_is_filled_before_the_answer_is_given(seen: Seen, kit: Any) -> None:
    model = kit.memory_model(slots=1)
    dispatcher = _dispatcher(seen, model)
    order: list[str] = []
    submit = model.runtime.submit
    model.runtime.submit = lambda *args: (order.append("submit"), submit(*args))
    dispatcher._outcome = lambda *_: order.append("outcome")
    for _ in range(2):
        dispatcher.add(_task(kit, model, 1, 2, 3, 4))
    assert dispatcher.waiting == 1
    model.runtime.run()
    await _turn()
    assert order == ["submit", "submit", "outcome"]
    assert dispatcher.waiting == 0


async def test_an_expired_task_takes_no_slot(seen: Seen, kit: Any) -> None:
    model = kit.memory_model(slots=1)
    dispatcher = _dispatcher(seen, model)
    seen.now = 500
    task = _task(kit, model, 1, 2, 3, 4, deadline=500)
    dispatcher.add(task)
    assert seen.expired == [task]
    assert seen.started == []


async def test_inputs_that_cannot_be_joined_are_computed_alone(seen: Seen, kit: Any) -> None:
    model = kit.memory_model(slots=1, max_batch=4)
    dispatcher = _dispatcher(seen, model)
    tasks = [_task(kit, model, *[number] * 4) for number in range(3)]
    for task in tasks:
        task.signature = "same"
    dispatcher.add(tasks[0])
    tasks[2].inputs = {"x": np.zeros((1, 5), np.float32)}
    dispatcher.add(tasks[1])
    dispatcher.add(tasks[2])
    for _ in range(6):
        model.runtime.run()
        await _turn()
    assert [task for task, _ in seen.outcomes] == tasks
    assert seen.outcomes[1][1]["y"].tolist() == [[2, 2, 2, 2]]


async def test_an_output_that_cannot_be_split_is_computed_alone(seen: Seen, kit: Any) -> None:
    model = kit.memory_model(slots=1, max_batch=4)
    dispatcher = _dispatcher(seen, model)

    def submit(inputs: Any, done: Any) -> None:
        rows = len(inputs["x"])
        model.runtime.sizes.append(rows)
        done({"y": np.float32(rows)}, None)

    model.runtime.submit = submit
    for number in range(3):
        dispatcher.add(_task(kit, model, *[number] * 4))
    for _ in range(8):
        await _turn()
    assert model.runtime.sizes == [1, 2, 1, 1]
    assert [outputs["y"] for _, outputs in seen.outcomes] == [1, 1, 1]


async def test_a_task_that_fails_alone_fails_for_good(seen: Seen, kit: Any) -> None:
    model = kit.memory_model(slots=1)
    model.runtime.immediate = True
    dispatcher = _dispatcher(seen, model)
    dispatcher.add(_task(kit, model, float("nan"), 0, 0, 0))
    await _turn()
    [(_, error)] = seen.outcomes
    assert isinstance(error, ModelError)
    assert error.code == "inference-failed"


async def test_models_do_not_share_slots(seen: Seen, kit: Any) -> None:
    first, second = kit.memory_model(slots=1), kit.memory_model(kit.memory_manifest("other"), slots=1)
    dispatcher = _dispatcher(seen, first, second)
    for model in (first, first, second):
        dispatcher.add(_task(kit, model, 1, 2, 3, 4))
    assert [len(model.runtime.waiting) for model in (first, second)] == [1, 1]
    assert dispatcher.waiting == 1


def _finish(model: ServedModel, *numbers: int) -> None:
    """Let the runtime end these of the inferences that it has been given, by position."""
    for number in sorted(numbers, reverse=True):
        inputs, done = model.runtime.waiting.pop(number)
        done({"y": inputs["x"] * 2}, None)


async def _warm(dispatcher: Dispatcher, model: ServedModel, kit: Any, seen: Seen, seconds: float) -> None:
    """One inference, from which the dispatcher learns how long they take."""
    dispatcher.add(_task(kit, model, 0, 0, 0, 0))
    seen.time += seconds
    model.runtime.run()
    await _turn()


async def test_a_quick_model_is_given_more_than_its_slots(seen: Seen, kit: Any) -> None:
    model = kit.memory_model(slots=2)
    dispatcher = _dispatcher(seen, model)
    await _warm(dispatcher, model, kit, seen, QUICK)
    for _ in range(10):
        dispatcher.add(_task(kit, model, 1, 2, 3, 4))
    assert len(model.runtime.waiting) == 2 + SPARE
    assert dispatcher.waiting == 2


@pytest.mark.parametrize(
    ("ahead", "spare"), [(-1.0, 0), (0.0, 0), (0.99, 0), (1.0, 1), (3.5, 3), (99.0, SPARE)]
)
async def test_how_many_depends_on_the_time_that_one_takes(
    seen: Seen, kit: Any, monkeypatch: pytest.MonkeyPatch, ahead: float, spare: int
) -> None:
    """What waits with the runtime is not looked at again for its deadline, so it must not wait for long."""
    model = kit.memory_model(slots=2)
    dispatcher = _dispatcher(seen, model)
    monkeypatch.setattr("strongroom.worker.dispatch.AHEAD", ahead)
    await _warm(dispatcher, model, kit, seen, 1.0)
    assert seen.shares == [1.0]
    for _ in range(10):
        dispatcher.add(_task(kit, model, 1, 2, 3, 4))
    assert len(model.runtime.waiting) == 2 + spare


async def test_one_whose_requests_are_joined_is_given_no_more(seen: Seen, kit: Any) -> None:
    model = kit.memory_model(slots=1, max_batch=4)
    dispatcher = _dispatcher(seen, model)
    await _warm(dispatcher, model, kit, seen, QUICK)
    for _ in range(5):
        dispatcher.add(_task(kit, model, 1, 2, 3, 4))
    assert len(model.runtime.waiting) == 1
    model.runtime.run()
    await _turn()
    assert model.runtime.sizes == [1, 1, 4]


async def test_tasks_that_are_joined_share_the_time(seen: Seen, kit: Any) -> None:
    model = kit.memory_model(slots=1, max_batch=4)
    dispatcher = _dispatcher(seen, model)
    for _ in range(5):
        dispatcher.add(_task(kit, model, 1, 2, 3, 4))
    for _ in range(2):
        seen.time += 1.0
        _finish(model, 0)
        await _turn()
    assert seen.shares == [1.0, 0.25, 0.25, 0.25, 0.25]


async def test_time_in_the_runtime_is_shared_by_all_that_are_there(seen: Seen, kit: Any) -> None:
    model = kit.memory_model(slots=4)
    dispatcher = _dispatcher(seen, model)
    for _ in range(4):
        dispatcher.add(_task(kit, model, 1, 2, 3, 4))
    seen.time += 1.0
    _finish(model, 0)
    await _turn()
    assert seen.shares == [0.25]


async def test_under_load_outcomes_are_handled_together(seen: Seen, kit: Any) -> None:
    """One stream, five in the runtime: outcomes wait until one more than the stream computes is left."""
    model = kit.memory_model(slots=1)
    dispatcher = _dispatcher(seen, model)
    await _warm(dispatcher, model, kit, seen, QUICK)
    for _ in range(5):
        dispatcher.add(_task(kit, model, 1, 2, 3, 4))
    turns = seen.turns
    for _ in range(2):
        _finish(model, 0)
        await _turn()
        assert (len(seen.outcomes), seen.turns) == (1, turns)
    _finish(model, 0)
    await _turn()
    assert (len(seen.outcomes), seen.turns) == (4, turns + 1)


async def test_an_outcome_never_waits_while_a_core_might(seen: Seen, kit: Any) -> None:
    """One stream and one more inference: nothing waits for it, so the first outcome is handled at once."""
    model = kit.memory_model(slots=1)
    dispatcher = _dispatcher(seen, model)
    await _warm(dispatcher, model, kit, seen, QUICK)
    for _ in range(2):
        dispatcher.add(_task(kit, model, 1, 2, 3, 4))
    _finish(model, 0)
    await _turn()
    assert len(seen.outcomes) == 2
    _finish(model, 0)
    await _turn()
    assert len(seen.outcomes) == 3


async def test_the_outcome_of_a_slow_inference_never_waits(seen: Seen, kit: Any) -> None:
    model = kit.memory_model(slots=1)
    dispatcher = _dispatcher(seen, model)
    await _warm(dispatcher, model, kit, seen, QUICK)
    for _ in range(5):
        dispatcher.add(_task(kit, model, 1, 2, 3, 4))
    seen.time += 5 * AHEAD
    _finish(model, 0)
    await _turn()
    assert len(seen.outcomes) == 2


async def test_with_threads_no_outcome_is_left_behind(seen: Seen, kit: Any) -> None:
    """Many rounds of a few tasks, ended by threads at any moment: each is told of, whatever the order."""
    model = kit.memory_model(slots=3)
    dispatcher = _dispatcher(seen, model)
    lock = threading.Lock()

    def submit(inputs: Any, done: Any) -> None:
        def compute() -> None:
            with lock:
                y = inputs["x"] * 2
            done({"y": y}, None)

        threading.Thread(target=compute).start()

    model.runtime.submit = submit
    tasks = [_task(kit, model, 1, 2, 3, 4) for _ in range(8)]
    for count in range(1, 200):
        seen.outcomes.clear()
        wanted = count % 8 + 1
        for task in tasks[:wanted]:
            dispatcher.add(task)
        async with asyncio.timeout(10):
            while len(seen.outcomes) < wanted:
                await asyncio.sleep(0.0005)
    assert dispatcher.waiting == 0
