"""Two brokers on one PostgreSQL: one is killed with SIGKILL in mid-release, and the other goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
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
from strongroom.broker import kbs, log, service
from strongroom.config import load_config
releases = itertools.count(1)
def die():
    if next(releases) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
append, seal_release = log.append, kbs.seal_release
def dying_append(*args, **kwargs):
    head = append(*args, **kwargs)
    if kwargs["event"] is log.Event.RELEASED:
        die()
    return head
def dying_seal(*args, **kwargs):
    die()
    return seal_release(*args, **kwargs)
if sys.argv[2] == "before the commit":
    log.append = dying_append
else:
    kbs.seal_release = dying_seal
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


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
def test_a_broker_killed_in_mid_release_stops_nobody(rig: Any, tmp_path: Path, moment: str) -> None:
    brokers = []
    try:
        for _ in range(2):
            port = free_port()
            config = tmp_path / f"{port}.toml"
            config.write_text(CONFIG.format(port=port, url=rig.place.url, folder=rig.folder))
            if brokers:
                brokers.append(PartProcess.start("broker", config, "127.0.0.1", port))
            else:
                arguments = [str(config), moment, str(RELEASES_BEFORE_DEATH)]
                with config.with_suffix(".log").open("wb") as log:
                    process = subprocess.Popen(
                        [sys.executable, "-P", "-c", DYING, *arguments], stdout=log, stderr=log
                    )
                brokers.append(PartProcess("127.0.0.1", port, config.with_suffix(".log"), process))
        for broker in brokers:
            broker.until_listening()
        urls = [f"http://127.0.0.1:{broker.port}" for broker in brokers]
        clients = [Client(rig, urls[:] if number % 2 else urls[::-1]) for number in range(CLIENTS)]
        failures: list[BaseException] = []

        def run(client: Client) -> None:
            try:
                client.run()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert brokers[0].wait() == -signal.SIGKILL
        assert brokers[1].process.poll() is None
        # Exactly those who spoke with the dead one had to go to the other, and each once.
        assert 1 <= sum(client.retries for client in clients) <= CLIENTS // 2
    finally:
        for broker in brokers:
            broker.kill()
    verify_log(rig.store)
    released = [
        (entry["recipient"], entry["resource"])
        for entry in admin.log_entries(rig.store)
        if entry["event"] == "released"
    ]
    got = [key for client in clients for key in client.keys]
    assert len(got) >= CLIENTS * ROUNDS * 2
    assert set(got) <= set(released), "a key left without an entry"
    assert len(set(released)) == len(released)
