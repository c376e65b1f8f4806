"""Attestation and key release: how long a worker waits for its keys, with several at once.

    python benchmarks/release.py [CLIENTS [ROUNDS]]

A real broker in a process of its own, with its store in SQLite in a temporary folder, and CLIENTS processes
(8 without a number) that do ROUNDS (50) each: a challenge, SIMULATED evidence in production format, the
service key and a model key, each opened and verified as a worker does. Making the evidence is not counted:
that is the hardware's time. Measured with one client, with all of them and random pauses (exponential, 0.5 s
and 2 s on average), and with all of them as fast as they can, which says how much the broker serves at most.
Shown are the attestation, which is a challenge and its answer, the first key, both of them, and both with a
second key.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from strongroom.attestation import initdata
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.initdata import InitData
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_text import render_policy
from strongroom.broker import admin
from strongroom.broker.client import KbsClient
from strongroom.broker.store import Store
from strongroom.config import BrokerConfig, Config, QueueConfig, render_config
from strongroom.crypto import agefile
from strongroom.crypto.sign import VerifyingKey
from strongroom_simulator.state import SimulatorState

SERVICE = "pictures"
MODEL = "default/model/lite0"
MEASUREMENT = hashlib.sha256(b"worker").digest()
LISTEN = "127.0.0.1:18471"


def prepare(folder: Path) -> tuple[bytes, str]:
    """A store with a service and a model; returns the workers' init-data and the broker's key."""
    simulator = SimulatorState.open(folder / "simulator")
    policy = render_policy(
        kinds=[EvidenceKind.SGX],
        measurements={EvidenceKind.SGX: [MEASUREMENT.hex()]},
        allow_simulated=True,
        simulated_roots=[simulator.root_sha256],
    )
    with Store.open(folder / "store") as store:
        admin.register_model(
            store,
            resource=MODEL,
            name="lite0",
            version="1",
            manifest_digest="sha256:" + "11" * 32,
            sealed_sha256="22" * 32,
            identity=agefile.generate_identity(),
        )
        admin.register_service(store, SERVICE, policy, [MODEL], "a benchmark")
        key = admin.signing_key_text(store)
    init_data = InitData(SERVICE, key, Policy.parse(policy).digest, (f"kbs:///{MODEL}",)).to_toml()
    config = Config(
        service=SERVICE,
        queue=QueueConfig(url="unix:///unused"),
        broker=BrokerConfig(
            url=f"http://{LISTEN}", key=key, listen=LISTEN, store=str(folder / "store"), profile="trial"
        ),
    )
    (folder / "broker.toml").write_text(render_config(config))
    return init_data, key


def client(folder: Path, init_data: bytes, key: str, rounds: int, pause: float) -> list[tuple[float, ...]]:
    """Seconds of each round: attestation, first key, both, and all; without those of making evidence."""
    simulator = SimulatorState.open(folder / "simulator")
    digest = initdata.digest(init_data)
    broker_key = VerifyingKey.parse(key)
    quoting = 0.0

    def quote(report_data: bytes) -> Evidence:
        nonlocal quoting
        start = time.perf_counter()
        made = simulator.quote(EvidenceKind.SGX, MEASUREMENT, digest, report_data)
        quoting += time.perf_counter() - start
        return made

    times = []
    for _ in range(1 + rounds):
        time.sleep(random.expovariate(1 / pause) if pause else 0)
        quoting = 0.0
        start = time.perf_counter()
        with KbsClient(f"http://{LISTEN}", "sgx", quote) as kbs:
            kbs.attest(init_data)
            attested = time.perf_counter() - start - quoting
            kbs.service_key(SERVICE, broker_key)
            first = time.perf_counter() - start - quoting
            kbs.model_key(MODEL, broker_key)
        times.append((attested, first - attested, first, time.perf_counter() - start - quoting))
    return times[1:]  # the first loads the client's own code


def run(
    folder: Path, init_data: bytes, key: str, clients: int, rounds: int, pause: float
) -> list[tuple[float, ...]]:
    """The times of all clients, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(clients) as pool:
        jobs = [pool.apply_async(client, (folder, init_data, key, rounds, pause)) for _ in range(clients)]
        return [each for job in jobs for each in job.get()]


def report(what: str, times: list[tuple[float, ...]], broker_seconds: float) -> None:
    """One line."""
    cuts = [statistics.quantiles(column, n=100) for column in zip(*times, strict=True)]
    shown = "".join(f"{cut[place] * 1000:>8.1f}" for cut in cuts for place in (49, 98))
    print(f"{what:<24}{len(times):>7}{shown}{broker_seconds / len(times) * 1000:>12.1f}", flush=True)


def main() -> None:
    """Print a table."""
    clients = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        init_data, key = prepare(folder)
        command = [sys.executable, "-m", "strongroom", "broker", "--config", str(folder / "broker.toml")]
        broker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait(broker)
            watched = psutil.Process(broker.pid)
            titles = ("attestation", "a key", "both", "and another")
            print(f"{'ms':<31}" + "".join(f"{title:>16}" for title in titles))
            print(f"{'':<24}{'rounds':>7}" + f"{'p50':>8}{'p99':>8}" * len(titles) + f"{'broker CPU':>12}")
            for number, pause, what in (
                (1, 0.0, "1 client"),
                (clients, 0.5, f"{clients} clients, 0.5 s"),
                (clients, 2.0, f"{clients} clients, 2 s"),
                (clients, 0.0, f"{clients} clients, no pause"),
            ):
                before = sum(watched.cpu_times()[:2])
                times = run(folder, init_data, key, number, rounds, pause)
                report(what, times, sum(watched.cpu_times()[:2]) - before)
        finally:
            broker.terminate()
            broker.wait(timeout=30)


def wait(broker: subprocess.Popen[bytes]) -> None:
    """Until the broker answers."""
    for _ in range(200):
        if broker.poll() is not None:
            raise SystemExit("the broker ended at its start")
        try:
            with urllib.request.urlopen(f"http://{LISTEN}/healthz", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the broker does not answer")


if __name__ == "__main__":
    main()
