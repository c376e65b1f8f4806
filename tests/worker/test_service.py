from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from strongroom.codec.bhttp import Request, Response
from strongroom.codec.oip import Tensor
from strongroom.crypto.ohttp import Gateway, GatewayKey, SealedRequest, seal_request
from strongroom.errors import EvidenceError
from strongroom.models.bundle import read_bundle
from strongroom.models.openvino_runtime import OpenVinoRuntime
from strongroom.queue.connect import connect
from strongroom.queue.consumer import WorkQueue
from strongroom.queue.producer import ReplyReader, RequestQueue
from strongroom.queue.records import Reply, SealedRecord
from strongroom.queue.valkey import EmbeddedValkey
from strongroom.worker.app import App
from strongroom.worker.core import OHTTP_KEY_PROBLEM, Core
from strongroom.worker.inference import ServedModel
from strongroom.worker.logging import Journal
from strongroom.worker.pace import Pace
from strongroom.worker.quoter import QUOTE_REFUSED
from strongroom.worker.service import INLINE_BYTES, MAX_PARKED, MAX_PARKED_SECONDS, Control, Service

_services = itertools.count()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("q")) as server:
        yield server


@dataclass
class Bench:
    """A service on a real queue, and a front end beside it."""

    kit: Any
    url: str
    name: str
    keys: list[GatewayKey]
    models: Sequence[ServedModel]
    front: RequestQueue
    replies: ReplyReader
    sealer: Any
    limit: int = 64
    slots: int = 0
    skew: float = 0.0
    claim_after: float = 10.0
    lines: list[bytes] = field(default_factory=list)
    waiting: dict[str, asyncio.Future[Reply]] = field(default_factory=dict)
    service: Service | None = None
    evidence: Callable[[bytes], Awaitable[bytes]] | None = None
    refresh: Callable[[], Awaitable[bool]] | None = None
    _ids: Iterator[int] = field(default_factory=itertools.count)

    def queue(self, consumer: str) -> tuple[Any, WorkQueue]:
        client = connect(self.url)
        return client, WorkQueue(
            client, self.name, 0, consumer, claim_after_ms=round(self.claim_after * 1000)
        )

    @asynccontextmanager
    async def serving(self, *, drain: float = 10.0) -> AsyncIterator[asyncio.Event]:
        """Serve while the context is open; the event stops it before that."""
        stop = asyncio.Event()
        client, queue = self.queue("worker-0")
        core = Core(
            lambda: Gateway(self.keys),
            App(self.models),
            now=lambda: time.time() + self.skew,
            report=lambda error: Journal(self.lines.append).failure("internal", error),
        )
        with ThreadPoolExecutor(2) as pool:
            self.service = Service(
                core,
                self.models,
                queue,
                Control(self.evidence or _no_evidence, self.refresh or _nothing_newer),
                pace=Pace(slots=self.slots or sum(m.runtime.slots for m in self.models), limit=self.limit),
                pool=pool,
                journal=Journal(self.lines.append),
                claim_after=self.claim_after,
            )
            await queue.start()
            running = asyncio.create_task(self.service.run(stop, drain=drain))
            try:
                yield stop
            finally:
                stop.set()
                await running
                await queue.aclose()
                await client.aclose()

    async def send(
        self, sealed: SealedRequest | bytes, *, key: str = "01", deadline: int | None = None
    ) -> Any:
        """Submit a request; returns the future of its reply."""
        name = f"r{next(self._ids)}"
        self.waiting[name] = asyncio.get_running_loop().create_future()
        data = sealed if isinstance(sealed, bytes) else sealed.data
        record = SealedRecord(name, key, data, "front", self.kit.FAR if deadline is None else deadline)
        await self.front.submit(record)
        return self.waiting[name]

    async def ask(self, sealed: SealedRequest, **options: Any) -> Response:
        reply = await asyncio.wait_for(await self.send(sealed, **options), 30)
        assert (reply.status, reply.content_type) == (200, "message/ohttp-res")
        return self.kit.opened(sealed, reply.body)

    async def read(self) -> None:
        async for reply in self.replies:
            future = self.waiting.pop(reply.id)
            assert not future.done(), "answered twice"
            future.set_result(reply)


async def _no_evidence(_nonce: bytes) -> bytes:
    raise EvidenceError(QUOTE_REFUSED)


async def _nothing_newer() -> bool:
    return False


Start = Callable[..., Bench]


@pytest.fixture
async def start(kit: Any, valkey: EmbeddedValkey) -> AsyncIterator[Start]:
    """Makes a bench for the models given."""
    async with AsyncExitStack() as stack:

        def make(*models: ServedModel, server: EmbeddedValkey = valkey, **options: Any) -> Bench:
            name = f"service-{next(_services)}"
            client = connect(server.url)
            stack.push_async_callback(client.aclose)
            replies = ReplyReader(client, name, "front")
            stack.push_async_callback(replies.aclose)
            key = kit.gateway_key()
            front = RequestQueue(client, name, max_length=10_000)
            sealer = kit.Sealer(key.config)
            bench = Bench(kit, server.url, name, [key], models, front, replies, sealer, **options)
            reading = asyncio.create_task(bench.read())
            stack.callback(reading.cancel)
            return bench

        yield make


def _loaded(stack: list[OpenVinoRuntime], tar: bytes) -> ServedModel:
    bundle = read_bundle(tar)
    runtime = OpenVinoRuntime(bundle)
    stack.append(runtime)
    return ServedModel.of(bundle, runtime)


@pytest.fixture
def load() -> Iterator[Callable[[bytes], ServedModel]]:
    runtimes: list[OpenVinoRuntime] = []
    yield lambda tar: _loaded(runtimes, tar)
    for runtime in runtimes:
        runtime.close()


async def _sent(bench: Bench, count: int, **options: Any) -> list[tuple[SealedRequest, Any]]:
    sealed = [
        bench.sealer.infer(bench.models[0].name, bench.kit.x(n, n, n, n), **options) for n in range(count)
    ]
    return [(each, await bench.send(each)) for each in sealed]


async def _values(bench: Bench, sent: list[tuple[SealedRequest, Any]]) -> list[float]:
    values = []
    for sealed, future in sent:
        reply = await asyncio.wait_for(future, 30)
        response = bench.kit.opened(sealed, reply.body)
        values.append(float(bench.kit.inferred(response).outputs[0].array[0, 0]))
    return values


async def _held(bench: Bench, count: int) -> None:
    """Wait until the service holds so many, which the queue's own view confirms."""
    assert bench.service is not None
    async with asyncio.timeout(30):
        while bench.service.held != count:
            await asyncio.sleep(0)


# ---- serving


async def test_requests_are_answered_by_a_real_model(start: Start, load: Any, double_tar: bytes) -> None:
    bench = start(load(double_tar))
    async with bench.serving():
        assert await _values(bench, await _sent(bench, 50)) == [2.0 * n for n in range(50)]
    assert bench.service is not None
    counters = bench.service.counters
    assert (counters.taken, counters.answered, counters.outrun) == (50, 50, 0)
    assert (counters.failed, counters.unopenable, counters.expired) == (0, 0, 0)


async def test_a_batching_model_gives_each_its_own(start: Start, load: Any, batched_tar: bytes) -> None:
    bench = start(load(batched_tar))
    async with bench.serving():
        assert await _values(bench, await _sent(bench, 200)) == [2.0 * n for n in range(200)]


async def test_pictures_are_classified_and_labelled(start: Start, load: Any, picture_tar: bytes) -> None:
    bench = start(load(picture_tar))
    async with bench.serving():
        for kind in ("JPEG", "PNG"):
            data = [bench.kit.picture(color, kind) for color in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
            response = await bench.ask(bench.sealer.infer("picture", bench.kit.pictures(*data)))
            labels = bench.kit.inferred(response).parameters["labels"]
            assert [best[0]["name"] for best in labels] == ["red", "green", "blue"]
            timing = dict(response.headers)[b"strongroom-timing"]
            assert [part.split(b";")[0] for part in timing.split(b", ")] == [
                b"open",
                b"decode",
                b"wait",
                b"infer",
            ]


async def test_several_models_and_routes_side_by_side(
    start: Start, load: Any, double_tar: bytes, picture_tar: bytes
) -> None:
    bench = start(load(double_tar), load(picture_tar))
    async with bench.serving():
        for model in ("double", "picture"):
            ask = Request(b"GET", b"https", b"", f"/v2/models/{model}/ready".encode())
            assert (await bench.ask(bench.sealer.seal(ask))).status == 200
        health = await bench.ask(bench.sealer.seal(Request(b"GET", b"https", b"", b"/v2/health/live")))
        assert json.loads(bytes(health.body)) == {"live": True}
        assert await _values(bench, await _sent(bench, 5)) == [0, 2, 4, 6, 8]


async def test_large_requests_and_answers_take_the_other_way(start: Start, kit: Any) -> None:
    """Above INLINE_BYTES both are handled in the pool."""
    model = kit.memory_model(slots=4)
    model.runtime.immediate = True
    bench = start(model)
    rows = INLINE_BYTES // 16 + 1
    large = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    manifest_limit = 4096
    assert rows > manifest_limit
    model.runtime.max_batch = 0  # no batch axis, so that any number of rows is one item
    async with bench.serving():
        sealed = bench.sealer.infer("double", Tensor.from_array("x", large))
        assert len(sealed.data) > INLINE_BYTES
        answer = bench.kit.inferred(await bench.ask(sealed))
    assert np.array_equal(answer.outputs[0].array, 2 * large)


# ---- poison


def _poison(bench: Bench, kit: Any) -> dict[str, tuple[SealedRequest | bytes, str]]:
    """One bad request of each kind, with its code. Bytes are answered in the clear, the others sealed."""
    x, sealer = kit.x(1, 2, 3, 4), bench.sealer
    stranger = kit.Sealer(kit.gateway_key(77).config)
    same_id = kit.Sealer(kit.gateway_key(1).config)
    wide = Tensor.from_array("x", np.zeros((1, 5), np.float32))
    double = Tensor.from_array("x", np.zeros((1, 4), np.float64))
    past = ((b"strongroom-deadline", b"1000"),)
    soon = ((b"strongroom-deadline", b"soon"),)
    return {
        "unknown key": (stranger.infer("batched", x).data, "ohttp-unknown-key"),
        "wrong key": (same_id.infer("batched", x).data, "ohttp-open-failed"),
        "truncated": (sealer.infer("batched", x).data[:-5], "ohttp-open-failed"),
        "nothing": (b"", "ohttp-malformed"),
        "no binary HTTP": (seal_request(sealer.config, None, b"\x09nonsense"), "bhttp-framing-unknown"),
        "no route": (sealer.seal(Request(b"GET", b"https", b"", b"/etc/passwd")), "route-unknown"),
        "no model": (sealer.infer("triple", x), "model-unknown"),
        "no JSON": (
            sealer.seal(Request(b"POST", b"https", b"", b"/v2/models/batched/infer", (), b"{")),
            "oip-invalid",
        ),
        "wrong shape": (sealer.infer("batched", wide), "tensor-shape-mismatch"),
        "wrong datatype": (sealer.infer("batched", double), "tensor-dtype-mismatch"),
        "no input": (sealer.infer("batched"), "tensor-missing"),
        "broken picture": (
            sealer.infer("picture", kit.pictures(kit.picture((1, 2, 3))[:-200])),
            "image-broken",
        ),
        "no picture": (sealer.infer("picture", kit.pictures(b"text")), "image-format-unsupported"),
        "deadline changed": (sealer.infer("batched", x, headers=past), "deadline-mismatch"),
        "no deadline": (sealer.infer("batched", x, headers=soon), "deadline-invalid"),
    }


async def test_ten_bad_requests_of_each_kind_do_not_disturb_the_good(
    start: Start, load: Any, kit: Any, batched_tar: bytes, picture_tar: bytes
) -> None:
    bench = start(load(batched_tar), load(picture_tar))
    poison = _poison(bench, kit)
    bad: list[tuple[str, SealedRequest | bytes, Any]] = []
    good: list[tuple[SealedRequest, Any]] = []
    async with bench.serving():
        for _ in range(10):
            for kind, (sealed, _) in poison.items():
                bad.append((kind, sealed, await bench.send(sealed)))
                number = len(good)
                sealed_good = bench.sealer.infer("batched", kit.x(*[number] * 4))
                good.append((sealed_good, await bench.send(sealed_good)))
        assert await _values(bench, good) == [2.0 * n for n in range(len(good))]
        for kind, sealed, future in bad:
            reply = await asyncio.wait_for(future, 30)
            if isinstance(sealed, bytes):
                assert reply.content_type == "application/problem+json"
                found = json.loads(reply.body)["code"]
            else:
                assert reply.status == 200
                found = kit.code(kit.opened(sealed, reply.body))
            assert found == poison[kind][1], kind
    assert len(bad) == 10 * len(poison) == 150
    assert bench.service is not None
    assert bench.service.counters.unopenable == 40
    assert bench.service.counters.failed == 110
    assert b"internal" not in b"".join(bench.lines)


async def test_a_poisoned_member_fails_alone_and_its_batch_is_computed_again(start: Start, kit: Any) -> None:
    """A NaN makes the model fail on whatever batch it is in; ten of them among thirty good ones."""
    model = kit.memory_model(slots=2, max_batch=8)
    model.runtime.immediate = True
    bench = start(model)
    good: list[tuple[SealedRequest, Any]] = []
    bad: list[tuple[SealedRequest, Any]] = []
    async with bench.serving():
        for number in range(30):
            sealed = bench.sealer.infer("double", kit.x(*[number] * 4))
            good.append((sealed, await bench.send(sealed)))
            if number % 3 == 0:
                sealed = bench.sealer.infer("double", kit.x(np.nan, 0, 0, 0))
                bad.append((sealed, await bench.send(sealed)))
        assert await _values(bench, good) == [2.0 * n for n in range(30)]
        for sealed, future in bad:
            reply = await asyncio.wait_for(future, 30)
            assert kit.code(kit.opened(sealed, reply.body)) == "inference-failed"
    assert bench.service is not None
    assert bench.service.counters.failed == len(bad) == 10


# ---- batches


async def test_requests_that_wait_share_a_batch(start: Start, kit: Any) -> None:
    model = kit.memory_model(slots=1, max_batch=8)
    bench = start(model, slots=4)
    async with bench.serving():
        first = await _sent(bench, 1)
        await _held(bench, 1)
        rest = await _sent(bench, 5)
        await _held(bench, 6)
        while not all(future.done() for _, future in (*first, *rest)):
            model.runtime.run()
            await asyncio.sleep(0)
        assert await _values(bench, first + rest) == [0, 0, 2, 4, 6, 8]
    assert model.runtime.sizes == [1, 5]


# ---- bounds


async def test_it_holds_no_more_than_its_pace_and_leaves_the_rest_to_others(start: Start, kit: Any) -> None:
    model = kit.memory_model(slots=2)
    bench = start(model, limit=3)
    async with bench.serving():
        sent = await _sent(bench, 20)
        await _held(bench, 3)
        client, other = bench.queue("worker-1")
        await other.start()
        taken = await other.take(64, 1000)
        while len(taken) < 17:
            taken += await other.take(64, 1000)
        assert len(taken) == 17
        assert bench.service is not None
        assert bench.service.held == 3
        assert len(model.runtime.waiting) == 2
        await other.aclose()
        await client.aclose()
        while not all(future.done() for _, future in sent):
            model.runtime.run()
            await asyncio.sleep(0)
        assert await _values(bench, sent) == [2.0 * n for n in range(20)]


async def test_what_is_held_for_long_is_not_claimed_by_another(start: Start, kit: Any) -> None:
    model = kit.memory_model(slots=2)
    bench = start(model, claim_after=0.4)
    async with bench.serving():
        sent = await _sent(bench, 2)
        await _held(bench, 2)
        client, other = bench.queue("worker-1")
        await other.start()
        assert await other.take(4, 1500) == []
        await other.aclose()
        await client.aclose()
        model.runtime.run()
        assert await _values(bench, sent) == [0, 2]


# ---- deadlines


async def test_a_request_that_expires_while_it_waits_is_answered_and_not_computed(
    start: Start, kit: Any
) -> None:
    model = kit.memory_model(slots=1)
    bench = start(model)
    async with bench.serving():
        first = await _sent(bench, 1)
        await _held(bench, 1)
        late = bench.sealer.infer("double", kit.x(5, 5, 5, 5))
        deadline = round(time.time() * 1000) + 60_000
        future = await bench.send(late, deadline=deadline)
        await _held(bench, 2)
        bench.skew = 61
        model.runtime.run()
        reply = await asyncio.wait_for(future, 30)
        assert kit.code(kit.opened(late, reply.body)) == "deadline-exceeded"
        assert await _values(bench, first) == [0]
    assert model.runtime.sizes == [1]
    assert bench.service is not None
    assert bench.service.counters.expired == 1


# ---- keys and evidence


async def test_an_unknown_key_is_looked_for_before_it_is_refused(start: Start, kit: Any) -> None:
    """Another worker may have published the keyset of a new epoch before this one has heard of it."""
    model = kit.memory_model()
    model.runtime.immediate = True
    newer = kit.gateway_key(5)
    asked = 0

    async def refresh() -> bool:
        nonlocal asked
        asked += 1
        bench.keys.append(newer)
        return True

    bench = start(model, refresh=refresh)
    async with bench.serving():
        sealed = kit.Sealer(newer.config).infer("double", kit.x(1, 2, 3, 4))
        response = await bench.ask(sealed, key="05")
        assert kit.inferred(response).outputs[0].array.tolist() == [[2, 4, 6, 8]]
        again = kit.Sealer(newer.config).infer("double", kit.x(1, 2, 3, 4))
        assert (await bench.ask(again, key="05")).status == 200
    assert asked == 1


async def test_an_unknown_key_that_stays_unknown_is_refused_as_rfc_9458_says(start: Start, kit: Any) -> None:
    bench = start(kit.memory_model())
    async with bench.serving():
        sealed = kit.Sealer(kit.gateway_key(9).config).infer("double", kit.x(1, 2, 3, 4))
        reply = await asyncio.wait_for(await bench.send(sealed), 30)
    assert (reply.status, reply.content_type) == (400, "application/problem+json")
    assert json.loads(reply.body)["type"] == OHTTP_KEY_PROBLEM


async def test_unknown_keys_cannot_take_all_places_while_the_broker_is_silent(start: Start, kit: Any) -> None:
    model = kit.memory_model()
    model.runtime.immediate = True
    asked, silent = 0, asyncio.Event()

    async def refresh() -> bool:
        nonlocal asked
        asked += 1
        return await silent.wait()

    bench = start(model, refresh=refresh, limit=16)
    stranger = kit.Sealer(kit.gateway_key(9).config)
    async with bench.serving():
        unknown = [await bench.send(stranger.infer("double", kit.x(1, 2, 3, 4))) for _ in range(40)]
        good = bench.sealer.infer("double", kit.x(1, 2, 3, 4))
        assert (await bench.ask(good)).status == 200
        assert sum(future.done() for future in unknown) >= len(unknown) - MAX_PARKED
        began = time.monotonic()
        replies = await asyncio.wait_for(asyncio.gather(*unknown), 30)
        assert time.monotonic() - began < 10 * MAX_PARKED_SECONDS
    assert asked <= MAX_PARKED
    assert {json.loads(reply.body)["type"] for reply in replies} == {OHTTP_KEY_PROBLEM}


async def test_a_request_with_an_unknown_key_waits_no_longer_than_its_deadline(
    start: Start, kit: Any
) -> None:
    finished = False

    async def refresh() -> bool:
        nonlocal finished
        await asyncio.sleep(0)
        finished = True
        return False

    bench = start(kit.memory_model(), refresh=refresh)
    async with bench.serving():
        bench.skew = 3600.0
        sealed = kit.Sealer(kit.gateway_key(9).config).infer("double", kit.x(1, 2, 3, 4))
        soon = int(time.time() * 1000) + 60_000
        reply = await asyncio.wait_for(await bench.send(sealed, deadline=soon), 30)
    assert json.loads(reply.body)["type"] == OHTTP_KEY_PROBLEM
    assert not finished


async def test_a_control_record_is_answered_with_fresh_evidence(start: Start, kit: Any) -> None:
    async def evidence(nonce: bytes) -> bytes:
        return b'{"over":"' + nonce.hex().encode() + b'"}'

    bench = start(kit.memory_model(), evidence=evidence)
    async with bench.serving():
        reply = await asyncio.wait_for(await bench.send(b"\x01" * 32, key="evidence"), 30)
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert json.loads(reply.body) == {"over": "01" * 32}


async def test_evidence_that_cannot_be_had_is_a_problem(start: Start, kit: Any) -> None:
    bench = start(kit.memory_model())
    async with bench.serving():
        reply = await asyncio.wait_for(await bench.send(b"\x01" * 32, key="evidence"), 30)
    assert reply.status == 500
    assert json.loads(reply.body)["code"] == "quote-refused"


# ---- stopping


async def test_stopping_answers_what_is_held(start: Start, kit: Any) -> None:
    model = kit.memory_model(slots=2)
    bench = start(model)
    async with bench.serving() as stop:
        sent = await _sent(bench, 4)
        await _held(bench, 4)
        stop.set()
        while not all(future.done() for _, future in sent):
            model.runtime.run()
            await asyncio.sleep(0)
        assert await _values(bench, sent) == [0, 2, 4, 6]


async def test_after_the_wish_to_stop_nothing_more_is_taken(start: Start, kit: Any) -> None:
    model = kit.memory_model(slots=2)
    bench = start(model)
    async with bench.serving() as stop:
        held = await _sent(bench, 1)
        await _held(bench, 1)
        stop.set()
        await asyncio.sleep(0)
        late = await _sent(bench, 1)
        model.runtime.run()
        assert await _values(bench, held) == [0]
    client, other = bench.queue("worker-1")
    await other.start()
    assert len(await other.take(4, 5000)) == 1
    assert not late[0][1].done()
    await other.aclose()
    await client.aclose()


async def test_what_takes_too_long_to_drain_is_left_to_others(start: Start, kit: Any) -> None:
    bench = start(kit.memory_model(slots=2))
    async with bench.serving(drain=0.1) as stop:
        await _sent(bench, 2)
        await _held(bench, 2)
        stop.set()
    assert b"drain-timeout" in b"".join(bench.lines)
    client, other = bench.queue("worker-1")
    await other.start()
    taken = await other.take(4, 20_000)
    while len(taken) < 2:
        taken += await other.take(4, 20_000)
    assert len(taken) == 2
    await other.aclose()
    await client.aclose()


# ---- the queue server's death


@pytest.mark.system
async def test_the_queue_server_may_die_and_come_back(start: Start, kit: Any, tmp_path: Any) -> None:
    model = kit.memory_model(slots=2)
    with EmbeddedValkey(tmp_path / "q") as server:
        bench = start(model, server=server)
        async with bench.serving():
            sent = await _sent(bench, 2)
            await _held(bench, 2)
            server.stop(0)
            model.runtime.run()
            await asyncio.to_thread(server.start)
            assert await _values(bench, sent) == [0, 2]
            model.runtime.immediate = True
            assert await _values(bench, await _sent(bench, 3)) == [0, 2, 4]
