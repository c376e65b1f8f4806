from __future__ import annotations

import asyncio
import gzip
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest

import strongroom
from strongroom.attestation.policy import Policy
from strongroom.client import AsyncSealedTransport, SealedTransport, connect, connect_async
from strongroom.codec.bhttp import Request, Response, header
from strongroom.crypto.hpke import CLASSICAL_SUITE, Kem
from strongroom.errors import CryptoError, EvidenceError, PolicyRefused, RequestError, UnreachableError

URL = "http://service"


def room_of(simulator, **more):
    return connect(URL, policy=simulator.policy, transport=simulator.transport(), **more)


def test_an_inference_goes_sealed_and_comes_back(simulator, values) -> None:
    with room_of(simulator) as room:
        answer = room.infer("echo", {"x": values})
    assert np.array_equal(answer.outputs["y"], values)
    assert (answer.model_name, answer.model_version) == ("echo", "1")
    assert (answer.labels[0].index, answer.labels[0].name, answer.labels[0].probability) == (3, "three", 0.75)
    assert answer.timing.worker == {"open": 0.5, "infer": 2.0}
    assert answer.timing.total >= answer.timing.seal > 0
    assert values.tobytes() not in simulator.sent()[0]


async def test_the_async_twin_does_the_same(simulator, values) -> None:
    transport = simulator.transport()
    async with await connect_async(URL, policy=simulator.policy, transport=transport) as room:
        answer = await room.infer("echo", {"x": values})
        assert (await room.verify()).simulated
    assert np.array_equal(answer.outputs["y"], values)
    assert room.verdict is not None


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (b"jpeg", (1,)),
        ("text", (1,)),
        ([b"a", b"bc"], (2,)),
        (np.int64([[1, 2]]), (1, 2)),
        (np.array([True]), (1,)),
    ],
)
def test_inputs_keep_their_type_and_shape(simulator, value, shape) -> None:
    with room_of(simulator) as room:
        output = room.infer("echo", {"x": value}).outputs["y"]
    assert output.shape == shape
    if isinstance(value, np.ndarray):
        assert output.dtype == value.dtype


def test_an_input_of_another_type_is_refused(simulator) -> None:
    with room_of(simulator) as room, pytest.raises(RequestError) as caught:
        room.infer("echo", {"x": 1.5})  # type: ignore[dict-item]
    assert caught.value.code == "input-invalid"
    assert simulator.sent() == []


def test_without_a_policy_nothing_is_fetched(simulator) -> None:
    with pytest.raises(PolicyRefused) as caught:
        connect(URL, policy=None, transport=simulator.transport())
    assert (caught.value.code, caught.value.exit_code) == ("policy-missing", 3)
    assert simulator.requests == []


def test_the_policy_may_be_a_file(simulator, policy_file: Path) -> None:
    with strongroom.connect(URL, policy=policy_file, transport=simulator.transport()) as room:
        assert room.verdict.label == "SIMULATED"


def test_changed_code_is_refused_before_anything_is_sealed(simulator) -> None:
    simulator.measurement = bytes(32)
    with pytest.raises(PolicyRefused) as caught:
        room_of(simulator)
    assert caught.value.exit_code == 3
    assert simulator.sent() == []


def test_a_rogue_broker_is_refused(simulator, state) -> None:
    rogue = type(simulator)(state)
    with pytest.raises((PolicyRefused, CryptoError, EvidenceError)):
        connect(URL, policy=simulator.policy, transport=rogue.transport())
    assert rogue.sent() == []


@pytest.mark.parametrize(
    ("said", "plain"),
    [({}, None), ({"Strongroom-Plain": "enabled"}, True), ({"Strongroom-Plain": "disabled"}, False)],
)
def test_a_room_knows_whether_plain_requests_are_taken(simulator, said, plain: bool | None) -> None:
    simulator.headers = said
    with room_of(simulator) as room:
        assert room.plain is plain


def test_fresh_evidence_is_made_for_a_nonce_of_the_client(simulator) -> None:
    with room_of(simulator, fresh=True) as room:
        assert room.verdict.workers == 1
    nonces = [path for path, _ in simulator.requests if path.endswith("evidence")]
    assert len(nonces) == 1


def test_evidence_for_another_nonce_is_refused(simulator) -> None:
    stale = simulator.evidence(bytes(32))
    simulator.evidence = lambda nonce: stale
    with pytest.raises(PolicyRefused, match="nonce"):
        room_of(simulator, fresh=True)


def test_the_verdict_is_kept_for_its_validity(simulator, values) -> None:
    with room_of(simulator) as room:
        for _ in range(3):
            room.infer("echo", {"x": values})
    assert simulator.fetched("keyset") == 1


def test_a_verdict_that_has_run_out_is_renewed(simulator, values) -> None:
    ahead = 0.0
    with room_of(simulator) as room:
        room._session._now = lambda: time.time() + ahead
        simulator.now = lambda: time.time() + ahead
        ahead = room.verdict.valid_until - time.time() + 1
        room.infer("echo", {"x": values}, timeout=ahead + 30)
    assert simulator.fetched("keyset") == 2


def test_rotation_makes_the_client_fetch_once_and_seal_anew(simulator, values) -> None:
    with room_of(simulator) as room:
        simulator.epoch = 2
        answer = room.infer("echo", {"x": values})
        assert room.verdict.epoch == 2
    assert np.array_equal(answer.outputs["y"], values)
    assert simulator.fetched("keyset") == 2
    assert len(simulator.sent()) == 2
    assert simulator.sent()[0] != simulator.sent()[1]


def test_an_unknown_key_of_the_same_epoch_does_not_loop(simulator, values) -> None:
    with room_of(simulator) as room:
        simulator.keys.clear()
        with pytest.raises(RequestError) as caught:
            room.infer("echo", {"x": values})
    assert caught.value.code == "key-unknown-after-refetch"
    assert len(simulator.sent()) == 1
    assert simulator.fetched("keyset") == 2


def test_an_unknown_key_with_an_unchanged_keyset_is_an_error(simulator, values) -> None:
    unknown = "https://iana.org/assignments/http-problem-types#ohttp-key"
    problem = msgspec.json.encode({"type": unknown, "status": 400})
    simulator.tamper = lambda path, response: (
        httpx.Response(400, content=problem) if path.endswith("gateway") else response
    )
    with room_of(simulator) as room, pytest.raises(RequestError) as caught:
        room.infer("echo", {"x": values})
    assert caught.value.code == "key-unknown-after-refetch"
    assert simulator.fetched("keyset") == 2


def test_a_retry_sends_the_same_bytes(simulator, values) -> None:
    failures = [httpx.ConnectError("away"), httpx.ReadError("cut"), None, None]

    def flaky(path: str, response: httpx.Response) -> httpx.Response | Exception:
        if not path.endswith("gateway"):
            return response
        failure = failures.pop(0)
        if failure is None and len(failures) == 1:
            return httpx.Response(503, headers={"retry-after": "1"})
        return failure or response

    simulator.tamper = flaky
    with room_of(simulator) as room:
        assert np.array_equal(room.infer("echo", {"x": values}).outputs["y"], values)
    assert len(simulator.sent()) == 4
    assert len(set(simulator.sent())) == 1


def test_an_unreachable_service_is_exit_code_4(simulator) -> None:
    simulator.tamper = lambda path, response: httpx.ConnectError("away")
    with pytest.raises(UnreachableError) as caught:
        room_of(simulator, timeout=0.2)
    assert (caught.value.code, caught.value.exit_code) == ("service-unreachable", 4)


def test_a_deadline_that_has_passed_sends_nothing(simulator, values) -> None:
    with room_of(simulator) as room, pytest.raises(UnreachableError) as caught:
        room.infer("echo", {"x": values}, timeout=-1)
    assert caught.value.code == "deadline-passed"
    assert simulator.sent() == []


def test_a_tampered_answer_is_refused(simulator, values) -> None:
    def flip(path: str, response: httpx.Response) -> httpx.Response:
        if not path.endswith("gateway"):
            return response
        body = bytearray(response.content)
        body[-1] ^= 1
        return httpx.Response(200, headers=response.headers, content=bytes(body))

    simulator.tamper = flip
    with room_of(simulator) as room, pytest.raises(CryptoError) as caught:
        room.infer("echo", {"x": values})
    assert caught.value.code == "ohttp-response-failed"


def test_the_answer_to_another_request_is_refused(simulator, values) -> None:
    with room_of(simulator) as room:
        room.infer("echo", {"x": values})
        first: list[httpx.Response] = []

        def swap(path: str, response: httpx.Response) -> httpx.Response:
            first.append(response)
            return first[0]

        simulator.tamper = swap
        room.infer("echo", {"x": values})
        with pytest.raises(CryptoError):
            room.infer("echo", {"x": values})


def test_a_sealed_error_keeps_its_code(simulator, values) -> None:
    problem = {"title": "No such model", "status": 404, "code": "zz-unknown", "remedy": "Look\x07"}
    simulator.handler = lambda request: Response(404, (), msgspec.json.encode(problem))
    with room_of(simulator) as room, pytest.raises(RequestError) as caught:
        room.infer("echo", {"x": values})
    assert caught.value.code == "zz-unknown"
    assert caught.value.status == 404
    assert caught.value.remedy == "Look?", "control characters of a service do not reach the terminal"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"code": 1}', b"{" * 70_000])
def test_an_answer_that_is_no_problem_is_named(simulator, values, body: bytes) -> None:
    simulator.tamper = lambda path, response: (
        httpx.Response(500, content=body) if path.endswith("gateway") else response
    )
    with room_of(simulator) as room, pytest.raises(RequestError) as caught:
        room.infer("echo", {"x": values})
    assert caught.value.code == "service-answer-invalid"


def test_inner_and_outer_deadline_agree(simulator, values) -> None:
    inner: list[bytes | None] = []
    outer: list[str] = []
    answer, handler = simulator.answer, simulator.handler

    def note_outer(request: httpx.Request) -> httpx.Response:
        if "strongroom-deadline" in request.headers:
            outer.append(request.headers["strongroom-deadline"])
        return answer(request)

    def note_inner(request: Request) -> Response:
        inner.append(header(request.headers, b"strongroom-deadline"))
        return handler(request)

    simulator.handler = note_inner
    with connect(URL, policy=simulator.policy, transport=httpx.MockTransport(note_outer)) as room:
        room.infer("echo", {"x": values}, timeout=20)
    assert [each.decode() for each in inner if each] == outer
    assert 15_000 < int(outer[0]) - time.time() * 1000 <= 20_000


def test_the_classical_suite_is_a_choice(simulator, values) -> None:
    with room_of(simulator, suite=CLASSICAL_SUITE) as room:
        room.infer("echo", {"x": values})
    assert simulator.sent()[0][0] == 3, "the key id of epoch 1's X25519 key"
    assert len(simulator.sent()[0]) < 1000


def test_a_service_with_classical_keys_only_is_sealed_to_by_name_only(simulator, values) -> None:
    simulator.kems = (Kem.X25519_HKDF_SHA256,)
    with pytest.raises(PolicyRefused) as caught, room_of(simulator):
        pass
    assert caught.value.code == "service-classical-requests"
    assert simulator.sent() == []
    lesser = Policy.parse(f"allow_classical_requests = true\n{simulator.policy.text}")
    with connect(URL, policy=lesser, transport=simulator.transport()) as room:
        room.infer("echo", {"x": values})
        assert "requests: classical" in room.verdict.warnings
    assert simulator.sent()[0][0] == 3


def test_the_order_of_the_keys_does_not_lead_to_a_classical_one(simulator, values) -> None:
    simulator.kems = (Kem.X25519_HKDF_SHA256, Kem.MLKEM768_X25519)
    with room_of(simulator) as room:
        room.infer("echo", {"x": values})
    assert simulator.sent()[0][0] == 2, "the key id of epoch 1's MLKEM768-X25519 key"


def test_a_key_configuration_served_beside_the_keyset_is_not_looked_at(simulator, values) -> None:
    """The host's own `/.well-known/ohttp-gateway` would be the place for a classical one."""
    with room_of(simulator) as room:
        room.infer("echo", {"x": values})
    fetched = [path for path, body in simulator.requests if not body]
    assert fetched == [f"/strongroom/v1/{name}" for name in ("keyset", "policy", "evidence")]


def test_any_httpx_code_speaks_sealed(simulator) -> None:
    simulator.handler = lambda request: Response(
        201, ((b"x-a", b"1"),), request.method + b" " + request.path + b" " + bytes(request.body)
    )
    transport = SealedTransport(URL, policy=simulator.policy, transport=simulator.transport())
    with httpx.Client(transport=transport, base_url="http://strongroom") as http:
        answer = http.post("/v2/x?y=1", content=b"body")
    assert (answer.status_code, answer.headers["x-a"], answer.text) == (201, "1", "POST /v2/x?y=1 body")
    assert b"/v2/x" not in simulator.sent()[0]


async def test_any_async_httpx_code_speaks_sealed(simulator) -> None:
    simulator.handler = lambda request: Response(200, (), request.path)
    transport = AsyncSealedTransport(URL, policy=simulator.policy, transport=simulator.transport())
    async with httpx.AsyncClient(transport=transport, base_url="http://strongroom") as http:
        assert (await http.get("/v2/health", timeout=5)).text == "/v2/health"


def test_metadata_is_asked_for_under_seal(simulator) -> None:
    metadata = {"name": "echo", "versions": ["1"], "platform": "openvino", "inputs": [], "outputs": []}
    simulator.handler = lambda request: Response(200, (), msgspec.json.encode(metadata))
    with room_of(simulator) as room:
        assert room.model("echo").name == "echo"
    assert len(simulator.sent()) == 1


def test_an_older_keyset_than_before_is_refused(simulator, values) -> None:
    simulator.epoch = 2
    with room_of(simulator) as room:
        simulator.epoch = 1
        with pytest.raises(PolicyRefused) as caught:
            room.verify()
        assert caught.value.code == "epoch-rolled-back"
        assert room.verdict is None
        with pytest.raises(PolicyRefused):
            room.infer("echo", {"x": values})
    assert simulator.sent() == []


def test_a_service_that_fails_later_is_not_sealed_to(simulator, values) -> None:
    with room_of(simulator) as room:
        simulator.measurement = bytes(32)
        for call in (room.verify, lambda: room.infer("echo", {"x": values})):
            with pytest.raises(PolicyRefused):
                call()
    assert simulator.sent() == []


def test_keys_rotated_between_two_documents_are_fetched_once_more(simulator) -> None:
    def rotate(path: str, response: httpx.Response) -> httpx.Response:
        if path.endswith("keyset") and simulator.fetched("keyset") == 1:
            simulator.epoch = 2
        return response

    simulator.tamper = rotate
    with room_of(simulator, fresh=True) as room:
        assert room.verdict.epoch == 2
    assert simulator.fetched("keyset") == 2


def test_a_compressed_answer_is_refused(simulator, values) -> None:
    simulator.tamper = lambda path, response: (
        httpx.Response(200, headers={"content-encoding": "gzip"}, content=gzip.compress(b"x"))
        if path.endswith("gateway")
        else response
    )
    with room_of(simulator) as room, pytest.raises(RequestError) as caught:
        room.infer("echo", {"x": values})
    assert caught.value.code == "service-answer-invalid"


def test_an_answer_that_cannot_be_decoded_is_one_of_our_errors(simulator, values) -> None:
    class Broken(httpx.SyncByteStream):
        def __iter__(self):
            yield b"not gzip"

    simulator.tamper = lambda path, response: (
        httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Broken())
        if path.endswith("gateway")
        else response
    )
    with room_of(simulator) as room, pytest.raises(UnreachableError):
        room.infer("echo", {"x": values}, timeout=0.3)


def test_a_trickled_answer_ends_at_the_deadline(simulator, values) -> None:
    class Trickle(httpx.SyncByteStream):
        def __iter__(self):
            while True:
                time.sleep(0.05)
                yield b"x" * (1 << 16)

    simulator.tamper = lambda path, response: (
        httpx.Response(200, stream=Trickle()) if path.endswith("gateway") else response
    )
    started = time.monotonic()
    with room_of(simulator) as room, pytest.raises(UnreachableError) as caught:
        room.infer("echo", {"x": values}, timeout=0.5)
    assert caught.value.code == "deadline-passed"
    assert time.monotonic() - started < 5


async def test_an_async_answer_that_never_comes_ends_at_the_deadline(simulator, values) -> None:
    async def silent(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("gateway"):
            await asyncio.Event().wait()
        return simulator.answer(request)

    transport = httpx.MockTransport(silent)
    async with await connect_async(URL, policy=simulator.policy, transport=transport) as room:
        with pytest.raises(UnreachableError) as caught:
            await room.infer("echo", {"x": values}, timeout=0.3)
    assert caught.value.code == "deadline-passed"


def test_a_room_serves_several_threads_while_it_verifies(simulator, values) -> None:
    with room_of(simulator) as room, ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(room.infer, "echo", {"x": values}) for _ in range(60)]
        for _ in range(20):
            room.verify()
        assert all(np.array_equal(each.result().outputs["y"], values) for each in answers)


def test_the_package_exports_its_client_lazily() -> None:
    assert strongroom.connect is connect
    with pytest.raises(AttributeError, match="nothing"):
        strongroom.nothing  # noqa: B018
