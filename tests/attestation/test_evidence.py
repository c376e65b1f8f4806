"""Evidence: the JSON form, its bounds, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.evidence import (
    DCAP_COLLATERAL,
    MAX_COLLATERAL,
    MAX_DOCUMENT,
    MAX_EVENT_LOG,
    MAX_INIT_DATA,
    MAX_QUOTE,
    SNP_COLLATERAL,
    Evidence,
    EvidenceKind,
)
from strongroom.errors import EvidenceError

COLLATERAL = dict.fromkeys(sorted(DCAP_COLLATERAL), "text")

collaterals = st.fixed_dictionaries(
    {name: st.text(st.characters(max_codepoint=127), max_size=20) for name in sorted(DCAP_COLLATERAL)},
    optional={"pck_certificate_chain": st.just("pem")},
)
snp_collaterals = st.fixed_dictionaries(
    {name: st.text(st.characters(max_codepoint=127), max_size=20) for name in sorted(SNP_COLLATERAL)},
    optional={"crl": st.just("00")},
)
BY_KIND = {
    EvidenceKind.SGX: collaterals,
    EvidenceKind.TDX: collaterals,
    EvidenceKind.SNP: snp_collaterals,
    EvidenceKind.NITRO: st.none(),
    EvidenceKind.AZ_SNP: st.just({"chain": "pem"}) | st.just({"chain": "pem", "crl": "00"}),
    EvidenceKind.AZ_TDX: collaterals,
    EvidenceKind.TPM: st.none(),
}


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(
    kind=st.sampled_from(EvidenceKind),
    quote=st.binary(max_size=300),
    data=st.data(),
    init_data=st.none() | st.binary(max_size=100),
)
def test_json_form_reads_back(
    kind: EvidenceKind, quote: bytes, data: st.DataObject, init_data: bytes | None
) -> None:
    evidence = Evidence(kind, quote, data.draw(st.none() | BY_KIND[kind]), init_data)
    assert Evidence.parse(evidence.to_json_bytes()) == evidence
    assert Evidence.from_json(evidence.to_json()) == evidence


def test_json_form_is_what_the_documentation_says() -> None:
    evidence = Evidence(EvidenceKind.TDX, b"\xff\xfe", None, None)
    assert evidence.to_json_bytes() == b'{"collateral":null,"init_data":null,"kind":"tdx","quote":"__4"}'


def test_largest_parts_together_fit_into_a_document() -> None:
    share, rest = divmod(MAX_COLLATERAL, len(COLLATERAL))
    collateral = dict.fromkeys(COLLATERAL, "x" * share)
    collateral["tcb_info"] += "x" * rest
    evidence = Evidence(EvidenceKind.SGX, bytes(MAX_QUOTE), collateral, bytes(MAX_INIT_DATA))
    assert len(evidence.to_json_bytes()) <= MAX_DOCUMENT
    assert Evidence.parse(evidence.to_json_bytes()) == evidence


@pytest.mark.parametrize(
    "parts",
    [
        {"quote": bytes(MAX_QUOTE + 1)},
        {"init_data": bytes(MAX_INIT_DATA + 1)},
        {"collateral": COLLATERAL | {"tcb_info": "x" * MAX_COLLATERAL}},
    ],
    ids=["quote", "init-data", "collateral"],
)
def test_a_part_over_its_bound_is_refused(parts: dict[str, Any]) -> None:
    whole: dict[str, Any] = {"quote": b"q", "collateral": None, "init_data": None}
    with pytest.raises(EvidenceError) as caught:
        Evidence(EvidenceKind.SGX, **(whole | parts))
    assert caught.value.code == "evidence-too-large"


@pytest.mark.parametrize("name", ["quote", "init_data"])
def test_an_encoded_part_over_its_bound_is_refused_before_it_is_decoded(
    name: str, small_evidence: Evidence
) -> None:
    value = small_evidence.to_json() | {name: "A" * (2 * MAX_QUOTE)}
    with pytest.raises(EvidenceError) as caught:
        Evidence.from_json(value)
    assert caught.value.code == "evidence-too-large"


def test_a_document_over_its_bound_is_refused_unread() -> None:
    with pytest.raises(EvidenceError) as caught:
        Evidence.parse(b"[" * (MAX_DOCUMENT + 1))
    assert caught.value.code == "evidence-too-large"


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "sev"},
        {"kind": None},
        {"kind": ["sgx"]},
        {"quote": None},
        {"quote": "AA=="},
        {"quote": "A"},
        {"quote": "A+"},
        {"init_data": 5},
        {"init_data": "AB"},
        {"collateral": []},
        {"collateral": {}},
        {"collateral": COLLATERAL | {"extra": "x"}},
        {"collateral": {name: text for name, text in COLLATERAL.items() if name != "pck_crl"}},
        {"collateral": COLLATERAL | {"pck_crl": 5}},
        {"collateral": COLLATERAL | {"pck_crl": "é"}},
        {"extra": 1},
    ],
    ids=repr,
)
def test_another_form_is_refused(change: dict[str, Any], small_evidence: Evidence) -> None:
    with pytest.raises(EvidenceError) as caught:
        Evidence.from_json(small_evidence.to_json() | change)
    assert caught.value.code == "evidence-malformed"


@pytest.mark.parametrize("name", ["kind", "quote", "collateral", "init_data"])
def test_a_missing_member_is_refused(name: str, small_evidence: Evidence) -> None:
    value = small_evidence.to_json()
    del value[name]
    with pytest.raises(EvidenceError) as caught:
        Evidence.from_json(value)
    assert caught.value.code == "evidence-malformed"


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{", b'{"kind":"sgx","kind":"tdx"}', b"\xff", b"[" * 99]
)
def test_bytes_that_are_no_document_are_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError) as caught:
        Evidence.parse(data)
    assert caught.value.code == "evidence-malformed"


def test_mutants_raise_our_errors_only(
    mutants: Callable[..., Iterator[bytes]],
    survey: Callable[..., Any],
    json_bytes: Callable[[Any], bytes],
    small_evidence: Evidence,
) -> None:
    result = survey(Evidence.parse, mutants(small_evidence.to_json(), json_bytes, 20_000, seed=1))
    assert set(result.codes) <= {"evidence-malformed", "evidence-too-large"}
    assert result.codes.total() > 10_000
    assert len(result.accepted) > 100
    assert all(evidence.to_json() == json.loads(data) for data, evidence in result.accepted)


def test_a_tdx_guest_may_show_its_event_log() -> None:
    evidence = Evidence(EvidenceKind.TDX, b"q", event_log=b"log")
    assert Evidence.parse(evidence.to_json_bytes()) == evidence
    assert "event_log" not in Evidence(EvidenceKind.TDX, b"q").to_json()
    for kind in set(EvidenceKind) - {EvidenceKind.TDX}:
        with pytest.raises(EvidenceError, match="has no event log"):
            Evidence(kind, b"q", event_log=b"log")
    with pytest.raises(EvidenceError, match="evidence-too-large"):
        Evidence(EvidenceKind.TDX, b"q", event_log=bytes(MAX_EVENT_LOG + 1))
    for value in (None, 5, "=", "é"):
        with pytest.raises(EvidenceError, match="evidence-malformed"):
            Evidence.from_json({**evidence.to_json(), "event_log": value})


@pytest.mark.parametrize(
    ("kind", "collateral"),
    [
        (EvidenceKind.SGX, {"vek": "", "chain": ""}),
        (EvidenceKind.TDX, COLLATERAL | {"crl": ""}),
        (EvidenceKind.SNP, COLLATERAL),
        (EvidenceKind.SNP, {"chain": ""}),
        (EvidenceKind.AZ_SNP, {"vek": ""}),
        (EvidenceKind.AZ_TDX, {"chain": ""}),
        (EvidenceKind.TPM, {}),
        (EvidenceKind.SNP, {"vek": "", "chain": "", "extra": ""}),
        (EvidenceKind.NITRO, {}),
        (EvidenceKind.NITRO, COLLATERAL),
    ],
)
def test_collateral_of_another_kind_is_refused(kind: EvidenceKind, collateral: dict[str, str]) -> None:
    with pytest.raises(EvidenceError, match=f"kind {kind}.*evidence-malformed"):
        Evidence(kind, b"q", collateral)
