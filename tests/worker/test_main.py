"""The worker as a process: started by the real launcher, or by a stand-in that skips the measuring."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.keyset import Keyset
from strongroom.attestation.serving import EvidenceList, ServiceAppraisal, ServiceEvidence
from strongroom.broker import admin
from strongroom.codec.bhttp import Request
from strongroom.codec.oip import Tensor
from strongroom.crypto.ohttp import SealedRequest, seal_request
from strongroom.engines.import_roots import measure_default
from strongroom.engines.launcher import Launcher, SimulatedQuoting, answer
from strongroom.queue.connect import connect
from strongroom.queue.producer import ReplyReader, RequestQueue
from strongroom.queue.records import Reply, SealedRecord
from strongroom.queue.valkey import EmbeddedValkey

pytestmark = pytest.mark.system

BOOT = "import sys; from strongroom.worker.main import main; main()"


@dataclass
class Place:
    """Broker, queue and registered models for a worker."""

    rig: Any
    queue: EmbeddedValkey
    broker_url: str
    stack: ExitStack
    kit: Any
    number: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def settings(self, **changes: Any) -> bytes:
        return json.dumps(
            {
                "queue_url": self.queue.url,
                "service": self.rig.init_data.service,
                "consumer": "worker-0",
                "broker_url": self.broker_url,
                "init_data": self.rig.init_data.to_toml().decode(),
                "tee": "sgx",
                "bundles": [{"path": str(p), "resource": r} for r, p in self.rig.sealed.items()],
            }
            | changes
        ).encode()

    def start(self, config: bytes) -> StandIn:
        """A worker process without measuring."""
        reading, writing = os.pipe()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = subprocess.Popen(
            [sys.executable, "-c", BOOT, str(reading), str(theirs.fileno())],
            pass_fds=(reading, theirs.fileno()),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        os.close(reading)
        theirs.close()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(config)
        self.stack.callback(_end, process, ours)
        return StandIn(process, ours, self.rig.quoter())

    async def front(self, work: Callable[[Front], Awaitable[None]]) -> None:
        """Do something as the front end."""
        async with connect(self.queue.url) as client:
            replies = ReplyReader(client, self.rig.init_data.service, "front")
            try:
                queue = RequestQueue(client, self.rig.init_data.service, max_length=10_000)
                await work(Front(self, queue, replies))
            finally:
                await replies.aclose()

    def keys(self) -> Any:
        [newest, *_] = admin.epochs(self.rig.store, "pictures")
        return Keyset.parse(newest.keyset).key_configs


def _end(process: subprocess.Popen[bytes], sock: socket.socket) -> None:
    process.kill()
    process.communicate()
    sock.close()


class StandIn:
    """A worker process, and the launcher's end of its quoting socket."""

    def __init__(self, process: subprocess.Popen[bytes], sock: socket.socket, quoter: Any) -> None:
        self.process = process
        self.sock = sock
        self._quoter = quoter
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._serving.start()

    def _serve(self) -> None:
        try:
            while request := self.sock.recv(65):
                for packet in answer(request, self._quoter):
                    self.sock.sendall(packet)
        except OSError:
            return

    def finish(self, seconds: float = 60) -> tuple[int, bytes]:
        """Exit status and what it has written to stderr."""
        assert self.process.stderr is not None
        log = self.process.stderr.read()  # what `wait_for` has read ahead is part of it
        return self.process.wait(seconds), log

    def wait_for(self, event: str) -> bytes:
        """The first line of its log about an event."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if json.loads(line)["event"] == event:
                return line
        raise AssertionError(f"it ended without {event}")


@dataclass
class Front:
    """A front end's view."""

    place: Place
    queue: RequestQueue
    replies: ReplyReader
    sent: int = 0

    async def documents(self) -> dict[str, bytes]:
        async with asyncio.timeout(90):
            while True:
                found = {kind: await self.queue.documents(kind) for kind in ("evidence", "keyset", "policy")}
                if all(found.values()):
                    return {kind: each["worker-0"] for kind, each in found.items()}
                await asyncio.sleep(0.02)

    async def send(self, body: bytes, *, key: str = "k", deadline: int | None = None) -> str:
        self.sent += 1
        name = f"r{self.sent}"
        due = self.place.kit.FAR if deadline is None else deadline
        await self.queue.submit(SealedRecord(name, key, body, "front", due))
        return name

    async def receive(self, count: int) -> dict[str, Reply]:
        found: dict[str, Reply] = {}
        async with asyncio.timeout(60):
            async for reply in self.replies:
                found[reply.id] = reply
                if len(found) == count:
                    break
        return found

    async def ask(self, sealed: SealedRequest) -> Any:
        name = await self.send(sealed.data)
        reply = (await self.receive(1))[name]
        return self.place.kit.opened(sealed, reply.body)


@pytest.fixture
def place(rig: Any, kit: Any, double_tar: bytes, picture_tar: bytes, tmp_path: Path) -> Iterator[Place]:
    rig.add_model(double_tar)
    rig.add_model(picture_tar)
    rig.register()
    with ExitStack() as stack:
        queue = stack.enter_context(EmbeddedValkey(tmp_path / "q"))
        url = stack.enter_context(kit.broker_server(rig.store))
        yield Place(rig, queue, url, stack, kit)


# ---- with the real launcher


@pytest.mark.slow
def test_a_measured_worker_serves_a_client_that_verifies_it(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    measurement = measure_default()
    rig, kit = place.rig, place.kit
    rig.measurement = measurement.sha256
    rig.register()
    backend = SimulatedQuoting.of(rig.simulator, EvidenceKind.SGX, measurement, rig.init_data.to_toml())
    enclave = Launcher(measurement, backend, place.settings()).start()
    seen: dict[str, Any] = {}

    async def client(front: Front) -> None:
        documents = await front.documents()
        appraisal = ServiceAppraisal(rig.client_policy(), int(time.time()))
        appraisal.keyset(documents["keyset"])
        appraisal.release_policy(documents["policy"])
        listed = EvidenceList((ServiceEvidence.parse(documents["evidence"]),))
        verdict = appraisal.evidence(listed.to_json_bytes())
        seen["measurements"] = verdict.measurements
        sealed = kit.Sealer(verdict.keyset.key_configs[0]).infer("double", kit.x(1, 2, 3, 4))
        seen["answer"] = kit.inferred(await front.ask(sealed)).outputs[0].array.tolist()
        status = Path(f"/proc/{enclave.pid}/status").read_text()
        seen["status"] = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        seen["limits"] = Path(f"/proc/{enclave.pid}/limits").read_text()
        seen["stdin"] = str(Path(f"/proc/{enclave.pid}/fd/0").readlink())

    try:
        asyncio.run(place.front(client))
        enclave.terminate()
        assert enclave.wait(30) == 0
    finally:
        enclave.kill()
        enclave.wait(30)
    assert seen["measurements"] == (measurement.sha256.hex(),)
    assert seen["answer"] == [[2, 4, 6, 8]]
    assert seen["status"]["NoNewPrivs"] == "1"
    assert seen["status"]["Umask"] == "0077"
    assert seen["stdin"] == "/dev/null"
    core = next(line.split() for line in seen["limits"].splitlines() if "core file" in line)
    assert core[4:6] == ["0", "0"]
    captured = capfd.readouterr()
    assert captured.out == ""
    events = [json.loads(line)["event"] for line in captured.err.splitlines()]
    assert events[-1] == "drained"


# ---- plaintext


def _canary_forms(canary: bytes) -> list[bytes]:
    numbers = np.frombuffer(canary, np.uint8).astype(np.float32)
    text = json.dumps(numbers.tolist()).encode()
    return [canary, base64.b64encode(canary), canary.hex().encode(), numbers.tobytes(), text[1:-1]]


def test_no_request_leaves_a_trace_in_the_log(place: Place) -> None:
    """A canary in every place of a request that the worker reads, in good requests and in bad ones."""
    kit = place.kit
    canary = b"CANARY-" + random.Random(7).randbytes(24).hex().encode()
    word = canary.decode()
    values = np.frombuffer(canary[:52], np.uint8).astype(np.float32).reshape(-1, 4)[:8]
    [config, *_] = place.keys()
    sealer = kit.Sealer(config)
    x = Tensor.from_array("x", values)
    headers = ((b"x-canary", canary),)
    kinds = [
        sealer.infer("double", x, headers=headers),
        sealer.infer("double", x, parameters={"note": word}),
        sealer.infer(word, x),
        sealer.infer("double", Tensor.from_array(word, values)),
        sealer.infer("double", Tensor.from_array("x", values.reshape(-1))),
        sealer.infer("double", x, headers=((b"strongroom-deadline", canary),)),
        sealer.infer("picture", kit.pictures(canary)),
        sealer.infer("picture", kit.pictures(b"\xff\xd8\xff\xe0" + canary * 20)),
        sealer.infer("picture", kit.pictures(b"\x89PNG\r\n\x1a\n" + canary * 20)),
        sealer.seal(Request(b"GET", b"https", canary, b"/v2/models/" + canary)),
        sealer.seal(Request(b"GET", b"https", b"", b"/v2/health/" + canary + b"?" + canary)),
        sealer.seal(Request(b"POST", b"https", b"", b"/v2/models/double/infer", headers, canary)),
        sealer.seal(Request(canary.replace(b"-", b""), b"https", b"", b"/v2/health")),
        seal_request(config, None, canary),
        seal_request(config, None, b"\x00" + canary * 50),
    ]
    worker = place.start(place.settings(metrics=1))

    async def client(front: Front) -> None:
        await front.documents()
        for _ in range(10):
            for sealed in kinds:
                await front.send(sealed.data)
            await front.send(canary)
            await front.send(canary[:32], key="evidence")
            await front.send(canary, key="evidence")
        replies = await front.receive(10 * (len(kinds) + 3))
        assert len(replies) == 10 * (len(kinds) + 3)

    asyncio.run(place.front(client))
    worker.process.send_signal(signal.SIGTERM)
    status, log = worker.finish()
    assert status == 0
    assert b'"taken":180' in log
    for form in _canary_forms(canary):
        assert form not in log
    assert b"CANARY" not in log.upper()
    assert b"internal" not in log


# ---- starting and stopping


def test_it_stops_with_0_after_sigterm(place: Place) -> None:
    worker = place.start(place.settings())
    worker.wait_for("serving")
    began = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    status, log = worker.finish()
    assert status == 0, log
    assert json.loads(log.splitlines()[-1])["event"] == "drained"
    assert time.monotonic() - began < 5


def test_it_answers_what_it_holds_before_it_stops(place: Place) -> None:
    kit = place.kit
    worker = place.start(place.settings())
    sealer = kit.Sealer(place.keys()[0])
    sent: dict[str, SealedRequest] = {}

    async def client(front: Front) -> None:
        await front.documents()
        for number in range(200):
            sealed = sealer.infer("double", kit.x(*[number] * 4))
            sent[await front.send(sealed.data)] = sealed
            if number == 100:
                worker.process.send_signal(signal.SIGTERM)
        status, log = await asyncio.to_thread(worker.finish)
        assert status == 0
        drained = json.loads(log.splitlines()[-1])
        assert drained["held"] == 0
        assert drained["taken"] == drained["answered"]
        replies = await front.receive(drained["answered"]) if drained["answered"] else {}
        for name, reply in replies.items():
            answer = kit.inferred(kit.opened(sent[name], reply.body)).outputs[0].array
            assert answer[0, 0] == 2 * (int(name[1:]) - 1)
        assert await front.queue.depth() == 200 - len(replies)

    asyncio.run(place.front(client))


def test_it_ends_when_its_launcher_does(place: Place) -> None:
    worker = place.start(place.settings())
    worker.wait_for("serving")
    worker.sock.shutdown(socket.SHUT_RDWR)
    assert worker.finish()[0] == 0


def test_it_waits_for_its_broker_and_can_be_stopped_meanwhile(place: Place) -> None:
    worker = place.start(place.settings(broker_url="http://127.0.0.1:9"))
    line = json.loads(worker.wait_for("enrol"))
    assert line["code"] == "broker-unreachable"
    worker.process.send_signal(signal.SIGTERM)
    assert worker.finish()[0] == 0


def test_a_refusal_by_the_broker_ends_it_with_3(place: Place) -> None:
    place.rig.measurement = b"\1" * 32
    worker = place.start(place.settings())
    status, log = worker.finish()
    assert status == 3
    last = json.loads(log.splitlines()[-1])
    assert last["event"] == "stopped"
    assert last["code"].startswith("policy-")


def test_a_configuration_that_is_refused_ends_it_with_2(place: Place) -> None:
    worker = place.start(place.settings(log_plaintext=True))
    status, log = worker.finish()
    assert (status, json.loads(log)["code"]) == (2, "worker-config-refused")
    assert b"log_plaintext" not in log


def test_without_a_launcher_it_does_not_start() -> None:
    done = subprocess.run([sys.executable, "-c", BOOT], capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert json.loads(done.stderr)["code"] == "quoting-lost"


def test_what_goes_wrong_before_serving_shows_no_message(place: Place) -> None:
    """Even a fault nobody thought of ends in one line with its class and place."""
    code = (
        "import sys\n"
        "import strongroom.worker.main as worker\n"
        "def fail(journal):\n"
        "    raise LookupError('a canary')\n"
        "worker._run = fail\n"
        "worker.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert b"canary" not in done.stderr
    line = json.loads(done.stderr)
    assert (line["event"], line["error"]) == ("stopped", "LookupError")


def test_a_process_that_cannot_be_hardened_does_not_start() -> None:
    code = (
        "import strongroom.worker.hardening as hardening\n"
        "hardening.LinuxKernel.prctl = lambda self, option, argument: 1\n"
        "from strongroom.worker.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert json.loads(done.stderr)["code"] == "hardening-failed"


def test_the_enclave_imports_no_more_than_it_needs() -> None:
    """HTTP frameworks, converters and the simulator stay outside: what is not there cannot fail."""
    code = (
        "import sys\n"
        "sys.modules['openvino.tools'] = None\n"
        "import strongroom.worker.main, strongroom.worker.serve, strongroom.worker.startup\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))\n"
        "print(*sorted(name for name in sys.modules if name.startswith('strongroom')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=60, text=True
    )
    packages, modules = done.stdout.splitlines()
    outside = {name for name in packages.split() if not name.startswith("_")}
    known = {"PIL", "cryptography", "hiredis", "msgspec", "numpy", "openvino", "pyrage", "rfc8785", "uvloop"}
    assert outside - {"strongroom", "typing_extensions", "cython_runtime"} <= known
    layers = {name.split(".")[1] for name in modules.split() if "." in name}
    assert layers <= {
        "attestation",
        "broker",
        "codec",
        "config",
        "crypto",
        "errors",
        "forms",
        "models",
        "queue",
        "worker",
    }
    assert "strongroom_simulator" not in modules
    assert "strongroom.broker.server" not in modules
