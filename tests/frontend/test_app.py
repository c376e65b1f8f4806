from __future__ import annotations

import asyncio
import json
import os
import time

import httpx
import numpy as np
import pytest

from strongroom.client import connect_async
from strongroom.codec.b64 import encode_url
from strongroom.crypto.ohttp import decode_key_configs
from strongroom.errors import QueueError, UnreachableError
from strongroom.queue.errors import QUEUE_FULL, QUEUE_UNREACHABLE

GATEWAY = "/.well-known/ohttp-gateway"
SEALED = {"content-type": "message/ohttp-req"}
BODY = b"\x02" + bytes(40)


def code(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    return str(json.loads(response.content)["code"])


async def room_at(frontend, **more):
    transport = httpx.ASGITransport(app=frontend.app)
    return await connect_async("http://front", policy=frontend.simulator.policy, transport=transport, **more)


@pytest.mark.parametrize("fresh", [False, True])
async def test_a_client_verifies_and_infers_through_the_front_end(frontend, fresh: bool) -> None:
    values = np.arange(4, dtype=np.float32)
    async with await room_at(frontend, fresh=fresh) as room:
        answer = await room.infer("echo", {"x": values})
    assert np.array_equal(answer.outputs["y"], values)
    record = frontend.queue.records[-1]
    assert record.reply == "frontend-test"
    assert record.key == "02"
    assert values.tobytes() not in record.body
    assert (
        frontend.metrics.registry.get_sample_value(
            "strongroom_requests_total", {"mode": "sealed", "status": "200"}
        )
        == 1
    )


async def test_keys_are_served_for_other_clients(frontend) -> None:
    answer = await frontend.http.get(GATEWAY)
    assert answer.headers["content-type"] == "application/ohttp-keys"
    assert decode_key_configs(answer.content) == frontend.simulator.keyset().key_configs


async def test_a_wrong_content_type_is_refused_unread(frontend) -> None:
    answer = await frontend.http.post(GATEWAY, content=BODY, headers={"content-type": "text/plain"})
    assert (answer.status_code, code(answer)) == (415, "content-type-unsupported")
    assert frontend.queue.records == []


async def test_an_announced_gigabyte_is_refused_unread(frontend) -> None:
    read = 0

    async def receive() -> dict[str, object]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    headers = [(b"content-type", b"message/ohttp-req"), (b"content-length", str(1 << 30).encode())]
    scope = {"type": "http", "method": "POST", "path": GATEWAY, "headers": headers}
    await frontend.app(scope, receive, send)
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]
    assert read == 0


async def test_a_body_that_grows_beyond_the_limit_is_cut_off(frontend) -> None:
    async def endless():
        while True:
            yield bytes(1 << 16)

    answer = await frontend.http.post(GATEWAY, content=endless(), headers=SEALED)
    assert (answer.status_code, code(answer)) == (413, "request-too-large")


@pytest.mark.parametrize("length", ["x", "-1", "1e3", "9" * 30])
async def test_a_length_that_is_no_number_is_refused(frontend, length: str) -> None:
    answer = await frontend.http.post(GATEWAY, content=b"", headers={**SEALED, "content-length": length})
    assert code(answer) in {"bad-request", "request-too-large"}


@pytest.mark.parametrize("body", [b"", b"\x01", bytes(6)])
async def test_a_body_without_a_head_is_refused(frontend, body: bytes) -> None:
    answer = await frontend.http.post(GATEWAY, content=body, headers=SEALED)
    assert (answer.status_code, code(answer)) == (400, "ohttp-malformed")


@pytest.mark.parametrize("deadline", ["soon", "-5", "1" * 16, ""])
async def test_a_deadline_that_is_no_number_is_refused(frontend, deadline: str) -> None:
    answer = await frontend.http.post(
        GATEWAY, content=BODY, headers={**SEALED, "strongroom-deadline": deadline}
    )
    assert (answer.status_code, code(answer)) == (400, "bad-request")


async def test_a_deadline_in_the_past_is_answered_at_once(frontend) -> None:
    past = str(int(time.time() * 1000) - 1)
    answer = await frontend.http.post(GATEWAY, content=BODY, headers={**SEALED, "strongroom-deadline": past})
    assert (answer.status_code, code(answer)) == (504, "answer-timeout")
    assert frontend.queue.records == []


async def test_a_late_deadline_is_cut_to_the_front_ends_own(frontend) -> None:
    late = str(int(time.time() * 1000) + 3_600_000)
    await frontend.http.post(GATEWAY, content=BODY, headers={**SEALED, "strongroom-deadline": late})
    assert frontend.queue.records[0].deadline <= (time.time() + 5) * 1000


async def test_a_silent_worker_is_a_timeout(frontend) -> None:
    frontend.queue.held = True
    soon = str(int(time.time() * 1000) + 50)
    answer = await frontend.http.post(GATEWAY, content=BODY, headers={**SEALED, "strongroom-deadline": soon})
    assert (answer.status_code, code(answer)) == (504, "answer-timeout")
    assert frontend.exchange.pending == 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [(QueueError(QUEUE_FULL), "queue-full"), (UnreachableError(QUEUE_UNREACHABLE), "queue-unreachable")],
)
async def test_a_queue_that_refuses_is_503_with_retry_after(frontend, error, expected: str) -> None:
    frontend.queue.fail = error
    answer = await frontend.http.post(GATEWAY, content=BODY, headers=SEALED)
    assert (answer.status_code, code(answer)) == (503, expected)
    assert answer.headers["retry-after"] == "1"


async def test_too_many_waiting_requests_are_refused_and_the_others_served(frontend) -> None:
    frontend.queue.held = True
    waiting = [
        asyncio.create_task(frontend.http.post(GATEWAY, content=BODY, headers=SEALED)) for _ in range(8)
    ]
    while frontend.exchange.pending < 8:
        await asyncio.sleep(0)
    refused = await frontend.http.post(GATEWAY, content=BODY, headers=SEALED)
    assert (refused.status_code, code(refused)) == (503, "service-busy")
    for record in frontend.queue.records:
        await frontend.queue.replies.put(frontend.queue.answer(record))
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [400] * 8


async def test_a_draining_front_end_finishes_what_it_holds(frontend) -> None:
    frontend.queue.held = True
    waiting = asyncio.create_task(frontend.http.post(GATEWAY, content=BODY, headers=SEALED))
    while not frontend.queue.records:
        await asyncio.sleep(0)
    frontend.exchange.close()
    refused = await frontend.http.post(GATEWAY, content=BODY, headers=SEALED)
    assert (refused.status_code, code(refused)) == (503, "service-draining")
    await frontend.queue.replies.put(frontend.queue.answer(frontend.queue.records[0]))
    assert (await waiting).status_code == 400


async def test_a_reply_to_nobody_changes_nothing(frontend) -> None:
    record = frontend.queue.answer
    await frontend.http.post(GATEWAY, content=BODY, headers=SEALED)
    await frontend.queue.replies.put(record(frontend.queue.records[0]))
    assert (await frontend.http.get("/healthz")).status_code == 200


async def test_evidence_for_a_nonce_is_made_by_a_worker(frontend) -> None:
    nonce = os.urandom(32)
    answer = await frontend.http.get(f"/strongroom/v1/evidence?nonce={encode_url(nonce)}")
    assert json.loads(answer.content)["workers"][0]["nonce"] == encode_url(nonce)
    assert frontend.queue.records[-1].key == "evidence"


@pytest.mark.parametrize("nonce", ["", "AA", "!" * 43, "A" * 44, "A" * 50_000])
async def test_a_nonce_of_another_size_is_refused(frontend, nonce: str) -> None:
    answer = await frontend.http.get(f"/strongroom/v1/evidence?nonce={nonce}")
    assert (answer.status_code, code(answer)) == (400, "bad-request")
    assert frontend.queue.records == []


async def test_documents_that_do_not_belong_together_are_not_served(frontend) -> None:
    def other_evidence(kind: str, found):
        frontend.simulator.epoch = 2 if kind == "keyset" else 1
        return found

    frontend.queue.change = other_evidence
    frontend.simulator.epoch = 1
    keyset = await frontend.queue.documents("keyset")
    assert keyset
    frontend.queue.change = lambda kind, found: {} if kind == "evidence" else found
    answer = await frontend.http.get("/strongroom/v1/keyset")
    assert (answer.status_code, code(answer)) == (503, "no-worker")
    assert (await frontend.http.get("/v2/health/ready")).status_code == 503


@pytest.mark.parametrize("kind", ["keyset", "evidence", "policy"])
async def test_junk_among_the_documents_is_passed_over(frontend, kind: str) -> None:
    junk = {"a": b"junk", "b": b"[1]", "d": b'{"keyset":"\xff"}', "e": b'{"more":' + b"[" * 50_000}

    def with_junk(asked: str, found):
        return {**junk, **found, "c": b""} if asked == kind else found

    frontend.queue.change = with_junk
    assert (await frontend.http.get("/v2/health/ready")).status_code == 200
    async with await room_at(frontend) as room:
        assert room.verdict.workers == 1


async def test_plain_requests_are_sealed_here_and_say_so(frontend) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1.5, -2.5]}
    answer = await frontend.http.post("/v2/models/echo/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200
    assert answer.headers["strongroom-mode"] == "plain"
    record = frontend.queue.records[-1]
    assert np.float32([1.5, -2.5]).tobytes() not in record.body
    assert b"echo" not in record.body


async def test_plain_is_off_without_a_policy(sealed_only) -> None:
    answer = await sealed_only.http.post("/v2/models/echo/infer", json={})
    assert (answer.status_code, code(answer)) == (403, "plain-disabled")
    assert sealed_only.queue.records == []


async def test_plain_requests_are_not_sealed_to_changed_code(frontend) -> None:
    frontend.simulator.measurement = bytes(32)
    answer = await frontend.http.post("/v2/models/echo/infer", json={"inputs": []})
    assert answer.status_code >= 400
    assert answer.headers["strongroom-mode"] == "plain"
    assert frontend.queue.records == []


async def test_plain_mode_follows_a_rotation(frontend) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    for epoch in (1, 2):
        frontend.simulator.epoch = epoch
        answer = await frontend.http.post("/v2/models/echo/infer", json={"inputs": [tensor]})
        assert answer.status_code == 200
    assert [record.key for record in frontend.queue.records] == ["02", "04"]


@pytest.mark.parametrize(
    ("method", "path", "status", "expected"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("POST", "/strongroom/v1/keyset", 405, "http-method-not-allowed"),
        ("DELETE", GATEWAY, 405, "http-method-not-allowed"),
    ],
)
async def test_unknown_paths_and_methods(
    frontend, method: str, path: str, status: int, expected: str
) -> None:
    answer = await frontend.http.request(method, path)
    assert (answer.status_code, code(answer)) == (status, expected)


async def test_health_and_metrics(frontend) -> None:
    for path in ("/healthz", "/v2/health/live", "/v2/health/ready"):
        assert (await frontend.http.get(path)).status_code == 200
    text = (await frontend.http.get("/metrics")).text
    assert "strongroom_pending_requests 0.0" in text
    assert "strongroom_queue_depth 0.0" in text


async def test_the_policy_is_served_as_its_exact_text(frontend) -> None:
    answer = await frontend.http.get("/strongroom/v1/policy")
    assert answer.text == frontend.simulator.release_policy
