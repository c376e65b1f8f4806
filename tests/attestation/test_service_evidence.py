"""What workers show: the report data's binding, the documents, their bounds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.beacon import SignedBeacon
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.service_evidence import (
    MAX_EVIDENCE_LIST,
    MAX_SERVICE_EVIDENCE,
    MAX_WORKERS,
    EvidenceList,
    ServiceEvidence,
    broker_report_data,
    serve_report_data,
)
from strongroom.codec import b64
from strongroom.errors import EvidenceError

DIGEST = "sha384:" + "ab" * 48
KEY = "ed25519+mldsa65:" + "A" * 43
NONCE = bytes(range(32))
DOCUMENT = ServiceEvidence(
    worker="worker-0",
    evidence=Evidence(EvidenceKind.SGX, b"quote", None, b"init"),
    nonce=NONCE,
    beacon=SignedBeacon(b"payload", bytes(5357)),
    keyset=DIGEST,
    receipt_key=KEY,
)


def test_report_data_is_the_digest_of_the_documented_object() -> None:
    text = (
        f'{{"init_data":"sha384:{hashlib.sha384(b"init").hexdigest()}","keyset":"{DIGEST}",'
        f'"nonce":"{b64.encode_url(NONCE)}","purpose":"strongroom-serve/1","receipt_key":"{KEY}"}}'
    )
    expected = hashlib.sha384(text.encode()).digest() + bytes(16)
    assert serve_report_data(DIGEST, NONCE, b"init", KEY) == expected


def test_report_data_of_the_broker_is_the_digest_of_the_documented_object() -> None:
    text = f'{{"broker_key":"{KEY}","keyset":"{DIGEST}","purpose":"strongroom-broker/1"}}'
    assert broker_report_data(DIGEST, KEY) == hashlib.sha384(text.encode()).digest() + bytes(16)


@pytest.mark.parametrize(
    "other",
    [
        ("sha384:" + "ac" * 48, NONCE, b"init", KEY),
        (DIGEST, bytes(32), b"init", KEY),
        (DIGEST, NONCE, b"other", KEY),
        (DIGEST, NONCE, b"init", "ed25519+mldsa65:" + "B" * 43),
    ],
    ids=["keyset", "nonce", "init-data", "receipt key"],
)
def test_report_data_binds_each_part(other: tuple[str, bytes, bytes, str]) -> None:
    assert serve_report_data(*other) != serve_report_data(DIGEST, NONCE, b"init", KEY)


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(
    worker=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True),
    nonce=st.binary(min_size=32, max_size=32),
    beacon=st.none()
    | st.builds(SignedBeacon, st.binary(max_size=50), st.binary(min_size=5357, max_size=5357)),
)
def test_document_reads_back(worker: str, nonce: bytes, beacon: SignedBeacon | None) -> None:
    document = replace(DOCUMENT, worker=worker, nonce=nonce, beacon=beacon)
    assert ServiceEvidence.parse(document.to_json_bytes()) == document
    assert ServiceEvidence.from_json(document.to_json()) == document


@pytest.mark.parametrize("count", [0, 1, MAX_WORKERS])
def test_list_reads_back(count: int) -> None:
    documents = EvidenceList(tuple(replace(DOCUMENT, worker=f"worker-{n}") for n in range(count)))
    assert EvidenceList.parse(documents.to_json_bytes()) == documents


@pytest.mark.parametrize(
    "change",
    [
        {"worker": ""},
        {"worker": "a/b"},
        {"worker": "\x1b"},
        {"nonce": bytes(31)},
        {"keyset": "sha256:" + "ab" * 32},
        {"receipt_key": "ed25519+mldsa65:"},
    ],
    ids=repr,
)
def test_a_value_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError) as caught:
        replace(DOCUMENT, **change)
    assert caught.value.code == "service-evidence-malformed"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"worker": 5}, "service-evidence-malformed"),
        ({"nonce": "AA"}, "service-evidence-malformed"),
        ({"keyset": None}, "service-evidence-malformed"),
        ({"extra": 1}, "service-evidence-malformed"),
        ({"evidence": None}, "evidence-malformed"),
        ({"beacon": {}}, "beacon-malformed"),
    ],
    ids=repr,
)
def test_another_document_is_refused(change: dict[str, Any], code: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        ServiceEvidence.parse(json.dumps(DOCUMENT.to_json() | change).encode())
    assert caught.value.code == code


def test_a_document_over_its_bound_is_refused_unread() -> None:
    with pytest.raises(EvidenceError) as caught:
        ServiceEvidence.parse(b" " * (MAX_SERVICE_EVIDENCE + 1))
    assert caught.value.code == "service-evidence-malformed"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"workers":{}}',
        b'{"workers":[null]}',
        b'{"workers":[],"extra":1}',
        json.dumps({"workers": [DOCUMENT.to_json()] * (MAX_WORKERS + 1)}).encode(),
        b" " * (MAX_EVIDENCE_LIST + 1),
    ],
    ids=lambda data: repr(data[:30]),
)
def test_another_list_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError) as caught:
        EvidenceList.parse(data)
    assert caught.value.code == "service-evidence-malformed"


def test_mutants_raise_our_errors_only(
    mutants: Callable[..., Iterator[bytes]],
    survey: Callable[..., Any],
    json_bytes: Callable[[Any], bytes],
    small_evidence: Evidence,
) -> None:
    document = replace(DOCUMENT, evidence=small_evidence).to_json()
    bare = replace(DOCUMENT, beacon=None).to_json()
    inputs = mutants({"workers": [document, bare]}, json_bytes, 20_000, seed=7)
    result = survey(EvidenceList.parse, inputs)
    assert set(result.codes) <= {
        "service-evidence-malformed",
        "evidence-malformed",
        "evidence-too-large",
        "beacon-malformed",
    }
    assert result.codes.total() > 10_000
    assert len(result.accepted) > 100
    assert all(json.loads(value.to_json_bytes()) == json.loads(data) for data, value in result.accepted)
