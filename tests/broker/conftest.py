"""What the broker's tests share: a clock to turn, a simulated platform, a broker with service and model."""

from __future__ import annotations

import hashlib
import json
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec

from mutants import mutants
from postgres_server import PostgresServer, programs
from strongroom.attestation import initdata
from strongroom.attestation.evidence import DCAP_KINDS, Evidence, EvidenceKind
from strongroom.attestation.initdata import InitData
from strongroom.attestation.policy import Policy, render_policy
from strongroom.broker import admin, messages, onetime, teekey
from strongroom.broker.kbs import KeyBroker
from strongroom.broker.store import Store
from strongroom.crypto import agefile
from strongroom.errors import StrongroomError
from strongroom_simulator.state import SimulatorState

SERVICE = "pictures"
MODEL = "default/model/lite0"
MEASUREMENTS = {
    EvidenceKind.SGX: hashlib.sha256(b"worker").digest(),
    EvidenceKind.TDX: hashlib.sha384(b"worker").digest(),
}


@dataclass
class Clock:
    """A clock that stands still until it is turned."""

    time: float = field(default_factory=lambda: float(int(time.time())))

    def __call__(self) -> float:
        return self.time

    def turn(self, seconds: float) -> None:
        self.time += seconds


@dataclass(frozen=True)
class Place:
    """Where a store lies: in a folder, its database perhaps in a server."""

    folder: Path
    server: PostgresServer | None = None
    database: str = ""

    @property
    def url(self) -> str:
        return "" if self.server is None else self.server.url(self.database)

    def open(self, **options: Any) -> Store:
        return Store.open(self.folder, url=self.url, **options)

    def attack(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        """What someone can do who writes the database, but has no root key."""
        if self.server is not None:
            for sql, values in statements:
                self.server.execute(self.database, sql.replace("?", "%s"), values)
            return
        with closing(sqlite3.connect(self.folder / "store.db", isolation_level=None)) as db:
            for sql, values in statements:
                db.execute(sql, values)


class Attester:
    """A worker as the broker sees it; a test may change each part of its evidence and answers."""

    def __init__(self, rig: Rig, kind: EvidenceKind = EvidenceKind.SGX, **changes: Any) -> None:
        self.rig = rig
        self.kind = kind
        self.simulator = changes.pop("simulator", rig.simulator)
        self.measurement = changes.pop("measurement", MEASUREMENTS[kind])
        classical = changes.pop("classical", False)
        self.init_data = changes.pop("init_data", None) or rig.init_data(**changes)
        self.key = onetime.ClassicalKey() if classical else onetime.HpkeKey()
        self.session: str | None = None
        self.nonce = ""
        self.token = ""

    @property
    def jwk(self) -> dict[str, str]:
        return self.key.jwk

    @property
    def recipient(self) -> str:
        return self.key.recipient

    def quote(self, report_data: bytes) -> Evidence:
        """Evidence of this attester, as a launcher makes it."""
        digest = initdata.digest(self.init_data)
        made = self.simulator.quote(self.kind, self.measurement, digest, report_data)
        return Evidence(made.kind, made.quote, made.collateral, self.init_data)

    def challenge(self) -> None:
        given = self.rig.broker.auth(messages.auth_body(str(self.kind)))
        self.session, self.nonce = given.session, given.nonce

    def body(self, **changes: Any) -> bytes:
        """The answer to the challenge. `nonce`, `jwk`, `bound` (what the report data binds), `evidence`."""
        nonce, jwk = changes.get("nonce", self.nonce), changes.get("jwk", self.jwk)
        bound = changes.get("bound", (nonce, jwk))
        evidence = changes.get("evidence") or self.quote(messages.report_data(*bound))
        return messages.attest_body(nonce, jwk, evidence)

    def attest(self, **changes: Any) -> Attester:
        self.challenge()
        self.token = self.rig.broker.attest(self.session, self.body(**changes))
        return self

    def fetch(self, path: str) -> bytes:
        return self.key.open(self.rig.broker.resource(self.session, None, path), path)


class Rig:
    """A store with a service and a model, a broker on it, a simulated platform."""

    def __init__(self, place: Place, clock: Clock, simulator: SimulatorState) -> None:
        self.place = place
        self.folder = place.folder
        self.clock = clock
        self.simulator = simulator
        self.store = place.open(now=clock)
        self.identity = agefile.generate_identity()
        self.policy_text = self.policy()
        self.register_model()
        admin.register_service(self.store, SERVICE, self.policy_text, [MODEL], "Example Bank")
        self.broker = KeyBroker(self.store, now=clock)

    @property
    def broker_key(self) -> Any:
        return self.store.signing_key.verifying_key

    def policy(self, **changes: Any) -> str:
        members: dict[str, Any] = {
            "kinds": DCAP_KINDS,
            "measurements": {kind: [value.hex()] for kind, value in MEASUREMENTS.items()},
            "allow_simulated": True,
            "simulated_roots": [self.simulator.root_sha256],
        }
        return render_policy(**{**members, **changes})

    def init_data(self, **changes: Any) -> bytes:
        members: dict[str, Any] = {
            "service": SERVICE,
            "broker_key": self.broker_key.text,
            "release_policy": Policy.parse(self.policy_text).digest,
            "models": (f"kbs:///{MODEL}",),
        }
        return InitData(**{**members, **changes}).to_toml()

    def register_model(self, **changes: Any) -> Any:
        members: dict[str, Any] = {
            "resource": MODEL,
            "name": "lite0",
            "version": "1",
            "manifest_digest": "sha256:" + "11" * 32,
            "sealed_sha256": "22" * 32,
            "identity": self.identity,
            "policy_text": None,
        }
        return admin.register_model(self.store, **{**members, **changes})

    def change_service(self, policy_text: str | None = None, models: Iterable[str] = (MODEL,)) -> None:
        self.policy_text = policy_text or self.policy_text
        admin.register_service(self.store, SERVICE, self.policy_text, list(models), "Example Bank")

    def attester(self, kind: EvidenceKind = EvidenceKind.SGX, **changes: Any) -> Attester:
        return Attester(self, kind, **changes)

    def last_entry(self) -> dict[str, Any]:
        return list(admin.log_entries(self.store))[-1]

    def reopen(self, **bounds: int) -> None:
        """Another server process on the same store."""
        self.broker = KeyBroker(self.store, now=self.clock, **bounds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> SimulatorState:
    return SimulatorState.open(tmp_path_factory.mktemp("simulator"))


@pytest.fixture(scope="session")
def other_simulator(tmp_path_factory: pytest.TempPathFactory) -> SimulatorState:
    return SimulatorState.open(tmp_path_factory.mktemp("other-simulator"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    if programs() is None:
        pytest.skip("no PostgreSQL server is installed (Debian package postgresql)")
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def backend() -> str:
    """`sqlite` or `postgres`. Modules whose tests hold for both override it."""
    return "sqlite"


@pytest.fixture
def place(tmp_path: Path, backend: str, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Place]]:
    """`place("name")`: where a new store may lie."""
    made: list[Place] = []

    def find(name: str) -> Place:
        if backend == "sqlite":
            return Place(tmp_path / name)
        server: PostgresServer = request.getfixturevalue("postgres")
        made.append(Place(tmp_path / name, server, server.take()))
        return made[-1]

    yield find
    for each in made:
        assert each.server is not None
        each.server.give_back(each.database)


@pytest.fixture
def home(place: Callable[[str], Place]) -> Place:
    """Where the store of this test lies."""
    return place("store")


@pytest.fixture
def store(home: Place, clock: Clock) -> Iterator[Store]:
    with home.open(now=clock) as opened:
        yield opened


@pytest.fixture
def rig(place: Callable[[str], Place], clock: Clock, simulator: SimulatorState) -> Iterator[Rig]:
    made = Rig(place("broker"), clock, simulator)
    yield made
    made.store.close()


@pytest.fixture
def new_rig(
    place: Callable[[str], Place], clock: Clock, simulator: SimulatorState
) -> Iterator[Callable[[str], Rig]]:
    """`new_rig("rogue")`: another broker of its own."""
    made: list[Rig] = []

    def build(name: str) -> Rig:
        made.append(Rig(place(name), clock, simulator))
        return made[-1]

    yield build
    for rig in made:
        rig.store.close()


@pytest.fixture(scope="session")
def refused() -> Callable[[str], AbstractContextManager[None]]:
    """`with refused(code):` expects exactly this refusal."""

    @contextmanager
    def expect(code: str) -> Iterator[None]:
        with pytest.raises(StrongroomError) as caught:
            yield
        assert caught.value.code == code, str(caught.value)

    return expect


@pytest.fixture(scope="session")
def tee_key() -> ec.EllipticCurvePrivateKey:
    return teekey.generate()


@pytest.fixture(scope="session", name="mutants")
def _mutants() -> Callable[..., Iterator[bytes]]:
    """`mutants(value, encode, count, seed)`: half are changed values, encoded again, half changed bytes."""
    return mutants


@pytest.fixture(scope="session")
def survey() -> Callable[[Callable[[Any], Any], Iterable[Any]], Counter[str]]:
    """`survey(parse, inputs)`: only our own errors may leave the parser; counts codes, and `ok`."""

    def run(parse: Callable[[Any], Any], inputs: Iterable[Any]) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        for data in inputs:
            try:
                parse(data)
            except StrongroomError as error:
                outcomes[error.code] += 1
            else:
                outcomes["ok"] += 1
        return outcomes

    return run


@pytest.fixture(scope="session")
def json_bytes() -> Callable[[Any], bytes]:
    """Compact JSON."""
    return lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "replace"
    )


class Loopback:
    """A real server on a loopback port, in a thread of its own."""

    def __init__(self, app: Any, **settings: Any) -> None:
        # With the protocol named, or asyncio would leave Nagle's algorithm on; listening before the server
        # runs, so that a client which is early waits for it.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        defaults = {"log_config": None, "access_log": False, "ws": "none"}
        self._server = uvicorn.Server(
            uvicorn.Config(app, **{**defaults, **settings, "timeout_graceful_shutdown": 1})
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=30)
        self._socket.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """`serve(app, **settings)`: the URL at which uvicorn serves it until the test ends."""
    running: list[Loopback] = []

    def start(app: Any, **settings: Any) -> str:
        running.append(Loopback(app, **settings))
        return running[-1].url

    yield start
    for server in running:
        server.stop()
