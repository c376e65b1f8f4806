"""A whole service on this machine: its files, its policies and its parts.

`prepare` writes what the parts need and returns them; a `Supervisor` runs them. The release policy admits the
code that is installed here now, with simulated evidence: this is for development and demonstrations, and is
NOT protection.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from strongroom.attestation.beacon import Beacon
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.measurement import Measurement
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.serving import EvidenceList
from strongroom.broker import admin
from strongroom.broker.registry import ModelRecord
from strongroom.broker.store import Store
from strongroom.config import (
    BrokerConfig,
    Config,
    FrontendConfig,
    ModelConfig,
    QueueConfig,
    WorkerConfig,
    render_config,
)
from strongroom.engines.errors import ALREADY_RUNNING, MODEL_KEY_UNKNOWN, PORT_TAKEN, EngineError
from strongroom.engines.supervisor import Part
from strongroom.errors import StrongroomError
from strongroom.queue.client import Client
from strongroom.queue.connect import connect
from strongroom.queue.valkey import ENVIRONMENT, Durability, EmbeddedValkey
from strongroom_simulator.state import SimulatorState

LOCAL_CUSTODIAN: Final = "this machine"
_CHUNK: Final = 1 << 20
_PROBE_SECONDS: Final = 2.0
# For probes of plain HTTP on this machine, of which there are many: loading the usual roots takes 25 ms.
_NO_ROOTS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """How to run a service on this machine.

    Attributes:
        home: State folder.
        sealed: Sealed model bundles.
        service: Name of the service.
        tee: Format of the simulated evidence, `sgx`, `tdx` or `snp`.
        workers: Number of worker processes.
        port: Port of the front end on 127.0.0.1.
        broker_port: Port of the key broker on 127.0.0.1.
        plain: Also take plain requests, which the front end then sees.
        durability: `process` or `power`.
        threads: Threads of a worker that open and decode; 0 for one for each core.
        streams: Inference streams of a worker; 0 for one for each core.
    """

    home: Path
    sealed: Sequence[Path]
    service: str = "default"
    tee: str = "sgx"
    workers: int = 1
    port: int = 8470
    broker_port: int = 8471
    plain: bool = False
    durability: Durability = "process"
    threads: int = 0
    streams: int = 0

    @property
    def url(self) -> str:
        """Address of the front end."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class LocalService:
    """A service that is ready to be started.

    Attributes:
        parts: For the supervisor.
        policy: The client's policy, as TOML text.
        models: Names of the models.
        logs: Folder of the logs.
    """

    parts: tuple[Part, ...]
    policy: str
    models: tuple[str, ...]
    logs: Path


@contextmanager
def exclusive(home: Path) -> Iterator[None]:
    """Hold a state folder for one service at a time.

    Raises:
        EngineError: `already-running`.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EngineError(ALREADY_RUNNING, str(home)) from None
        yield
    finally:
        os.close(descriptor)


def prepare(options: LocalOptions, measurement: Measurement) -> LocalService:
    """Write policies and configuration, register the service with its broker, and lay out the parts.

    Args:
        options: How to run it.
        measurement: Of the workers that will be started.

    Raises:
        EngineError: `model-key-unknown` or `port-taken`.
        BrokerError: The broker's store refused.
    """
    if options.port == options.broker_port:
        raise EngineError(PORT_TAKEN, "front end and broker need one each", found=options.url)
    for port in (options.port, options.broker_port):
        _check_port(port)
    run, logs = options.home / "run", options.home / "logs"
    for folder in (run, logs):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    simulator = options.home / "simulator"
    state, kind = SimulatorState.open(simulator), EvidenceKind(options.tee)
    roots = (state.root_of(kind),)
    measured = {kind: [(measurement.sha256 if kind is EvidenceKind.SGX else measurement.sha384).hex()]}
    release_policy = render_policy(
        kinds=[kind],
        measurements=measured,
        tcb_floor=state.tcb_floor(kind),
        allow_simulated=True,
        simulated_roots=roots,
        service=options.service,
    )
    with Store.open(options.home / "broker") as store:
        models = [_registered(store, path) for path in options.sealed]
        admin.register_service(
            store, options.service, release_policy, [model.resource for model in models], LOCAL_CUSTODIAN
        )
        broker_key = admin.signing_key_text(store)
    policy = render_policy(
        kinds=[kind],
        measurements=measured,
        tcb_floor=state.tcb_floor(kind),
        allow_simulated=True,
        simulated_roots=roots,
        service=options.service,
        broker_key=broker_key,
        allow_unattested_broker=True,
    )
    policy_file = run / "policy.toml"
    policy_file.write_text(policy, encoding="utf-8")
    embedded = EmbeddedValkey(options.home / "queue", durability=options.durability)
    config = Config(
        service=options.service,
        queue=QueueConfig(url=embedded.url, durability=options.durability),
        broker=BrokerConfig(
            url=f"http://127.0.0.1:{options.broker_port}",
            key=broker_key,
            listen=f"127.0.0.1:{options.broker_port}",
            store=str(options.home / "broker"),
            profile="trial",
        ),
        worker=WorkerConfig(
            tee=options.tee,
            simulator=str(simulator),
            release_policy=Policy.parse(release_policy).digest,
            models=tuple(
                ModelConfig(str(path.resolve()), model.uri)
                for path, model in zip(options.sealed, models, strict=True)
            ),
            threads=options.threads,
            streams=options.streams,
        ),
        frontend=FrontendConfig(
            listen=f"127.0.0.1:{options.port}", policy=str(policy_file) if options.plain else ""
        ),
    )
    config_file = run / "strongroom.toml"
    config_file.write_text(render_config(config), encoding="utf-8")
    return LocalService(
        _parts(options, config, config_file, embedded), policy, tuple(model.name for model in models), logs
    )


def _parts(
    options: LocalOptions, config: Config, config_file: Path, embedded: EmbeddedValkey
) -> tuple[Part, ...]:
    def strongroom(part: str, *more: str) -> list[str]:
        return [sys.executable, "-P", "-m", "strongroom", part, "--config", str(config_file), *more]

    workers = [
        Part(f"worker-{number}", strongroom("worker", "--name", f"worker-{number}"), _always)
        for number in range(options.workers)
    ]
    return (
        Part("queue", embedded.command(), _Answers(config.queue.url), dict(ENVIRONMENT)),
        Part("broker", strongroom("broker"), _Serves(f"{config.broker.url}/healthz")),
        *workers,
        Part("frontend", strongroom("frontend"), _HasFreshWorker(options.url, int(time.time()))),
    )


async def _always() -> bool:
    """A worker is ready when the front end says so: it publishes its evidence."""
    return True


@dataclass(frozen=True, slots=True)
class _Serves:
    """Whether an HTTP server answers with 200."""

    url: str

    async def __call__(self) -> bool:
        answer = await _get(self.url)
        return answer is not None and answer.status_code == 200


@dataclass(frozen=True, slots=True)
class _HasFreshWorker:
    """Whether the front end serves evidence that a worker has made since a point in time.

    The queue outlives a service, and with it what the workers of an earlier run have published.
    """

    url: str
    since: int

    async def __call__(self) -> bool:
        answer = await _get(f"{self.url}/strongroom/v1/evidence")
        if answer is None or answer.status_code != 200:
            return False
        with suppress(StrongroomError):
            beacons = [worker.beacon for worker in EvidenceList.parse(answer.content).workers]
            return any(b is not None and Beacon.parse(b.payload).time >= self.since for b in beacons)
        return False


async def _get(url: str) -> httpx.Response | None:
    """The answer of a server on this machine, if there is one."""
    with suppress(httpx.TransportError):
        async with httpx.AsyncClient(trust_env=False, timeout=_PROBE_SECONDS, verify=_NO_ROOTS) as client:
            return await client.get(url)
    return None


@dataclass(frozen=True, slots=True)
class _Answers:
    """Whether a queue server answers."""

    url: str

    async def __call__(self) -> bool:
        client: Client = connect(self.url, timeout=1.0)
        try:
            await client.execute("PING")
        except StrongroomError:
            return False
        finally:
            await client.aclose()
        return True


def _registered(store: Store, path: Path) -> ModelRecord:
    record = admin.find_model(store, sha256_of(path))
    if record is None:
        raise EngineError(MODEL_KEY_UNKNOWN, str(path))
    return record


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hex.

    Raises:
        EngineError: `model-key-unknown`, the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise EngineError(MODEL_KEY_UNKNOWN, f"{path}: {error.strerror}") from None
    return digest.hexdigest()


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise EngineError(PORT_TAKEN, found=f"127.0.0.1:{port}") from None
