"""The command line in this process or in one of its own, and a service on loopback for it to meet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service_simulator import ServiceSimulator, echo
from strongroom.cli._run import run
from strongroom.codec.bhttp import Request, Response
from strongroom.codec.oip import ModelMetadata, TensorMetadata
from strongroom_simulator.state import SimulatorState


@dataclass(frozen=True)
class Result:
    """What a command has left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its one JSON document."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """Its one JSON error."""
        problem: dict[str, Any] = json.loads(self.err)["error"]
        return problem


Command = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of commands that name none."""
    folder = tmp_path / "home"
    monkeypatch.setenv("STRONGROOM_HOME", str(folder))
    return folder


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`cli("verify", "--json")` in this process."""
    monkeypatch.setitem(sys.modules, "openvino.tools", None)  # as a run leaves it; undone after the test

    def command(*arguments: object) -> Result:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return command


@pytest.fixture(scope="session")
def process() -> Command:
    """`process("measure", home=folder)` in a process of its own."""

    def command(*arguments: object, home: Path | None = None) -> Result:
        environment = {**os.environ} if home is None else {**os.environ, "STRONGROOM_HOME": str(home)}
        done = subprocess.run(
            [sys.executable, "-P", "-m", "strongroom", *map(str, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return command


def answer(request: Request) -> Response:
    """An echo model with a description of itself."""
    if request.method == b"GET":
        tensors = [TensorMetadata(name, "FP32", (-1,)) for name in ("x", "y")]
        metadata = ModelMetadata("echo", ("1",), "openvino", (tensors[0],), (tensors[1],))
        return Response(200, body=json.dumps(metadata.to_json()).encode())
    return echo(request)


class _Handler(BaseHTTPRequestHandler):
    """Passes requests to a simulator."""

    simulator: ServiceSimulator

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = httpx.Request(
            self.command, f"http://service{self.path}", headers=dict(self.headers), content=body
        )
        response = self.simulator.answer(request)
        self.send_response(response.status_code)
        for name in ("content-type", "retry-after", "strongroom-plain"):
            if name in response.headers:
                self.send_header(name, response.headers[name])
        self.send_header("content-length", str(len(response.content)))
        self.end_headers()
        self.wfile.write(response.content)

    do_GET = do_POST = _answer  # noqa: N815 -- the base class's names

    def log_message(self, *_: object) -> None:
        """No line for each request."""


@dataclass
class Loopback:
    """A simulated service at a real address."""

    simulator: ServiceSimulator
    url: str
    policy: Path


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> SimulatorState:
    return SimulatorState.open(tmp_path_factory.mktemp("simulator") / "state")


@pytest.fixture
def loopback(state: SimulatorState, tmp_path: Path) -> Iterator[Loopback]:
    simulator = ServiceSimulator(state)
    simulator.handler = answer
    handler = type("Handler", (_Handler,), {"simulator": simulator})
    policy = tmp_path / "policy.toml"
    policy.write_text(simulator.policy.to_toml())
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Loopback(simulator, f"http://127.0.0.1:{server.server_port}", policy)
        server.shutdown()
        thread.join()


@pytest.fixture
def array_file(tmp_path: Path) -> Path:
    path = tmp_path / "values.npy"
    np.save(path, np.arange(6, dtype=np.float32).reshape(2, 3))
    return path


@pytest.fixture
def closed_port() -> int:
    """A port at which nobody listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
