"""The witness over HTTP: the statuses and bodies that C2SP tlog-witness has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from log_rig import LOG, W1, MemoryLog, entries
from strongroom.broker.witness import Witness
from strongroom.broker.witness_client import WitnessClient
from strongroom.broker.witness_server import create_app
from strongroom.codec import note
from strongroom.codec.tlog import MAX_TEXT, AddCheckpoint
from strongroom.crypto.notes import NoteSigner, NoteType
from strongroom.errors import StrongroomError


@pytest.fixture
def url(tmp_path: Path, clock, serve) -> str:
    witness = Witness.open(tmp_path / "witness", W1, [LOG.key], now=clock)
    address: str = serve(create_app(witness))
    return address


def post(url: str, body: bytes) -> httpx.Response:
    return httpx.post(f"{url}/add-checkpoint", content=body, trust_env=False)


def test_a_cosignature(url: str) -> None:
    answer = post(url, MemoryLog(entries(3)).request(0))
    assert answer.status_code == 200
    assert answer.text.startswith("\u2014 witness.example/w1 ")
    assert answer.text.endswith("\n")


def test_a_conflict_names_the_size(url: str) -> None:
    log = MemoryLog(entries(3))
    post(url, log.request(0))
    answer = post(url, log.request(1))
    assert (answer.status_code, answer.text) == (409, "3\n")
    assert answer.headers["Content-Type"] == "text/x.tlog.size"


def test_a_fork_is_answered_with_both_checkpoints(url: str) -> None:
    log, other = MemoryLog(entries(3)), MemoryLog(entries(3, "other"))
    post(url, log.request(0))
    answer = post(url, other.request(3))
    assert answer.status_code == 409
    assert answer.headers["Content-Type"] != "text/x.tlog.size"
    assert answer.content == log.checkpoint() + b"\n" + other.checkpoint()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"old 0\n\nnot a checkpoint", 400),
        (AddCheckpoint(4, (), MemoryLog(entries(3)).checkpoint()).render(), 400),
        (AddCheckpoint(0, (bytes(32),), MemoryLog(entries(3)).checkpoint()).render(), 422),
        (MemoryLog(entries(1), NoteSigner("else", NoteType.ED25519, b"\x03" * 32)).request(0), 404),
        (MemoryLog(entries(1), NoteSigner(LOG.name, NoteType.ED25519, b"\x03" * 32)).request(0), 403),
        (b"x" * (MAX_TEXT + 1), 413),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_refusals(url: str, body: bytes, status: int) -> None:
    assert post(url, body).status_code == status


def test_its_own_trouble_is_not_explained(tmp_path: Path, clock, serve) -> None:
    witness = Witness.open(tmp_path / "witness", W1, [LOG.key], now=clock)
    url = serve(create_app(witness))
    witness.close()
    answer = post(url, MemoryLog(entries(1)).request(0))
    assert (answer.status_code, answer.text) == (500, "The state of the witness cannot be used\n")


# The log's side, against scripted answers.


def app(status: int, body: bytes, kind: str = "text/plain") -> Callable[..., object]:
    async def answer(scope, receive, send) -> None:
        assert scope["type"] == "http"
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def with_lifespan(scope, receive, send) -> None:
        if scope["type"] == "http":
            await answer(scope, receive, send)

    return with_lifespan


LOG3 = MemoryLog(entries(3))
TEXT = note.parse(LOG3.checkpoint()).text
REQUEST = AddCheckpoint(0, (), LOG3.checkpoint())
GOOD = W1.sign(TEXT, 5).line().encode()
OTHER = NoteSigner("witness.example/w2", NoteType.COSIGNATURE_V1, b"\x02" * 32).sign(TEXT, 5).line().encode()


def ask(url: str) -> object:
    client = WitnessClient(W1.key, url + "/prefix/", timeout=20)
    try:
        return client.add(REQUEST, TEXT)
    finally:
        client.close()


@pytest.mark.parametrize(
    ("status", "body", "kind", "found"),
    [
        (200, GOOD, "text/plain", W1.sign(TEXT, 5)),
        (200, OTHER + GOOD, "text/plain", W1.sign(TEXT, 5)),
        (409, b"7\n", "text/x.tlog.size", 7),
        (409, b"0\n", "text/x.tlog.size", 0),
    ],
)
def test_answers(serve, status: int, body: bytes, kind: str, found: object) -> None:
    assert ask(serve(app(status, body, kind))) == found


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (200, b"", "text/plain", "witness-missing"),
        (200, b"hello\n", "text/plain", "witness-missing"),
        (200, OTHER, "text/plain", "note-unsigned"),
        (200, W1.sign(TEXT + "x\n", 5).line().encode(), "text/plain", "signature-invalid"),
        (409, b"7\n", "text/plain", "witness-missing"),
        (409, b"07\n", "text/x.tlog.size", "witness-missing"),
        (409, b"9" * 5000, "text/x.tlog.size", "witness-missing"),
        (403, b"no", "text/plain", "witness-missing"),
        (500, b"", "text/plain", "witness-missing"),
        (200, b"x" * 100_000, "text/plain", "witness-missing"),
    ],
)
def test_other_answers_are_no_cosignature(
    serve, refused, status: int, body: bytes, kind: str, code: str
) -> None:
    with refused(code):
        ask(serve(app(status, body, kind)))


def test_nobody_there(refused) -> None:
    with refused("witness-missing"):
        ask("http://127.0.0.1:9")


@pytest.mark.parametrize("url", ["", "ftp://a", "http://", "http://a?b", "http://a#b"])
def test_an_address_is_one(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        WitnessClient(W1.key, url, timeout=1)


def test_an_idle_connection_that_was_closed_is_opened_again(url: str, serve) -> None:
    log = MemoryLog(entries(3))
    client = WitnessClient(W1.key, url, timeout=20)
    text = note.parse(log.checkpoint()).text
    client.add(AddCheckpoint(0, (), log.checkpoint()), text)
    client._connection.sock.close()  # as a server does with a connection that nobody used for long
    with pytest.raises(StrongroomError):  # a socket of ours that is closed is not a peer that hung up
        client.add(AddCheckpoint(3, (), log.checkpoint()), text)
    assert client.add(AddCheckpoint(3, (), log.checkpoint()), text).name == W1.name
    client.close()
