"""What comes from the queue and from the host: records, settings, and the files that are measured."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from fuzz.material import Material
from fuzz.target import MAX_INPUT, Parser
from strongroom.attestation import _elf, _ldcache
from strongroom.client._problem import error_of, is_unknown_key
from strongroom.codec import cbor
from strongroom.queue.connect import parse_url
from strongroom.queue.records import (
    Reply,
    SealedRecord,
    decode_record,
    decode_reply,
    encode_record,
    encode_reply,
)
from strongroom.queue.streams import claimed_entries, pending_entries, read_entries
from strongroom.worker.config import parse_settings

_RECORD: Final = SealedRecord("id-1", "key1", b"body" * 20, "front", 1_800_000_000_000)
_REPLY: Final = Reply("id-1", 200, "message/ohttp-res", b"answer" * 20)
_SETTINGS: Final = {
    "queue_url": "unix:///run/queue.sock",
    "service": "lite",
    "consumer": "w1",
    "broker_url": "https://broker.example",
    "init_data": 'version = "0.1.0"',
    "tee": "sgx",
    "bundles": [{"path": "/models/lite0.age", "resource": "kbs:///default/model/lite0"}],
}
_PROBLEM: Final = b'{"type":"urn:x","title":"T","code":"oip-invalid","detail":"d","remedy":"r","found":"f"}'
_CACHE: Final = Path("/etc/ld.so.cache")
_ENTRIES: Final = 4


def _record(data: bytes) -> None:
    decode_record(_reply_of_server(data))


def _reply(data: bytes) -> None:
    decode_reply(_reply_of_server(data))


def _read(data: bytes) -> None:
    read_entries(_reply_of_server(data))


def _claimed(data: bytes) -> None:
    claimed_entries(_reply_of_server(data))


def _pending(data: bytes) -> None:
    pending_entries(_reply_of_server(data))


def _reply_of_server(data: bytes) -> object:
    """What a server's reply is once hiredis has read it: lists, bytes, integers and nothing."""
    return cbor.decode(data, limit=MAX_INPUT)


def _url(data: bytes) -> None:
    parse_url(data.decode("utf-8", "replace"))


def _settings(data: bytes) -> None:
    parse_settings(data)


def _problem(data: bytes) -> None:
    str(error_of(500, data))
    is_unknown_key(data)


def _elf_file(data: bytes) -> None:
    _elf.parse(data)


def _ld_cache(data: bytes) -> None:
    _ldcache.parse(data)


def _records(_: Material) -> Iterator[bytes]:
    yield cbor.encode(list(encode_record(_RECORD)))


def _replies(_: Material) -> Iterator[bytes]:
    yield cbor.encode(list(encode_reply(_REPLY)))


def _streams(_: Material) -> Iterator[bytes]:
    entry = [b"1-0", list(encode_record(_RECORD))]
    yield cbor.encode([[b"stream", [entry] * _ENTRIES]])
    yield cbor.encode([entry, None, entry])
    yield cbor.encode([[b"1-0", b"consumer", 5, 2]] * _ENTRIES)


def _urls(_: Material) -> Iterator[bytes]:
    yield from (b"unix:///run/q.sock?db=1", b"redis://user:p%40ss@host:6379/2", b"redis://[::1]:1/0")


def _setting_seeds(_: Material) -> Iterator[bytes]:
    yield msgspec.json.encode(_SETTINGS)
    yield msgspec.json.encode(_SETTINGS | {"threads": 2, "max_body": 2048, "queue_tls": None})


def _problems(_: Material) -> Iterator[bytes]:
    yield _PROBLEM


def _elf_files(_: Material) -> Iterator[bytes]:
    yield Path(sys.executable).resolve().read_bytes()[:MAX_INPUT]
    segments = (1, 0, 0, 0, 0x1000), (2, 64 + 2 * 56, 64 + 2 * 56, 0, 48)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    numbers = ((3, 2), (62, 2), (1, 4), (0, 8), (64, 8), (0, 8), (0, 4), (64, 2), (56, 2), (2, 2), (64, 2))
    head += b"".join(value.to_bytes(size, "little") for value, size in numbers) + bytes(4)
    table = b"".join(_segment(*each) for each in segments)
    strings = 64 + 2 * 56 + 48
    tags = b"".join(value.to_bytes(8, "little") for value in (5, strings, 1, 1, 0, 0))
    yield head + table + tags + b"\0libc.so.6\0"


def _segment(kind: int, offset: int, address: int, _: int, size: int) -> bytes:
    words = (offset, address, address, size, size, 8)
    return kind.to_bytes(4, "little") + bytes(4) + b"".join(each.to_bytes(8, "little") for each in words)


def _caches(_: Material) -> Iterator[bytes]:
    if _CACHE.is_file():
        yield _CACHE.read_bytes()[:MAX_INPUT]
    yield _ldcache.EMPTY
    entry = (1).to_bytes(4, "little") + (72).to_bytes(4, "little") * 2 + bytes(12)
    yield b"glibc-ld.so.cache1.1" + (1).to_bytes(4, "little") + bytes(24) + entry + b"libc.so.6\0"
    many = b"glibc-ld.so.cache1.1" + (2_000).to_bytes(4, "little") + bytes(24)
    yield many + (bytes(4) + (48_100).to_bytes(4, "little") * 2 + bytes(12)) * 2_000 + b"a" * 4_000 + b"\0"


PARSERS: Final = (
    Parser("sealed record", _record, _records),
    Parser("reply", _reply, _replies),
    Parser("entries of a stream", _read, _streams),
    Parser("claimed entries", _claimed, _streams),
    Parser("pending entries", _pending, _streams),
    Parser("address of a queue", _url, _urls),
    Parser("settings of a worker", _settings, _setting_seeds),
    Parser("problem details", _problem, _problems),
    Parser("ELF file", _elf_file, _elf_files),
    Parser("cache of the loader", _ld_cache, _caches),
)
