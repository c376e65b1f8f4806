"""The plain way in: what it seals with, and that it is announced."""

from __future__ import annotations

from strongroom.crypto.hpke import Kem

TENSOR = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}


async def test_plain_requests_are_sealed_to_the_first_key_which_is_post_quantum(frontend) -> None:
    first = frontend.simulator.keyset().key_configs[0]
    assert first.kem is Kem.MLKEM768_X25519
    answer = await frontend.http.post("/v2/models/echo/infer", json={"inputs": [TENSOR]})
    assert answer.status_code == 200
    body = frontend.queue.records[-1].body
    assert body[0] == first.key_id
    assert int.from_bytes(body[1:3], "big") == Kem.MLKEM768_X25519


async def test_the_keyset_says_whether_the_plain_way_in_is_open(frontend, sealed_only) -> None:
    for each, expected in ((frontend, "enabled"), (sealed_only, "disabled")):
        answer = await each.http.get("/strongroom/v1/keyset")
        assert answer.headers["strongroom-plain"] == expected
