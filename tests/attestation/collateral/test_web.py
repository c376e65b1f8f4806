"""What is refused of an answer, whatever it is about."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collateral_rig import CollateralServer, Reply
from strongroom.attestation.collateral.web import Answer, Web, base_url
from strongroom.errors import ConfigError, StrongroomError

Code = Callable[..., str | None]


def _code(server: CollateralServer, reply: Reply, web: Web | None = None) -> str:
    server.replies["/x"] = reply
    with pytest.raises(StrongroomError) as caught:
        (web or Web()).get(f"{server.url}/x", limit=100)
    assert server.url in caught.value.detail
    return caught.value.code


def test_an_answer(server: CollateralServer) -> None:
    server.replies["/x"] = Reply(b"a" * 100, headers={"X-Chain": "value"})
    answer = Web().get(f"{server.url}/x", limit=100)
    assert answer.body == b"a" * 100
    assert answer.header("x-chain") == answer.header("Other", "X-Chain") == "value"


def test_no_proxy_of_the_environment(server: CollateralServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.replies["/x"] = Reply(b"a")
    assert Web().get(f"{server.url}/x", limit=100).body == b"a"


@pytest.mark.parametrize("status", [404, 461, 462])
def test_not_found(status: int, server: CollateralServer) -> None:
    assert _code(server, Reply(b"", status)) == "collateral-not-found"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_trouble_of_the_service(status: int, server: CollateralServer) -> None:
    assert _code(server, Reply(b"", status)) == "collateral-unreachable"


@pytest.mark.parametrize("status", [201, 204, 206, 400, 401, 403, 410])
def test_another_status(status: int, server: CollateralServer) -> None:
    assert _code(server, Reply(b"", status)) == "collateral-answer-invalid"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirections(status: int, server: CollateralServer) -> None:
    """Not even to the same host: nobody needs one."""
    server.replies["/y"] = Reply(b"a")
    for target in ("/y", "http://169.254.169.254/latest"):
        assert _code(server, Reply(b"", status, {"Location": target})) == "collateral-answer-invalid"
    assert set(server.asked) == {"/x"}


def test_oversize(server: CollateralServer) -> None:
    assert _code(server, Reply(b"a" * 101)) == "collateral-answer-invalid"


def test_an_encoded_body(server: CollateralServer) -> None:
    """It could be larger than it looks."""
    assert _code(server, Reply(b"", headers={"Content-Encoding": "gzip"})) == "collateral-answer-invalid"


def test_a_body_that_is_cut_off(server: CollateralServer) -> None:
    assert _code(server, Reply(b"abc", cut=True)) == "collateral-unreachable"


def test_nobody_there(server: CollateralServer) -> None:
    server.stop()
    assert _code(server, Reply()) == "collateral-unreachable"


def test_silence(server: CollateralServer) -> None:
    gate = threading.Event()
    assert _code(server, Reply(b"", gate=gate), Web(step_seconds=0.2)) == "collateral-unreachable"
    gate.set()


def test_an_answer_that_takes_too_long(server: CollateralServer) -> None:
    ticks = iter([0.0, 20.0, 40.0])
    web = Web(clock=lambda: next(ticks))
    assert _code(server, Reply(b"abc"), web) == "collateral-unreachable"


def test_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x15\x03\x01\x00\x02\x02\x28")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(StrongroomError) as caught:
            Web().get(f"http://127.0.0.1:{listener.getsockname()[1]}/x", limit=100)
        thread.join()
    assert caught.value.code == "collateral-unreachable"


def test_a_header_that_is_missing() -> None:
    with pytest.raises(StrongroomError) as caught:
        Answer("http://x", {}, b"").header("TCB-Info-Issuer-Chain")
    assert caught.value.code == "collateral-answer-invalid"
    assert "TCB-Info-Issuer-Chain" in caught.value.detail


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://kdsintf.amd.com", "https://kdsintf.amd.com"),
        ("https://pccs.example.org:8081/", "https://pccs.example.org:8081"),
        ("https://pccs.example.org/a/v4/", "https://pccs.example.org/a"),
        ("http://127.0.0.1:8081", "http://127.0.0.1:8081"),
        ("http://[::1]:8081", "http://[::1]:8081"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_addresses(text: str, clean: str) -> None:
    assert base_url(text, suffix="/v4") == clean


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kdsintf.amd.com",
        "http://kdsintf.amd.com",
        "http://127.0.0.1.example.org",
        "ftp://127.0.0.1",
        "https://",
        "https://user@host",
        "https://user:secret@host",
        "https://@host",
        "https://host/?a=b",
        "https://host/#a",
        "https://host:x",
        "https://host:99999",
        "https://[::1",
        "https://ho st",
        "https://h\u00f6st",
        "https://host\r\nX: y",
        "https://" + "a" * 600,
    ],
)
def test_addresses_that_are_none(text: str, code_of: Code) -> None:
    assert code_of(base_url, text) == "collateral-source-invalid"


@given(st.text(max_size=40) | st.text(max_size=20).map(lambda text: f"https://{text}"))
def test_any_text(text: str) -> None:
    try:
        url = base_url(text)
    except ConfigError as error:
        code = error.code
    else:
        code = "collateral-source-invalid"
        assert url.startswith(("https://", "http://"))
        assert url.isascii()
        assert not set(url) & set(" \r\n?#@")
    assert code == "collateral-source-invalid"
