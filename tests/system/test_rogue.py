"""Attacks of the host on a whole service: a key broker of its own, and code of its own.

Everything runs from this installation on one simulated platform, so that nothing but the attacked check can
refuse. Each attack has its control: the same without the attack, which succeeds.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

import strongroom
from release_log import released_document
from rogue_broker import RogueBroker
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.initdata import InitData
from strongroom.attestation.keyset import KEYSET_TYPE, Keyset, SignedKeyset
from strongroom.attestation.measurement import measure
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_text import render_policy
from strongroom.broker import admin, epochs, release
from strongroom.broker.server import create_app
from strongroom.broker.store import Store
from strongroom.crypto import agefile
from strongroom.engines.import_roots import base_interpreter, default_roots, measure_default
from strongroom.engines.local import LocalOptions, prepare
from strongroom.errors import StrongroomError
from strongroom.models.bundle import read_bundle
from strongroom_simulator.state import SimulatorState

pytestmark = [pytest.mark.system, pytest.mark.slow]

SERVICE = "default"
MODEL = "default/model/echo"

# A launcher in a process of its own: what it and its worker log can be read line by line.
LAUNCH = """
import json, sys
from pathlib import Path
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.measurement import measure
from strongroom.engines.launcher import Launcher, SimulatedQuoting
from strongroom.models.bundle import read_bundle
from strongroom_simulator.state import SimulatorState
plan = json.load(sys.stdin)
measurement = measure(Path(plan["interpreter"]), [Path(root) for root in plan["roots"]])
state = SimulatorState.open(Path(plan["simulator"]))
backend = SimulatedQuoting.of(state, EvidenceKind.SGX, measurement, plan["init_data"].encode())
print(json.dumps({"event": "measured", "measurement": measurement.sha256.hex()}), file=sys.stderr, flush=True)
sys.exit(Launcher(measurement, backend, plan["settings"].encode()).run())
"""


@contextmanager
def served(app: Any) -> Iterator[str]:
    """An application on loopback, in a thread; gives its address."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@dataclass
class Place:
    """The honest owner's broker, the host's own, and the platform both share.

    Attributes:
        simulator: State folder of the platform.
        genuine: A copy of this package, whose measurement the policy pins.
        honest: The owner's store.
        rogue: The host's store: the same service, model and policy, other keys.
        sealed: The sealed model.
        policy: The release policy of both.
    """

    simulator: Path
    genuine: Path
    honest: Store
    rogue: Store
    sealed: Path
    policy: str

    @property
    def init_data(self) -> str:
        """What a genuine worker is started with: it names the owner's broker."""
        return (
            InitData(
                service=SERVICE,
                broker_key=admin.signing_key_text(self.honest),
                release_policy=Policy.parse(self.policy).digest,
                models=(f"kbs:///{MODEL}",),
            )
            .to_toml()
            .decode()
        )

    def launch(self, broker_url: str, source: Path, until: str = "") -> list[dict[str, Any]]:
        """Start a worker and wait for its end, or kill it after an event; gives what it has logged."""
        settings = {
            "queue_url": f"unix://{self.simulator}/no-queue.sock",
            "service": SERVICE,
            "consumer": "worker-0",
            "broker_url": broker_url,
            "init_data": self.init_data,
            "tee": "sgx",
            "bundles": [{"path": str(self.sealed), "resource": f"kbs:///{MODEL}"}],
        }
        plan = {
            "interpreter": str(base_interpreter()),
            "roots": [str(root) for root in roots(source)],
            "simulator": str(self.simulator),
            "init_data": self.init_data,
            "settings": json.dumps(settings),
        }
        events = []
        with subprocess.Popen(
            [sys.executable, "-P", "-c", LAUNCH], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as launcher:
            assert launcher.stdin
            assert launcher.stderr
            launcher.stdin.write(json.dumps(plan))
            launcher.stdin.close()
            for line in launcher.stderr:
                events.append(json.loads(line))
                if events[-1]["event"] == until:
                    launcher.kill()
            events.append({"event": "exit", "status": launcher.wait(60)})
        return events


def roots(source: Path) -> list[Path]:
    """What a worker may import, with a copy of this package in the first place."""
    return [source, *(root for root in default_roots() if not (root / "strongroom" / "worker").is_dir())]


def copy_source(target: Path) -> Path:
    """A copy of both packages."""
    for name in ("strongroom", "strongroom_simulator"):
        shutil.copytree(
            default_roots()[0] / name, target / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    return target


@pytest.fixture(scope="module")
def place(sealed_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("rogue")
    genuine = copy_source(folder / "genuine")
    simulator = SimulatorState.open(folder / "simulator")
    policy = render_policy(
        kinds=[EvidenceKind.SGX],
        measurements={EvidenceKind.SGX: [measure(base_interpreter(), roots(genuine)).sha256.hex()]},
        allow_simulated=True,
        simulated_roots=[simulator.root_sha256],
        service=SERVICE,
    )
    sealed = sealed_folder / "echo.sealed"
    shutil.copytree(sealed_folder / "broker", folder / "honest")
    with Store.open(folder / "honest") as honest, Store.open(folder / "host") as rogue:
        [known] = [record for record in admin.models(honest) if record.resource == MODEL]
        admin.register_model(
            rogue,
            resource=MODEL,
            name=known.name,
            version=known.version,
            manifest_digest=known.manifest,
            sealed_sha256=known.sealed,
            identity=agefile.generate_identity(),
        )
        for store, who in ((honest, "the owner"), (rogue, "the owner")):
            admin.register_service(store, SERVICE, policy, [MODEL], who)
        yield Place(folder / "simulator", genuine, honest, rogue, sealed, policy)


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


def logged(store: Store) -> list[dict[str, Any]]:
    return list(admin.log_entries(store))


# A genuine worker at the host's broker.


def released_by(store: Store, genuine: Store | None = None) -> Callable[[str, str], bytes]:
    """What the host's broker releases: its own epochs, or the owner's keyset beside its own private keys."""

    def make(path: str, recipient: str) -> bytes:
        with store.read() as db:
            [own] = [epochs.load(store, db, record) for record in epochs.listed(db, SERVICE)]
        if genuine is not None:
            with genuine.read() as db:
                [theirs] = [epochs.load(genuine, db, record) for record in epochs.listed(db, SERVICE)]
            own = release.ServiceEpoch(theirs.keyset, theirs.signature, own.keys, own.honoured_until)
        document = release.service_document(SERVICE, recipient, [own])
        return released_document(document, store.signing_key)

    return make


@pytest.mark.parametrize("keyset", ["its own", "the owner's"])
def test_a_genuine_worker_takes_no_keys_of_the_hosts_broker(place: Place, keyset: str) -> None:
    make = released_by(place.rogue, None if keyset == "its own" else place.honest)
    with served(RogueBroker(make).app) as url:
        events = place.launch(url, place.genuine)
    assert events[-2]["event"] == "stopped"
    assert events[-2]["code"] == "release-foreign-broker"
    assert events[-1]["status"] == 3
    assert "model" not in names(events), "it has loaded nothing"
    assert "serving" not in names(events)


def test_the_hosts_broker_with_honest_code_refuses_it_too(place: Place) -> None:
    with served(create_app(place.rogue)) as url:
        events = place.launch(url, place.genuine)
    assert (events[-2]["code"], events[-1]["status"]) == ("init-data-broker", 3)
    assert "released" not in [entry["event"] for entry in logged(place.rogue)]


# Changed code at the owner's broker.


def test_the_genuine_worker_gets_its_keys(place: Place) -> None:
    """The control of what follows: the same from another folder, and not a line changed."""
    before = len(logged(place.honest))
    with served(create_app(place.honest)) as url:
        events = place.launch(url, place.genuine, until="model")
    assert "model" in names(events), events
    entries = logged(place.honest)[before:]
    assert [entry["event"] for entry in entries] == ["attested", "released", "released"]
    assert {entry["measurement"] for entry in entries} == {events[0]["measurement"]}


def change_a_line(source: Path) -> None:
    """A worker that looks the same and says a little more."""
    path = source / "strongroom" / "worker" / "core.py"
    lines = path.read_text().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if re.match(r"\s+return ", line))
    lines[at] = lines[at].rstrip("\n") + "  # and tell the host\n"
    path.write_text("".join(lines))


def add_a_file(source: Path) -> None:
    (source / "sitecustomize.py").write_text("print('hello from the host')\n")


def add_bytecode(source: Path) -> None:
    """A module without source, which the import system would take for the package's own."""
    (source / "strongroom" / "worker" / "extra.pyc").write_bytes(b"\0" * 16)


@pytest.mark.parametrize("change", [change_a_line, add_a_file, add_bytecode])
def test_a_worker_with_a_change_gets_no_key(
    place: Place, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    source = copy_source(tmp_path / "changed")
    change(source)
    before = len(logged(place.honest))
    with served(create_app(place.honest)) as url:
        events = place.launch(url, source)
    assert (events[-2]["code"], events[-1]["status"]) == ("policy-measurement", 3)
    [entry] = logged(place.honest)[before:]
    assert (entry["event"], entry["code"], entry["stage"]) == ("refused", "policy-measurement", "attest")
    assert entry["measurement"] == events[0]["measurement"]
    assert entry["measurement"] not in place.policy


# A client at the host's service: genuine workers, the owner's model, and a broker of the host's own.


@dataclass
class HostsService:
    """It runs; the policy is the one for the owner's service, the other the host's own."""

    url: str
    owner: Store
    owners_policy: Policy
    hosts_policy: Policy
    hosts_store: Path


@pytest.fixture(scope="module")
def hosts_service(
    sealed_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    start_service: Callable[..., Any],
    free_ports: Callable[[int], list[int]],
) -> Iterator[HostsService]:
    owner, host = tmp_path_factory.mktemp("owner"), tmp_path_factory.mktemp("host")
    sealed = sealed_folder / "echo.sealed"
    shutil.copytree(sealed_folder / "broker", owner / "broker")
    port, broker_port = free_ports(2)
    options = LocalOptions(owner, [sealed], port=port, broker_port=broker_port)
    policy = prepare(options, measure_default()).policy
    shutil.copytree(owner / "simulator", host / "simulator")  # one platform
    with ExitStack() as stack:
        store = stack.enter_context(Store.open(owner / "broker"))
        running = start_service(host, [seal_again(sealed_folder / "echo.model", host)])
        stack.callback(running.stop)
        yield HostsService(
            running.url, store, Policy.parse(policy), Policy.load(running.policy), host / "broker"
        )


def seal_again(bundle: Path, home: Path) -> Path:
    """The host seals the same model for its own broker."""
    data = bundle.read_bytes()
    identity = agefile.generate_identity()
    sealed = home / "echo.sealed"
    sealed.write_bytes(agefile.seal(data, agefile.recipient_of(identity)))
    manifest = read_bundle(data).manifest
    with Store.open(home / "broker") as store:
        admin.register_model(
            store,
            resource=MODEL,
            name=manifest.name,
            version=manifest.version,
            manifest_digest=manifest.digest,
            sealed_sha256=hashlib.sha256(sealed.read_bytes()).hexdigest(),
            identity=identity,
        )
    return sealed


class Wire(httpx.BaseTransport):
    """The way to the service. The host may put another keyset in, and everything posted is noted."""

    def __init__(self, keyset: bytes | None = None) -> None:
        self._inner = httpx.HTTPTransport()
        self._keyset = keyset
        self.posted = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.posted += request.method == "POST"
        if self._keyset is not None and request.url.path.endswith("/keyset"):
            return httpx.Response(200, content=self._keyset)
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


def refusal(service: HostsService, wire: Wire) -> str:
    """The code with which the owner's client refuses the host's service; nothing may be sealed to it."""
    with pytest.raises(StrongroomError) as caught:
        strongroom.connect(service.url, policy=service.owners_policy, transport=wire)
    wire.close()
    assert wire.posted == 0
    assert caught.value.exit_code == 3
    return caught.value.code


def test_its_own_policy_accepts_the_hosts_service(hosts_service: HostsService) -> None:
    """The control: nothing else is wrong with it."""
    with strongroom.connect(hosts_service.url, policy=hosts_service.hosts_policy) as room:
        assert room.verdict is not None
        [found] = room.verdict.measurements
    assert {found} == set(hosts_service.owners_policy.measurements[EvidenceKind.SGX])
    assert hosts_service.owners_policy.simulated_roots == hosts_service.hosts_policy.simulated_roots


def test_a_client_that_pins_the_owners_broker_refuses_the_hosts_service(hosts_service: HostsService) -> None:
    assert refusal(hosts_service, Wire()) == "service-keyset-signature"


def test_the_owners_keyset_beside_the_hosts_workers_is_refused(hosts_service: HostsService) -> None:
    [record, *_] = admin.epochs(hosts_service.owner, SERVICE)
    genuine = SignedKeyset(record.keyset, record.signature).to_json_bytes()
    assert refusal(hosts_service, Wire(genuine)) in {"service-keyset-digest", "service-init-data-broker"}


def test_a_keyset_of_the_host_that_names_the_owners_broker_is_refused(hosts_service: HostsService) -> None:
    with Store.open(hosts_service.hosts_store) as store:
        [record, *_] = admin.epochs(store, SERVICE)
        owners_key = admin.signing_key_text(hosts_service.owner)
        payload = replace(Keyset.parse(record.keyset), broker_key=owners_key).payload()
        signed = SignedKeyset(payload, store.signing_key.sign(KEYSET_TYPE, payload)).to_json_bytes()
    assert refusal(hosts_service, Wire(signed)) == "service-keyset-signature"
