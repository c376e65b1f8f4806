"""The broker's server as a process, run as configured."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from collateral_rig import collateral_server, serve
from part_process import PartProcess, free_port
from strongroom.attestation import initdata
from strongroom.attestation.beacon import SignedBeacon
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.gpu_rim import MAX_RIM
from strongroom.broker import admin, log_entry
from strongroom.broker.client import KbsClient
from strongroom.broker.envelope import Terms
from strongroom.broker.store import Store
from strongroom.broker.witness import Witness
from strongroom.broker.witness_server import create_app
from strongroom.crypto.notes import NoteSigner, NoteType
from strongroom_simulator.gpu import GpuPlatform

pytestmark = pytest.mark.system

CONFIG = """
service = "pictures"
[queue]
url = "unix:///nonexistent/queue.sock"
[broker]
url = "http://{listen}"
key = "ed25519+mldsa65:AAAA"
listen = "{listen}"
store = "{store}"
profile = "{profile}"
gpu_rims = "{gpu_rims}"
{more}
"""


class Server(PartProcess):
    """A broker process."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(store)`: a broker that listens; it is stopped after the test."""
    running: list[Server] = []

    def run(
        store: Path | str = "",
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        wait: bool = True,
        home: Path | None = None,
        profile: str = "trial",
        gpu_rims: str = "",
        more: str = "",
    ) -> Server:
        port = port or free_port()
        config = tmp_path / f"strongroom-{port}.toml"
        settings = {"store": store, "profile": profile, "gpu_rims": gpu_rims, "more": more}
        config.write_text(CONFIG.format(listen=f"{host}:{port}", **settings))
        environment = {"STRONGROOM_HOME": str(home or tmp_path / "home")}
        server = Server.start("broker", config, host, port, env=environment)
        running.append(server)
        if wait:
            server.until_listening()
        return server

    yield run
    for server in running:
        server.kill()


def test_it_serves_the_store_that_is_configured(rig, start: Start) -> None:
    server = start(rig.folder)
    assert server.get("/healthz") == (200, b'{"status":"ok"}')
    status, policy = server.get("/strongroom/v1/policy/pictures")
    assert (status, policy.decode()) == (200, rig.policy_text)
    _, served = server.get("/strongroom/v1/beacon/pictures")
    beacon = SignedBeacon.parse(served).verify(rig.broker_key)
    assert abs(beacon.time - time.time()) < 60, "it tells the time of its own clock"


def test_a_worker_attests_and_gets_its_keys(rig, start: Start) -> None:
    server = start(rig.folder)
    worker = rig.attester()
    with KbsClient(server.url, "sgx", worker.quote, timeout=20) as client:
        client.attest(worker.init_data)
        assert [epoch.keyset.epoch for epoch in client.service_key("pictures", rig.broker_key)] == [1]
        assert client.model_key("kbs:///default/model/lite0", rig.broker_key).identity == rig.identity
    events = [entry["event"] for entry in admin.log_entries(rig.store)]
    assert events[-3:] == ["attested", "released", "released"]
    assert rig.identity not in server.log.read_text()


WITNESS = NoteSigner("witness.example/w1", NoteType.COSIGNATURE_V1, b"\x01" * 32)


def watched(url: str, key: str = WITNESS.key.text) -> str:
    return f'[[broker.witnesses]]\nurl = "{url}"\nkey = "{key}"'


def test_it_asks_the_witnesses_that_are_configured(rig, start: Start, tmp_path: Path, serve) -> None:
    logs = [log_entry.log_key(rig.broker_key)]
    witness = Witness.open(tmp_path / "witness", WITNESS, logs, now=time.time)
    server = start(rig.folder, more=watched(serve(create_app(witness))))
    worker = rig.attester(witnesses=(WITNESS.key.text,), witness_threshold=1)
    terms = Terms.of(initdata.parse(worker.init_data))
    with KbsClient(server.url, "sgx", worker.quote, timeout=20) as client:
        client.attest(worker.init_data)
        assert client.service_key("pictures", rig.broker_key, terms)
        assert client.model_key("kbs:///default/model/lite0", rig.broker_key, terms)
    witness.close()


def test_it_releases_nothing_while_they_are_away(rig, start: Start, refused) -> None:
    server = start(rig.folder, more=watched("http://127.0.0.1:9"))
    worker = rig.attester()
    with KbsClient(server.url, "sgx", worker.quote, timeout=20) as client:
        client.attest(worker.init_data)
        with refused("witness-missing"):
            client.service_key("pictures", rig.broker_key)
    assert rig.last_entry()["event"] == "withheld"


@pytest.mark.parametrize(
    "more",
    [
        watched("ftp://witness"),
        watched("http://127.0.0.1:9", "hello"),
        "witness_threshold = 1",
        "witness_threshold = 2\n" + watched("http://127.0.0.1:9"),
    ],
)
def test_it_does_not_start_with_witnesses_that_cannot_be(rig, start: Start, more: str) -> None:
    server = start(rig.folder, wait=False, more=more)
    assert server.wait() == 2
    assert "config-invalid" in server.log.read_text()


def test_in_production_it_does_not_start_with_a_policy_for_simulated_evidence(rig, start: Start) -> None:
    server = start(rig.folder, wait=False, profile="production")
    assert server.wait() == 2
    log = server.log.read_text()
    assert "service pictures" in log
    assert log.endswith("  code:     simulated-anchor\n")


def test_reference_values_are_read_at_its_start(rig, start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "rims"
    folder.mkdir()
    for number, rim in enumerate(GpuPlatform.create(int(rig.clock())).rims()):
        (folder / f"{number}.swidtag").write_bytes(rim)
    assert start(rig.folder, gpu_rims=str(folder)).get("/healthz")[0] == 200


@pytest.mark.parametrize("made", ["nothing", "empty", "large"])
def test_reference_values_that_are_none_stop_it(rig, start: Start, tmp_path: Path, made: str) -> None:
    folder = tmp_path / "rims"
    if made != "nothing":
        folder.mkdir()
    if made == "large":
        (folder / "a.swidtag").write_bytes(bytes(MAX_RIM + 1))
    server = start(rig.folder, wait=False, gpu_rims=str(folder))
    assert server.wait() == 2
    log = server.log.read_text()
    assert "broker.gpu_rims" in log
    assert log.endswith("  code:     config-invalid\n")


def test_a_source_of_collateral_that_is_none_stops_it(rig, start: Start) -> None:
    server = start(rig.folder, wait=False, more='pccs = "http://pccs.example.org"')
    assert server.wait() == 2
    assert server.log.read_text().endswith("  code:     collateral-source-invalid\n")


def test_it_completes_evidence_from_where_its_configuration_says(rig, start: Start, tmp_path: Path) -> None:
    with collateral_server() as vendor:
        more = f'collateral = "{tmp_path / "collateral"}"\npccs = "{vendor.url}"'
        server = start(rig.folder, more=more)
        worker = rig.attester()

        def bare(report_data: bytes) -> Evidence:
            whole = worker.quote(report_data)
            serve(vendor, whole)
            return replace(whole, collateral=None)

        with KbsClient(server.url, "sgx", bare, timeout=20) as client:
            client.attest(worker.init_data)
            assert client.service_key("pictures", rig.broker_key)
    assert len(vendor.asked) == 4


def test_what_the_command_line_changes_holds_at_once(rig, start: Start) -> None:
    server = start(rig.folder)
    admin.rotate(rig.store, "pictures", grace=100)
    _, served = server.get("/strongroom/v1/beacon/pictures")
    assert SignedBeacon.parse(served).verify(rig.broker_key).epoch == 2


def test_without_a_store_in_the_configuration_it_is_in_the_state_folder(start: Start, tmp_path: Path) -> None:
    server = start(home=tmp_path / "state")
    assert server.get("/healthz")[0] == 200
    folder = tmp_path / "state" / "broker"
    assert folder.stat().st_mode & 0o777 == 0o700
    with Store.open(folder) as store:
        assert list(admin.services(store)) == []


def test_it_listens_where_it_is_told_and_nowhere_else(start: Start) -> None:
    server = start(host="127.0.0.2")
    assert server.get("/healthz")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_an_address_that_is_taken_ends_it_with_an_error(start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = start(port=other.getsockname()[1], wait=False)
        assert server.wait() == 1
    log = server.log.read_text()
    assert f"  found:    127.0.0.1:{server.port}\n" in log
    assert log.endswith("  code:     listen-failed\n")


def test_a_store_that_cannot_be_opened_ends_it_with_an_error(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    server = start(tmp_path / "file", wait=False)
    assert server.wait() == 1
    assert "code:     store-unusable" in server.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_order(start: Start, number: signal.Signals) -> None:
    server = start()
    server.process.send_signal(number)
    assert server.wait() in {0, -number}
    log = server.log.read_text()
    assert "Application shutdown complete" in log
    assert "Traceback" not in log


def test_idle_connections_do_not_keep_it_from_stopping(start: Start) -> None:
    server = start()
    with server.connect() as unused, server.connect() as used:
        used.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert used.recv(1000).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        server.process.terminate()
        assert unused.recv(1) == b""
        while used.recv(1000):
            pass
        server.wait()
    assert time.monotonic() - began < 10


def test_a_request_that_is_half_there_does_not_hold_it_for_ever(start: Start) -> None:
    server = start()
    with server.connect() as connection:
        connection.sendall(b"POST /kbs/v0/auth HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert server.get("/healthz")[0] == 200  # by now it has read the other's head
        began = time.monotonic()
        server.process.terminate()
        server.wait()
    assert time.monotonic() - began < 15


def test_its_connections_are_bounded(start: Start) -> None:
    server = start()
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 65536)
        assert b'"code":"headers-too-large"' in connection.recv(65536)


def test_requests_at_the_same_time_as_sigterm_are_answered_or_refused(rig, start: Start) -> None:
    """No client gets half an answer."""
    server = start(rig.folder)
    outcomes: list[str] = []

    def ask() -> None:
        while True:
            try:
                status, body = server.get("/strongroom/v1/beacon/pictures")
            except (ConnectionError, http.client.RemoteDisconnected):
                outcomes.append("refused")
                return
            assert status == 200
            SignedBeacon.parse(body).verify(rig.broker_key)
            outcomes.append("answered")

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    while outcomes.count("answered") < 8:
        time.sleep(0.01)
    server.process.terminate()
    for client in clients:
        client.join(30)
    server.wait()
    assert outcomes.count("refused") == len(clients)


def test_its_log_names_refusals_by_code_and_nothing_more(rig, start: Start) -> None:
    server = start(rig.folder)
    assert server.get("/kbs/v0/resource/default/model/lite0?secret=canary")[0] == 401
    server.process.terminate()
    server.wait()
    log = server.log.read_text()
    assert re.search(r"INFO strongroom\.broker refused: [a-z-]+$", log, re.MULTILINE)
    assert "canary" not in log
