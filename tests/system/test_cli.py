"""The command line against a running service, and a running service under the command line."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
import pytest

import strongroom
from strongroom.attestation.keyset import Keyset
from strongroom.attestation.policy import Policy
from strongroom.broker import admin
from strongroom.broker.store import Store
from strongroom.client._answer import infer_request
from strongroom.codec.bhttp import decode_response, encode_request
from strongroom.crypto.ohttp import KeyConfig, SealedRequest, seal_request
from strongroom.crypto.sign import SigningKey
from strongroom.engines.canary import descendants

pytestmark = [pytest.mark.system, pytest.mark.slow]

GATEWAY = "/.well-known/ohttp-gateway"


def run(*arguments: object, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    environment = {**os.environ} if home is None else {**os.environ, "STRONGROOM_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-P", "-m", "strongroom", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def at(service: Any, command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A client's command against the service."""
    return run(command, "--url", service.url, "--policy", service.policy, *arguments)


@pytest.fixture
def values(tmp_path: Path) -> Path:
    path = tmp_path / "values.npy"
    np.save(path, np.arange(128, dtype=np.float32).reshape(2, 64))
    return path


# verify


def test_verify_says_simulated_and_names_what_is_not_protected(service) -> None:
    result = at(service, "verify")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"SIMULATED: {service.url} passes the policy")
    for warning in (
        "SIMULATED evidence: not protection",
        "key custodian unattested: this machine",
        "release log: no witness",
    ):
        assert f"  warning       {warning}\n" in result.stdout
    assert "  key release   post-quantum\n" in result.stdout


def test_fresh_evidence_for_machines(service) -> None:
    result = at(service, "verify", "--fresh", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    verdict = json.loads(result.stdout)
    policy = Policy.load(service.policy)
    assert verdict["simulated"] is True
    assert set(verdict["measurements"]) == next(iter(policy.measurements.values()))
    assert verdict["valid_until"] > time.time()


def test_what_verify_finds_is_what_measure_says(service) -> None:
    """The measurement of this installation, as far as nobody changes it meanwhile."""
    measured = json.loads(run("measure", "--json").stdout)["sgx"]
    assert json.loads(at(service, "verify", "--json").stdout)["measurements"] == [measured]


OTHER_KEY = SigningKey.from_raw(b"\7" * 64).verifying_key.text


def changed(service: Any, folder: Path, pattern: str, new: str) -> Path:
    """The service's policy with one thing changed."""
    text, count = re.subn(pattern, new, service.policy.read_text())
    assert count == 1
    path = folder / "other.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("pattern", "new", "code"),
    [
        (r'(?<=sgx = \[\n    ")[0-9a-f]{64}', "0" * 64, "service-release-policy-wider"),
        (r"(?<=sha256:)[0-9a-f]{64}", "0" * 64, "service-release-policy-wider"),
        (r"ed25519\+mldsa65:[\w-]{43}", OTHER_KEY, "service-keyset-signature"),
        (r"(?<=allow_unattested_broker = )true", "false", "service-custodian-unattested"),
    ],
    ids=["measurement", "root", "broker key", "custodian"],
)
@pytest.mark.parametrize("command", ["verify", "predict"])
def test_a_policy_that_the_service_does_not_satisfy_is_3(
    service, tmp_path: Path, values: Path, command: str, pattern: str, new: str, code: str
) -> None:
    other = changed(service, tmp_path, pattern, new)
    more = ["--model", "echo", values] if command == "predict" else []
    result = run(command, "--url", service.url, "--policy", other, "--json", *more)
    assert (result.returncode, result.stdout) == (3, "")
    assert json.loads(result.stderr)["error"]["code"] == code


# predict


def test_predict_an_array(service, values: Path) -> None:
    result = at(service, "predict", "--model", "echo", values)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^values\.npy +y \[2, 64\]  \d+\.\d ms$", result.stdout, re.MULTILINE)


def test_predict_for_machines_with_the_workers_times(service, values: Path, tmp_path: Path) -> None:
    other = tmp_path / "row.npy"
    np.save(other, np.zeros((1, 64), np.float32))
    result = at(service, "predict", "--model", "echo", "--suite", "classical", values, other, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    first, second = json.loads(result.stdout)["predictions"]
    assert (first["outputs"], second["outputs"]) == ({"y": [2, 64]}, {"y": [1, 64]})
    assert {"open", "infer"} <= set(first["milliseconds"]["worker"])


@pytest.mark.parametrize(
    ("model", "array", "code"),
    [
        ("nothing", np.zeros((1, 64), np.float32), "model-unknown"),
        ("echo", np.zeros((1, 63), np.float32), "tensor-shape-mismatch"),
        ("echo", np.zeros((1, 64), np.int64), "tensor-dtype-mismatch"),
    ],
)
def test_what_the_worker_refuses_has_a_code(
    service, tmp_path: Path, model: str, array: np.ndarray, code: str
) -> None:
    path = tmp_path / "array.npy"
    np.save(path, array)
    result = at(service, "predict", "--model", model, path, "--json")
    assert (result.returncode, result.stdout) == (1, "")
    assert json.loads(result.stderr)["error"]["code"] == code


# rotation


def key_config(home: Path, epoch: int) -> KeyConfig:
    """The public key of an epoch, as only the broker's machine knows it before a worker publishes it."""
    with Store.open(home / "broker") as store:
        record = next(each for each in admin.epochs(store, "default") if each.epoch == epoch)
    return Keyset.parse(record.keyset).key_configs[0]


def post(service: Any, sealed: SealedRequest) -> httpx.Response:
    return httpx.post(
        service.url + GATEWAY,
        content=sealed.data,
        headers={"content-type": "message/ohttp-req"},
        timeout=30,
        trust_env=False,
    )


def sealed_to(config: KeyConfig) -> SealedRequest:
    inner = infer_request("echo", {"x": np.ones((1, 64), np.float32)}, version=None, outputs=())
    return seal_request(config, None, encode_request(inner))


class Predicting:
    """A client in a thread that predicts without end and notes in which epoch."""

    def __init__(self, service: Any) -> None:
        self.epochs: list[int] = []
        self.errors: list[Exception] = []
        self._stop = threading.Event()
        self._service = service
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        values = np.arange(64, dtype=np.float32).reshape(1, 64)
        try:
            with strongroom.connect(self._service.url, policy=self._service.policy) as room:
                while not self._stop.is_set():
                    answer = room.infer("echo", {"x": values})
                    assert np.array_equal(answer.outputs["y"], values)
                    assert room.verdict is not None
                    self.epochs.append(room.verdict.epoch)
        except Exception as error:
            self.errors.append(error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)


def eventually(condition: Any, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.05)


def test_a_client_follows_a_rotation_and_the_old_epoch_ends_with_its_grace(service) -> None:
    grace = 10
    with Predicting(service) as client:
        eventually(lambda: client.epochs or client.errors)
        old = key_config(service.home, 1)
        rotated = run("keys", "rotate", "--grace", grace, home=service.home)
        over = time.time() + grace
        assert (rotated.returncode, rotated.stdout) == (0, "Service default is in epoch 2.\n")
        # A request sealed to the new key makes the workers fetch it; without one they would in ten seconds.
        sealed = sealed_to(key_config(service.home, 2))
        answer = post(service, sealed)
        assert answer.status_code == 200, answer.text
        assert decode_response(sealed.open_response(answer.content)).status == 200
        honoured = post(service, sealed_to(old))
        assert time.time() < over, "this machine is too slow for this test"
        assert honoured.status_code == 200, "the old epoch is honoured in its grace"
        eventually(lambda: post(service, sealed_to(old)).status_code != 200)
        assert over - 2 < time.time(), "it ended before its grace was over"
        refused = post(service, sealed_to(old))
        assert refused.status_code == 400
        assert refused.json()["type"] == "https://iana.org/assignments/http-problem-types#ohttp-key"
        eventually(lambda: 2 in client.epochs or client.errors)
    assert client.errors == []
    assert client.epochs == sorted(client.epochs)
    assert set(client.epochs) == {1, 2}
    with Store.open(service.home / "broker") as store:
        admin_epochs = [record.epoch for record in admin.epochs(store, "default")]
    assert admin_epochs[0] == 2


# up


def test_a_second_service_in_the_same_home_is_refused(service, sealed_folder: Path) -> None:
    result = run("up", sealed_folder / "echo.sealed", "--json", home=service.home)
    assert (result.returncode, result.stdout) == (2, "")
    assert json.loads(result.stderr)["error"]["code"] == "already-running"
    assert at(service, "verify").returncode == 0, "the first is not disturbed"


@contextmanager
def up(home: Path, sealed: Path, ports: list[int], *options: str | Path) -> Iterator[subprocess.Popen[str]]:
    """`strongroom up` for people, from its start."""
    command = [sys.executable, "-P", "-m", "strongroom", "up", str(sealed)]
    command += ["--port", str(ports[0]), "--broker-port", str(ports[1]), *map(str, options)]
    with subprocess.Popen(
        command,
        env={**os.environ, "STRONGROOM_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(process: subprocess.Popen[str], wanted: str) -> list[str]:
    """What it prints up to a line with that text."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if wanted in line:
            return lines
    assert process.stderr is not None
    raise AssertionError(f"it ended without {wanted!r}: {lines} {process.stderr.read()}")


@contextmanager
def all_end(process: subprocess.Popen[str]) -> Iterator[dict[int, str]]:
    """Whatever runs under a process now has ended soon after the block."""
    family = descendants(process.pid)
    ends = {pid: os.pidfd_open(pid) for pid in family}
    try:
        yield family
        for pid, end in ends.items():
            ended, _, _ = select.select([end], [], [], 30)
            assert ended, f"still running: {family[pid]}"
    finally:
        for end in ends.values():
            os.close(end)


@pytest.fixture
def home(sealed_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("up")
    shutil.copytree(sealed_folder / "broker", folder / "broker")
    return folder


def test_ctrl_c_leaves_nothing_running_and_the_next_start_goes_on(
    home: Path, sealed_folder: Path, free_ports: Callable[[int], list[int]]
) -> None:
    sealed, ports = sealed_folder / "echo.sealed", free_ports(2)
    with up(home, sealed, ports) as process:
        lines = lines_until(process, "NOT protection")
        assert [line.split()[:2] for line in lines[:4]] == [
            ["queue", "ready"],
            ["broker", "ready"],
            ["worker-0", "ready"],
            ["frontend", "ready"],
        ]
        assert re.fullmatch(
            rf"Serving echo at http://127\.0\.0\.1:{ports[0]} after \d+\.\d s\. Ctrl-C stops all\.", lines[4]
        )
        assert lines[5].startswith("Evidence is SIMULATED: ")
        with all_end(process) as family:
            assert len(family) == 6  # itself, queue, broker, launcher, enclave, front end
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert (out, err) == ("Stopped.\n", "")
    # A supervisor that is killed takes its parts along; the state folder is free again.
    with up(home, sealed, ports) as process:
        lines_until(process, "Serving echo")
        with all_end(process):
            process.kill()
            process.wait()
    with Store.open(home / "broker") as store:
        assert [record.epoch for record in admin.epochs(store, "default")] == [1], "the same code, one epoch"


def test_a_service_with_simulated_evidence_of_snp(
    home: Path, sealed_folder: Path, free_ports: Callable[[int], list[int]], tmp_path: Path
) -> None:
    ports, policy = free_ports(2), tmp_path / "policy.toml"
    options = ("--tee", "snp", "--policy-out", policy)
    with up(home, sealed_folder / "echo.sealed", ports, *options) as process:
        lines_until(process, "Policy for clients")
        result = run("verify", "--url", f"http://127.0.0.1:{ports[0]}", "--policy", policy, home=home)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("SIMULATED: ")
    assert "TCB status    none published" in result.stdout


def test_ctrl_c_while_it_starts_leaves_nothing_running(
    home: Path, sealed_folder: Path, free_ports: Callable[[int], list[int]]
) -> None:
    with up(home, sealed_folder / "echo.sealed", free_ports(2)) as process:
        lines_until(process, "queue")
        with all_end(process) as family:
            assert len(family) > 2
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Serving" not in out
    assert out.endswith("Stopped.\n")
    assert err == ""
