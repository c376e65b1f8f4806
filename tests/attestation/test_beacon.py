"""The beacon: exact bytes, the nonce that follows from them, nothing read before the signature holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.beacon import BEACON_TYPE, MAX_PAYLOAD, MAX_SIGNED, Beacon, SignedBeacon
from strongroom.codec import b64, jcs
from strongroom.crypto.sign import SIGNATURE_SIZE, SigningKey
from strongroom.errors import CryptoError, EvidenceError, StrongroomError

SIGNER = SigningKey.from_raw(b"\x01" * 64)
BEACON = Beacon("lite", 3, 1_000, bytes(range(32)))


def signed(payload: bytes, signer: SigningKey = SIGNER, purpose: str = BEACON_TYPE) -> SignedBeacon:
    return SignedBeacon(payload, signer.sign(purpose, payload))


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(
    epoch=st.integers(1, 2**53 - 1), time=st.integers(0, 2**53 - 1), nonce=st.binary(min_size=32, max_size=32)
)
def test_any_beacon_reads_back(epoch: int, time: int, nonce: bytes) -> None:
    beacon = Beacon("lite", epoch, time, nonce)
    assert Beacon.parse(beacon.payload()) == beacon


def test_payload_has_the_documented_members() -> None:
    assert json.loads(BEACON.payload()) == {
        "type": "strongroom-beacon/1",
        "service": "lite",
        "epoch": 3,
        "time": 1_000,
        "nonce": b64.encode_url(bytes(range(32))),
    }


def test_evidence_nonce_is_the_digest_of_the_payload() -> None:
    assert BEACON.evidence_nonce == hashlib.sha256(BEACON.payload()).digest()
    assert signed(BEACON.payload()).evidence_nonce == BEACON.evidence_nonce


def test_served_document_reads_back() -> None:
    document = signed(BEACON.payload())
    assert SignedBeacon.parse(document.to_json_bytes()) == document
    assert SignedBeacon.from_json(document.to_json()) == document
    assert document.verify(SIGNER.verifying_key) == BEACON


@pytest.mark.parametrize(
    "change",
    [
        {"service": ""},
        {"epoch": 0},
        {"epoch": False},
        {"time": -1},
        {"time": 2**53},
        {"nonce": bytes(31)},
        {"nonce": bytes(33)},
    ],
    ids=repr,
)
def test_a_value_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError) as caught:
        replace(BEACON, **change)
    assert caught.value.code == "beacon-malformed"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        BEACON.payload() + b" ",
        json.dumps(json.loads(BEACON.payload())).encode(),
        BEACON.payload().replace(b"beacon/1", b"beacon/2"),
        BEACON.payload().replace(b'"epoch":3', b'"epoch":3.0'),
        b" " * (MAX_PAYLOAD + 1),
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_another_payload_is_refused_even_if_signed(payload: bytes) -> None:
    with pytest.raises(EvidenceError) as caught:
        signed(payload).verify(SIGNER.verifying_key)
    assert caught.value.code == "beacon-malformed"


@pytest.mark.parametrize(
    "forged",
    [
        signed(BEACON.payload(), SigningKey.from_raw(b"\x02" * 64)),
        signed(BEACON.payload(), purpose="strongroom-keyset/2"),
        SignedBeacon(BEACON.payload(), bytes(SIGNATURE_SIZE)),
        SignedBeacon(replace(BEACON, time=2_000).payload(), signed(BEACON.payload()).signature),
        SignedBeacon(b"not a beacon", bytes(SIGNATURE_SIZE)),
    ],
    ids=["another key", "another purpose", "no signature", "another payload", "not read"],
)
def test_a_forged_signature_is_refused(forged: SignedBeacon) -> None:
    with pytest.raises(CryptoError) as caught:
        forged.verify(SIGNER.verifying_key)
    assert caught.value.code == "signature-invalid"


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{"beacon":"","signature":""}', b'{"beacon":5,"signature":""}', b" " * (MAX_SIGNED + 1)],
    ids=lambda data: repr(data[:30]),
)
def test_another_served_document_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError) as caught:
        SignedBeacon.parse(data)
    assert caught.value.code == "beacon-malformed"


@pytest.mark.slow
def test_mutants_of_the_payload_raise_our_errors_only(
    mutants: Callable[..., Iterator[bytes]], survey: Callable[..., Any], json_bytes: Callable[[Any], bytes]
) -> None:
    """All mutants are signed by the broker, so that they pass the outer frame."""

    def encode(value: Any) -> bytes:
        try:
            return jcs.canonical(value)
        except StrongroomError:
            return json_bytes(value)

    inputs = mutants(json.loads(BEACON.payload()), encode, 20_000, seed=5)
    result = survey(lambda data: signed(data).verify(SIGNER.verifying_key), inputs)
    assert set(result.codes) == {"beacon-malformed"}
    assert result.codes.total() > 10_000
    assert len(result.accepted) > 100
    assert all(beacon.payload() == data for data, beacon in result.accepted)


def test_mutants_of_the_served_document_raise_our_errors_only(
    mutants: Callable[..., Iterator[bytes]], survey: Callable[..., Any], json_bytes: Callable[[Any], bytes]
) -> None:
    inputs = mutants(signed(BEACON.payload()).to_json(), json_bytes, 20_000, seed=6)
    result = survey(SignedBeacon.parse, inputs)
    assert set(result.codes) == {"beacon-malformed"}
    assert result.codes.total() > 10_000
    assert all(json.loads(value.to_json_bytes()) == json.loads(data) for data, value in result.accepted)
