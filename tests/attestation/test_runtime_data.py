"""Runtime data: one form, bound, and the nonce of devices made of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutants import mutants
from strongroom.attestation.runtime_data import MAX_RUNTIME_DATA, RuntimeData
from strongroom.errors import EvidenceError

GOOD = RuntimeData("bm9uY2U=", {"kty": "EC", "x": "AA"}, '{"nvidia":{}}')
VALUE: dict[str, Any] = json.loads(GOOD.to_bytes())


def test_the_digests_are_those_of_the_protocol() -> None:
    """Written out once by hand, as RFC 8785 wants it."""
    asked = b'{"nonce":"bm9uY2U=","tee-pubkey":{"kty":"EC","x":"AA"}}'
    bound = b'{"additional-evidence":"{\\"nvidia\\":{}}",' + asked[1:]
    assert GOOD.to_bytes() == bound
    assert GOOD.report_data() == hashlib.sha384(bound).digest() + bytes(16)
    assert GOOD.device_nonce() == hashlib.sha384(asked).digest()[:32]


@given(st.text(max_size=20), st.dictionaries(st.text(max_size=5), st.text(max_size=5)), st.text(max_size=30))
def test_it_reads_back(nonce: str, key: dict[str, str], additional: str) -> None:
    made = RuntimeData(nonce, key, additional)
    assert RuntimeData.parse(made.to_bytes()) == made


@pytest.mark.parametrize("name", ["nonce", "tee-pubkey", "additional-evidence"])
def test_each_member_is_needed_and_bound(name: str) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        RuntimeData.parse(json.dumps({each: v for each, v in VALUE.items() if each != name}).encode())
    changed = RuntimeData.parse(
        json.dumps(VALUE | {name: {"kty": "x"} if name == "tee-pubkey" else "x"}).encode()
    )
    assert changed.report_data() != GOOD.report_data()
    assert (changed.device_nonce() == GOOD.device_nonce()) == (name == "additional-evidence")


@pytest.mark.parametrize(
    "value",
    [
        [],
        None,
        VALUE | {"more": ""},
        VALUE | {"nonce": 1},
        VALUE | {"tee-pubkey": "x"},
        VALUE | {"tee-pubkey": {"kty": 1}},
        VALUE | {"additional-evidence": {}},
    ],
)
def test_another_form_is_refused(value: object) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        RuntimeData.parse(json.dumps(value).encode())


def test_it_is_bounded_before_it_is_read() -> None:
    with pytest.raises(EvidenceError, match="evidence-too-large"):
        RuntimeData.parse(GOOD.to_bytes().ljust(MAX_RUNTIME_DATA + 1))


def test_mutants_give_our_errors_only() -> None:
    refused = 0
    for mutant in mutants(VALUE, lambda value: json.dumps(value).encode(), 4000, 7):
        try:
            RuntimeData.parse(mutant)
        except EvidenceError:
            refused += 1
    assert refused > 1000
