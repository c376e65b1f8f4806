"""Connections to the broker's servers, as uvicorn serves them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from strongroom.bounded_http import bounded
from strongroom.broker import http_server
from strongroom.broker.server import create_app

SECONDS = 0.3
HEAD = b"POST /kbs/v0/auth HTTP/1.1\r\nhost: x\r\n"
Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(rig, serve) -> Iterator[Connect]:
    """Connections to a broker whose clients have little time."""
    limits = replace(http_server.LIMITS, header_seconds=SECONDS, body_seconds=SECONDS)
    settings = {**http_server.settings(8), "http": bounded(limits)}
    url = serve(create_app(rig.store, now=rig.clock, broker=rig.broker), **settings)
    host, _, port = url.removeprefix("http://").partition(":")
    opened: list[socket.socket] = []

    def connection() -> socket.socket:
        opened.append(socket.create_connection((host, int(port)), timeout=10))
        return opened[-1]

    yield connection
    for each in opened:
        each.close()


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and members of a whole answer after which the connection closes."""
    received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        HEAD,
        HEAD + b"content-length: 100\r\n\r\n{",
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
    ids=["silence", "half a head", "half a body", "half a chunked body"],
)
def test_who_does_not_go_on_is_cut_off(connect: Connect, caplog, sent: bytes) -> None:
    connection = connect()
    began = time.monotonic()
    connection.sendall(sent)
    assert connection.recv(1) == b""
    assert SECONDS * 0.9 < time.monotonic() - began < 5
    assert not [record for record in caplog.records if record.exc_info]


def test_those_who_were_cut_off_make_room(connect: Connect) -> None:
    silent = [connect() for _ in range(8)]
    for each in silent:
        assert each.recv(1) == b""
    connection = connect()
    connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer(connection) == (200, {"status": "ok"})


def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_fault(connect: Connect, caplog) -> None:
    connection = connect()
    connection.sendall(HEAD + b"content-length: 100\r\n\r\n{")
    time.sleep(SECONDS / 3)
    connection.close()
    time.sleep(SECONDS / 3)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_head_that_is_too_large(connect: Connect) -> None:
    connection = connect()
    connection.sendall(HEAD + b"x: " + b"a" * 65536)
    status, members = answer(connection)
    assert (status, members["code"]) == (431, "headers-too-large")


def test_what_is_no_http(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"\x16\x03\x01\x02\x00\r\n\r\n")
    status, members = answer(connection)
    assert (status, members["code"]) == (400, "bad-request")


def test_the_settings() -> None:
    made = http_server.settings(7)
    assert made["limit_concurrency"] == 7
    limits = made["http"].limits
    assert (limits.header_bytes, limits.fields) == (64 * 1024, 128)
    assert (limits.header_seconds, limits.body_seconds) == (10.0, 10.0)
