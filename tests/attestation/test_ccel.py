"""The event log: a real one gives the registers of its quote; each check alone refuses."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutants import mutate_bytes
from strongroom.attestation import ccel
from strongroom.attestation.ccel import MAX_EVENTS, MAX_LOG, Event, check, describe, parse, replay, trimmed
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.verify import verify_evidence
from strongroom.errors import EvidenceError

SHA384, SHA256 = 0x0C, 0x0B
ZEROS = ("00" * 48,) * 4


def header(algorithms: dict[int, int] | None = None, **changes: Any) -> bytes:
    """The first event of a log."""
    listed = {SHA384: 48} if algorithms is None else algorithms
    body = changes.get("signature", b"Spec ID Event03\0") + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(listed))
    body += b"".join(struct.pack("<HH", *each) for each in listed.items()) + changes.get("vendor", b"\0")
    kind, digest = changes.get("kind", 3), changes.get("digest", bytes(20))
    return struct.pack("<II", 1, kind) + digest + struct.pack("<I", len(body)) + body


def event(register: int, kind: int, digest: bytes, data: bytes = b"", *, algorithm: int = SHA384) -> bytes:
    """An event; `register` as the log counts, 1 for RTMR0."""
    return struct.pack("<IIIH", register, kind, 1, algorithm) + digest + struct.pack("<I", len(data)) + data


GOOD = header() + event(1, 4, b"\1" * 48, b"one") + event(4, 13, b"\2" * 48, b"two")


# ---- a real log


@pytest.fixture(scope="module")
def real(testdata: Path) -> bytes:
    return (testdata / "vectors/tdx-eventlog/ccel_data.dat").read_bytes()


@pytest.fixture(scope="module")
def evidence(testdata: Path, real: bytes) -> tuple[Evidence, int]:
    """The quote of the guest that wrote the log, with collateral."""
    vector = json.loads((testdata / "vectors/evidence/TDX_v4_00806F050000_ebe41a4a.json").read_text())
    quote = bytes.fromhex(vector["quote"])
    return Evidence(EvidenceKind.TDX, quote, vector["collateral"], None, trimmed(real)), vector["now"]


def test_a_real_log_gives_the_registers_of_its_quote(real: bytes, evidence: tuple[Evidence, int]) -> None:
    claims = verify_evidence(evidence[0], TrustRoots(), evidence[1])
    registers = claims.measurement.split(":")[1:]
    assert replay(parse(real)) == tuple(registers)
    check(parse(real), registers)


def test_a_real_quote_is_refused_with_another_log(evidence: tuple[Evidence, int]) -> None:
    other = replace(evidence[0], event_log=GOOD)
    with pytest.raises(EvidenceError, match=r"RTMR0.*evidence-binding"):
        verify_evidence(other, TrustRoots(), evidence[1])


def test_a_real_log_is_described(real: bytes) -> None:
    lines = [describe(each) for each in parse(real)]
    assert len(lines) == 43
    assert lines[0].startswith("RTMR0  EV_EFI_HANDOFF_TABLES2 ")
    assert lines[-1].endswith("Exit Boot Services Returned with Success")
    assert all(line.isprintable() and line.isascii() for line in lines)


def test_what_fills_the_area_can_be_cut_off(real: bytes) -> None:
    short = trimmed(real)
    assert len(short) < len(real) == 256 * 1024
    assert parse(short) == parse(real)
    assert trimmed(short) == short


def test_any_changed_digest_is_noticed(real: bytes) -> None:
    events = parse(real)
    registers = replay(events)
    for place, each in enumerate(events):
        changed = replace(each, digest=bytes([each.digest[0] ^ 1]) + each.digest[1:])
        with pytest.raises(EvidenceError, match=rf"RTMR{each.register}.*evidence-binding"):
            check([*events[:place], changed, *events[place + 1 :]], registers)


# ---- made-up logs


def test_events_extend_their_registers() -> None:
    first, second = parse(GOOD)
    assert (first.register, first.type, first.data) == (0, 4, b"one")
    assert (second.register, second.name) == (3, "EV_IPL")
    assert replay((first,))[0] == hashlib.sha384(bytes(48) + b"\1" * 48).hexdigest()
    assert replay((first,))[1:] == ZEROS[1:]


def test_some_events_extend_nothing() -> None:
    assert replay(parse(header() + event(1, 3, b"\1" * 48) + event(0, 4, b"\1" * 48))) == ZEROS


def test_data_counts_where_its_digest_covers_it() -> None:
    covered = Event(2, 5, hashlib.sha384(b"text\n").digest(), b"text\n")
    assert covered.covered
    assert describe(covered).endswith("  text.")
    described = replace(covered, data=b"other")
    assert not described.covered
    assert "other" not in describe(described)
    assert describe(replace(covered, register=-1, type=0x77)).startswith("MRTD  0x00000077")


def test_other_digests_may_stand_beside() -> None:
    two = struct.pack("<III", 2, 4, 2) + struct.pack("<H", SHA256) + bytes(32) + struct.pack("<H", SHA384)
    log = header({SHA384: 48, SHA256: 32}) + two + b"\5" * 48 + struct.pack("<I", 0)
    assert [each.digest for each in parse(log)] == [b"\5" * 48]


@pytest.mark.parametrize("filling", [b"", b"\0", b"\xff"])
def test_the_rest_of_the_area_may_be_filled(filling: bytes) -> None:
    assert len(parse(GOOD + filling * 1000)) == 2
    assert trimmed(GOOD + filling * 1000) == GOOD


@pytest.mark.parametrize(
    ("log", "code"),
    [
        (b"", "evidence-malformed"),
        (header()[:-1], "evidence-malformed"),
        (header(kind=4), "evidence-format"),
        (header(digest=b"\1" * 20), "evidence-format"),
        (header(signature=b"Spec ID Event02\0"), "evidence-format"),
        (struct.pack("<II20sI", 1, 3, bytes(20), 4) + bytes(4), "evidence-format"),
        (header({}), "evidence-format"),
        (header(dict.fromkeys(range(9), 48)), "evidence-format"),
        (header({SHA384: 48, 5: 0}), "evidence-malformed"),
        (header({SHA384: 48, 5: 65}), "evidence-malformed"),
        (header(vendor=b"\5ab"), "evidence-malformed"),
        (header({SHA256: 32}), "evidence-algorithm"),
        (header({SHA384: 32}), "evidence-algorithm"),
        (header() + event(5, 4, bytes(48)), "evidence-malformed"),
        (header() + event(1, 4, bytes(48), algorithm=SHA256), "evidence-malformed"),
        (header({SHA384: 48, SHA256: 32}) + event(1, 4, bytes(32), algorithm=SHA256), "evidence-algorithm"),
        (header() + struct.pack("<III", 1, 4, 0) + struct.pack("<I", 0), "evidence-algorithm"),
        (
            header() + struct.pack("<III", 1, 4, 2) + 2 * (b"\x0c\0" + bytes(48)) + bytes(4),
            "evidence-malformed",
        ),
        (GOOD[:-1], "evidence-malformed"),
        (GOOD + b"\1", "evidence-malformed"),
        (GOOD + bytes(100) + b"\1", "evidence-algorithm"),
        (GOOD + b"\xff" * 100 + b"\1", "evidence-malformed"),
        (GOOD + bytes(MAX_LOG), "evidence-malformed"),
        (header() + event(1, 4, bytes(48)) * (MAX_EVENTS + 1), "evidence-malformed"),
    ],
)
def test_any_other_log_is_refused(log: bytes, code: str) -> None:
    with pytest.raises(EvidenceError, match=code):
        parse(log)


def test_as_many_events_as_allowed_are_read() -> None:
    assert len(parse(header() + event(1, 4, bytes(48)) * MAX_EVENTS)) == MAX_EVENTS


@pytest.mark.parametrize("register", range(4))
def test_a_register_that_differs_is_named(register: int) -> None:
    events = parse(GOOD)
    registers = list(replay(events))
    check(events, registers)
    registers[register] = "ab" * 48
    with pytest.raises(EvidenceError, match=rf"RTMR{register}.*evidence-binding"):
        check(events, registers)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**32 - 1), st.binary(min_size=48, max_size=48))))
def test_a_replay_is_a_chain_of_digests(made: list[tuple[int, int, bytes]]) -> None:
    log = header() + b"".join(event(register, kind, digest, b"\7data") for register, kind, digest in made)
    expected = [bytes(48)] * 5
    for register, kind, digest in made:
        if kind != 3:
            expected[register] = hashlib.sha384(expected[register] + digest).digest()
    assert replay(parse(log)) == tuple(each.hex() for each in expected[1:])


def test_20000_mutants_give_our_errors_only() -> None:
    rng = random.Random(13)
    read = 0
    for _ in range(20_000):
        with suppress(EvidenceError):
            events = ccel.parse(mutate_bytes(rng, GOOD))
            read += 1
            assert len(replay(events)) == 4
    assert read > 1000
