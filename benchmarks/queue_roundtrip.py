"""How many round trips through the queue a second: submit, take, answer, reply.

One process each for producer, consumer and the embedded server, over a unix socket, append-only file on.

    python benchmarks/queue_roundtrip.py [--size 1024] [--concurrency 16] [--seconds 5] [--durability process]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

from strongroom.queue.connect import connect
from strongroom.queue.consumer import Delivery, WorkQueue
from strongroom.queue.producer import ReplyReader, RequestQueue
from strongroom.queue.records import Reply, SealedRecord
from strongroom.queue.valkey import EmbeddedValkey


async def _consume(url: str) -> None:
    queue = WorkQueue(connect(url), "bench", 0, "worker-0")
    await queue.start()

    async def answer(deliveries: list[Delivery]) -> None:
        await queue.answer(
            [(each, Reply(each.record.id, 200, "message/ohttp-res", each.record.body)) for each in deliveries]
        )

    answering: set[asyncio.Task[None]] = set()
    while True:
        task = asyncio.create_task(answer(await queue.take(64, 1000)))
        answering.add(task)
        task.add_done_callback(answering.discard)


def consume(url: str) -> None:
    """Answer every request with its own body, until killed."""
    asyncio.run(_consume(url))


async def produce(url: str, size: int, concurrency: int, seconds: float) -> dict[str, float]:
    """Keep `concurrency` requests under way for `seconds`; rates and latencies in ms."""
    client = connect(url)
    queue = RequestQueue(client, "bench", max_length=10 * concurrency)
    reader = ReplyReader(client, "bench", "frontend-0")
    waiting: dict[str, asyncio.Future[None]] = {}
    latencies: list[float] = []
    body = os.urandom(size)
    run = os.urandom(4).hex()  # an id is answered once
    loop = asyncio.get_running_loop()

    async def read() -> None:
        async for reply in reader:
            waiting.pop(reply.id).set_result(None)

    async def requests(number: int, until: float) -> None:
        count = 0
        while (start := time.perf_counter()) < until:
            name = f"{run}-{number}-{count}"
            count += 1
            waiting[name] = done = loop.create_future()
            await queue.submit(SealedRecord(name, "7", body, "frontend-0", 0))
            await done
            latencies.append(time.perf_counter() - start)

    reading = asyncio.create_task(read())
    begin, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(requests(number, begin + seconds) for number in range(concurrency)))
    elapsed, cpu = time.perf_counter() - begin, time.process_time() - cpu
    reading.cancel()
    await reader.aclose()
    await client.aclose()
    latencies.sort()
    return {
        "round trips/s": len(latencies) / elapsed,
        "median ms": 1000 * latencies[len(latencies) // 2],
        "p99 ms": 1000 * latencies[len(latencies) * 99 // 100],
        "count": len(latencies),
        "producer CPU us": 1e6 * cpu / len(latencies),
    }


def cpu_seconds(pid: int) -> float:
    """Processor time that another process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="bytes of a body")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--durability", choices=["process", "power"], default="process")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedValkey(Path(folder) / "queue", options.durability) as server,
    ):
        worker = multiprocessing.get_context("spawn").Process(target=consume, args=(server.url,))
        worker.start()
        try:
            asyncio.run(produce(server.url, options.size, options.concurrency, 1.0))
            others = {"worker": worker.pid or 0, "server": server.pid or 0}
            before = {name: cpu_seconds(pid) for name, pid in others.items()}
            figures = asyncio.run(produce(server.url, options.size, options.concurrency, options.seconds))
            count = figures.pop("count")
            for name, pid in others.items():
                figures[f"{name} CPU us"] = 1e6 * (cpu_seconds(pid) - before[name]) / count
        finally:
            worker.terminate()
            worker.join()
    print(f"{options.size} B, concurrency {options.concurrency}, durability {options.durability}:")
    print("  " + ", ".join(f"{name} {value:,.2f}" for name, value in figures.items()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  producer peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
