"""SIGKILL of any part in mid-load: nothing that was accepted is lost, nothing is answered wrongly."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Self

import numpy as np
import pytest

import strongroom
from strongroom.queue.connect import connect

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(240)]

REQUESTS = 200
STREAM = "{strongroom:default:0}:requests"


class Counters:
    """What the queue itself counts, over a connection of the test's own."""

    def __init__(self, service) -> None:
        self._client = connect(f"unix://{service.home}/queue/queue.sock")

    async def accepted(self) -> int:
        """Requests that the queue holds: waiting, or with a worker and not answered yet."""
        return int(await self._client.execute("XLEN", STREAM))

    async def with_worker(self) -> int:
        """Requests that a worker holds and has not answered yet."""
        groups = await self._client.execute("XINFO", "GROUPS", STREAM)
        return int(dict(zip(groups[0][::2], groups[0][1::2], strict=True))[b"pending"])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()


def enclave(service) -> int:
    """Process id of the enclave: the child of the launcher."""
    launcher = service.pid("worker-0")
    return int(Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()[0])


async def load_and_kill(service, pid: int) -> tuple[int, int, list[bool]]:
    """Bring 200 requests under way, kill a process while some are with the worker, collect the answers.

    The worker is held (SIGSTOP) until all are accepted, so that all are in flight at the kill.
    """
    rng = np.random.default_rng(7)
    inputs = [rng.standard_normal((16, 64), dtype=np.float32) for _ in range(REQUESTS)]
    async with (
        Counters(service) as counters,
        await strongroom.connect_async(service.url, policy=service.policy) as room,
    ):

        async def one(values: np.ndarray) -> bool:
            answer = await room.infer("echo", {"x": values}, timeout=90)
            return bool(np.array_equal(answer.outputs["y"], values))

        held = enclave(service)
        os.kill(held, signal.SIGSTOP)
        tasks = [asyncio.create_task(one(values)) for values in inputs]
        while (accepted := await counters.accepted()) < REQUESTS:
            await asyncio.sleep(0.01)
        with_worker = await counters.with_worker()
        if pid != held or not with_worker:
            os.kill(held, signal.SIGCONT)
        while not with_worker:  # it was held between two reads
            with_worker = await counters.with_worker()
        os.kill(pid, signal.SIGKILL)
        return accepted, with_worker, await asyncio.gather(*tasks)


@pytest.mark.parametrize("part", ["worker-0", "queue", "frontend", "enclave"])
def test_a_kill_in_mid_load_loses_nothing(service, part: str) -> None:
    victim = enclave(service) if part == "enclave" else service.pid(part)
    accepted, with_worker, right = asyncio.run(load_and_kill(service, victim))
    assert accepted == REQUESTS
    assert with_worker > 0
    assert right == [True] * REQUESTS
    assert not Path(f"/proc/{victim}").exists(), "the process was not killed"
