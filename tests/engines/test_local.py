"""A service on this machine: what `prepare` writes, and what its parts take for ready."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service_simulator import ServiceSimulator
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.keyset import Keyset
from strongroom.attestation.measurement import Measurement
from strongroom.attestation.policy import Policy
from strongroom.attestation.serving import EvidenceList
from strongroom.broker import admin
from strongroom.broker.store import Store
from strongroom.config import load_config, render_config
from strongroom.crypto import agefile
from strongroom.engines.errors import EngineError
from strongroom.engines.local import (
    LOCAL_CUSTODIAN,
    LocalOptions,
    LocalService,
    exclusive,
    prepare,
    sha256_of,
)
from strongroom.errors import EXIT_USAGE
from strongroom_simulator.state import SimulatorState

MODEL = "default/model/echo"

# Holds a state folder until it is told to let go.
HOLDING = """
import pathlib, sys
from strongroom.engines.local import exclusive
with exclusive(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def register(home: Path, sealed: Path, resource: str = MODEL) -> None:
    """What `strongroom model seal` leaves in the broker's store."""
    with Store.open(home / "broker") as store:
        admin.register_model(
            store,
            resource=resource,
            name=resource.rpartition("/")[2],
            version="1",
            manifest_digest="sha256:" + "1" * 64,
            sealed_sha256=hashlib.sha256(sealed.read_bytes()).hexdigest(),
            identity=agefile.generate_identity(),
        )


@pytest.fixture
def options(tmp_path_factory: pytest.TempPathFactory) -> LocalOptions:
    """A home with one sealed model, and two ports that are free. Its path is short, as a socket's must be."""
    folder = tmp_path_factory.mktemp("local")
    home, sealed = folder / "home", folder / "echo.sealed"
    home.mkdir()
    sealed.write_bytes(os.urandom(100))
    register(home, sealed)
    port, broker_port = free_ports(2)
    return LocalOptions(home, [sealed], port=port, broker_port=broker_port)


@pytest.fixture(scope="session")
def measurements(tmp_path_factory: pytest.TempPathFactory, shared_python: Path) -> list[Measurement]:
    """Two measurements that differ in one line."""
    from strongroom.attestation._libraries import SystemFiles
    from strongroom.attestation.measurement import measure

    root = tmp_path_factory.mktemp("root")
    none = SystemFiles(Path("/nonexistent"), Path("/nonexistent"), Path("/nonexistent"), ())
    made = []
    for text in ("x = 1\n", "x = 2\n"):
        (root / "program.py").write_text(text)
        made.append(measure(shared_python, [root], entry="program:main", system=none))
    return made


@pytest.fixture
def prepared(options: LocalOptions, measurements: list[Measurement]) -> LocalService:
    return prepare(options, measurements[0])


def release_policy(home: Path) -> Policy:
    with Store.open(home / "broker") as store:
        [service] = admin.services(store)
    return Policy.parse(service.policy)


def epochs(home: Path) -> list[int]:
    with Store.open(home / "broker") as store:
        return [record.epoch for record in admin.epochs(store, "default")]


@contextmanager
def refused(code: str) -> Iterator[pytest.ExceptionInfo[EngineError]]:
    with pytest.raises(EngineError) as caught:
        yield caught
    assert caught.value.code == code


# What `prepare` writes.


@pytest.mark.parametrize("tee", ["sgx", "tdx", "snp"])
def test_the_release_policy_admits_this_code_and_nothing_else(
    options: LocalOptions, measurements: list[Measurement], tee: str
) -> None:
    prepare(replace(options, tee=tee), measurements[0])
    policy = release_policy(options.home)
    kind = EvidenceKind(tee)
    expected = measurements[0].sha256 if kind is EvidenceKind.SGX else measurements[0].sha384
    assert policy.kinds == {kind}
    assert policy.measurements[kind] == {expected.hex()}
    assert policy.simulated_roots == {SimulatorState.open(options.home / "simulator").root_of(kind)}
    assert bool(policy.tcb_floor) is (kind is EvidenceKind.SNP)
    assert policy.allow_simulated
    assert not policy.allow_debug
    assert policy.service == "default"


@pytest.mark.parametrize("tee", ["sgx", "tdx", "snp"])
def test_whatever_the_release_policy_admits_satisfies_the_client(
    options: LocalOptions, measurements: list[Measurement], tee: str
) -> None:
    prepared = prepare(replace(options, tee=tee), measurements[0])
    client = Policy.parse(prepared.policy)
    assert client.differences(release_policy(options.home)) == ()


def test_the_clients_policy_pins_the_broker_and_says_that_it_is_unattested(
    options: LocalOptions, prepared: LocalService
) -> None:
    client = Policy.parse(prepared.policy)
    with Store.open(options.home / "broker") as store:
        assert client.broker_key == admin.signing_key_text(store)
        keyset = Keyset.parse(admin.epochs(store, "default")[0].keyset)
    assert client.allow_unattested_broker
    assert keyset.key_custodian == LOCAL_CUSTODIAN
    assert (options.home / "run" / "policy.toml").read_text() == prepared.policy


def test_the_configuration_reads_back_and_names_everything(
    options: LocalOptions, prepared: LocalService
) -> None:
    path = options.home / "run" / "strongroom.toml"
    config = load_config(path)
    assert render_config(config) == path.read_text()
    assert config.service == "default"
    assert config.queue.url == f"unix://{options.home}/queue/queue.sock"
    assert config.queue.durability == "process"
    assert config.broker.url == f"http://127.0.0.1:{options.broker_port}"
    assert config.broker.listen == f"127.0.0.1:{options.broker_port}"
    assert config.broker.store == str(options.home / "broker")
    assert config.broker.key == Policy.parse(prepared.policy).broker_key
    assert config.frontend.listen == f"127.0.0.1:{options.port}"
    assert config.worker is not None
    assert config.worker.release_policy == release_policy(options.home).digest
    [model] = config.worker.models
    assert (model.path, model.resource) == (str(options.sealed[0]), f"kbs:///{MODEL}")


def test_options_reach_the_configuration(options: LocalOptions, measurements: list[Measurement]) -> None:
    prepare(
        replace(options, service="pictures", tee="tdx", durability="power", threads=3, streams=2),
        measurements[0],
    )
    config = load_config(options.home / "run" / "strongroom.toml")
    assert config.worker is not None
    assert (config.service, config.queue.durability) == ("pictures", "power")
    assert (config.worker.tee, config.worker.threads, config.worker.streams) == ("tdx", 3, 2)
    assert "appendfsync always" in (options.home / "queue" / "valkey.conf").read_text()


@pytest.mark.parametrize("plain", [False, True])
def test_only_the_plain_way_gives_the_front_end_a_policy(
    options: LocalOptions, measurements: list[Measurement], plain: bool
) -> None:
    prepare(replace(options, plain=plain), measurements[0])
    config = load_config(options.home / "run" / "strongroom.toml")
    assert bool(config.frontend.policy) is plain
    if plain:
        assert Policy.load(Path(config.frontend.policy)).broker_key == config.broker.key


def test_a_relative_path_is_made_absolute(
    options: LocalOptions, measurements: list[Measurement], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers start in another folder."""
    monkeypatch.chdir(options.sealed[0].parent)
    prepare(replace(options, sealed=[Path("echo.sealed")]), measurements[0])
    config = load_config(options.home / "run" / "strongroom.toml")
    assert config.worker is not None
    assert config.worker.models[0].path == str(options.sealed[0])


def test_folders_and_secrets_are_for_the_owner_only(options: LocalOptions, prepared: LocalService) -> None:
    with exclusive(options.home):
        pass
    for folder in ("run", "logs", "broker", "queue", "simulator"):
        assert (options.home / folder).stat().st_mode & 0o777 == 0o700, folder
    files = [path for path in options.home.rglob("*") if path.is_file()]
    secrets = [path for path in files if path.parent.name not in {"run", "queue"}]
    assert {"lock", "root.key", "store.db", "keys.json"} <= {path.name for path in secrets}
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    assert prepared.logs == options.home / "logs"


def test_folders_that_were_open_are_closed(options: LocalOptions, measurements: list[Measurement]) -> None:
    for name in ("run", "logs"):
        (options.home / name).mkdir(mode=0o755)
    prepare(options, measurements[0])
    assert (options.home / "run").stat().st_mode & 0o777 == 0o700
    assert (options.home / "logs").stat().st_mode & 0o777 == 0o700


def test_the_parts_and_their_commands(options: LocalOptions, measurements: list[Measurement]) -> None:
    prepared = prepare(replace(options, workers=2), measurements[0])
    config = str(options.home / "run" / "strongroom.toml")
    commands = {part.name: list(part.command) for part in prepared.parts}
    assert list(commands) == ["queue", "broker", "worker-0", "worker-1", "frontend"]
    assert commands["queue"][1].strip('"') == str(options.home / "queue" / "valkey.conf")
    start = [sys.executable, "-P", "-m", "strongroom"]
    assert commands["broker"] == [*start, "broker", "--config", config]
    assert commands["worker-1"] == [*start, "worker", "--config", config, "--name", "worker-1"]
    assert commands["frontend"] == [*start, "frontend", "--config", config]
    assert prepared.models == ("echo",)


# Epochs.


def test_the_same_service_again_keeps_its_epoch(
    options: LocalOptions, prepared: LocalService, measurements: list[Measurement]
) -> None:
    assert prepare(options, measurements[0]).policy == prepared.policy
    assert epochs(options.home) == [1]


def test_changed_code_begins_an_epoch_and_ends_the_older_at_once(
    options: LocalOptions, prepared: LocalService, measurements: list[Measurement]
) -> None:
    """What was sealed for the old code must not be opened by the new."""
    again = prepare(options, measurements[1])
    assert epochs(options.home) == [2]
    assert Policy.parse(again.policy).measurements != Policy.parse(prepared.policy).measurements
    assert Policy.parse(prepared.policy).differences(release_policy(options.home)) != ()
    config = load_config(options.home / "run" / "strongroom.toml")
    assert config.worker is not None
    assert config.worker.release_policy == release_policy(options.home).digest


def test_one_more_model_begins_an_epoch_and_honours_the_older(
    options: LocalOptions, prepared: LocalService, measurements: list[Measurement], tmp_path: Path
) -> None:
    more = tmp_path / "mlp.sealed"
    more.write_bytes(os.urandom(100))
    register(options.home, more, "default/model/mlp")
    again = prepare(replace(options, sealed=[*options.sealed, more]), measurements[0])
    assert again.models == ("echo", "mlp")
    assert again.policy == prepared.policy
    assert epochs(options.home) == [2, 1]


# What is refused.


def test_a_model_that_was_not_sealed_here_is_refused(
    options: LocalOptions, measurements: list[Measurement], tmp_path: Path
) -> None:
    other = tmp_path / "other.sealed"
    other.write_bytes(b"sealed elsewhere")
    with refused("model-key-unknown") as caught:
        prepare(replace(options, sealed=[*options.sealed, other]), measurements[0])
    assert caught.value.detail == str(other)
    assert caught.value.exit_code == EXIT_USAGE


def test_a_model_file_that_is_not_there_is_named(
    options: LocalOptions, measurements: list[Measurement], tmp_path: Path
) -> None:
    with refused("model-key-unknown") as caught:
        prepare(replace(options, sealed=[tmp_path / "none.sealed"]), measurements[0])
    assert caught.value.detail == f"{tmp_path / 'none.sealed'}: No such file or directory"


@pytest.mark.parametrize("which", ["port", "broker_port"])
def test_a_port_that_is_taken_is_refused(
    options: LocalOptions, measurements: list[Measurement], which: str
) -> None:
    port = getattr(options, which)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with refused("port-taken") as caught:
            prepare(options, measurements[0])
    assert caught.value.found == f"127.0.0.1:{port}"
    assert not (options.home / "run").exists(), "nothing is written"


def test_one_port_for_both_servers_is_refused(options: LocalOptions, measurements: list[Measurement]) -> None:
    with refused("port-taken"):
        prepare(replace(options, broker_port=options.port), measurements[0])


def test_a_port_that_was_used_just_now_is_free(
    options: LocalOptions, measurements: list[Measurement]
) -> None:
    """Connections of the last service that linger (TIME_WAIT) do not keep the next from starting."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", options.port))
        server.listen()
        with socket.create_connection(("127.0.0.1", options.port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # who closes first lingers
            assert client.recv(1) == b""
    assert prepare(options, measurements[0]).models == ("echo",)


def test_a_state_folder_is_for_one_service_at_a_time(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    with exclusive(home), refused("already-running") as caught, exclusive(home):
        pytest.fail("two services in one folder")
    assert caught.value.detail == str(home)
    with exclusive(home):
        assert home.stat().st_mode & 0o777 == 0o700
        assert (home / "lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("killed", [False, True])
def test_a_state_folder_is_free_again_when_its_holder_has_ended(tmp_path: Path, killed: bool) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with refused("already-running"), exclusive(tmp_path):
            pytest.fail("it is held")
        holder.kill() if killed else holder.communicate()
        holder.wait(30)
    with exclusive(tmp_path):
        assert (tmp_path / "lock").exists()


def test_the_digest_of_a_file_larger_than_a_chunk(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 1)
    (tmp_path / "file").write_bytes(data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()


# When a part counts as ready.


def part(service: LocalService, name: str) -> Any:
    return next(part for part in service.parts if part.name == name)


@asynccontextmanager
async def answering(port: int, status: int, body: bytes) -> AsyncIterator[list[bytes]]:
    """An HTTP server that answers every request alike; gives the request lines."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.partition(b"\r\n")[0])
        writer.write(
            b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body))
        )
        writer.write(body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield seen


async def test_a_worker_is_ready_when_the_front_end_says_so(prepared: LocalService) -> None:
    assert await part(prepared, "worker-0").ready() is True


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False), (404, False)])
async def test_the_broker_is_ready_when_it_answers_with_200(
    options: LocalOptions, prepared: LocalService, status: int, ready: bool
) -> None:
    broker = part(prepared, "broker")
    assert await broker.ready() is False
    async with answering(options.broker_port, status, b"") as seen:
        assert await broker.ready() is ready
    assert seen == [b"GET /healthz HTTP/1.1"]


async def test_a_server_that_hangs_up_is_not_ready(options: LocalOptions, prepared: LocalService) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", options.port):
        assert await part(prepared, "frontend").ready() is False


async def test_the_queue_is_ready_when_it_answers(prepared: LocalService) -> None:
    queue = part(prepared, "queue")
    assert await queue.ready() is False
    process = await asyncio.create_subprocess_exec(*queue.command)
    try:
        async with asyncio.timeout(30):
            while not await queue.ready():
                assert process.returncode is None
                await asyncio.sleep(0.01)
    finally:
        process.terminate()
        await process.wait()
    assert await queue.ready() is False


def evidence(simulator: ServiceSimulator, *nonces: bytes | None) -> bytes:
    return EvidenceList(tuple(simulator.evidence(nonce) for nonce in nonces)).to_json_bytes()


async def test_the_front_end_is_ready_with_evidence_made_since_the_start(
    options: LocalOptions, prepared: LocalService, tmp_path: Path
) -> None:
    simulator = ServiceSimulator(SimulatorState.open(tmp_path / "state"))
    frontend = part(prepared, "frontend")
    async with answering(options.port, 200, evidence(simulator, None)) as seen:
        assert await frontend.ready() is True
    assert seen == [b"GET /strongroom/v1/evidence HTTP/1.1"]


async def test_evidence_of_an_earlier_run_does_not_count(
    options: LocalOptions, measurements: list[Measurement], tmp_path: Path
) -> None:
    simulator = ServiceSimulator(SimulatorState.open(tmp_path / "state"))
    simulator.now = lambda: 1_700_000_000.0
    old = simulator.evidence(None)
    simulator.now = ServiceSimulator.now
    frontend = part(prepare(options, measurements[0]), "frontend")
    without_beacon = replace(simulator.evidence(None), beacon=None)
    async with answering(options.port, 200, EvidenceList((old, without_beacon)).to_json_bytes()):
        assert await frontend.ready() is False
    both = EvidenceList((old, simulator.evidence(None))).to_json_bytes()
    async with answering(options.port, 200, both):
        assert await frontend.ready() is True


@pytest.mark.parametrize(("status", "body"), [(200, b""), (200, b"{}"), (200, b"\xff"), (503, b"{}")])
async def test_a_front_end_without_evidence_is_not_ready(
    options: LocalOptions, prepared: LocalService, status: int, body: bytes
) -> None:
    async with answering(options.port, status, body):
        assert await part(prepared, "frontend").ready() is False
