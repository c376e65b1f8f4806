"""Binary HTTP (RFC 9292): what is inside of a sealed request or answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fuzz.material import Material
from fuzz.target import Parser
from strongroom.client._answer import read_answer
from strongroom.client._flow import Exchanged
from strongroom.codec.bhttp import (
    Request,
    Response,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from strongroom.worker.app import App

_APP: Final = App(())
_FIELDS: Final = ((b"content-type", b"application/octet-stream"), (b"inference-header-content-length", b"46"))
_PATHS: Final = (b"/v2/health/live", b"/v2/models/m%2F/versions/1/ready?x", b"/v2/models//infer")
_ANSWER: Final = b'{"model_name":"m","model_version":"1","outputs":[]}'
_LABELS: Final = (
    b'{"model_name":"m","parameters":{"labels":[[{"index":1,"name":"a","probability":0.5}]]},"outputs":'
    b'[{"name":"o","datatype":"FP32","shape":[1,2],"data":[0.5,1e3]}]}'
)
_PROBLEM: Final = (
    b'{"type":"urn:strongroom:error:x","title":"T","code":"oip-invalid","detail":"d","found":"f"}'
)


def _request(data: bytes) -> None:
    """What a worker without models reads after it has opened a request."""
    _APP.handle(decode_request(data))


def _response(data: bytes) -> None:
    decode_response(data)


def _answer(data: bytes) -> None:
    """What a client reads after it has opened an answer."""
    read_answer(Exchanged(decode_response(data), 0.0, 0.0), 0.0)


def _requests(_: Material) -> Iterator[bytes]:
    plain = Request(b"POST", b"https", b"strongroom", b"/v2/models/m/infer", _FIELDS, b"{}" * 20)
    yield encode_request(plain)
    yield encode_request(plain) + bytes(100)
    yield encode_request(Request(b"GET", b"https", b"strongroom", b"/v2"))
    yield from (encode_request(Request(b"GET", b"https", b"strongroom", path)) for path in _PATHS)
    yield bytes.fromhex("02") + encode_request(plain)[1:]
    yield b"\x02\x03GET\x05https\x00\x0a/hello.txt" + b"\x01a\x01b" * 20 + b"\x00\x03abc\x00\x00"


def _responses(_: Material) -> Iterator[bytes]:
    for body in (_ANSWER, _LABELS):
        yield encode_response(Response(200, ((b"strongroom-timing", b"open;dur=0.1, infer;dur=8"),), body))
    yield encode_response(Response(400, ((b"content-type", b"application/problem+json"),), _PROBLEM))
    yield encode_response(Response(200, _FIELDS, _ANSWER + bytes(16)))
    yield b"\x03\x40\xc8\x01a\x01b\x00\x02{}\x00\x00"


PARSERS: Final = (
    Parser("binary HTTP request", _request, _requests),
    Parser("binary HTTP response", _response, _responses),
    Parser("answer of a worker", _answer, _responses),
)
