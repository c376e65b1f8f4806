"""CBOR, JSON, base64 and the integers of QUIC, on which the other parsers stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fuzz.material import Material
from fuzz.target import MAX_INPUT, Parser
from strongroom.codec import b64, cbor, jcs
from strongroom.codec._varint import read_varint

_WRITTEN_AGAIN: Final = 4096
"""Inputs of fewer bytes are written and read again; of larger ones only the reading is measured."""


def _cbor(data: bytes) -> None:
    value = cbor.decode(data, limit=MAX_INPUT)
    if len(data) < _WRITTEN_AGAIN and cbor.decode(cbor.encode(value), limit=2 * MAX_INPUT) != value:
        raise AssertionError("what was read is not what is written")


def _json(data: bytes) -> None:
    value = jcs.parse(data, limit=MAX_INPUT)
    if len(data) < _WRITTEN_AGAIN and jcs.parse(jcs.canonical(value), limit=MAX_INPUT) != value:
        raise AssertionError("what was read is not what is written")


def _base64(data: bytes) -> None:
    text = data.decode("latin-1")
    if data.startswith(b"+"):
        b64.decode_std(text[1:], limit=MAX_INPUT)
    else:
        b64.decode_url(text, limit=MAX_INPUT)


def _varint(data: bytes) -> None:
    read_varint(data, 0)


def _cbor_seeds(material: Material) -> Iterator[bytes]:
    yield cbor.encode([1, {"a": b"b", "c": [None, True, -1, 2**63]}, "text"])
    yield b"\x9f" * 1000
    yield b"\x81" * 60_000
    yield b"\xbf" + b"\x61a\x01" * 10
    yield b"\x9b" + b"\xff" * 8
    yield b"\xc2\x58\xff" + b"\xff" * 255
    yield material.documented("beacon.json")


def _json_seeds(material: Material) -> Iterator[bytes]:
    yield from (material.documented(f"{name}.json") for name in ("beacon", "keyset", "reference-values"))
    yield b"[" * 60_000
    yield b'{"a":' * 10_000
    yield b"9" * 60_000
    yield b"[" + b"1e308," * 10_000 + b"0]"
    yield b'["' + b"\\u0001" * 10_000 + b'"]'
    yield b"{" + b",".join(b'"%d":1' % number for number in range(6000)) + b"}"
    yield b'{"a":-0.0,"\\ud83d\\ude00":[1e-7,null,"\\\\"]}'


def _base64_seeds(material: Material) -> Iterator[bytes]:
    yield b64.encode_url(material.documented("beacon.json")).encode()
    yield b"+" + b64.encode_std(bytes(range(250))).encode()


def _varint_seeds(_: Material) -> Iterator[bytes]:
    yield from (b"\x25", b"\x7b\xbd", b"\x9d\x7f\x3e\x7d", b"\xc2\x19\x7c\x5e\xff\x14\xe8\x8c")


PARSERS: Final = (
    Parser("CBOR", _cbor, _cbor_seeds),
    Parser("JSON", _json, _json_seeds),
    Parser("base64", _base64, _base64_seeds),
    Parser("variable-length integers", _varint, _varint_seeds),
)
