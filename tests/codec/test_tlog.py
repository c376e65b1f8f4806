"""Proofs of inclusion and requests to a witness, as C2SP writes them."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutants import mutate_bytes
from notes_vectors import SUMDB
from strongroom.codec import tlog
from strongroom.codec.tlog import MAX_HASHES, MAX_TEXT, AddCheckpoint, InclusionProof

HASH = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw="
# The example of C2SP tlog-witness, without its signatures.
REQUEST = (
    f"old 20852014\n{HASH}\njrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n"
    "5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\n"
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
).encode()
# The example of C2SP tlog-proof, with another checkpoint.
PROOF = (f"c2sp.org/tlog-proof@v1\nindex 73894\n{HASH}\n\n" + SUMDB).encode()

HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=MAX_HASHES).map(tuple)


def test_the_example_request() -> None:
    parsed = tlog.parse_add_checkpoint(REQUEST)
    assert (parsed.old, len(parsed.hashes)) == (20852014, 4)
    assert parsed.hashes[0] == base64.b64decode(HASH)
    assert parsed.checkpoint.startswith(b"example.com/behind-the-sofa\n20852163\n")
    assert parsed.render() == REQUEST


def test_the_example_proof() -> None:
    parsed = tlog.parse_inclusion(PROOF)
    assert parsed == InclusionProof(73894, (base64.b64decode(HASH),), SUMDB.encode())
    assert parsed.render() == PROOF


def test_extra_data_is_skipped() -> None:
    extra = PROOF.replace(b"index", b"extra YWdl\nindex", 1)
    assert tlog.parse_inclusion(extra) == tlog.parse_inclusion(PROOF)


@given(st.integers(0, 2**53 - 1), HASHES, st.binary(max_size=100))
def test_round_trips(number: int, hashes: tuple[bytes, ...], rest: bytes) -> None:
    proof, request = InclusionProof(number, hashes, rest), AddCheckpoint(number, hashes, rest)
    assert tlog.parse_inclusion(proof.render()) == proof
    assert tlog.parse_add_checkpoint(request.render()) == request


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "log-proof-malformed"),
        (PROOF.replace(b"v1", b"v2", 1), "log-proof-malformed"),
        (PROOF.replace(b"index", b"Index", 1), "log-proof-malformed"),
        (PROOF.replace(b"73894", b"073894", 1), "log-proof-malformed"),
        (PROOF.replace(b"index 73894\n", b"", 1), "log-proof-malformed"),
        (PROOF.replace(b"\n\n", b"\n"), "log-proof-malformed"),
        (PROOF.replace(b"index", "\u0131ndex".encode(), 1), "log-proof-malformed"),
        (PROOF.replace(HASH.encode(), b"AAAA", 1), "log-proof-malformed"),
        (PROOF.replace(HASH.encode(), b"?", 1), "base64-invalid"),
        (PROOF.replace(HASH.encode(), HASH.encode()[:-1] + b"A", 1), "value-too-large"),
        (PROOF.replace(b"\n\n", b"\n" + (HASH.encode() + b"\n") * 63 + b"\n"), "log-proof-malformed"),
        (PROOF + b" " * MAX_TEXT, "value-too-large"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_other_proofs_are_refused(data: bytes, code: str, refused) -> None:
    with refused(code):
        tlog.parse_inclusion(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        REQUEST.replace(b"old", b"new", 1),
        REQUEST.replace(b"old 20852014\n", b""),
        REQUEST.replace(b"20852014", b"00"),
        REQUEST.replace(b"20852014", b"-1"),
        REQUEST.replace(b"\n\n", b"\n" + (HASH.encode() + b"\n") * 60 + b"\n"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_other_requests_are_refused(data: bytes, refused) -> None:
    with refused("add-checkpoint-malformed"):
        tlog.parse_add_checkpoint(data)


@pytest.mark.parametrize(
    ("parse", "plain", "code"),
    [
        (tlog.parse_inclusion, PROOF, "log-proof-malformed"),
        (tlog.parse_add_checkpoint, REQUEST, "add-checkpoint-malformed"),
    ],
)
def test_mutants(parse, plain: bytes, code: str, drive) -> None:
    rng = random.Random(5)
    outcomes = drive(parse, ((mutate_bytes(rng, plain),) for _ in range(20_000)))
    assert set(outcomes) <= {"ok", code, "base64-invalid", "value-too-large"}
    assert outcomes[code] > 1000
    assert outcomes["ok"] > 1000  # the checkpoint behind is for others to read
