from __future__ import annotations

import inspect
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strongroom.errors import ModelError
from strongroom.models.bundle import Bundle, write_bundle
from strongroom.models.manifest import TensorSpec
from strongroom.models.openvino_runtime import OpenVinoRuntime
from strongroom.models.preprocess import parse_preprocess
from strongroom.models.quiet_openvino import CORE, op, ov
from strongroom.models.runtime import Runtime
from strongroom.models.tensors import Tensors

BundleOf = Callable[..., Bundle]
Start = Callable[..., OpenVinoRuntime]
Infer = Callable[[Runtime, Tensors], Tensors]


def fragile() -> ov.Model:
    """Gives half of its input back; an odd number of elements makes it fail while it runs."""
    x = op.parameter([-1], np.float32, name="x")
    rows = op.reshape(x, op.constant(np.array([2, -1])), special_zero=False)
    model = ov.Model([op.result(rows)], [x])
    model.inputs[0].tensor.set_names({"x"})
    model.outputs[0].tensor.set_names({"y"})
    return model


def two_inputs() -> ov.Model:
    a, b = op.parameter([-1, 2], np.float32, name="a"), op.parameter([-1, 2], np.float32, name="b")
    model = ov.Model([op.result(op.add(a, b)), op.result(op.subtract(a, b))], [a, b])
    for port, name in zip((*model.inputs, *model.outputs), ("a", "b", "sum", "difference"), strict=True):
        port.tensor.set_names({name})
    return model


def refusal(infer: Infer, runtime: Runtime, inputs: Tensors) -> str:
    with pytest.raises(ModelError) as caught:
        infer(runtime, inputs)
    return caught.value.code


@pytest.mark.parametrize("max_batch", [0, 1, 3, 100])
@pytest.mark.parametrize("items", [1, 2, 7])
def test_every_way_of_batching_gives_the_same(
    max_batch: int, items: int, graphs: Any, bundle_of: BundleOf, start: Start, infer: Infer
) -> None:
    runtime = start(bundle_of(graphs.mlp(3), max_batch=max_batch))
    x = np.random.default_rng(items).random((items, 256), np.float32)
    wanted = CORE.compile_model(graphs.mlp(3), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])[0]
    found = infer(runtime, {"x": x})
    assert list(found) == ["y"]
    assert np.allclose(found["y"], wanted, rtol=1e-4, atol=1e-5)
    assert runtime.max_batch == max_batch


def test_it_is_a_runtime_of_the_protocol(graphs: Any, bundle_of: BundleOf, start: Start) -> None:
    runtime: Runtime = start(bundle_of(graphs.mlp(), max_batch=1), streams=2)
    assert runtime.inputs == (TensorSpec("x", "FP32", (-1, 256)),)
    assert runtime.outputs == (TensorSpec("y", "FP32", (-1, 10)),)
    assert runtime.streams == 2
    assert runtime.slots >= runtime.streams
    for name, member in inspect.getmembers(Runtime, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(member) == inspect.signature(getattr(OpenVinoRuntime, name))


def test_threads_limit_the_cores(graphs: Any, bundle_of: BundleOf, start: Start) -> None:
    assert start(bundle_of(graphs.mlp(), max_batch=1), threads=1).streams == 1


def test_float32_is_kept_unless_speed_is_asked_for(
    graphs: Any, bundle_of: BundleOf, start: Start, infer: Infer
) -> None:
    x = np.random.default_rng(0).random((1, 64), np.float32)
    exact = infer(start(bundle_of(graphs.echo((-1, 64)))), {"x": x})["y"]
    assert exact.tobytes() == x.tobytes()
    fast = infer(start(bundle_of(graphs.echo((-1, 64))), precision="auto"), {"x": x})["y"]
    assert np.allclose(fast, x, rtol=1e-2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.bool_])
def test_echo_gives_every_bit_back(
    dtype: Any, graphs: Any, bundle_of: BundleOf, start: Start, infer: Infer
) -> None:
    runtime = start(bundle_of(graphs.echo((-1, 5), dtype), max_batch=1))
    x = np.random.default_rng(0).integers(0, 2 if dtype is np.bool_ else 200, (4, 5)).astype(dtype)
    found = infer(runtime, {"x": x})["y"]
    assert found.dtype == x.dtype
    assert np.array_equal(found, x)


def test_inputs_may_be_read_only_unaligned_or_strided(
    graphs: Any, bundle_of: BundleOf, start: Start, infer: Infer
) -> None:
    runtime = start(bundle_of(graphs.echo((-1, 3)), max_batch=1))
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    body = b"?" + values.tobytes()
    unaligned = np.frombuffer(body, np.uint8)[1:].view(np.float32).reshape(4, 3)
    assert not unaligned.flags.aligned
    assert not unaligned.flags.writeable
    assert np.array_equal(infer(runtime, {"x": unaligned})["y"], values)
    strided = np.asfortranarray(values)
    assert np.array_equal(infer(runtime, {"x": strided})["y"], values)


def test_scalars_go_through(bundle_of: BundleOf, start: Start, infer: Infer) -> None:
    x = op.parameter([], np.float32, name="x")
    model = ov.Model([op.result(op.relu(x))], [x])
    model.inputs[0].tensor.set_names({"x"})
    model.outputs[0].tensor.set_names({"y"})
    assert infer(start(bundle_of(model)), {"x": np.array(2.5, np.float32)})["y"] == 2.5


def test_several_inputs_and_outputs_go_by_name(bundle_of: BundleOf, start: Start, infer: Infer) -> None:
    runtime = start(bundle_of(two_inputs(), max_batch=2))
    a, b = np.full((5, 2), 3, np.float32), np.full((5, 2), 1, np.float32)
    found = infer(runtime, {"b": b, "a": a})
    assert np.all(found["sum"] == 4)
    assert np.all(found["difference"] == 2)


def test_inputs_of_different_numbers_of_items_are_refused(
    bundle_of: BundleOf, start: Start, infer: Infer
) -> None:
    runtime = start(bundle_of(two_inputs(), max_batch=1))
    inputs = {"a": np.zeros((2, 2), np.float32), "b": np.zeros((1, 2), np.float32)}
    assert refusal(infer, runtime, inputs) == "tensor-shape-mismatch"


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({}, "tensor-missing"),
        ({"z": np.zeros((1, 256), np.float32)}, "tensor-missing"),
        ({"x": np.zeros((1, 256), np.float32), "z": np.zeros(1)}, "tensor-unexpected"),
        ({"x": np.zeros((1, 256))}, "tensor-dtype-mismatch"),
        ({"x": np.zeros((1, 255), np.float32)}, "tensor-shape-mismatch"),
        ({"x": np.zeros((0, 256), np.float32)}, "tensor-shape-mismatch"),
        ({"x": np.zeros(256, np.float32)}, "tensor-shape-mismatch"),
    ],
)
def test_wrong_inputs_go_to_their_own_callback(
    inputs: Tensors, code: str, graphs: Any, bundle_of: BundleOf, start: Start, infer: Infer
) -> None:
    runtime = start(bundle_of(graphs.mlp(), max_batch=1))
    assert refusal(infer, runtime, inputs) == code
    with pytest.raises(ModelError) as caught:
        runtime.check(inputs)
    assert caught.value.code == code
    assert infer(runtime, {"x": np.zeros((1, 256), np.float32)})["y"].shape == (1, 10)


def test_a_failing_inference_is_answered_and_disturbs_nobody(
    bundle_of: BundleOf, start: Start, infer: Infer
) -> None:
    runtime = start(bundle_of(fragile()))
    for _ in range(20):
        with pytest.raises(ModelError) as caught:
            infer(runtime, {"x": np.full(5, 42.125, np.float32)})
        assert caught.value.code == "inference-failed"
        assert "42.125" not in str(caught.value)
        assert infer(runtime, {"x": np.arange(4, dtype=np.float32)})["y"].tolist() == [[0, 1], [2, 3]]


class Unreadable(dict[str, np.ndarray[Any, Any]]):
    """Inputs that a slot's thread cannot read."""

    def __init__(self, array: np.ndarray[Any, Any], error: type[Exception]) -> None:
        super().__init__(x=array)
        self._error = error

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        if threading.current_thread().name.startswith("slot-"):
            raise self._error("42.125")
        return super().__getitem__(name)


@pytest.mark.parametrize("error", [MemoryError, ValueError, TypeError, KeyError, OSError])
def test_no_exception_ends_a_slot_or_leaves_a_call_unanswered(
    graphs: Any, bundle_of: BundleOf, start: Start, infer: Infer, error: type[Exception]
) -> None:
    runtime = start(bundle_of(graphs.echo((-1, 4)), max_batch=1), streams=1)
    answers = queue.SimpleQueue[Any]()
    count = 2 * runtime.slots
    for _ in range(count):
        runtime.submit(
            Unreadable(np.zeros((3, 4), np.float32), error), lambda outputs, error: answers.put(error)
        )
    found = [answers.get(timeout=10) for _ in range(count)]
    assert {refused.code for refused in found} == {"inference-failed"}
    assert "42.125" not in str(found)
    assert infer(runtime, {"x": np.ones((1, 4), np.float32)})["y"].sum() == 4
    assert answers.empty(), "answered twice"


def test_an_exception_while_outputs_are_copied_is_answered_too(
    graphs: Any, bundle_of: BundleOf, start: Start, infer: Infer, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, copy = start(bundle_of(graphs.echo((-1, 4)), max_batch=1), streams=1), np.array

    def no_room(*args: Any, **options: Any) -> Any:
        if threading.current_thread().name.startswith("slot-"):
            raise TypeError
        return copy(*args, **options)

    answers = queue.SimpleQueue[Any]()
    with monkeypatch.context() as patch:
        patch.setattr(np, "array", no_room)
        for _ in range(2 * runtime.slots):
            runtime.submit({"x": np.zeros((1, 4), np.float32)}, lambda outputs, error: answers.put(error))
        for _ in range(2 * runtime.slots):
            assert answers.get(timeout=10).code == "inference-failed"
    assert infer(runtime, {"x": np.ones((1, 4), np.float32)})["y"].sum() == 4


def test_preprocessing_is_part_of_the_graph(
    graphs: Any, bundle_of: BundleOf, start: Start, infer: Infer
) -> None:
    bundle = bundle_of(
        graphs.echo((-1, 3, 4, 4)),
        preprocess=parse_preprocess("input=x,crop=4,mean=10,scale=2"),
        inputs=(TensorSpec("x", "UINT8", (-1, 4, 4, 3)),),
        outputs=(TensorSpec("y", "FP32", (-1, 3, 4, 4)),),
        max_batch=1,
    )
    pictures = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
    found = infer(start(bundle), {"x": pictures})["y"]
    assert np.allclose(found.transpose(0, 2, 3, 1), (pictures.astype(np.float32) - 10) / 2)


def test_submit_does_not_wait(graphs: Any, bundle_of: BundleOf, start: Start) -> None:
    """Many more requests than slots are taken while the first completion is held back."""
    runtime = start(bundle_of(graphs.echo((-1, 4)), max_batch=1), streams=1)
    gate, answers = threading.Event(), queue.SimpleQueue[Any]()

    def hold(outputs: Any, error: Any) -> None:
        gate.wait(timeout=30)
        answers.put((outputs, error))

    for number in range(50):
        runtime.submit({"x": np.full((1, 4), number, np.float32)}, hold)
    assert answers.empty()
    gate.set()
    found = sorted(float(answers.get(timeout=30)[0]["y"][0, 0]) for _ in range(50))
    assert found == [float(number) for number in range(50)]


def test_callbacks_come_from_the_runtimes_threads(graphs: Any, bundle_of: BundleOf, start: Start) -> None:
    runtime = start(bundle_of(graphs.echo((-1, 4)), max_batch=1))
    names = queue.SimpleQueue[str]()
    runtime.submit({"x": np.zeros((1, 4), np.float32)}, lambda *_: names.put(threading.current_thread().name))
    assert names.get(timeout=30).startswith("slot-")


def test_a_callback_that_raises_does_not_stop_the_runtime(
    graphs: Any, bundle_of: BundleOf, start: Start, infer: Infer
) -> None:
    runtime = start(bundle_of(graphs.echo((-1, 4)), max_batch=1))

    def bad(outputs: object, error: object) -> None:
        raise RuntimeError

    for _ in range(3 * runtime.slots):
        runtime.submit({"x": np.zeros((1, 4), np.float32)}, bad)
    assert infer(runtime, {"x": np.ones((1, 4), np.float32)})["y"].sum() == 4


def test_what_waits_is_bounded(graphs: Any, bundle_of: BundleOf, start: Start, infer: Infer) -> None:
    runtime = start(bundle_of(graphs.echo((-1, 4)), max_batch=1), streams=1, waiting=5)
    assert refusal(infer, runtime, {"x": np.zeros((6, 4), np.float32)}) == "runtime-busy"
    assert infer(runtime, {"x": np.zeros((5, 4), np.float32)})["y"].shape == (5, 4)
    gate, codes = threading.Event(), queue.SimpleQueue[str]()

    def done(outputs: Any, error: Any) -> None:
        if error is None:
            gate.wait(timeout=30)
        codes.put(error.code if error else "")

    count = runtime.slots + 20
    for _ in range(count):
        runtime.submit({"x": np.zeros((1, 4), np.float32)}, done)
    gate.set()
    found = [codes.get(timeout=30) for _ in range(count)]
    assert "runtime-busy" in found
    assert found.count("") >= 5


def test_close_waits_for_what_runs_and_refuses_the_rest(graphs: Any, bundle_of: BundleOf) -> None:
    runtime = OpenVinoRuntime(bundle_of(graphs.echo((-1, 4)), max_batch=1), streams=1)
    begun, gate, codes = threading.Event(), threading.Event(), queue.SimpleQueue[str]()

    def done(outputs: Any, error: Any) -> None:
        if error is None:
            begun.set()
            gate.wait(timeout=30)
        codes.put(error.code if error else "")

    for _ in range(20):
        runtime.submit({"x": np.zeros((1, 4), np.float32)}, done)
    assert begun.wait(timeout=30)
    closing = threading.Thread(target=runtime.close)
    closing.start()
    while codes.empty():  # refusals come first: what runs is held at the gate
        closing.join(timeout=0.01)
    gate.set()
    closing.join(timeout=30)
    assert not closing.is_alive()
    found = [codes.get(timeout=1) for _ in range(20)]
    assert set(found) == {"", "runtime-closed"}
    assert 1 <= found.count("") <= runtime.slots
    runtime.submit({"x": np.zeros((1, 4), np.float32)}, done)
    assert codes.get(timeout=1) == "runtime-closed"
    runtime.close()


def test_a_request_of_which_one_part_fails_is_answered_once(
    bundle_of: BundleOf, start: Start, infer: Infer
) -> None:
    runtime = start(bundle_of(fragile_rows(), max_batch=1))
    assert refusal(infer, runtime, {"x": np.zeros((40, 3), np.float32)}) == "inference-failed"
    assert infer(runtime, {"x": np.zeros((40, 4), np.float32)})["y"].shape == (40, 2, 2)


def fragile_rows() -> ov.Model:
    """[n, k] to [n, 2, k/2]; an odd k makes it fail while it runs."""
    x = op.parameter([-1, -1], np.float32, name="x")
    rows = op.reshape(x, op.constant(np.array([0, 2, -1])), special_zero=True)
    model = ov.Model([op.result(rows)], [x])
    model.inputs[0].tensor.set_names({"x"})
    model.outputs[0].tensor.set_names({"y"})
    return model


def test_nothing_is_written_to_disk(graphs: Any, bundle_of: BundleOf, tmp_path: Path) -> None:
    """A process whose home, temporary and working folder are empty leaves them empty."""
    bundle = bundle_of(graphs.mlp())
    empty = tmp_path / "empty"
    empty.mkdir()
    code = (
        "import sys, threading, numpy as np\n"
        "from strongroom.models.bundle import read_bundle\n"
        "from strongroom.models.openvino_runtime import OpenVinoRuntime\n"
        "runtime = OpenVinoRuntime(read_bundle(sys.stdin.buffer.read()))\n"
        "event = threading.Event()\n"
        "done = lambda outputs, error: (print(outputs['y'].shape), event.set())\n"
        "runtime.submit({'x': np.zeros((3, 256), np.float32)}, done)\n"
        "assert event.wait(30)\n"
        "runtime.close()\n"
    )
    environment = {**os.environ, "HOME": str(empty), "TMPDIR": str(empty), "XDG_CACHE_HOME": str(empty)}
    shown = subprocess.run(
        [sys.executable, "-c", code],
        input=write_bundle(bundle.manifest, bundle.files),
        cwd=empty,
        env=environment,
        capture_output=True,
        check=True,
    )
    assert shown.stdout == b"(3, 10)\n"
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("max_batch", [1, 4])
def test_answers_stay_right_under_load_from_many_threads(
    max_batch: int, graphs: Any, bundle_of: BundleOf, start: Start
) -> None:
    runtime = start(bundle_of(graphs.echo((-1, 16)), max_batch=max_batch))
    answers = queue.SimpleQueue[bool]()

    def ask(number: int) -> None:
        rng = np.random.default_rng(number)
        for _ in range(50):
            x = rng.random((int(rng.integers(1, 9)), 16), np.float32)
            runtime.submit(
                {"x": x},
                lambda outputs, _, x=x: answers.put(outputs is not None and np.array_equal(outputs["y"], x)),
            )

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    assert all(answers.get(timeout=60) for _ in range(300))
    for thread in threads:
        thread.join()
