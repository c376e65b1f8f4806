"""Two brokers on one PostgreSQL: one is killed with SIGKILL in mid-release, and the other goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from part_process import PartProcess, free_port
from strongroom.broker import admin
from strongroom.broker.client import KbsClient
from strongroom.broker.log import verify_log
from strongroom.errors import UnreachableError

pytestmark = pytest.mark.system

CLIENTS = 8
ROUNDS = 6
RELEASES_BEFORE_DEATH = 12
CONFIG = """
service = "pictures"
[queue]
url = "unix:///nonexistent/queue.sock"
[broker]
url = "http://127.0.0.1:{port}"
key = "ed25519:AAAA"
listen = "127.0.0.1:{port}"
store = "{url}"
epoch_keys = "{folder}"
profile = "trial"
"""
# A broker that dies at its twelfth release: once after the entry is written and before it is committed, once
# after it is committed and before the key leaves.
DYING = """
import itertools, os, signal, sys
from pathlib import Path
from strongroom.broker import envelope, log, service
from strongroom.config import load_config
releases = itertools.count(1)
def die():
    if next(releases) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
append, seal = log.append, envelope.seal
def dying_append(*args, **kwargs):
    head = append(*args, **kwargs)
    if kwargs["event"] is log.Event.RELEASED:
        die()
    return head
def dying_seal(*args, **kwargs):
    die()
    return seal(*args, **kwargs)
if sys.argv[2] == "before the commit":
    log.append = dying_append
else:
    envelope.seal = dying_seal
service.run(load_config(Path(sys.argv[1])))
"""


@pytest.fixture
def backend() -> str:
    return "postgres"


class Client:
    """A worker that has the addresses of both brokers, and takes the other one when one does not answer."""

    def __init__(self, rig: Any, urls: list[str]) -> None:
        self._rig = rig
        self._urls = urls
        self.keys: list[tuple[str, str]] = []
        """Recipient and resource of the keys that it got."""
        self.retries = 0

    def run(self) -> None:
        for _ in range(ROUNDS):
            try:
                self._fetch(self._urls[0])
            except UnreachableError:
                self.retries += 1
                self._urls.reverse()
                self._fetch(self._urls[0])

    def _fetch(self, url: str) -> None:
        worker = self._rig.attester()
        with KbsClient(url, "sgx", worker.quote, timeout=30) as client:
            client.attest(worker.init_data)
            (epoch,) = client.service_key("pictures", self._rig.broker_key)
            self.keys.append((client.recipient, "pictures/service-key/current"))
            assert epoch.keyset.epoch == 1
            assert (
                client.model_key("kbs:///default/model/lite0", self._rig.broker_key).identity
                == self._rig.identity
            )
            self.keys.append((client.recipient, "default/model/lite0"))


@pytest.fixture
def start(rig: Any, tmp_path: Path) -> Iterator[Callable[..., PartProcess]]:
    """`start()`: a broker on the store; `start("before the commit")`: one that dies."""
    running: list[PartProcess] = []

    def run(moment: str = "") -> PartProcess:
        port = free_port()
        config = tmp_path / f"{port}.toml"
        config.write_text(CONFIG.format(port=port, url=rig.place.url, folder=rig.folder))
        if not moment:
            running.append(PartProcess.start("broker", config, "127.0.0.1", port))
        else:
            arguments = [str(config), moment, str(RELEASES_BEFORE_DEATH)]
            log = config.with_suffix(".log")
            with log.open("wb") as output:
                command = [sys.executable, "-P", "-c", DYING, *arguments]
                process = subprocess.Popen(command, stdout=output, stderr=output)
            running.append(PartProcess("127.0.0.1", port, log, process))
        return running[-1]

    yield run
    for broker in running:
        broker.kill()


def serve(clients: list[Client], meanwhile: Callable[[], None]) -> None:
    """Let all clients run at once, and do something meanwhile."""
    failures: list[BaseException] = []

    def run(client: Client) -> None:
        try:
            client.run()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join()
    assert failures == []


def check_log(rig: Any, clients: list[Client]) -> None:
    """The log holds together, and no key left without an entry of its own."""
    verify_log(rig.store)
    entries = [entry for entry in admin.log_entries(rig.store) if entry["event"] == "released"]
    released = [(entry["recipient"], entry["resource"]) for entry in entries]
    got = [key for client in clients for key in client.keys]
    assert len(got) >= CLIENTS * ROUNDS * 2
    assert set(got) <= set(released), "a key left without an entry"
    assert len(set(released)) == len(released)


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
def test_a_broker_killed_in_mid_release_stops_nobody(rig: Any, start: Any, moment: str) -> None:
    brokers = [start(moment), start()]
    for broker in brokers:
        broker.until_listening()
    urls = [f"http://127.0.0.1:{broker.port}" for broker in brokers]
    clients = [Client(rig, urls[:] if number % 2 else urls[::-1]) for number in range(CLIENTS)]
    serve(clients, meanwhile=lambda: None)
    assert brokers[0].wait() == -signal.SIGKILL
    assert brokers[1].process.poll() is None
    # Only those who spoke with the dead one had to go to the other, and each once.
    assert 1 <= sum(client.retries for client in clients) <= CLIENTS // 2
    check_log(rig, clients)


def test_the_root_is_rotated_while_both_serve(rig: Any, start: Any, tmp_path: Path) -> None:
    brokers = [start(), start()]
    for broker in brokers:
        broker.until_listening()
    urls = [f"http://127.0.0.1:{broker.port}" for broker in brokers]
    clients = [Client(rig, urls[:] if number % 2 else urls[::-1]) for number in range(CLIENTS)]

    def rotate() -> None:
        for _ in range(3):
            config = tmp_path / f"{brokers[0].port}.toml"
            command = ["-P", "-m", "strongroom", "keys", "rotate-root", "--config", str(config), "--json"]
            subprocess.run([sys.executable, *command], check=True, capture_output=True, timeout=100)

    serve(clients, meanwhile=rotate)
    assert [client.retries for client in clients] == [0] * CLIENTS
    check_log(rig, clients)
    assert rig.store.root.data_keys().keys() == {4}
    last = Client(rig, urls[:])
    last.run()
    assert (len(last.keys), last.retries) == (2 * ROUNDS, 0)
