"""Sealed serving, plain serving and OpenVINO's own loop, on the same cores in one run.

    python benchmarks/serving.py [--models resnet50,lite0] [--rounds 3] [--seconds 6] [--json FILE]

Every side gets the same uint8 tensor; JPEG is a row of its own. The sides take turns, round by round, so that
a machine whose speed drifts slows them all; ratios are taken within a round, and the median of the rounds is
shown. The load generator runs on the same cores. Requests are sealed before the clock starts ("sealed"), or
by a Python client while it runs ("sealed, Python client").
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.modules.setdefault("openvino.tools", None)  # it would report its use over the network
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "demo")]

import _load  # noqa: E402
import _models  # noqa: E402
import strongroom  # noqa: E402
from strongroom.client._answer import infer_request  # noqa: E402
from strongroom.client._flow import _stamped  # noqa: E402
from strongroom.codec.bhttp import encode_request  # noqa: E402
from strongroom.crypto.ohttp import seal_request  # noqa: E402
from strongroom.models.bundle import read_bundle  # noqa: E402

CONCURRENCY = 16
SEALED_BODIES = 32
FAR_AHEAD = 3600.0
PARTS = ("queue", "broker", "frontend", "worker")


@dataclass
class Model:
    """A model under test."""

    name: str
    preprocess: str
    bundle: Path
    sealed: Path


@dataclass
class Service:
    """`strongroom up`, running."""

    url: str
    policy: Path
    process: subprocess.Popen[str]

    def cpu(self) -> dict[str, float]:
        """CPU seconds of each part so far, with its children that have ended."""
        used: dict[str, float] = {}
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # the queue server has children that write its file anew
                times, name = process.cpu_times(), part_of(" ".join(process.cmdline()))
                used[name] = used.get(name, 0.0) + times.user + times.system
                used[name] += times.children_user + times.children_system
        return used


def part_of(command: str) -> str:
    """Which part a command line is."""
    if "valkey-server" in command:
        return "queue"
    if " -c " in command:
        return "worker"
    return next((part for part in ("frontend", "broker") if f"strongroom {part}" in command), "launcher")


@dataclass
class Figures:
    """What was measured of one model: rows by name, one value a round."""

    throughput: dict[str, list[float]] = field(default_factory=dict)
    latency: dict[str, list[float]] = field(default_factory=dict)
    cpu_ms: dict[str, list[float]] = field(default_factory=dict)

    def add(self, table: dict[str, list[float]], row: str, value: float) -> None:
        """Note one round's value."""
        table.setdefault(row, []).append(value)

    def ratio(self, row: str, base: str) -> float:
        """Median over the rounds of one row's throughput over another's."""
        pairs = zip(self.throughput[row], self.throughput[base], strict=True)
        return statistics.median(a / b for a, b in pairs)


def build(folder: Path, name: str, home: Path) -> Model:
    """Build, import and seal a model."""
    from strongroom.models.quiet_openvino import ov

    xml = folder / f"{name}.xml"
    if name == "lite0":
        from lite0 import build_lite0

        build_lite0(xml)
    else:
        ov.save_model(_models.resnet50(), xml, compress_to_fp16=False)
    preprocess = {"lite0": "lite0", "resnet50": "imagenet"}[name]
    model = Model(name, preprocess, folder / f"{name}.model", folder / f"{name}.sealed")
    command(home, "model", "import", xml, "--name", name, "--preprocess", preprocess, "-o", model.bundle)
    command(home, "model", "seal", model.bundle, "-o", model.sealed)
    return model


def command(home: Path, *arguments: str | Path) -> None:
    """Run a strongroom command."""
    line = [sys.executable, "-P", "-m", "strongroom", *map(str, arguments)]
    subprocess.run(
        line, env={**os.environ, "STRONGROOM_HOME": str(home)}, check=True, stdout=subprocess.DEVNULL
    )


@contextmanager
def serving(model: Model, home: Path) -> Iterator[Service]:
    """Run the service for one model."""
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    policy = home / "policy.toml"
    line = [sys.executable, "-P", "-m", "strongroom", "up", str(model.sealed), "--plain", "--json"]
    line += ["--policy-out", str(policy), "--port", str(ports[0]), "--broker-port", str(ports[1])]
    process = subprocess.Popen(
        line, env={**os.environ, "STRONGROOM_HOME": str(home)}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for text in process.stdout:
            if '"serving"' in text:
                break
        else:
            sys.exit("`strongroom up` did not serve")
        yield Service(f"http://127.0.0.1:{ports[0]}", policy, process)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


class Loop:
    """OpenVINO's own asynchronous loop over the same graph, in a process of its own."""

    CODE = """
import sys, time
import numpy as np
from strongroom.models.quiet_openvino import CORE, ov
from strongroom.models.bundle import read_bundle
from strongroom.models._openvino_compile import open_graph
bundle = read_bundle(open(sys.argv[1], "rb").read())
model = open_graph(bundle)
model.reshape({model.inputs[0]: [1, 224, 224, 3]})
compiled = CORE.compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
queue = ov.AsyncInferQueue(compiled)
picture = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3), np.uint8)
done = 0
def count(request, _):
    global done
    request.get_output_tensor(0).data.copy()
    done += 1
queue.set_callback(count)
single = compiled.create_infer_request()
print("ready", len(queue), flush=True)
for line in sys.stdin:
    what, seconds = line.split()
    until = time.perf_counter() + float(seconds)
    if what == "throughput":
        done = 0
        started = time.perf_counter()
        while time.perf_counter() < until:
            queue.start_async({0: picture})
        queue.wait_all()
        print(done / (time.perf_counter() - started), flush=True)
    else:
        times = []
        while time.perf_counter() < until:
            started = time.perf_counter()
            single.infer({0: picture})
            times.append(time.perf_counter() - started)
        print(sorted(times)[len(times) // 2] * 1000, flush=True)
"""

    def __init__(self, model: Model) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, str(model.bundle)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("ready")

    def run(self, what: str, seconds: float) -> float:
        """`throughput` in items a second, or `latency` as the median in milliseconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what} {seconds}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)


def picture() -> np.ndarray:
    """The tensor that every side gets."""
    return np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3), np.uint8)


def jpeg(side: int = 256) -> bytes:
    """A JPEG of the size that the preprocessing makes anyway."""
    import io

    from PIL import Image

    smooth = np.random.default_rng(2).integers(0, 256, (8, 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(smooth).resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


@dataclass
class Side:
    """One way of asking the service: where to post, what, and how to read the answer."""

    url: str
    headers: dict[str, str]
    bodies: list[bytes]
    opens: list[Any]


def sealed_side(service: Service, model: Model, value: Any) -> Side:
    """Requests that were sealed beforehand."""
    inner = _stamped(
        infer_request(model.name, {"image": value}, version=None, outputs=()), time.time() + FAR_AHEAD
    )
    with strongroom.connect(service.url, policy=service.policy) as room:
        assert room.verdict is not None
        config = room.verdict.keyset.key_configs[0]
    sealed = [seal_request(config, None, encode_request(inner)) for _ in range(SEALED_BODIES)]
    return Side(
        f"{service.url}/.well-known/ohttp-gateway",
        {"content-type": "message/ohttp-req"},
        [each.data for each in sealed],
        [each.open_response for each in sealed],
    )


def plain_side(service: Service, model: Model, value: Any) -> Side:
    """The same requests in plain."""
    inner = infer_request(model.name, {"image": value}, version=None, outputs=())
    headers = {name.decode(): field.decode() for name, field in inner.headers}
    return Side(f"{service.url}{inner.path.decode()}", headers, [bytes(inner.body)], [])


def measure_side(
    figures: Figures, row: str, service: Service, side: Side, folder: Path, seconds: float
) -> None:
    """Throughput at 16, with CPU per request, and latency at 1."""
    before, started = service.cpu(), time.perf_counter()
    load = asyncio.run(_load.drive(folder, side.url, side.headers, side.bodies, CONCURRENCY, seconds))
    del started
    after = service.cpu()
    if load.failed or not load.requests:
        sys.exit(f"{row}: {load.failed} of {load.failed + load.requests} requests failed")
    figures.add(figures.throughput, row, load.per_second)
    for part in PARTS:
        used = (after.get(part, 0.0) - before.get(part, 0.0)) * 1000 / load.requests
        figures.add(figures.cpu_ms, f"{row}: {part}", used)
    single = asyncio.run(_load.drive(folder, side.url, side.headers, side.bodies, 1, seconds / 2))
    figures.add(figures.latency, row, single.percentile(0.5))


async def python_client(service: Service, model: Model, value: Any, seconds: float) -> float:
    """Throughput with clients that verify, seal and open while the clock runs."""
    async with await strongroom.connect_async(service.url, policy=service.policy) as room:
        until = time.perf_counter() + seconds
        done = 0

        async def one() -> None:
            nonlocal done
            while time.perf_counter() < until:
                await room.infer(model.name, {"image": value})
                done += 1

        started = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(CONCURRENCY)))
        return done / (time.perf_counter() - started)


def measure(model: Model, home: Path, folder: Path, rounds: int, seconds: float) -> Figures:
    """All sides, round by round."""
    figures = Figures()
    loop = Loop(model)
    with serving(model, home) as service:
        value, encoded = picture(), jpeg()
        sides = {
            "sealed": sealed_side(service, model, value),
            "plain": plain_side(service, model, value),
            "sealed, JPEG": sealed_side(service, model, encoded),
        }
        asyncio.run(_load.drive(folder, *_unpack(sides["sealed"]), CONCURRENCY, 2.0))  # warm up
        loop.run("throughput", 2.0)
        for number in range(rounds):
            print(f"{model.name}: round {number + 1} of {rounds}", file=sys.stderr)
            figures.add(figures.throughput, "loop", loop.run("throughput", seconds))
            figures.add(figures.latency, "loop", loop.run("latency", seconds / 2))
            for row, side in sides.items():
                measure_side(figures, row, service, side, folder, seconds)
            sealing = asyncio.run(python_client(service, model, value, seconds))
            figures.add(figures.throughput, "sealed, Python client", sealing)
    loop.close()
    return figures


def _unpack(side: Side) -> tuple[str, dict[str, str], list[bytes]]:
    return side.url, side.headers, side.bodies


def report(name: str, figures: Figures) -> dict[str, Any]:
    """Print one model's table; returns it for machines."""
    print(f"\n{name}: concurrency {CONCURRENCY}, median of {len(figures.throughput['loop'])} rounds")
    print(f"  {'side':<24} {'items/s':>9} {'/ loop':>8} {'ms at 1':>9} {'added':>7}")
    rows: dict[str, Any] = {}
    base = statistics.median(figures.latency["loop"])
    for row, values in figures.throughput.items():
        alone = statistics.median(figures.latency[row]) if row in figures.latency else None
        rows[row] = {
            "items_per_second": statistics.median(values),
            "over_loop": figures.ratio(row, "loop"),
            "latency_ms": alone,
            "added_ms": None if alone is None else alone - base,
            "rounds": values,
        }
        shown = f"{alone:9.2f} {alone - base:7.2f}" if alone is not None else ""
        print(f"  {row:<24} {statistics.median(values):9.1f} {figures.ratio(row, 'loop'):8.3f} {shown}")
    print(f"  sealed over plain {figures.ratio('sealed', 'plain'):.3f}")
    print("  CPU milliseconds a request:")
    for row in ("sealed", "plain"):
        used = {part: statistics.median(figures.cpu_ms[f"{row}: {part}"]) for part in PARTS}
        print(f"    {row:<8} " + "  ".join(f"{part} {value:.2f}" for part, value in used.items()))
        rows[row]["cpu_ms"] = used
    rows["sealed"]["over_plain"] = figures.ratio("sealed", "plain")
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="resnet50,lite0")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(f"{psutil.cpu_count()} cores; OpenVINO, load generator and service share them")
    folder = Path(tempfile.mkdtemp(prefix="sr-bench-"))
    try:
        results = {}
        for name in arguments.models.split(","):
            home = folder / f"home-{name}"
            model = build(folder, name, home)
            read_bundle(model.bundle.read_bytes())
            results[name] = report(name, measure(model, home, folder, arguments.rounds, arguments.seconds))
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
