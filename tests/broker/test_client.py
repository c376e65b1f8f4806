"""The client over real loopback connections: the whole way, broken servers, refusals, lost connections."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from strongroom.attestation.beacon import SignedBeacon
from strongroom.attestation.evidence import DCAP_KINDS, Evidence, EvidenceKind
from strongroom.broker import admin
from strongroom.broker.client import MAX_ANSWER, KbsClient
from strongroom.broker.log import verify_log
from strongroom.broker.server import create_app
from strongroom.errors import BrokerError, StrongroomError, UnreachableError

MODEL = "kbs:///default/model/lite0"
NONCE = base64.b64encode(bytes(32)).decode()


@pytest.fixture
def url(rig, serve) -> str:
    return serve(create_app(rig.store, now=rig.clock, broker=rig.broker))


@pytest.fixture
def connect(rig, url: str) -> Iterator[Callable[..., KbsClient]]:
    """`connect(kind)`: a client of the real server, with a genuine worker's quoter."""
    made: list[KbsClient] = []

    def build(kind: EvidenceKind = EvidenceKind.SGX, **changes: Any) -> KbsClient:
        worker = rig.attester(kind, **changes)
        made.append(KbsClient(changes.get("url", url), str(kind), worker.quote, timeout=20))
        return made[-1]

    yield build
    for client in made:
        client.close()


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_a_worker_fetches_its_keys(rig, connect, kind: EvidenceKind) -> None:
    client = connect(kind)
    client.attest(rig.init_data())
    (epoch,) = client.service_key("pictures", rig.broker_key)
    assert epoch.keyset.service == "pictures"
    for name in (MODEL, "default/model/lite0"):
        assert client.model_key(name, rig.broker_key).identity == rig.identity
    entries = list(admin.log_entries(rig.store))[-3:]
    assert {entry["recipient"] for entry in entries} == {client.recipient}


def test_every_attestation_has_a_key_of_its_own(rig, connect) -> None:
    client = connect()
    seen = set()
    for _ in range(3):
        client.attest(rig.init_data())
        seen.add(client.recipient)
        assert client.model_key(MODEL, rig.broker_key)
    assert len(seen) == 3


def test_beacon_and_policy(rig, connect) -> None:
    client = connect()
    beacon = SignedBeacon.parse(client.beacon("pictures")).verify(rig.broker_key)
    assert beacon.time == int(rig.clock())
    assert client.policy("pictures").decode() == rig.policy_text
    for ask in (client.beacon, client.policy):
        for name in ("sounds", "a/b", "..", "a?b", "\u00e9"):
            with pytest.raises(BrokerError) as caught:
                ask(name)
            assert caught.value.code in {"service-unknown", "resource-path-invalid"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"measurement": bytes(32)}, "policy-measurement"),
        ({"broker_key": "ed25519+mldsa65:" + "B" * 43}, "init-data-broker"),
        ({"service": "sounds"}, "service-unknown"),
        ({"release_policy": "sha256:" + "0" * 64}, "init-data-policy"),
    ],
)
def test_a_refusal_arrives_with_its_code(rig, connect, changes: dict[str, Any], code: str) -> None:
    client = connect(**changes)
    with pytest.raises(StrongroomError) as caught:
        client.attest(rig.attester(**changes).init_data)
    assert caught.value.code == code
    assert caught.value.exit_code == 3
    assert caught.value.found == "HTTP 401"
    assert str(caught.value).count(caught.value.kind.title) == str(caught.value).count(code) == 1


def test_changed_init_data_is_refused(rig, connect, refused) -> None:
    """The client sends what it was told to; the evidence carries the digest of what it was started with."""
    client = connect()
    with refused("evidence-init-data"):
        client.attest(rig.init_data() + b"# changed\n")


def test_nothing_is_fetched_before_an_attestation_or_after_a_refused_one(rig, connect, refused) -> None:
    client = connect()
    with refused("token-missing"):
        client.resource("default/model/lite0")
    with refused("token-missing"):
        assert client.recipient
    client.attest(rig.init_data())
    with refused("evidence-init-data"):
        client.attest(rig.init_data() + b"# changed\n")
    with refused("token-missing"):
        client.resource("default/model/lite0")


def test_an_expired_session_is_told_and_a_new_attestation_helps(rig, connect, refused) -> None:
    client = connect()
    client.attest(rig.init_data())
    rig.clock.turn(300)
    with refused("session-expired"):
        client.service_key("pictures", rig.broker_key)
    client.attest(rig.init_data())
    assert client.service_key("pictures", rig.broker_key)


def test_a_path_that_names_nothing_is_not_asked_for(rig, connect, refused) -> None:
    client = connect()
    client.attest(rig.init_data())
    for path in ("../x/y", "a/b", "a/b/c\r\nX: y"):
        with refused("resource-path-invalid"):
            client.resource(path)


def test_eight_workers_at_once(rig, url: str) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        kind = DCAP_KINDS[number % 2]
        try:
            for _ in range(3):
                worker = rig.attester(kind)
                with KbsClient(url, str(kind), worker.quote, timeout=60) as client:
                    client.attest(worker.init_data)
                    assert client.service_key("pictures", rig.broker_key)[0].epoch == 1
                    assert client.model_key(MODEL, rig.broker_key).identity == rig.identity
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert verify_log(rig.store).size == 3 + 8 * 3 * 3


def test_a_path_in_front_is_kept(rig, serve) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    inner = create_app(rig.store, now=rig.clock, broker=rig.broker)
    url = serve(Starlette(routes=[Mount("/keys", inner)]))
    worker = rig.attester()
    with KbsClient(url + "/keys/", "sgx", worker.quote) as client:
        client.attest(worker.init_data)
        assert client.service_key("pictures", rig.broker_key)


@pytest.mark.parametrize(
    "url",
    ["", "broker", "ftp://x", "http://", "//x", "http://x?y", "http://x#y", "unix:///x", "http://x:99999"],
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        KbsClient(url, "sgx", lambda _: Evidence(EvidenceKind.SGX, b""))


def test_a_broker_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "http://broker.invalid:1"):
        with pytest.raises(UnreachableError) as caught:
            KbsClient(url, "sgx", lambda _: Evidence(EvidenceKind.SGX, b""), timeout=5).beacon("pictures")
        assert (caught.value.code, caught.value.exit_code) == ("broker-unreachable", 4)


def test_https_is_verified(rig, url: str) -> None:
    """A plain server behind an https address fails in the handshake; no request is sent in clear."""
    worker = rig.attester()
    address = url.replace("http:", "https:")
    for context in (None, ssl.create_default_context()):
        with (
            pytest.raises(UnreachableError),
            KbsClient(address, "sgx", worker.quote, timeout=5, ssl_context=context) as client,
        ):
            client.beacon("pictures")
    assert rig.last_entry()["event"] == "epoch-minted"


# Servers that break the protocol.


class Script:
    """A server that answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                script.asked.append((self.path, dict(self.headers)))
                status, headers, body = script.answers.pop(0)
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = "close" in headers

            do_GET = do_POST = answer  # noqa: N815 -- names of the base class

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()
    yield made
    made.stop()


@pytest.fixture
def client(script: Script) -> Iterator[KbsClient]:
    with KbsClient(script.url, "sgx", lambda _: Evidence(EvidenceKind.SGX, b"quote"), timeout=5) as made:
        yield made


def ok(members: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return (
        200,
        {name.replace("_", "-"): value for name, value in headers.items()},
        json.dumps(members).encode(),
    )


CHALLENGE = ok({"nonce": NONCE, "extra-params": ""}, Set_Cookie="kbs-session-id=abc; Expires=never")


@pytest.mark.parametrize(
    "answer",
    [
        ok({"nonce": NONCE}),
        ok({"nonce": "AAAA"}, Set_Cookie="kbs-session-id=abc"),
        ok({"nonce": base64.b64encode(bytes(33)).decode()}, Set_Cookie="kbs-session-id=abc"),
        ok({"nonce": "!" * 44}, Set_Cookie="kbs-session-id=abc"),
        ok({"nonce": NONCE.rstrip("=")}, Set_Cookie="kbs-session-id=abc"),
        ok({"nonce": 1}, Set_Cookie="kbs-session-id=abc"),
        ok({}, Set_Cookie="kbs-session-id=abc"),
        ok([], Set_Cookie="kbs-session-id=abc"),
        ok({"nonce": NONCE}, Set_Cookie="other=abc"),
        ok({"nonce": NONCE}, Set_Cookie="kbs-session-id="),
        ok({"nonce": NONCE}, Set_Cookie="kbs-session-id=\x7f"),
        (200, {"Set-Cookie": "kbs-session-id=abc"}, b"not JSON"),
        (200, {"Set-Cookie": "kbs-session-id=abc"}, b"\xff"),
        (200, {"Set-Cookie": "kbs-session-id=abc"}, b""),
        (200, {}, b" " * (MAX_ANSWER + 1)),
    ],
)
def test_a_challenge_that_makes_no_sense(script: Script, client: KbsClient, refused, answer: Any) -> None:
    script.answers = [answer]
    with refused("broker-answer-invalid"):
        client.attest(b"init")
    assert len(script.asked) == 1


def test_an_attestation_without_a_token(script: Script, client: KbsClient, refused) -> None:
    script.answers = [CHALLENGE, ok({"token": None})]
    with refused("broker-answer-invalid"):
        client.attest(b"init")
    with refused("token-missing"):
        client.resource("a/b/c")


def test_the_cookie_is_sent_back_and_forgotten_at_a_new_attestation(
    script: Script, client: KbsClient
) -> None:
    script.answers = [CHALLENGE, ok({"token": "t"}), CHALLENGE, ok({"token": "t"})]
    client.attest(b"init")
    client.attest(b"init")
    assert [headers.get("Cookie") for _, headers in script.asked] == [None, "kbs-session-id=abc"] * 2
    client.close()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"not JSON", b'{"protected":"","iv":""}'])
def test_a_resource_that_is_none(script: Script, client: KbsClient, refused, body: bytes) -> None:
    script.answers = [CHALLENGE, ok({"token": "t"}), (200, {}, body)]
    client.attest(b"init")
    with refused("hpke-release-invalid"):
        client.resource("a/b/c")


@pytest.mark.parametrize(
    ("answer", "code", "shown"),
    [
        ((401, {}, b'{"code":"policy-measurement","detail":"found x"}'), "policy-measurement", "found x"),
        ((401, {}, b'{"code":"no-such-code","detail":"text"}'), "broker-refused", "text"),
        ((401, {}, b'{"code":1,"detail":{"a":1}}'), "broker-refused", ""),
        ((401, {}, b'{"detail":"a\\u001b[31m\\u0000\\nb\\u00e9c"}'), "broker-refused", "a[31mbc"),
        ((401, {}, b'{"detail":"' + b"x" * 1000 + b'"}'), "broker-refused", "x" * 300),
        ((401, {}, b"[]"), "broker-refused", ""),
        ((500, {}, b"Internal Server Error"), "broker-refused", ""),
        ((404, {}, b""), "broker-refused", ""),
        ((204, {}, b""), "broker-refused", ""),
    ],
)
def test_refusals_of_a_server_that_is_not_trusted(
    script: Script, client: KbsClient, answer: Any, code: str, shown: str
) -> None:
    script.answers = [answer]
    with pytest.raises(BrokerError) as caught:
        client.beacon("pictures")
    assert (caught.value.code, caught.value.detail) == (code, shown)
    assert caught.value.found == f"HTTP {answer[0]}"


def test_a_redirect_is_not_followed(script: Script, client: KbsClient, refused) -> None:
    script.answers = [(307, {"Location": "http://127.0.0.1:1/"}, b"")]
    with refused("broker-refused"):
        client.beacon("pictures")


def test_a_connection_closed_while_idle_is_made_anew(script: Script, client: KbsClient) -> None:
    script.answers = [ok({"n": 1}), (0, {}, b""), ok({"n": 2})]
    assert client.beacon("pictures") == b'{"n": 1}'
    assert client.beacon("pictures") == b'{"n": 2}'  # the second was lost with the connection, and sent again


def test_a_connection_closed_on_a_first_request_is_not_tried_for_ever(
    script: Script, client: KbsClient
) -> None:
    script.answers = [(0, {}, b""), (0, {}, b"")]
    for _ in range(2):
        with pytest.raises(UnreachableError):
            client.beacon("pictures")
    assert len(script.asked) == 2


def test_an_answer_cut_short_is_told(script: Script, client: KbsClient) -> None:
    script.answers = [(200, {"Content-Length": "1000", "close": "1"}, b"{}")]
    with pytest.raises(UnreachableError):
        client.beacon("pictures")


def test_an_answer_without_end_is_not_read_to_it_and_the_next_one_is_fine(
    script: Script, client: KbsClient, refused
) -> None:
    script.answers = [(200, {"Content-Length": str(1 << 40)}, bytes(MAX_ANSWER + 4096)), ok({"n": 1})]
    with refused("broker-answer-invalid"):
        client.beacon("pictures")
    assert client.beacon("pictures") == b'{"n": 1}'


def test_the_client_is_small_enough_for_the_enclave() -> None:
    """What a worker imports of the broker brings no server, no JOSE library and no database with it."""
    code = (
        "import sys, strongroom.broker.client, strongroom.broker.release\n"
        "heavy = 'joserfc httpx starlette uvicorn structlog sqlite3 asyncio dcap_qvl redis numpy'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
