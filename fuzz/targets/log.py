"""The release log: notes, checkpoints, proofs, tiles, entries, receipts, and what an auditor keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from fuzz.material import Material
from fuzz.target import MAX_INPUT, Parser
from strongroom.broker import log_entry
from strongroom.broker.audit import STATE_TYPE, State
from strongroom.broker.log_entry import log_key
from strongroom.broker.receipt import RECEIPT_TYPE, Receipt, check_checkpoint
from strongroom.codec import checkpoint, note, tiles, tlog
from strongroom.crypto import merkle
from strongroom.crypto.notes import NoteKey, NoteSigner, NoteType
from strongroom.crypto.sign import VerifyingKey

_LOG: Final = log_key(VerifyingKey.parse("ed25519+mldsa65:iffjhqshZ_usEmhQjkiFq97k1MlfLj2S1Orce0N4wTg"))
_WITNESS: Final = NoteSigner("witness.example/w1", NoteType.COSIGNATURE_V1, b"\x01" * 32)
_HASH: Final = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw="
_KEYS: Final = (
    b"sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
    b"remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
)
_PUBLISHED: Final = (
    "go.sum database tree\n63096908\n8lHrQPRYe4KT4WQ9/Qk8/taKnD6IRHbFgfN7vQE2Y54=\n\n\u2014 sum.golang.org"
    " Az3gri/oVBN1jAhNZ/iS+W31psFAWRT20/GyrhpU6taFwulQGetBkH5S7wpGXdS935jiIGiUUAXBVHzT/P6fYhqAmAk=\n"
).encode()
_OPENED: Final = b'{"event":"released","service":"lite","time":1,"type":"strongroom-log/2","commitment":"AA"}'


def _note(data: bytes) -> None:
    signed = note.parse(data)
    checkpoint.parse(signed.text)
    _WITNESS.key.check(signed)


def _signatures(data: bytes) -> None:
    note.parse_signatures(data)


def _checkpoint(data: bytes) -> None:
    check_checkpoint(data, _LOG)


def _key(data: bytes) -> None:
    if NoteKey.parse(data.decode("latin-1")).text.encode() != data:
        raise AssertionError("what was read is not what is written")


def _proof(data: bytes) -> None:
    """A proof of inclusion, and one of consistency with the same hashes."""
    found = tlog.parse_inclusion(data)
    head = checkpoint.parse(note.parse(found.checkpoint).text)
    for place in (found.index, head.size - 1):
        merkle.verify_inclusion(
            leaf=bytes(32), index=place, size=head.size, proof=found.hashes, root_hash=head.root
        )


def _add_checkpoint(data: bytes) -> None:
    found = tlog.parse_add_checkpoint(data)
    head = checkpoint.parse(note.parse(found.checkpoint).text)
    merkle.verify_consistency(
        old=found.old, old_root=bytes(32), size=head.size, root_hash=head.root, proof=found.hashes
    )


def _entries_tile(data: bytes) -> None:
    tiles.split_entries(data[1:], count=data[0] if data else 0)


def _hashes_tile(data: bytes) -> None:
    tiles.split_hashes(data[1:], count=data[0] if data else 0)


def _path(data: bytes) -> None:
    tiles.parse_path(data.decode("latin-1"))


def _entry(data: bytes) -> None:
    log_entry.opened(data, None)


def _receipt(data: bytes) -> None:
    receipt = Receipt.parse(data)
    log_entry.opened(receipt.entry, receipt.opening)
    receipt.check(_LOG)


def _state(data: bytes) -> None:
    State.parse(data, _LOG)


def _notes(material: Material) -> Iterator[bytes]:
    yield from _checkpoints(material)
    yield _PUBLISHED
    signed = note.parse(_PUBLISHED)
    lines = "".join(_WITNESS.sign(signed.text, time).line() for time in range(1, 20))
    yield f"{signed.text}\n{lines}".encode()


def _signature_lines(material: Material) -> Iterator[bytes]:
    yield from (text.partition(b"\n\n")[2] for text in _notes(material))


def _checkpoints(material: Material) -> Iterator[bytes]:
    yield material.documented("log-checkpoint.txt")


def _keys(_: Material) -> Iterator[bytes]:
    yield from _KEYS
    yield _LOG.text.encode()


def _proofs(material: Material) -> Iterator[bytes]:
    for text in _notes(material):
        yield f"c2sp.org/tlog-proof@v1\nindex 0\n{_HASH}\n{_HASH}\n\n".encode() + text
    yield f"c2sp.org/tlog-proof@v1\nextra YWdl\nindex 73894\n{_HASH}\n\n".encode() + _PUBLISHED


def _add_requests(material: Material) -> Iterator[bytes]:
    for text in _notes(material):
        yield b"old 0\n\n" + text
        yield f"old 20852014\n{_HASH}\n{_HASH}\n\n".encode() + text


def _entries_tiles(_: Material) -> Iterator[bytes]:
    yield bytes([3]) + tiles.join_entries([b"one", b"two", b""])


def _hashes_tiles(_: Material) -> Iterator[bytes]:
    yield bytes([2]) + bytes(64)


def _paths(_: Material) -> Iterator[bytes]:
    yield from (b"tile/0/x001/234.p/5", b"tile/entries/000", b"tile/5/x123/x456/789")


def _entries(_: Material) -> Iterator[bytes]:
    yield _OPENED
    yield _OPENED.replace(b',"commitment":"AA"', b"")


def _receipts(material: Material) -> Iterator[bytes]:
    for proof in _proofs(material):
        for entry in _entries(material):
            opening = {"salt": "A" * 43, "facts": {"model": "m"}}
            for hidden in (None, opening):
                members = {"type": RECEIPT_TYPE, "entry": entry.decode(), "opening": hidden}
                yield json.dumps({**members, "proof": proof.decode()}).encode()


def _states(material: Material) -> Iterator[bytes]:
    for text in _checkpoints(material):
        root = text.decode().split("\n")[2]
        members = {"type": STATE_TYPE, "checkpoint": text.decode(), "frontier": [root]}
        yield json.dumps(members).encode()
        yield json.dumps({**members, "frontier": [_HASH] * 1_000})[:MAX_INPUT].encode()


PARSERS: Final = (
    Parser("signed note", _note, _notes),
    Parser("signature lines of a witness", _signatures, _signature_lines),
    Parser("checkpoint of a broker", _checkpoint, _checkpoints),
    Parser("key of notes", _key, _keys),
    Parser("proof of inclusion", _proof, _proofs),
    Parser("request to a witness", _add_checkpoint, _add_requests),
    Parser("tile of entries", _entries_tile, _entries_tiles),
    Parser("tile of hashes", _hashes_tile, _hashes_tiles),
    Parser("path of a tile", _path, _paths),
    Parser("entry", _entry, _entries),
    Parser("receipt", _receipt, _receipts),
    Parser("state of an auditor", _state, _states),
)
