"""Twenty thousand bad inputs on each of the two openings."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.crypto.hpke import TAG_SIZE, Aead, Kem, PrivateKey, Suite
from strongroom.crypto.ohttp import HEADER_SIZE, Gateway, GatewayKey, KeyConfig, seal_request

COUNT = 20_000
ALL = tuple((1, aead) for aead in Aead)
KEYS = {kem: PrivateKey.from_bytes(kem, bytes(range(32))) for kem in Kem}
CONFIGS = {kem: KeyConfig(kem & 0xFF, kem, KEYS[kem].public_bytes(), ALL) for kem in Kem}
GATEWAY = Gateway([GatewayKey(CONFIGS[kem], KEYS[kem]) for kem in Kem], limit=2000)
SUITES = [Suite(kem, 1, aead) for kem in Kem for aead in Aead]
REQUEST_CODES = {
    "ohttp-malformed",
    "ohttp-oversize",
    "ohttp-unknown-key",
    "ohttp-unknown-suite",
    "ohttp-open-failed",
}
RESPONSE_CODES = {"ohttp-malformed", "ohttp-oversize", "ohttp-response-failed"}


def changed_inside(rng: random.Random, data: bytes, start: int) -> bytes:
    """`data` with its first `start` bytes, and its length at least at first sight, as they were."""
    inside = bytearray(data[start:])
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(len(inside))
        match rng.randrange(4):
            case 0:
                inside[at] ^= 1 << rng.randrange(8)
            case 1:
                inside[at] = rng.choice((0x00, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                size = rng.choice((12, 16, 32))
                inside[at : at + size] = rng.choice((bytes(size), rng.randbytes(size)))
            case _:
                inside += rng.randbytes(rng.randrange(1, 20))
    return data[:start] + bytes(inside)


def changed_anywhere(rng: random.Random, data: bytes) -> bytes:
    match rng.randrange(4):
        case 0:
            return data[: rng.randrange(len(data))]
        case 1:
            return rng.randbytes(rng.randrange(1, 3000))
        case 2:
            return data + rng.randbytes(rng.randrange(1, 3000))
        case _:
            changed = bytearray(data)
            changed[rng.randrange(HEADER_SIZE)] ^= 1 << rng.randrange(8)
            return bytes(changed)


@pytest.mark.slow
def test_mutants_of_requests_lead_to_our_errors_only(code_of):
    rng = random.Random(20_000)
    seeds = [
        seal_request(CONFIGS[suite.kem], suite, rng.randbytes(size)).data
        for suite in SUITES
        for size in (0, 1, 100, 1500)
    ]
    codes: Counter[str | None] = Counter()
    framed = 0
    for number in range(COUNT):
        data = rng.choice(seeds)
        if number % 4:
            data = changed_inside(rng, data, HEADER_SIZE)
            framed += 1
        else:
            data = changed_anywhere(rng, data)
        if data not in seeds:
            codes[code_of(GATEWAY.open_request, data)] += 1
    assert set(codes) == REQUEST_CODES
    assert codes["ohttp-open-failed"] >= COUNT // 2  # these passed every check of the frame
    assert codes.total() > COUNT - 100
    assert framed >= COUNT // 2


@pytest.mark.slow
def test_mutants_of_responses_lead_to_our_errors_only(code_of):
    rng = random.Random(20_001)
    requests = [seal_request(CONFIGS[suite.kem], suite, b"request") for suite in SUITES]
    pairs = [
        (sealed, GATEWAY.open_request(sealed.data).seal_response(rng.randbytes(size)))
        for sealed in requests
        for size in (0, 1, 100, 1500)
    ]
    answers = {answer for _, answer in pairs}
    codes: Counter[str | None] = Counter()
    for number in range(COUNT):
        sealed, data = rng.choice(pairs)
        mutant = changed_inside(rng, data, 0) if number % 4 else changed_anywhere(rng, data)
        if mutant not in answers:
            codes[code_of(sealed.open_response, mutant, limit=2000)] += 1
    assert set(codes) == RESPONSE_CODES
    assert codes["ohttp-response-failed"] >= COUNT // 2
    assert codes.total() > COUNT - 100


@given(st.binary(max_size=1500))
def test_no_request_leads_to_a_foreign_error(code_of, data):
    assert code_of(GATEWAY.open_request, data) in REQUEST_CODES


@given(st.sampled_from(SUITES), st.binary(min_size=TAG_SIZE, max_size=1500))
def test_no_bytes_behind_a_good_head_open(code_of, suite, data):
    header = CONFIGS[suite.kem].header(suite)
    padded = header + data.ljust(suite.kem.enc_size + TAG_SIZE, b"\x09")
    assert code_of(GATEWAY.open_request, padded) in {"ohttp-open-failed", "ohttp-oversize"}


@given(st.sampled_from(SUITES), st.binary(max_size=500))
def test_no_bytes_open_as_a_response(code_of, suite, data):
    sealed = seal_request(CONFIGS[suite.kem], suite, b"request")
    assert code_of(sealed.open_response, data) in RESPONSE_CODES
