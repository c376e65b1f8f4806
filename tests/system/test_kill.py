"""SIGKILL of any part in mid-load: nothing that was accepted is lost, nothing is answered wrongly."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import strongroom
from strongroom.queue.connect import connect

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(240)]

REQUESTS = 200


async def pending(service) -> int:
    """Entries that have been delivered to a worker and not answered yet, by the queue's own count."""
    client = connect(f"unix://{service.home}/queue/queue.sock")
    try:
        groups = await client.execute("XINFO", "GROUPS", "{strongroom:default:0}:requests")
        facts = dict(zip(groups[0][::2], groups[0][1::2], strict=True))
        return int(facts[b"pending"])
    finally:
        await client.aclose()


async def load_and_kill(service, part: str) -> tuple[int, list[bool]]:
    """Send requests, kill a part while entries are with the worker, and collect the answers."""
    rng = np.random.default_rng(7)
    inputs = [rng.standard_normal((256, 64), dtype=np.float32) for _ in range(REQUESTS)]
    async with await strongroom.connect_async(service.url, policy=service.policy) as room:

        async def one(values: np.ndarray) -> bool:
            answer = await room.infer("echo", {"x": values}, timeout=90)
            return bool(np.array_equal(answer.outputs["y"], values))

        tasks = [asyncio.create_task(one(values)) for values in inputs]
        with_worker = 0
        while with_worker == 0:
            assert not all(task.done() for task in tasks), "the load ended before the kill"
            with_worker = await pending(service)
        os.kill(service.pid(part), signal.SIGKILL)
        return with_worker, await asyncio.gather(*tasks)


@pytest.mark.parametrize("part", ["worker-0", "queue", "frontend"])
def test_a_kill_in_mid_load_loses_nothing(service, part: str) -> None:
    before = service.pid(part)
    with_worker, right = asyncio.run(load_and_kill(service, part))
    assert with_worker > 0
    assert len(right) == REQUESTS
    assert all(right)
    assert service.pid(part) != before, "the part was not started again"


def test_the_enclave_itself_can_be_killed(service) -> None:
    children = Path(f"/proc/{service.pid('worker-0')}/task/{service.pid('worker-0')}/children")

    async def run() -> list[bool]:
        async with await strongroom.connect_async(service.url, policy=service.policy) as room:
            values = np.ones((256, 64), np.float32)
            tasks = [asyncio.create_task(room.infer("echo", {"x": values}, timeout=90)) for _ in range(50)]
            while await pending(service) == 0:
                assert not all(task.done() for task in tasks)
            os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
            return [bool(np.array_equal(a.outputs["y"], values)) for a in await asyncio.gather(*tasks)]

    assert asyncio.run(run()) == [True] * 50
