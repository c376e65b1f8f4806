"""Reference values: exact bytes, whose they are, which version, and when they count."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_explain import explain
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.reference_checks import ReferenceDemand
from strongroom.attestation.reference_values import (
    MAX_PAYLOAD,
    MAX_SIGNED,
    VALUES_TYPE,
    ReferenceValues,
    SignedReferenceValues,
)
from strongroom.codec import b64, jcs
from strongroom.crypto.sign import SigningKey
from strongroom.errors import CryptoError, EvidenceError, PolicyRefused

SGX, TDX = EvidenceKind.SGX, EvidenceKind.TDX
PUBLISHER = SigningKey.from_raw(b"\x07" * 64)
KEY = PUBLISHER.verifying_key.text
OTHER = SigningKey.from_raw(b"\x08" * 64)
OTHER_KEY = OTHER.verifying_key.text
PUBLISHED = "77" * 32
LISTED = "11" * 32
VALUES = ReferenceValues(
    publisher="Example Models",
    name="pictures",
    version=3,
    issued=900,
    not_before=1_000,
    expires=2_000,
    measurements={SGX: {PUBLISHED: "pictures 1.4"}, TDX: {"22" * 48: "pictures 1.4 for TDX"}},
)
SIGNED = VALUES.sign(PUBLISHER)
CLAIMS = Claims(
    kind=SGX,
    anchor=Anchor.INTEL,
    root_sha256="00" * 32,
    measurement=PUBLISHED,
    signer="33" * 32,
    report_data=bytes(64),
    init_data_digest=bytes(48),
    tcb_status="UpToDate",
    advisories=(),
    debug=False,
    product_id=0,
    svn=1,
    expires=10_000,
)


def policy(**changes: Any) -> Policy:
    members: dict[str, Any] = {
        "kinds": [SGX],
        "measurements": {SGX: [LISTED]},
        "reference_values": ReferenceDemand(KEY, "pictures", 2),
    }
    return Policy.parse(render_policy(**(members | changes)))


# The document


hexes = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
labels = st.from_regex(r"[ -~]{1,128}", fullmatch=True)
times = st.integers(0, 2**52)


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(
    version=st.integers(1, 2**53 - 1),
    first=times,
    length=st.integers(1, 2**40),
    listed=st.dictionaries(hexes, labels, min_size=1, max_size=4),
    publisher=labels,
)
def test_any_values_read_back(
    version: int, first: int, length: int, listed: dict[str, str], publisher: str
) -> None:
    values = ReferenceValues(publisher, "series-1", version, first, first, first + length, {SGX: listed})
    assert ReferenceValues.parse(values.payload()) == values


def test_the_file_has_the_documented_members() -> None:
    document = json.loads(SIGNED.to_json_bytes())
    assert set(document) == {"reference_values", "signature"}
    assert json.loads(b64.decode_url(document["reference_values"], limit=MAX_PAYLOAD, what="payload")) == {
        "type": "strongroom-reference-values/1",
        "publisher": "Example Models",
        "name": "pictures",
        "version": 3,
        "issued": 900,
        "not_before": 1_000,
        "expires": 2_000,
        "measurements": {
            "sgx": {PUBLISHED: "pictures 1.4"},
            "tdx": {"22" * 48: "pictures 1.4 for TDX"},
        },
    }
    assert SignedReferenceValues.parse(SIGNED.to_json_bytes()) == SIGNED
    assert SIGNED.verify(PUBLISHER.verifying_key) == VALUES


@pytest.mark.parametrize(
    "change",
    [
        {"type": "strongroom-beacon/1"},
        {"publisher": ""},
        {"publisher": "two\nlines"},
        {"name": "Pictures"},
        {"version": 0},
        {"version": True},
        {"version": 1.5},
        {"issued": -1},
        {"not_before": 2_000},
        {"expires": 1_000},
        {"expires": "2000"},
        {"measurements": {}},
        {"measurements": []},
        {"measurements": {"sgx": {}}},
        {"measurements": {"sgx": [PUBLISHED]}},
        {"measurements": {"sgx": {PUBLISHED: ""}}},
        {"measurements": {"sgx": {PUBLISHED: 1}}},
        {"measurements": {"sgx": {PUBLISHED.upper().replace("7", "A"): "x"}}},
        {"measurements": {"sgx": {"77" * 31: "x"}}},
        {"measurements": {"tdx": {PUBLISHED: "x"}}},
        {"measurements": {"sev": {PUBLISHED: "x"}}},
        {"measurements": {"tpm": {PUBLISHED: "x"}}},
        {"measurements": {"sgx": {f"{number:064x}": "x" for number in range(513)}}},
        {"more": 1},
    ],
    ids=repr,
)
def test_a_payload_with_one_thing_wrong_is_refused(change: dict[str, Any]) -> None:
    changed = jcs.canonical({**json.loads(VALUES.payload()), **change})
    with pytest.raises(EvidenceError, match="reference-values-malformed"):
        ReferenceValues.parse(changed)


@pytest.mark.parametrize("name", sorted(json.loads(VALUES.payload())))
def test_every_member_is_needed(name: str) -> None:
    members = json.loads(VALUES.payload())
    del members[name]
    with pytest.raises(EvidenceError, match=name):
        ReferenceValues.parse(jcs.canonical(members))


def test_values_that_are_not_well_formed_cannot_be_made() -> None:
    with pytest.raises(EvidenceError, match="reference-values-malformed"):
        replace(VALUES, version=0)


def test_only_canonical_bytes_are_a_payload() -> None:
    spaced = json.dumps(json.loads(VALUES.payload())).encode()
    with pytest.raises(EvidenceError, match="canonical"):
        ReferenceValues.parse(spaced)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b" " * (MAX_SIGNED + 1), b'{"reference_values":"","signature":1}', b"\xff"],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_file_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="reference-values-malformed"):
        SignedReferenceValues.parse(data)


def test_a_signature_of_another_key_or_purpose_does_not_hold() -> None:
    payload = VALUES.payload()
    for signature in (
        OTHER.sign(VALUES_TYPE, payload),
        PUBLISHER.sign("strongroom-keyset/2", payload),
        PUBLISHER.sign(VALUES_TYPE, payload + b" "),
        b"",
    ):
        with pytest.raises(CryptoError, match="signature-invalid"):
            SignedReferenceValues(payload, signature).verify(PUBLISHER.verifying_key)


@pytest.mark.slow
def test_mutants_raise_our_errors_only(
    mutants: Callable[..., Iterator[bytes]], survey: Callable[..., Any], json_bytes: Callable[[Any], bytes]
) -> None:
    payloads = mutants(json.loads(VALUES.payload()), json_bytes, 15_000, seed=41)
    result = survey(ReferenceValues.parse, payloads)
    assert set(result.codes) == {"reference-values-malformed"}
    assert result.codes.total() > 7_000
    for data, values in result.accepted:
        assert values.payload() == data
    files = mutants(json.loads(SIGNED.to_json_bytes()), json_bytes, 5_000, seed=42)

    def accept(data: bytes) -> ReferenceValues:
        return SignedReferenceValues.parse(data).verify(PUBLISHER.verifying_key)

    result = survey(accept, files)
    assert set(result.codes) <= {"reference-values-malformed", "signature-invalid"}
    assert all(values == VALUES for _, values in result.accepted)


# Policies


def test_a_policy_that_names_the_publisher_takes_his_measurements(
    code_of: Callable[..., str | None],
) -> None:
    own = policy()
    assert code_of(own.appraise, CLAIMS, now=1_500) == "policy-measurement"
    with_values = own.with_values(SIGNED)
    assert code_of(with_values.appraise, CLAIMS, now=1_500) is None
    assert code_of(with_values.appraise, replace(CLAIMS, measurement=LISTED), now=1_500) is None
    assert (
        code_of(with_values.appraise, replace(CLAIMS, measurement="12" * 32), now=1_500)
        == "policy-measurement"
    )


def test_text_and_digest_stay_what_workers_pin() -> None:
    own = policy()
    with_values = own.with_values(SIGNED)
    assert (with_values.text, with_values.digest) == (own.text, own.digest)
    assert with_values.to_toml() == own.to_toml() == own.text


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (999, "policy-values-expired"),
        (1_000, None),
        (1_999, None),
        (2_000, "policy-values-expired"),
    ],
)
def test_values_count_at_the_time_of_the_appraisal(
    now: int, code: str | None, code_of: Callable[..., str | None]
) -> None:
    with_values = policy().with_values(SIGNED)
    assert code_of(with_values.appraise, CLAIMS, now=now) == code
    listed = replace(CLAIMS, measurement=LISTED)  # the policy's own word has no end
    assert code_of(with_values.appraise, listed, now=now) is None


def test_values_of_a_kind_that_the_policy_does_not_accept_change_nothing(
    code_of: Callable[..., str | None],
) -> None:
    guest = replace(CLAIMS, kind=TDX, measurement="22" * 48)
    assert code_of(policy().with_values(SIGNED).appraise, guest, now=1_500) == "policy-kind"


def test_a_measurement_counts_for_its_kind_only(code_of: Callable[..., str | None]) -> None:
    both = policy(kinds=[SGX, TDX], measurements={SGX: [LISTED], TDX: ["23" * 48]})
    guest = replace(CLAIMS, kind=TDX)
    assert code_of(both.with_values(SIGNED).appraise, guest, now=1_500) == "policy-measurement"


@pytest.mark.parametrize(
    ("signed", "code"),
    [
        (VALUES.sign(OTHER), "reference-values-signature"),
        (replace(SIGNED, payload=replace(VALUES, version=9).payload()), "reference-values-signature"),
        (replace(VALUES, name="other").sign(PUBLISHER), "reference-values-foreign"),
        (replace(VALUES, name="sounds").sign(PUBLISHER), "reference-values-foreign"),
        (replace(VALUES, version=1).sign(PUBLISHER), "reference-values-older"),
        (replace(VALUES, version=2).sign(PUBLISHER), None),
    ],
    ids=["other key", "changed", "other series", "series after it", "older", "oldest accepted"],
)
def test_other_values_are_refused(
    signed: SignedReferenceValues, code: str | None, code_of: Callable[..., str | None]
) -> None:
    assert code_of(policy().with_values, signed) == code


def test_signed_bytes_that_are_no_values_are_refused() -> None:
    signed = SignedReferenceValues(b"{}", PUBLISHER.sign(VALUES_TYPE, b"{}"))
    with pytest.raises(EvidenceError, match="reference-values-malformed"):
        policy().with_values(signed)


def test_a_policy_that_names_nobody_takes_none() -> None:
    with pytest.raises(PolicyRefused, match=r"no \[reference_values\].*reference-values-foreign"):
        policy(reference_values=None).with_values(SIGNED)


def test_a_policy_can_rely_on_values_alone(code_of: Callable[..., str | None]) -> None:
    alone = policy(measurements={})
    assert code_of(alone.appraise, CLAIMS, now=1_500) == "policy-measurement"
    assert code_of(alone.with_values(SIGNED).appraise, CLAIMS, now=1_500) is None


def test_a_brokers_own_evidence_has_nothing_to_do_with_them(code_of: Callable[..., str | None]) -> None:
    broker = policy(broker_measurements={SGX: ["44" * 32]}).with_values(SIGNED).for_broker()
    assert code_of(broker.appraise, CLAIMS, now=1_500) == "policy-measurement"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (KEY, KEY[:-1], "reference_values.key"),
        ('name = "pictures"', 'name = "Pictures"', "reference_values.name"),
        ("min_version = 2", "min_version = 0", "reference_values.min_version"),
        ("min_version = 2", 'file = "v.json"', "file"),
    ],
)
def test_a_table_that_leaves_something_open_is_no_policy(
    old: str, new: str, named: str, code_of: Callable[..., str | None]
) -> None:
    text = policy().text
    assert old in text
    with pytest.raises(Exception, match=named) as caught:
        Policy.parse(text.replace(old, new, 1))
    assert getattr(caught.value, "code", None) == "policy-invalid"


# Rule 3: what a release policy admits


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ()),
        ({"reference_values": None}, ()),
        ({"reference_values": ReferenceDemand(KEY, "pictures", 3)}, ()),
        (
            {"reference_values": ReferenceDemand(KEY, "pictures", 1)},
            (f"code that {KEY} publishes as pictures, from version 1",),
        ),
        (
            {"reference_values": ReferenceDemand(KEY, "other", 2)},
            (f"code that {KEY} publishes as other, from version 2",),
        ),
        (
            {"reference_values": ReferenceDemand(OTHER_KEY, "pictures", 2)},
            (f"code that {OTHER_KEY} publishes as pictures, from version 2",),
        ),
    ],
    ids=["same", "none", "stricter", "older", "other series", "other key"],
)
def test_who_may_publish_is_part_of_what_a_policy_admits(
    changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    assert policy().differences(policy(**changes)) == words


def test_a_client_that_trusts_no_publisher_refuses_a_release_policy_that_does() -> None:
    (words,) = policy(reference_values=None).differences(policy())
    assert words == f"code that {KEY} publishes as pictures, from version 2"


def test_a_release_policy_may_list_what_a_client_knows_from_the_publisher() -> None:
    release = policy(measurements={SGX: [LISTED, PUBLISHED]}, reference_values=None)
    client = policy()
    assert client.differences(release) == (f"sgx measurement {PUBLISHED}",)
    assert client.with_values(SIGNED).differences(release, now=1_500) == ()
    assert client.with_values(SIGNED).differences(release, now=2_000) == (f"sgx measurement {PUBLISHED}",)


# Explanations


def test_what_a_publisher_says_is_named_as_what_decides() -> None:
    found = explain(policy().with_values(SIGNED), CLAIMS, now=1_500)
    assert found.accepted
    named = {change.key: change.value for change in found.deciding}
    assert named["reference_values"] == f"{PUBLISHED} (pictures 1.4) in pictures, version 3"
    assert "measurements" not in named


def test_what_is_listed_and_published_is_decided_by_neither() -> None:
    both = policy(measurements={SGX: [PUBLISHED]}).with_values(SIGNED)
    found = explain(both, CLAIMS, now=1_500)
    assert {change.key for change in found.deciding} == {"kinds", "tcb_statuses"}


def test_expired_values_are_said_to_decide() -> None:
    found = explain(policy().with_values(SIGNED), CLAIMS, now=2_000)
    assert [(finding.key, finding.code) for finding in found.findings if finding.code] == [
        ("reference_values", "policy-values-expired")
    ]
    (change,) = found.deciding
    assert (change.key, change.value) == ("reference_values", f"add {PUBLISHED} to sgx")
    change.policy.appraise(CLAIMS, now=2_000)
