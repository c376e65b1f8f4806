"""A worker as a process of its own, to be killed: `worker_program.py URL SERVICE NAME MODE`.

It prints one line for what it takes and does: `took ID DELIVERIES`, `answered ID True|False`. Modes:
`answer` answers each record with its own body; `stall` answers the first 25 and takes the others without
answering; `hold` takes and never answers; `poison` kills itself
when it is given a record whose body is `poison`, in the middle of what else it was given.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from strongroom.queue.connect import connect
from strongroom.queue.consumer import Delivery, WorkQueue
from strongroom.queue.records import Reply


def say(line: str) -> None:
    """Print a line in one write. With PYTHONUNBUFFERED print makes several, and a kill may fall between."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


async def work(url: str, service: str, name: str, mode: str) -> None:
    queue = WorkQueue(connect(url), service, 0, name, claim_after_ms=2_000)
    await queue.start()

    async def handle(delivery: Delivery) -> None:
        record = delivery.record
        await asyncio.sleep(0.002)
        if mode == "poison" and record.body == b"poison":
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0.002)
        [stored] = await queue.answer([(delivery, Reply(record.id, 200, "a/b", record.body))])
        say(f"answered {record.id} {stored}")

    handling: set[asyncio.Task[None]] = set()
    left = {"hold": 0, "stall": 25}.get(mode, 1 << 31)
    while True:
        for delivery in await queue.take(16, 500):
            say(f"took {delivery.record.id} {delivery.deliveries}")
            if left > 0:
                left -= 1
                task = asyncio.create_task(handle(delivery))
                handling.add(task)
                task.add_done_callback(handling.discard)
        await queue.touch()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:5]))
