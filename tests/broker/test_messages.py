"""The messages of the KBS protocol: what both sides agree on, to the byte, and what neither accepts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from strongroom.attestation.evidence import DCAP_COLLATERAL, DCAP_KINDS, Evidence, EvidenceKind
from strongroom.broker import messages, onetime, teekey
from strongroom.codec import jcs

JWK = {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "a" * 43, "y": "b" * 43}
NONCE = base64.b64encode(bytes(range(32))).decode()
COLLATERAL = dict.fromkeys(sorted(DCAP_COLLATERAL), "text")
SGX = Evidence(EvidenceKind.SGX, b"quote", COLLATERAL, b"init = 1\n")
TDX = Evidence(EvidenceKind.TDX, b"quote", COLLATERAL, b"init = 1\n")


def attest_json(evidence: Evidence = SGX) -> Any:
    return json.loads(messages.attest_body(NONCE, JWK, evidence))


def test_the_vector_of_trustees_own_canonical_json() -> None:
    digest = hashlib.sha384(jcs.canonical({"b": 1, "a": "test", "c": {"d": "e"}})).hexdigest()
    assert digest.startswith("e71ce8e70d814ba6639c3612ebee0ff1")


def test_report_data_is_sha384_of_the_three_members_zero_padded() -> None:
    text = (
        '{"additional-evidence":"","nonce":"'
        + NONCE
        + '","tee-pubkey":{"alg":"ECDH-ES+A256KW","crv":"P-256",'
        '"kty":"EC","x":"' + "a" * 43 + '","y":"' + "b" * 43 + '"}}'
    )
    assert messages.report_data(NONCE, JWK) == hashlib.sha384(text.encode()).digest() + bytes(16)


def test_report_data_binds_each_member() -> None:
    base = messages.report_data(NONCE, JWK)
    assert messages.report_data(NONCE[:-2] + "0=", JWK) != base
    assert messages.report_data(NONCE, {**JWK, "x": "c" * 43}) != base
    assert messages.report_data(NONCE, JWK, "{}") != base
    assert messages.report_data(NONCE, dict(reversed(JWK.items()))) == base


def test_auth_as_the_protocol_has_it() -> None:
    assert json.loads(messages.auth_body("tdx")) == {
        "version": "0.4.0",
        "tee": "tdx",
        "extra-params": {"supported-hash-algorithms": ["sha256", "sha384", "sha512"]},
    }


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_auth_reads_back(kind: EvidenceKind) -> None:
    assert messages.parse_auth(messages.auth_body(str(kind))) is kind


def test_auth_of_other_clients_is_read() -> None:
    assert messages.parse_auth(b'{"version":"0.4.0","tee":"sgx","extra-params":""}') is EvidenceKind.SGX
    assert messages.parse_auth(b'{"version":"0.4.0","tee":"sgx"}') is EvidenceKind.SGX


@pytest.mark.parametrize("version", ["0.1.1", "0.4.1", "0.4", "", "0.4.0 "])
def test_another_version_is_refused(refused, version: str) -> None:
    with refused("kbs-version"):
        messages.parse_auth(json.dumps({"version": version, "tee": "sgx", "extra-params": ""}).encode())


@pytest.mark.parametrize("tee", ["cca", "sample", "nvidia", "SGX", "sgx ", "", "tdx\x00", "az-sgx-vtpm"])
def test_another_kind_is_refused(refused, tee: str) -> None:
    with refused("tee-unsupported"):
        messages.parse_auth(messages.auth_body(tee))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b'{"version":"0.4.0"}',
        b'{"tee":"sgx"}',
        b'{"version":4,"tee":"sgx"}',
        b'{"version":"0.4.0","tee":1}',
        b'{"version":"0.4.0","tee":"sgx","extra":1}',
        b'{"version":"0.4.0","tee":"sgx","extra-params":1}',
        b'{"version":"0.4.0","version":"0.4.0","tee":"sgx"}',
        b"x" * (messages.MAX_AUTH + 1),
    ],
)
def test_other_auth_bodies_are_refused(refused, data: bytes) -> None:
    with refused("kbs-body-invalid"):
        messages.parse_auth(data)


def test_sgx_evidence_as_the_protocol_has_it() -> None:
    assert attest_json() == {
        "init-data": {"format": "toml", "body": "init = 1\n"},
        "runtime-data": {"nonce": NONCE, "tee-pubkey": JWK},
        "tee-evidence": {
            "primary_evidence": {"quote": base64.b64encode(b"quote").decode(), "collateral": COLLATERAL},
            "additional_evidence": "",
        },
    }


def test_tdx_evidence_has_an_event_log_member() -> None:
    primary = attest_json(Evidence(EvidenceKind.TDX, b"quote"))["tee-evidence"]["primary_evidence"]
    assert primary == {"quote": base64.b64encode(b"quote").decode(), "cc_eventlog": None}


@pytest.mark.parametrize(
    "evidence", [SGX, TDX, Evidence(EvidenceKind.SGX, b""), Evidence(EvidenceKind.TDX, b"q")]
)
def test_an_attestation_reads_back(evidence: Evidence) -> None:
    read = messages.parse_attest(messages.attest_body(NONCE, JWK, evidence), evidence.kind)
    assert read.evidence == evidence
    assert (read.nonce, dict(read.tee_pubkey), read.additional_evidence) == (NONCE, JWK, "")
    assert read.runtime_data.report_data() == messages.report_data(NONCE, JWK)


def test_an_event_log_is_accepted_and_not_used() -> None:
    body = attest_json(TDX)
    body["tee-evidence"]["primary_evidence"]["cc_eventlog"] = "AAAA"
    assert messages.parse_attest(json.dumps(body).encode(), EvidenceKind.TDX).evidence == TDX


def test_the_largest_evidence_fits() -> None:
    evidence = Evidence(
        EvidenceKind.TDX, bytes(64 * 1024), {**COLLATERAL, "tcb_info": "x" * (511 * 1024)}, b"x" * 64 * 1024
    )
    body = messages.attest_body(NONCE, JWK, evidence)
    assert len(body) < messages.MAX_ATTEST
    assert messages.parse_attest(body, EvidenceKind.TDX).evidence == evidence


def test_init_data_that_is_no_text_is_refused(refused) -> None:
    with refused("kbs-body-invalid"):
        messages.attest_body(NONCE, JWK, Evidence(EvidenceKind.SGX, b"q", None, b"\xff"))


def test_an_oversized_body_is_refused_unread(refused) -> None:
    with refused("kbs-body-invalid"):
        messages.parse_attest(b"x" * (messages.MAX_ATTEST + 1), EvidenceKind.SGX)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.pop("runtime-data"),
        lambda b: b.pop("tee-evidence"),
        lambda b: b.update({"extra": 1}),
        lambda b: b.update({"init-data": "text"}),
        lambda b: b["init-data"].update(format="json"),
        lambda b: b["init-data"].update(body=None),
        lambda b: b["init-data"].update(extra=1),
        lambda b: b["runtime-data"].update(nonce=1),
        lambda b: b["runtime-data"].update(nonce="a" * 65),
        lambda b: b["runtime-data"].update({"tee-pubkey": "key"}),
        lambda b: b["runtime-data"].update({"tee-pubkey": {"kty": 1}}),
        lambda b: b["runtime-data"].update(extra=1),
        lambda b: b["tee-evidence"].update(primary_evidence="quote"),
        lambda b: b["tee-evidence"].update(additional_evidence={}),
        lambda b: b["tee-evidence"].update(extra=1),
        lambda b: b["tee-evidence"]["primary_evidence"].pop("quote"),
        lambda b: b["tee-evidence"]["primary_evidence"].update(quote=1),
        lambda b: b["tee-evidence"]["primary_evidence"].update(quote="a"),
        lambda b: b["tee-evidence"]["primary_evidence"].update(quote="_w=="),
        lambda b: b["tee-evidence"]["primary_evidence"].update(quote="A" * 100_000),
        lambda b: b["tee-evidence"]["primary_evidence"].update(cc_eventlog=None),
        lambda b: b["tee-evidence"]["primary_evidence"].update(collateral="text"),
        lambda b: b["tee-evidence"]["primary_evidence"].update(collateral={"tcb_info": 1}),
    ],
)
def test_other_attest_bodies_are_refused(refused, change: Callable[[Any], object]) -> None:
    body = attest_json()
    change(body)
    with refused("kbs-body-invalid"):
        messages.parse_attest(json.dumps(body).encode(), EvidenceKind.SGX)


def test_evidence_that_breaks_its_own_bounds_is_refused(refused) -> None:
    body = attest_json()
    body["tee-evidence"]["primary_evidence"]["collateral"] = {"tcb_info": "x"}
    with refused("evidence-malformed"):
        messages.parse_attest(json.dumps(body).encode(), EvidenceKind.SGX)
    body["tee-evidence"]["primary_evidence"]["collateral"] = {**COLLATERAL, "tcb_info": "x" * (513 * 1024)}
    with refused("evidence-too-large"):
        messages.parse_attest(json.dumps(body).encode(), EvidenceKind.SGX)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_attest_mutants(mutants, survey, json_bytes, kind: EvidenceKind) -> None:
    body = attest_json({EvidenceKind.SGX: SGX, EvidenceKind.TDX: TDX}[kind])

    def whole_way(data: bytes) -> None:
        """As the broker goes: the body, the key in it, the report data that it binds."""
        attestation = messages.parse_attest(data, kind)
        assert len(attestation.runtime_data.report_data()) == 64
        teekey.parse_jwk(attestation.tee_pubkey)

    classical, hpke = teekey.to_jwk(teekey.generate().public_key()), onetime.HpkeKey().jwk
    body["runtime-data"]["tee-pubkey"] = classical

    def inputs() -> Iterator[bytes]:
        yield from mutants(body, json_bytes, 14_000, 1)
        yield from mutants(classical, lambda value: json_bytes(_with_key(body, value)), 4_000, 2)
        yield from mutants(hpke, lambda value: json_bytes(_with_key(body, value)), 2_000, 3)

    outcomes = survey(whole_way, inputs())
    assert sum(outcomes.values()) == 20_000
    expected = {"ok", "kbs-body-invalid", "evidence-malformed", "evidence-too-large", "tee-key-unsupported"}
    assert outcomes.keys() <= expected
    assert outcomes["tee-key-unsupported"] > 1_000
    assert outcomes["ok"] > 100


def test_auth_mutants(mutants, survey, json_bytes) -> None:
    body = json.loads(messages.auth_body("sgx"))
    outcomes = survey(messages.parse_auth, mutants(body, json_bytes, 20_000, 3))
    assert sum(outcomes.values()) == 20_000
    assert outcomes.keys() == {"ok", "kbs-body-invalid", "kbs-version", "tee-unsupported"}


def _with_key(body: Any, key: Any) -> Any:
    return {**body, "runtime-data": {**body["runtime-data"], "tee-pubkey": key}}
