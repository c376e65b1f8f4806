"""A whole service, started the way a user starts it: `strongroom up` in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90.0


def load_models() -> Any:
    """The model builders that tests share with the benchmarks."""
    spec = importlib.util.spec_from_file_location("benchmark_models", ROOT / "benchmarks" / "_models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def strongroom(home: Path, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "strongroom", *map(str, arguments)],
        env={**os.environ, "STRONGROOM_HOME": str(home)},
        capture_output=True,
        text=True,
        check=check,
        timeout=120,
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@dataclass
class Service:
    """A running service."""

    home: Path
    url: str
    policy: Path
    process: subprocess.Popen[str]
    events: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    reader: threading.Thread = field(init=False)
    _queue: queue.Queue[dict[str, Any] | None] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self.read_events, daemon=True)

    def pid(self, part: str) -> int:
        """Process id of a part, as of its last start."""
        started = [e for e in self.events if e["event"] == "started" and e["part"] == part]
        return int(started[-1]["detail"].removeprefix("pid "))

    def read_events(self) -> None:
        assert self.process.stdout is not None
        decoder, text = json.JSONDecoder(), ""
        for line in self.process.stdout:
            text = (text + line).lstrip()
            try:
                event, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                continue
            text = text[end:]
            self.events.append(event)
            self._queue.put(event)
        self._queue.put(None)

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = START_SECONDS) -> Any:
        """The next event for which `wanted` is true."""
        until = time.monotonic() + seconds
        while True:
            try:
                event = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no such event in {seconds} s; logs:\n{self.logs()}") from None
            if event is None:
                raise AssertionError(f"`strongroom up` ended; logs:\n{self.logs()}")
            if wanted(event):
                return event

    def logs(self) -> str:
        """The last lines of all logs."""
        parts = []
        for path in sorted((self.home / "logs").glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-8:]
            parts.append("\n".join([f"== {path.name}", *lines]))
        return "\n".join(parts)

    def stop(self) -> int:
        """Stop it as Ctrl-C does; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=60)
        self.reader.join(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def start_service(home: Path, sealed: list[Path], *more: str) -> Service:
    """Start `strongroom up` and wait until it serves."""
    port, broker_port = free_ports(2)
    policy = home / "client-policy.toml"
    arguments = [*map(str, sealed), "--policy-out", str(policy), "--port", str(port)]
    arguments += ["--broker-port", str(broker_port), "--json", *more]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "strongroom", "up", *arguments],
        env={**os.environ, "STRONGROOM_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    service = Service(home, f"http://127.0.0.1:{port}", policy, process)
    service.reader.start()
    try:
        service.wait_for(lambda event: event["event"] == "serving")
    except BaseException:
        service.stop()
        raise
    service.seconds = time.monotonic() - started
    return service


@pytest.fixture(scope="session")
def sealed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with two small models sealed into it: `echo` (float32 [-1]) and `mlp`."""
    from strongroom.models.quiet_openvino import ov

    models = load_models()
    folder = tmp_path_factory.mktemp("sealed")
    for name, graph in (("echo", models.echo((-1, 64))), ("mlp", models.mlp(width=64))):
        ov.save_model(graph, folder / f"{name}.xml", compress_to_fp16=False)
        bundle, sealed = folder / f"{name}.model", folder / f"{name}.sealed"
        strongroom(folder, "model", "import", folder / f"{name}.xml", "--name", name, "-o", bundle)
        strongroom(folder, "model", "seal", bundle, "-o", sealed)
    return folder


@pytest.fixture(scope="module")
def service(sealed_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with both models, for the tests of one module."""
    import shutil

    home = tmp_path_factory.mktemp("home")
    shutil.copytree(sealed_folder / "broker", home / "broker")
    running = start_service(home, [sealed_folder / "echo.sealed", sealed_folder / "mlp.sealed"], "--plain")
    yield running
    assert running.stop() == 0, running.logs()


@pytest.fixture(scope="session", name="start_service")
def _start_service() -> Callable[..., Service]:
    """`start_service(home, [sealed])`, for services of a test's own; whoever starts one stops it."""
    return start_service


@pytest.fixture(scope="session", name="free_ports")
def _free_ports() -> Callable[[int], list[int]]:
    """`free_ports(2)`: TCP ports that are free now."""
    return free_ports
