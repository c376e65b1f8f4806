"""A lean HTTP load generator: keep-alive connections, prepared requests, exact latencies.

It runs in a process of its own and costs little, so that it disturbs what it measures as little as it can.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Load:
    """Result of one run.

    Attributes:
        requests: Answers with status 200.
        failed: Other answers.
        seconds: Time from the first request to the last answer.
        latencies: Seconds of each good request, sorted.
        sample: Body of one good answer.
    """

    requests: int
    failed: int
    seconds: float
    latencies: list[float]
    sample: bytes

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        return self.requests / self.seconds

    def percentile(self, share: float) -> float:
        """Latency in milliseconds below which this share of the requests stayed."""
        return self.latencies[min(int(share * len(self.latencies)), len(self.latencies) - 1)] * 1000


class _Connection(asyncio.Protocol):
    """One keep-alive connection that sends the next request as soon as an answer is whole."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._buffer = bytearray()
        self._needed = -1
        self._head = 0
        self._started = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        request = self._run.next_request()
        if request is None:
            self._transport.close()
            return
        self._started = time.perf_counter()
        self._transport.writelines(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._needed < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            at = head.index(b"content-length:") + 15
            stop = head.find(b"\r\n", at)
            self._head = end + 4
            self._needed = self._head + int(head[at : stop if stop >= 0 else None])
        if len(self._buffer) >= self._needed:
            status = int(self._buffer[9:12])
            self._run.answered(status, time.perf_counter() - self._started, self._buffer, self._head)
            del self._buffer[: self._needed]
            self._needed = -1
            self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        self._run.closed()


class _Run:
    def __init__(self, requests: list[tuple[bytes, bytes]], connections: int, seconds: float) -> None:
        self._requests = requests
        self._connections = connections
        self._until = time.perf_counter() + seconds
        self._sent = 0
        self.good: list[float] = []
        self.failed = 0
        self.sample = b""
        self.done = asyncio.get_running_loop().create_future()

    def next_request(self) -> tuple[bytes, bytes] | None:
        if time.perf_counter() >= self._until:
            return None
        self._sent += 1
        return self._requests[self._sent % len(self._requests)]

    def answered(self, status: int, seconds: float, buffer: bytearray, head: int) -> None:
        if status == 200:
            self.good.append(seconds)
            if not self.sample:
                self.sample = bytes(buffer[head:])
        else:
            self.failed += 1

    def closed(self) -> None:
        self._connections -= 1
        if self._connections == 0 and not self.done.done():
            self.done.set_result(None)


async def _drive(url: str, headers: bytes, bodies: list[bytes], connections: int, seconds: float) -> Load:
    parts = urlsplit(url)
    requests = [
        (
            b"POST %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n"
            % (parts.path.encode(), parts.netloc.encode(), headers, len(body)),
            body,
        )
        for body in bodies
    ]
    run = _Run(requests, connections, seconds)
    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(run), parts.hostname, parts.port)
    await run.done
    return Load(len(run.good), run.failed, time.perf_counter() - started, sorted(run.good), run.sample)


async def drive(
    folder: Path, url: str, headers: dict[str, str], bodies: list[bytes], connections: int, seconds: float
) -> Load:
    """Run the load in a process of its own.

    Args:
        folder: For the prepared bodies and the result.
        url: Where to post.
        headers: Of every request.
        bodies: Sent in turn.
        connections: How many requests are under way at once.
        seconds: How long.
    """
    for number, body in enumerate(bodies):
        (folder / f"body-{number}").write_bytes(body)
    plan = {
        "url": url,
        "headers": headers,
        "bodies": len(bodies),
        "connections": connections,
        "seconds": seconds,
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    process = await asyncio.create_subprocess_exec(sys.executable, "-I", __file__, str(folder))
    if await process.wait():
        raise RuntimeError("the load generator failed")
    result = json.loads((folder / "result.json").read_text())
    return Load(**{**result, "sample": (folder / "sample").read_bytes()})


def _main(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    bodies = [(folder / f"body-{number}").read_bytes() for number in range(plan["bodies"])]
    headers = "".join(f"{name}: {value}\r\n" for name, value in plan["headers"].items()).encode()
    load = asyncio.run(_drive(plan["url"], headers, bodies, plan["connections"], plan["seconds"]))
    (folder / "sample").write_bytes(load.sample)
    (folder / "result.json").write_text(json.dumps({**asdict(replace(load, sample=b"")), "sample": ""}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
