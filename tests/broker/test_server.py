"""The server over HTTP: the protocol as other attesters see it, bounds, health, maintenance."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from strongroom.attestation.beacon import SignedBeacon
from strongroom.attestation.evidence import DCAP_KINDS, EvidenceKind
from strongroom.broker import admin, messages
from strongroom.broker.http_errors import TYPE_PREFIX
from strongroom.broker.kbs import KeyBroker
from strongroom.broker.release import open_model_key, open_service_key
from strongroom.broker.server import create_app

KEY = "/kbs/v0/resource/pictures/service-key/current"
MODEL = "/kbs/v0/resource/default/model/lite0"


def resource_of(path: str) -> str:
    return path.removeprefix(messages.RESOURCE_PREFIX)


@pytest.fixture
def app(rig) -> Any:
    return create_app(rig.store, now=rig.clock, broker=rig.broker)


@pytest.fixture
async def http(app) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://broker") as client:
        yield client


async def attest(http: httpx.AsyncClient, worker: Any) -> httpx.Response:
    """The handshake, by hand, as an attester in another language makes it."""
    asked = {"version": "0.4.0", "tee": str(worker.kind), "extra-params": ""}
    given = await http.post("/kbs/v0/auth", json=asked)
    assert given.status_code == 200
    worker.nonce = given.json()["nonce"]
    return await http.post("/kbs/v0/attest", content=worker.body())


def assert_error(response: httpx.Response, status: int, kind: str, code: str) -> None:
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    members = response.json()
    assert (members["type"], members["code"]) == (TYPE_PREFIX + kind, code)
    assert members["detail"]


@pytest.mark.parametrize("kind", DCAP_KINDS)
async def test_the_whole_handshake(rig, http, kind: EvidenceKind) -> None:
    worker = rig.attester(kind)
    answer = await attest(http, worker)
    assert answer.status_code == 200
    assert set(answer.json()) == {"token"}
    released = await http.get(KEY)
    assert released.status_code == 200
    assert released.headers["Cache-Control"] == "no-store"
    assert list(released.json()) == ["alg", "ciphertext", "enc"]
    document = worker.key.open(released.content, resource_of(KEY))
    (epoch,) = open_service_key(document, rig.broker_key, worker.recipient, "pictures")
    assert epoch.epoch == 1
    document = worker.key.open((await http.get(MODEL)).content, resource_of(MODEL))
    assert (
        open_model_key(document, rig.broker_key, worker.recipient, "default/model/lite0").identity
        == rig.identity
    )


async def test_the_challenge_has_the_form_of_the_protocol(rig, http) -> None:
    answer = await http.post("/kbs/v0/auth", content=messages.auth_body("tdx"))
    assert set(answer.json()) == {"nonce", "extra-params"}
    assert answer.json()["extra-params"] == ""
    assert len(base64.b64decode(answer.json()["nonce"], validate=True)) == 32
    morsel = SimpleCookie(answer.headers["Set-Cookie"])["kbs-session-id"]
    assert len(bytes.fromhex(morsel.value)) == 16
    assert morsel["expires"]
    assert morsel["httponly"]


async def test_a_bearer_token_in_place_of_the_cookie(rig, app, http) -> None:
    worker = rig.attester()
    token = (await attest(http, worker)).json()["token"]
    http.cookies.clear()
    for scheme in ("Bearer", "bearer"):
        answer = await http.get(KEY, headers={"Authorization": f"{scheme} {token}"})
        assert worker.key.open(answer.content, resource_of(KEY))
    for header in (f"Basic {token}", token, ""):
        assert_error(
            await http.get(KEY, headers={"Authorization": header}), 401, "TokenNotFound", "token-missing"
        )
    bad = await http.get(KEY, headers={"Authorization": "Bearer x"})
    assert_error(bad, 401, "TokenVerifierError", "token-invalid")


async def test_refusals_have_the_form_of_the_protocol(rig, http) -> None:
    answer = await attest(http, rig.attester(measurement=bytes(32)))
    assert_error(answer, 401, "AttestationError", "policy-measurement")
    assert_error(await http.get(KEY), 401, "TokenNotFound", "session-unknown")
    http.cookies.clear()
    assert_error(await http.get(KEY), 401, "TokenNotFound", "token-missing")
    assert_error(await http.post("/kbs/v0/attest", content=b"{}"), 401, "AttestationError", "session-unknown")
    await attest(http, rig.attester())
    unknown = await http.get("/kbs/v0/resource/default/model/unknown")
    assert_error(unknown, 404, "PluginNotFound", "resource-unknown")
    foreign = await http.get("/kbs/v0/resource/sounds/service-key/current")
    assert_error(foreign, 401, "PolicyDeny", "service-foreign")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"version": "0.1.1", "tee": "sgx", "extra-params": ""}, 401, "kbs-version"),
        ({"version": "0.4.0", "tee": "cca", "extra-params": ""}, 401, "tee-unsupported"),
        ({"version": "0.4.0"}, 400, "kbs-body-invalid"),
    ],
)
async def test_a_challenge_that_is_not_given(http, body: dict[str, str], status: int, code: str) -> None:
    answer = await http.post("/kbs/v0/auth", json=body)
    assert_error(answer, status, "AttestationError", code)
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "path",
    ["/", "/kbs", "/kbs/v0/resource", "/kbs/v0/resource/", "/kbs/v0/resource/a/b", "/kbs/v0/resource/a/b/c/d",
     "/kbs/v0/resource/a/%2e%2e/c", "/kbs/v0/resource/a%2Fb/c/d/e", "/kbs/v0/other/a/b/c",
     "/strongroom/v1/beacon/"],
)  # fmt: skip
async def test_a_path_that_names_nothing(http, path: str) -> None:
    assert_error(await http.get(path), 404, "InvalidRequestPath", "resource-path-invalid")


async def test_another_method(http) -> None:
    for method, path in (
        ("GET", "/kbs/v0/auth"),
        ("PUT", "/kbs/v0/attest"),
        ("POST", KEY),
        ("DELETE", MODEL),
    ):
        answer = await http.request(method, path)
        assert answer.status_code == 405
        assert answer.json()["code"] == "resource-path-invalid"


class Endless:
    """A body that nobody should read to its end; counts what was taken."""

    def __init__(self, size: int) -> None:
        self.taken = 0
        self._size = size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.taken < self._size:
            self.taken += 65536
            yield bytes(65536)


@pytest.mark.parametrize(("path", "limit"), [("/kbs/v0/auth", 16 * 1024), ("/kbs/v0/attest", 1024 * 1024)])
async def test_an_oversized_body_is_refused_before_it_is_read(rig, http, path: str, limit: int) -> None:
    for declared in (str(limit + 1), str(1 << 30), "9" * 40, "-1", "x", "\u0661"):
        body = Endless(1 << 30)
        headers = {"Content-Length": declared.encode()}
        answer = await http.post(path, content=body, headers=headers)
        assert_error(answer, 413, "AttestationError", "kbs-body-too-large")
        assert body.taken <= 65536
    body = Endless(1 << 30)
    assert_error(await http.post(path, content=body), 413, "AttestationError", "kbs-body-too-large")
    assert body.taken <= limit + 2 * 65536


async def test_a_body_at_its_bound_is_read(http) -> None:
    answer = await http.post("/kbs/v0/auth", content=b" " * (16 * 1024))
    assert_error(answer, 400, "AttestationError", "kbs-body-invalid")


async def test_full_sessions_tell_when_to_come_again(rig) -> None:
    rig.reopen(max_sessions=1)
    app = create_app(rig.store, now=rig.clock, broker=rig.broker)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://broker") as http:
        await attest(http, rig.attester())
        answer = await http.post("/kbs/v0/auth", content=messages.auth_body("sgx"))
    assert_error(answer, 503, "AttestationError", "sessions-full")
    assert answer.headers["Retry-After"] == "5"


async def test_beacon_and_policy(rig, http) -> None:
    answer = await http.get("/strongroom/v1/beacon/pictures")
    beacon = SignedBeacon.parse(answer.content).verify(rig.broker_key)
    assert (beacon.service, beacon.epoch, beacon.time) == ("pictures", 1, int(rig.clock()))
    assert answer.headers["Cache-Control"] == "no-store"
    answer = await http.get("/strongroom/v1/policy/pictures")
    assert answer.text == rig.policy_text
    assert answer.headers["Content-Type"].startswith("application/toml")
    for path in ("/strongroom/v1/beacon/sounds", "/strongroom/v1/policy/sounds", "/strongroom/v1/policy/%00"):
        answer = await http.get(path)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "service-unknown"


async def test_health_tells_of_the_store_and_nothing_about_it(rig, http, caplog) -> None:
    answer = await http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    rig.store.close()
    with caplog.at_level(logging.ERROR, logger="strongroom.broker"):
        answer = await http.get("/healthz")
    assert answer.status_code == 500
    assert set(answer.json()) == {"type", "title", "status", "code"}
    assert answer.json()["code"] == "store-unusable"
    assert "closed" in caplog.text


async def test_a_refusal_is_noted_by_its_code_only(rig, http, caplog) -> None:
    with caplog.at_level(logging.INFO, logger="strongroom.broker"):
        await attest(http, rig.attester(measurement=bytes(32)))
    assert [record.getMessage() for record in caplog.records if record.name == "strongroom.broker"] == [
        "refused: policy-measurement"
    ]


class Ticks:
    """A sleep that the test ends, and that tells when the server has come to it."""

    def __init__(self) -> None:
        self._asleep = asyncio.Event()
        self._wake = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        assert seconds == 15.0
        self._asleep.set()
        await self._wake.wait()
        self._wake.clear()

    async def round(self) -> None:
        """Let one round of maintenance run to its end."""
        await self._asleep.wait()
        self._asleep.clear()
        self._wake.set()
        await self._asleep.wait()


async def test_the_servers_life_includes_maintenance(rig, caplog) -> None:
    ticks = Ticks()
    app = create_app(rig.store, now=rig.clock, sleep=ticks)
    admin.rotate(rig.store, "pictures", grace=30)
    async with app.router.lifespan_context(app):
        await ticks.round()
        assert [record.epoch for record in admin.epochs(rig.store, "pictures")] == [2, 1]
        rig.clock.turn(30)
        await ticks.round()
        assert [record.epoch for record in admin.epochs(rig.store, "pictures")] == [2]
        rig.clock.turn(admin.DEFAULT_LIFETIME)
        await ticks.round()
        assert [record.epoch for record in admin.epochs(rig.store, "pictures")] == [3]
        (rig.folder / "epochs").rename(rig.folder / "away")
        with caplog.at_level(logging.WARNING, logger="strongroom.broker"):
            await ticks.round()
        assert "tried again" in caplog.text
        (rig.folder / "away").rename(rig.folder / "epochs")
        await ticks.round()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "maintenance"]


async def test_the_default_broker_has_the_bounds_of_the_protocol(rig) -> None:
    app = create_app(rig.store, now=rig.clock)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://broker") as http:
        worker = rig.attester()
        token = (await attest(http, worker)).json()["token"]
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        assert claims["exp"] - claims["iat"] == 300
        rig.clock.turn(300)
        assert_error(await http.get(KEY), 401, "TokenVerifierError", "session-expired")


async def test_many_workers_at_once(rig, app) -> None:
    async def one(number: int) -> int:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://broker"
        ) as http:
            worker = rig.attester(DCAP_KINDS[number % 2])
            await attest(http, worker)
            document = worker.key.open((await http.get(KEY)).content, resource_of(KEY))
            return open_service_key(document, rig.broker_key, worker.recipient, "pictures")[0].epoch

    assert await asyncio.gather(*(one(number) for number in range(16))) == [1] * 16
    assert isinstance(rig.broker, KeyBroker)
