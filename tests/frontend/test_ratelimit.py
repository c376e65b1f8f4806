"""Evidence over a nonce costs a quote, so it is rationed."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.codec.b64 import encode_url
from strongroom.frontend.ratelimit import TokenBucket


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_a_burst_goes_through_and_then_the_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(20, 40, now=clock)
    assert [bucket.take() for _ in range(40)] == [0.0] * 40
    assert bucket.take() == pytest.approx(0.05)
    clock.at += 0.0505
    assert bucket.take() == 0
    assert bucket.take() > 0
    clock.at += 3600
    assert sum(bucket.take() == 0 for _ in range(100)) == 40


@given(st.lists(st.floats(0, 2), max_size=60))
def test_never_more_than_burst_and_rate_allow(pauses: list[float]) -> None:
    clock = Clock()
    bucket = TokenBucket(2, 3, now=clock)
    taken = 0
    for pause in pauses:
        clock.at += pause
        taken += bucket.take() == 0
        assert taken <= 3 + 2 * (clock.at - 100) + 1e-6


async def test_evidence_over_nonces_is_rationed_and_other_paths_are_not(frontend) -> None:
    async def ask():
        return await frontend.http.get(f"/strongroom/v1/evidence?nonce={encode_url(os.urandom(32))}")

    answers = [await ask() for _ in range(40)]
    while answers[-1].status_code == 200 and len(answers) < 1000:
        answers.append(await ask())
    refused = answers.pop()
    assert refused.status_code == 429
    assert json.loads(refused.content)["code"] == "evidence-rate-limited"
    assert refused.headers["retry-after"] == "1"
    assert {answer.status_code for answer in answers} == {200}
    assert len(frontend.queue.records) == len(answers)
    assert (await frontend.http.get("/strongroom/v1/evidence")).status_code == 200


async def test_a_nonce_of_another_size_costs_nothing(frontend) -> None:
    for _ in range(100):
        assert (await frontend.http.get("/strongroom/v1/evidence?nonce=AA")).status_code == 400
    answer = await frontend.http.get(f"/strongroom/v1/evidence?nonce={encode_url(bytes(32))}")
    assert answer.status_code == 200
