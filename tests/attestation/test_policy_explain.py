"""Explanations: what is said to decide does decide, and nothing less; the first policy is the strictest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_change import STRICTEST, tighten, widen
from strongroom.attestation.policy_explain import CONSENT, explain, initial
from strongroom.errors import ConfigError, PolicyRefused

SGX = Claims(
    kind=EvidenceKind.SGX,
    anchor=Anchor.INTEL,
    root_sha256="44" * 32,
    measurement="11" * 32,
    signer="55" * 32,
    report_data=bytes(64),
    init_data_digest=bytes(48),
    tcb_status="UpToDate",
    advisories=("INTEL-SA-00615",),
    debug=False,
    product_id=0,
    svn=3,
    expires=2**33,
)
SNP = replace(
    SGX,
    kind=EvidenceKind.SNP,
    anchor=Anchor.AMD,
    measurement="22" * 48,
    tcb_status="",
    advisories=(),
    product="Milan",
    tcb={"bootloader": 4, "tee": 0, "snp": 24, "microcode": 219},
)
SIMULATED = replace(SGX, anchor=Anchor.SIMULATED, root_sha256="66" * 32)
TPM = replace(
    SGX,
    kind=EvidenceKind.TPM,
    anchor=Anchor.TPM,
    measurement="",
    tcb_status="",
    pcrs={number: f"{number:02x}" * 32 for number in range(24)},
    svn=0,
)
AZURE = replace(SNP, kind=EvidenceKind.AZ_SNP, pcrs=TPM.pcrs, svn=0)
ALL = [SGX, SNP, SIMULATED, TPM, AZURE]
IDS = ["sgx", "snp", "simulated", "tpm", "azure"]


def accepts(policy: Policy, claims: Claims) -> bool:
    try:
        policy.appraise(claims, now=0)
    except PolicyRefused:
        return False
    return True


# The first policy


@pytest.mark.parametrize("claims", ALL, ids=IDS)
def test_the_first_policy_accepts_its_evidence_and_can_be_written(claims: Claims) -> None:
    policy = initial([claims], consent=CONSENT)
    assert accepts(policy, claims)
    again = Policy.parse(policy.to_toml())
    assert accepts(again, claims)
    assert accepts(Policy.parse(again.to_toml()), claims)


def test_the_first_policy_accepts_several_and_no_others() -> None:
    policy = initial([SGX, SNP], consent=CONSENT)
    assert accepts(policy, SGX)
    assert accepts(policy, SNP)
    for other in (
        replace(SGX, measurement="12" * 32),
        replace(SGX, svn=2),
        replace(SGX, tcb_status="OutOfDate"),
        replace(SGX, debug=True),
        replace(SNP, tcb={**SNP.tcb, "snp": 23}),
        replace(SNP, privilege=1),
        replace(SNP, migratable=True),
        SIMULATED,
        TPM,
    ):
        assert not accepts(policy, other)


@pytest.mark.parametrize(
    ("claims", "key"),
    [
        (replace(SGX, debug=True), "allow_debug"),
        (replace(SNP, migratable=True), "allow_migration"),
        (replace(SNP, revocation_checked=False), "require_revocation"),
        (SIMULATED, "allow_simulated"),
    ],
)
def test_what_weakens_a_policy_must_be_named(claims: Claims, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}.*policy-init-refused"):
        initial([claims], consent=set(CONSENT) - {key})
    assert accepts(initial([claims], consent={key}), claims)


def test_another_status_must_be_named() -> None:
    late = replace(SGX, tcb_status="SWHardeningNeeded")
    with pytest.raises(ConfigError, match=r"tcb_statuses.*policy-init-refused"):
        initial([late])
    assert accepts(initial([late], statuses=["SWHardeningNeeded"]), late)


# Explanations

GOOD = initial(ALL, consent=CONSENT)
CHANGES: list[dict[str, Any]] = [
    {},
    {"kinds": frozenset({EvidenceKind.TDX})},
    {"measurements": {}},
    {"tcb_statuses": frozenset()},
    {"tcb_floor": {}},
    {"tcb_floor": {"Milan": {"snp": 25}}},
    {"pcrs": {4: frozenset({"aa" * 32})}},
    {"tpm_keys": frozenset()},
    {"allow_simulated": False},
    {"simulated_roots": frozenset()},
    {"min_svn": 9},
    {"rejected_advisories": frozenset({"INTEL-SA-00615"})},
]


@settings(deadline=None)
@given(st.sampled_from(ALL), st.lists(st.sampled_from(CHANGES), max_size=4))
def test_what_is_said_to_decide_decides_and_nothing_less(
    claims: Claims, changes: list[dict[str, Any]]
) -> None:
    policy = GOOD
    for change in changes:
        policy = replace(policy, **change)
    found = explain(policy, claims)
    assert found.accepted == accepts(policy, claims)
    if found.accepted:
        for fact in found.deciding:
            assert not accepts(fact.policy, claims), fact.key
        return
    keys = [change.key for change in found.deciding]
    assert keys
    assert accepts(_all(policy, claims, keys), claims)
    for key in keys:
        assert not accepts(_all(policy, claims, [each for each in keys if each != key]), claims), key


def _all(policy: Policy, claims: Claims, keys: list[str]) -> Policy:
    for key in keys:
        policy = widen(policy, key, claims).policy
    return policy


def test_nothing_that_decides_an_acceptance_is_left_out() -> None:
    """Every entry that can be taken away alone and changes the verdict is named."""
    for claims in ALL:
        named = {(change.key, change.value) for change in explain(GOOD, claims).deciding}
        wanted = {
            (change.key, change.value)
            for change in tighten(GOOD, claims)
            if not accepts(change.policy, claims)
        }
        assert named == wanted
        assert "kinds" in {key for key, _ in named}


def test_a_check_that_fails_for_anothers_sake_is_not_named() -> None:
    """The measurement is listed; only the kind is not accepted."""
    policy = replace(GOOD, kinds=GOOD.kinds - {EvidenceKind.SGX})
    assert [change.key for change in explain(policy, SGX).deciding] == ["kinds"]
    policy = replace(GOOD, allow_simulated=False)
    assert [change.key for change in explain(policy, SIMULATED).deciding] == ["allow_simulated"]


def test_findings_say_what_every_check_found() -> None:
    policy = replace(GOOD, tcb_statuses=frozenset(), min_svn=9)
    findings = {finding.key: finding for finding in policy.findings(SGX)}
    assert findings["tcb_statuses"].code == "policy-tcb-status"
    assert (findings["min_svn"].found, findings["min_svn"].expected) == ("3", "at least 9")
    assert [key for key, finding in findings.items() if not finding.code] == [
        key for key in findings if key not in {"tcb_statuses", "min_svn"}
    ]
    members = explain(policy, SGX).to_json()
    assert members["accepted"] is False
    assert {each["key"] for each in members["deciding"]} == {"tcb_statuses", "min_svn"}


def test_the_strictest_policy_accepts_nothing() -> None:
    assert not any(accepts(STRICTEST, claims) for claims in ALL)
