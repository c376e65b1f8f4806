from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

import numpy as np
import pytest

from strongroom.codec.bhttp import Framing, Limits, Request, encode_request
from strongroom.crypto.hpke import Kem
from strongroom.crypto.ohttp import Gateway, SealedRequest, seal_request
from strongroom.worker.app import App
from strongroom.worker.core import OHTTP_KEY_PROBLEM, Answer, Core, Task
from strongroom.worker.errors import ROUTE_UNKNOWN, WorkerError

NOW = 1_700_000_000.0
NOW_MS = 1_700_000_000_000


class Clock:
    """Unix time and seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.time = NOW
        self.ticks = 0.0

    def now(self) -> float:
        return self.time

    def clock(self) -> float:
        return self.ticks


@dataclasses.dataclass
class Bench:
    """A core with a model in memory, a client that seals to it, and what the core has reported."""

    core: Core
    sealer: Any
    runtime: Any
    clock: Clock
    reported: list[BaseException]

    def receive(self, sealed: SealedRequest, deadline: int = NOW_MS + 1000) -> Answer | Task:
        return self.core.receive(sealed.data, deadline)

    def task(self, sealed: SealedRequest, deadline: int = NOW_MS + 1000) -> Task:
        step = self.receive(sealed, deadline)
        assert isinstance(step, Task), step
        return step


@pytest.fixture(params=[Kem.X25519_HKDF_SHA256, Kem.MLKEM768_X25519], ids=["classical", "hybrid"])
def bench(kit: Any, request: pytest.FixtureRequest) -> Bench:
    key = kit.gateway_key(kem=request.param)
    model = kit.memory_model(kit.memory_manifest())
    clock, reported = Clock(), []
    core = Core(
        lambda: Gateway([key]), App([model]), now=clock.now, clock=clock.clock, report=reported.append
    )
    return Bench(core, kit.Sealer(key.config), model.runtime, clock, reported)


def _plain(answer: Answer | Task) -> dict[str, Any]:
    assert isinstance(answer, Answer)
    assert answer.content_type == "application/problem+json"
    problem = json.loads(answer.body)
    assert answer.status == problem["status"]
    return problem


def _sealed(kit: Any, request: SealedRequest, answer: Answer | Task | None) -> Any:
    assert isinstance(answer, Answer)
    assert (answer.status, answer.content_type) == (200, "message/ohttp-res")
    return kit.opened(request, answer.body)


def _header(response: Any, name: bytes) -> bytes:
    return dict(response.headers)[name]


def test_a_request_is_opened_computed_and_sealed(bench: Bench, kit: Any) -> None:
    request = bench.sealer.infer("double", kit.x(1, 2, 3, 4))
    task = bench.task(request)
    assert bench.core.prepare(task) is None
    assert task.inputs["x"].tolist() == [[1, 2, 3, 4]]
    assert (task.rows, task.deadline) == (1, NOW_MS + 1000)
    bench.core.start(task)
    answer = bench.core.complete(task, {"y": np.array([[2, 4, 6, 8]], np.float32)})
    response = _sealed(kit, request, answer)
    assert kit.inferred(response).outputs[0].array.tolist() == [[2, 4, 6, 8]]


def test_what_needs_no_model_is_answered_at_once(bench: Bench, kit: Any) -> None:
    request = bench.sealer.seal(Request(b"GET", b"https", b"", b"/v2/health/ready"))
    response = _sealed(kit, request, bench.receive(request))
    assert response.status == 200
    assert json.loads(bytes(response.body)) == {"ready": True}
    assert _header(response, b"strongroom-timing").startswith(b"open;dur=")


def test_both_framings_and_padding_are_taken(bench: Bench, kit: Any) -> None:
    ask = Request(b"GET", b"https", b"", b"/v2/health")
    for message in (
        encode_request(ask, framing=Framing.INDETERMINATE_LENGTH),
        encode_request(ask) + bytes(1000),
    ):
        request = seal_request(bench.sealer.config, None, message)
        assert _sealed(kit, request, bench.receive(request)).status == 200


def test_the_reply_tells_where_the_time_went(bench: Bench, kit: Any) -> None:
    request = bench.sealer.infer("double", kit.x(1, 2, 3, 4))
    task = bench.task(request)
    bench.core.prepare(task)
    bench.clock.ticks += 0.25
    bench.core.start(task)
    bench.clock.ticks += 0.5
    answer = bench.core.complete(task, {"y": np.zeros((1, 4), np.float32)})
    timing = _header(_sealed(kit, request, answer), b"strongroom-timing")
    assert timing == b"open;dur=0.000, decode;dur=0.000, wait;dur=250.000, infer;dur=500.000"


# ---- what cannot be opened


def test_an_unknown_key_says_so_as_rfc_9458_does(bench: Bench, kit: Any) -> None:
    stranger = kit.Sealer(kit.gateway_key(9).config)
    answer = bench.receive(stranger.infer("double", kit.x(1, 2, 3, 4)))
    problem = _plain(answer)
    assert problem["type"] == OHTTP_KEY_PROBLEM
    assert (problem["status"], problem["code"]) == (400, "ohttp-unknown-key")
    assert answer.unknown_key  # type: ignore[union-attr]


def test_another_key_under_the_same_id_is_not_an_unknown_key(bench: Bench, kit: Any) -> None:
    kem = bench.sealer.config.kem
    stranger = kit.Sealer(kit.gateway_key(1, kem).config)
    answer = bench.receive(stranger.infer("double", kit.x(1, 2, 3, 4)))
    assert _plain(answer)["code"] == "ohttp-open-failed"
    assert not answer.unknown_key  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [0, 1, 6, 7, 40, 100])
def test_a_truncated_request_is_answered_in_the_clear(bench: Bench, kit: Any, size: int) -> None:
    data = bench.sealer.infer("double", kit.x(1, 2, 3, 4)).data[:size]
    assert _plain(bench.core.receive(data, NOW_MS + 1000))["code"].startswith("ohttp-")


def test_a_request_over_the_limit_is_not_opened(kit: Any) -> None:
    key = kit.gateway_key()
    core = Core(lambda: Gateway([key], limit=64), App([kit.memory_model()]))
    answer = core.receive(kit.Sealer(key.config).infer("double", kit.x(1, 2, 3, 4)).data, kit.FAR)
    assert _plain(answer)["code"] == "ohttp-oversize"


# ---- what fails inside


def _problem(bench: Bench, kit: Any, request: SealedRequest, deadline: int = NOW_MS + 1000) -> Any:
    step = bench.receive(request, deadline)
    if isinstance(step, Task):
        step = bench.core.prepare(step)
    return _sealed(kit, request, step)


def test_an_inner_error_is_sealed(bench: Bench, kit: Any) -> None:
    response = _problem(bench, kit, bench.sealer.infer("triple", kit.x(1, 2, 3, 4)))
    assert response.status == 404
    assert kit.code(response) == "model-unknown"


def test_a_wrong_shape_is_sealed(bench: Bench, kit: Any) -> None:
    tensor = dataclasses.replace(kit.x(1, 2, 3, 4), shape=(1, 2, 2), array=np.zeros((1, 2, 2), np.float32))
    assert kit.code(_problem(bench, kit, bench.sealer.infer("double", tensor))) == "tensor-shape-mismatch"


@pytest.mark.parametrize("message", [b"", b"\x00", b"\x01\xc8", b"\xff" * 50])
def test_what_is_no_binary_http_request_is_told_so_sealed(bench: Bench, kit: Any, message: bytes) -> None:
    request = seal_request(bench.sealer.config, None, message)
    assert kit.code(_problem(bench, kit, request)).startswith("bhttp-")


def test_a_message_over_the_limit_is_refused(kit: Any) -> None:
    key = kit.gateway_key()
    core = Core(lambda: Gateway([key]), App([kit.memory_model()]), limits=Limits(message=64))
    request = kit.Sealer(key.config).infer("double", kit.x(1, 2, 3, 4))
    response = _sealed(kit, request, core.receive(request.data, kit.FAR))
    assert response.status == 413


def test_an_answer_over_the_limit_becomes_a_problem(kit: Any) -> None:
    key = kit.gateway_key()
    core = Core(lambda: Gateway([key]), App([kit.memory_model()]), max_answer=2000)
    request = kit.Sealer(key.config).infer("double", kit.x(1, 2, 3, 4))
    task = core.receive(request.data, kit.FAR)
    assert isinstance(task, Task)
    core.prepare(task)
    core.start(task)
    response = _sealed(kit, request, core.complete(task, {"y": np.zeros((999, 4), np.float32)}))
    assert kit.code(response) == "ohttp-oversize"


def test_a_refusal_of_the_model_is_sealed(bench: Bench, kit: Any) -> None:
    request = bench.sealer.infer("double", kit.x(1, 2, 3, 4))
    answer = bench.core.refuse(bench.task(request), WorkerError(ROUTE_UNKNOWN))
    assert kit.code(_sealed(kit, request, answer)) == "route-unknown"


def test_a_bug_is_answered_without_a_word_and_reported(bench: Bench, kit: Any) -> None:
    request = bench.sealer.infer("double", kit.x(1, 2, 3, 4))
    task = bench.task(request)
    answer = bench.core.refuse(task, KeyError("a patient's name"))
    response = _sealed(kit, request, answer)
    assert kit.code(response) == "internal-error"
    assert b"patient" not in bytes(response.body)
    assert [type(error) for error in bench.reported] == [KeyError]


def test_a_missing_output_is_our_bug(bench: Bench, kit: Any) -> None:
    request = bench.sealer.infer("double", kit.x(1, 2, 3, 4))
    task = bench.task(request)
    response = _sealed(kit, request, bench.core.complete(task, {}))
    assert kit.code(response) == "internal-error"
    assert len(bench.reported) == 1


def test_a_failing_gateway_harms_one_request_only(kit: Any) -> None:
    key = kit.gateway_key()
    reported: list[BaseException] = []

    def gateway() -> Gateway:
        raise RuntimeError("a canary")

    core = Core(gateway, App([kit.memory_model()]), report=reported.append)
    answer = core.receive(kit.Sealer(key.config).infer("double", kit.x(1, 2, 3, 4)).data, kit.FAR)
    assert _plain(answer)["code"] == "internal-error"
    assert b"canary" not in answer.body  # type: ignore[union-attr]
    assert len(reported) == 1


# ---- deadlines


def _timed(bench: Bench, kit: Any, inner: bytes | None) -> SealedRequest:
    headers = () if inner is None else ((b"strongroom-deadline", inner),)
    return bench.sealer.infer("double", kit.x(1, 2, 3, 4), headers=headers)


@pytest.mark.parametrize(
    ("inner", "outer", "code"),
    [
        (None, NOW_MS + 1, None),
        (None, NOW_MS, "deadline-exceeded"),
        (b"1700000000001", NOW_MS + 1, None),
        (b"1700000005000", NOW_MS + 1, None),
        (b"1700000005000", NOW_MS, "deadline-exceeded"),
        (b"1700000000000", NOW_MS, "deadline-exceeded"),
        (b"1700000000500", NOW_MS + 501, "deadline-mismatch"),
        (b"0", NOW_MS + 1, "deadline-mismatch"),
        (b"", NOW_MS + 1, "deadline-invalid"),
        (b"soon", NOW_MS + 1, "deadline-invalid"),
        (b"-1", NOW_MS + 1, "deadline-invalid"),
        (b"1.7e12", NOW_MS + 1, "deadline-invalid"),
        (b"9" * 16, NOW_MS + 1, "deadline-invalid"),
    ],
)
def test_deadlines(bench: Bench, kit: Any, inner: bytes | None, outer: int, code: str | None) -> None:
    request = _timed(bench, kit, inner)
    step = bench.receive(request, outer)
    if code is None:
        assert isinstance(step, Task)
        assert step.deadline == outer
    else:
        assert kit.code(_sealed(kit, request, step)) == code


def test_two_deadlines_are_one_too_many(bench: Bench, kit: Any) -> None:
    twice = ((b"strongroom-deadline", b"1700000005000"),) * 2
    request = bench.sealer.infer("double", kit.x(1, 2, 3, 4), headers=twice)
    assert kit.code(_sealed(kit, request, bench.receive(request))) == "field-repeated"


def test_a_request_that_expires_before_it_is_decoded_is_not_decoded(bench: Bench, kit: Any) -> None:
    request = _timed(bench, kit, None)
    task = bench.task(request, NOW_MS + 100)
    bench.clock.time += 0.2
    response = _sealed(kit, request, bench.core.prepare(task))
    assert response.status == 504
    assert kit.code(response) == "deadline-exceeded"


def test_an_expired_task_is_told_so(bench: Bench, kit: Any) -> None:
    request = _timed(bench, kit, None)
    response = _sealed(kit, request, bench.core.expire(bench.task(request)))
    assert kit.code(response) == "deadline-exceeded"


# ---- the same request twice


def test_a_second_answer_to_one_request_has_another_nonce(bench: Bench, kit: Any) -> None:
    request = bench.sealer.seal(Request(b"GET", b"https", b"", b"/v2/health"))
    first, second = bench.receive(request), bench.receive(request)
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert first.body[:32] != second.body[:32]
    assert _sealed(kit, request, first).body == _sealed(kit, request, second).body


# ---- mutants


@pytest.mark.slow
def test_mutants_never_raise(kit: Any) -> None:
    """20,000 inputs: changed sealed messages, binary HTTP messages and inference requests."""
    rng = random.Random(20260802)
    key = kit.gateway_key()
    reported: list[BaseException] = []
    core = Core(lambda: Gateway([key]), App([kit.memory_model()]), report=reported.append)
    good = kit.infer_request("double", kit.x(1, 2, 3, 4), headers=((b"strongroom-deadline", b"9" * 15),))
    message, sealed = encode_request(good), kit.Sealer(key.config).seal(good).data
    tasks = answers = 0
    for turn in range(20_000):
        kind = turn % 10
        if kind < 2:
            data = _mutated(rng, sealed)
        elif kind < 6:
            data = seal_request(key.config, None, _mutated(rng, message)).data
        else:
            body = _mutated(rng, bytes(good.body))
            data = seal_request(key.config, None, encode_request(dataclasses.replace(good, body=body))).data
        step = core.receive(data, kit.FAR)
        if isinstance(step, Task) and (step := core.prepare(step) or step) and isinstance(step, Task):
            tasks += 1
        else:
            assert isinstance(step, Answer)
            answers += 1
    assert reported == []
    assert tasks + answers == 20_000
    assert tasks > 500
    assert answers > 5000


def _mutated(rng: random.Random, data: bytes) -> bytes:
    raw = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(raw))
        match rng.randrange(4):
            case 0:
                raw[at] ^= 1 << rng.randrange(8)
            case 1:
                raw[at] = rng.randrange(256)
            case 2:
                del raw[at : at + rng.randint(1, 4)]
            case _:
                raw[at:at] = rng.randbytes(rng.randint(1, 4))
        if not raw:
            return b""
    return bytes(raw)
