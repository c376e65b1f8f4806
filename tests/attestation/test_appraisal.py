"""The decision "may I seal?", rules 1 to 3: broker, custodian, release policy. Each rule refuses alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.keyset import SignedKeyset
from strongroom.attestation.serving import EvidenceList, ServiceAppraisal
from strongroom.attestation.workers import CLOCK_SKEW
from strongroom.codec import jcs
from strongroom.crypto.sign import SIGNATURE_SIZE, SigningKey
from strongroom.errors import EXIT_REFUSED, EvidenceError, PolicyRefused
from strongroom_simulator.pki import Pki

CodeOf = Callable[..., str | None]
SGX, TDX = EvidenceKind.SGX, EvidenceKind.TDX
ROGUE = SigningKey.from_raw(b"\x09" * 64)


def keyset_code(service: Any, document: bytes, code_of: CodeOf, name: str | None = None) -> str | None:
    appraisal = ServiceAppraisal(service.client_policy(), service.now, service=name)
    return code_of(appraisal.keyset, document)


def test_a_good_service_gets_a_verdict(service: Any) -> None:
    verdict = service.verdict(service.worker(), nonce=service.nonce)
    assert verdict.keyset == service.keyset()
    assert verdict.workers == 1


# The order


def test_steps_come_in_order_and_once(service: Any) -> None:
    keyset = service.signed(service.keyset()).to_json_bytes()
    evidence = EvidenceList((service.worker(),)).to_json_bytes()
    appraisal = ServiceAppraisal(service.client_policy(), service.now)
    with pytest.raises(RuntimeError):
        appraisal.release_policy(service.release_policy())
    with pytest.raises(RuntimeError):
        appraisal.evidence(evidence, service.nonce)
    appraisal.keyset(keyset)
    with pytest.raises(RuntimeError):
        appraisal.keyset(keyset)
    with pytest.raises(RuntimeError):
        appraisal.evidence(evidence, service.nonce)
    appraisal.release_policy(service.release_policy())
    with pytest.raises(RuntimeError):
        appraisal.release_policy(service.release_policy())
    assert appraisal.evidence(evidence, service.nonce) == appraisal.evidence(evidence, service.nonce)


def test_a_refused_step_leaves_the_appraisal_where_it_was(service: Any) -> None:
    appraisal = ServiceAppraisal(service.client_policy(), service.now)
    with pytest.raises(PolicyRefused):
        appraisal.keyset(service.signed(service.keyset(), ROGUE).to_json_bytes())
    with pytest.raises(RuntimeError):
        appraisal.release_policy(service.release_policy())
    appraisal.keyset(service.signed(service.keyset()).to_json_bytes())
    with pytest.raises(PolicyRefused):
        appraisal.release_policy(service.release_policy() + b"#")
    with pytest.raises(RuntimeError):
        appraisal.evidence(EvidenceList(()).to_json_bytes())
    appraisal.release_policy(service.release_policy())
    with pytest.raises(PolicyRefused):
        appraisal.evidence(EvidenceList(()).to_json_bytes())
    good = EvidenceList((service.worker(),)).to_json_bytes()
    assert appraisal.evidence(good, service.nonce).workers == 1


# Rule 1: which broker


def test_a_policy_without_a_broker_key_decides_nothing(service: Any, code_of: CodeOf) -> None:
    policy = replace(service.client_policy(), broker_key=None)
    assert code_of(ServiceAppraisal, policy, service.now) == "service-no-broker-key"


def test_a_rogue_broker_beside_a_genuine_worker_is_refused(service: Any, code_of: CodeOf) -> None:
    """The host runs a broker of its own: everything fits together, but the client pins another key."""
    rogue = replace(service, signer=ROGUE, client={"broker_key": service.signer.verifying_key.text})
    document = rogue.signed(rogue.keyset()).to_json_bytes()
    assert keyset_code(rogue, document, code_of) == "service-keyset-signature"
    assert keyset_code(replace(rogue, client={}), document, code_of) is None


@pytest.mark.parametrize(
    "forge",
    [
        lambda service: service.signed(service.keyset(), ROGUE),
        lambda service: SignedKeyset(service.keyset().payload(), bytes(SIGNATURE_SIZE)),
        lambda service: SignedKeyset(
            service.keyset(epoch=9).payload(), service.signed(service.keyset()).signature
        ),
    ],
    ids=["another key", "unsigned", "another payload"],
)
def test_a_keyset_that_the_broker_did_not_sign_is_refused(
    forge: Callable[[Any], SignedKeyset], service: Any, code_of: CodeOf
) -> None:
    assert keyset_code(service, forge(service).to_json_bytes(), code_of) == "service-keyset-signature"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"broker_key": ROGUE.verifying_key.text}, "service-broker-key"),
        ({"service": "other"}, "service-name"),
    ],
)
def test_a_signed_keyset_that_names_something_else_is_refused(
    changes: dict[str, Any], code: str, service: Any, code_of: CodeOf
) -> None:
    document = service.signed(service.keyset(**changes)).to_json_bytes()
    assert keyset_code(service, document, code_of, "lite") == code


def test_the_service_can_be_named_by_the_policy(service: Any, code_of: CodeOf) -> None:
    document = service.signed(service.keyset()).to_json_bytes()
    for name, code in (("lite", None), ("other", "service-name")):
        named = replace(service, client={"service": name})
        assert keyset_code(named, document, code_of) == code
        assert keyset_code(named, document, code_of, "lite") == code


@pytest.mark.parametrize(
    ("start", "end", "code"),
    [
        (-10, 10, None),
        (CLOCK_SKEW, 100, None),
        (CLOCK_SKEW + 1, 1000, "service-keyset-not-yet-valid"),
        (-10, 1, None),
        (-10, 0, "service-keyset-expired"),
    ],
)
def test_validity_of_the_keyset(
    start: int, end: int, code: str | None, service: Any, code_of: CodeOf
) -> None:
    keyset = service.keyset(not_before=service.now + start, not_after=service.now + end)
    assert keyset_code(service, service.signed(keyset).to_json_bytes(), code_of) == code


def test_a_malformed_keyset_is_refused(service: Any, code_of: CodeOf) -> None:
    assert keyset_code(service, b"{}", code_of) == "keyset-malformed"


# Rule 2: who holds the key


def test_an_unattested_custodian_is_refused_unless_allowed(service: Any, code_of: CodeOf) -> None:
    document = service.signed(service.keyset()).to_json_bytes()
    strict = replace(service, client={"allow_unattested_broker": False})
    assert keyset_code(strict, document, code_of) == "service-custodian-unattested"
    assert keyset_code(service, document, code_of) is None


@pytest.fixture
def attested(service: Any) -> Any:
    """A service whose client demands an attested broker."""
    return replace(
        service,
        client={"allow_unattested_broker": False, "broker_measurements": {SGX: [(b"\x22" * 32).hex()]}},
    )


def test_an_attested_custodian_passes(attested: Any) -> None:
    keyset = attested.keyset()
    signed = replace(attested.signed(keyset), broker_evidence=attested.broker_evidence(keyset))
    appraisal = ServiceAppraisal(attested.client_policy(), attested.now)
    appraisal.keyset(signed.to_json_bytes())
    appraisal.release_policy(attested.release_policy())
    verdict = appraisal.evidence(EvidenceList((attested.worker(),)).to_json_bytes(), attested.nonce)
    assert verdict.custodian_attested
    assert not any("custodian" in warning for warning in verdict.warnings)


def test_evidence_of_the_broker_that_the_policy_does_not_speak_of_counts_for_nothing(
    service: Any, code_of: CodeOf
) -> None:
    keyset = service.keyset()
    signed = replace(service.signed(keyset), broker_evidence=service.broker_evidence(keyset))
    strict = replace(service, client={"allow_unattested_broker": False})
    assert keyset_code(strict, signed.to_json_bytes(), code_of) == "service-custodian-unattested"


@pytest.mark.parametrize("wrong", ["none", "measurement", "keyset", "root"])
def test_a_broker_without_the_right_evidence_is_refused(wrong: str, attested: Any, code_of: CodeOf) -> None:
    keyset = attested.keyset()
    evidence = {
        "none": lambda: None,
        "measurement": lambda: attested.broker_evidence(keyset, b"\x11" * 32),
        "keyset": lambda: attested.broker_evidence(attested.keyset(epoch=2)),
        "root": lambda: replace(attested, pki=Pki.create(attested.now, os.urandom)).broker_evidence(keyset),
    }[wrong]()
    signed = replace(attested.signed(keyset), broker_evidence=evidence)
    code = "service-custodian-unattested" if wrong == "none" else "service-custodian-evidence"
    assert keyset_code(attested, signed.to_json_bytes(), code_of) == code


# Rule 3: the release policy


def policy_code(service: Any, text: bytes, code_of: CodeOf) -> str | None:
    appraisal = ServiceAppraisal(service.client_policy(), service.now)
    appraisal.keyset(service.signed(service.keyset()).to_json_bytes())
    return code_of(appraisal.release_policy, text)


def test_a_release_policy_that_the_keyset_does_not_name_is_refused(service: Any, code_of: CodeOf) -> None:
    text = service.release_policy()
    assert policy_code(service, text, code_of) is None
    assert policy_code(service, text + b"\n", code_of) == "service-release-policy-digest"


@pytest.mark.parametrize("text", [b"version = 1\n", b"\xff", b"#" * 70_000], ids=["open", "bytes", "long"])
def test_a_release_policy_that_is_none_is_refused(text: bytes, service: Any, code_of: CodeOf) -> None:
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    appraisal = ServiceAppraisal(service.client_policy(), service.now)
    appraisal.keyset(service.signed(service.keyset(release_policy=digest)).to_json_bytes())
    assert code_of(appraisal.release_policy, text) == "service-release-policy-invalid"


@pytest.mark.parametrize(
    ("client", "release", "words"),
    [
        (
            {"measurements": {SGX: ["11" * 32], TDX: ["33" * 48]}},
            {"kinds": [SGX, TDX], "measurements": {SGX: ["11" * 32], TDX: ["33" * 48]}},
            "evidence of kind tdx",
        ),
        ({}, {"measurements": {SGX: ["11" * 32, "12" * 32]}}, "sgx measurement " + "12" * 32),
        ({}, {"tcb_statuses": ["UpToDate", "OutOfDate"]}, "TCB status OutOfDate"),
        ({}, {"allow_debug": True}, "debug enclaves"),
        ({"allow_simulated": False}, {}, "simulated evidence"),
        ({"rejected_advisories": ["SA-1"]}, {}, "platforms with advisory SA-1"),
        ({"min_svn": 1}, {}, "security versions from 0"),
    ],
    ids=["kind", "measurement", "TCB status", "debug", "simulated", "advisory", "SVN"],
)
def test_a_release_policy_that_admits_more_is_refused(
    client: dict[str, Any], release: dict[str, Any], words: str, service: Any
) -> None:
    changed = replace(service, client=client, release=release)
    appraisal = ServiceAppraisal(changed.client_policy(), changed.now)
    appraisal.keyset(changed.signed(changed.keyset()).to_json_bytes())
    with pytest.raises(PolicyRefused) as caught:
        appraisal.release_policy(changed.release_policy())
    assert (caught.value.code, caught.value.exit_code) == ("service-release-policy-wider", EXIT_REFUSED)
    assert words in caught.value.detail


def test_a_release_policy_that_pins_another_simulated_root_is_refused(service: Any) -> None:
    roots = [service.pki.root_sha256, "bb" * 32]
    changed = replace(service, release={"simulated_roots": roots})
    with pytest.raises(PolicyRefused, match="simulated root sha256:" + "bb" * 32) as caught:
        changed.appraisal()
    assert caught.value.code == "service-release-policy-wider"


def test_a_release_policy_that_admits_less_passes(service: Any) -> None:
    wide = {"measurements": {SGX: ["11" * 32, "12" * 32]}, "tcb_statuses": ["UpToDate", "OutOfDate"]}
    assert replace(service, client=wide).verdict(service.worker(), nonce=service.nonce).workers == 1


# The list of workers


def test_no_workers_is_a_refusal(service: Any) -> None:
    with pytest.raises(PolicyRefused) as caught:
        service.verdict()
    assert caught.value.code == "service-no-workers"


def test_a_malformed_list_is_refused(service: Any) -> None:
    with pytest.raises(EvidenceError) as caught:
        service.appraisal().evidence(b"{}")
    assert caught.value.code == "service-evidence-malformed"


def test_the_first_refusal_is_told_if_no_worker_passes(service: Any) -> None:
    workers = [service.worker(nonce=bytes(32)), service.worker(measurement=b"\x12" * 32)]
    with pytest.raises(PolicyRefused) as caught:
        service.verdict(*workers, nonce=service.nonce)
    assert caught.value.code == "service-nonce"
    with pytest.raises(PolicyRefused) as caught:
        service.verdict(*reversed(workers), nonce=service.nonce)
    assert caught.value.code == "policy-measurement"


# Rule 5: the suites


def test_a_keyset_with_classical_suites_only_is_refused_unless_allowed(service: Any, code_of: CodeOf) -> None:
    document = service.signed(service.keyset(keys=service.classical_keys)).to_json_bytes()
    assert keyset_code(service, document, code_of) == "service-classical-requests"
    allowing = replace(service, client={"allow_classical_requests": True})
    assert keyset_code(allowing, document, code_of) is None
    other = replace(service, client={"allow_classical_release": True})
    assert keyset_code(other, document, code_of) == "service-classical-requests"


def test_a_keyset_whose_keys_travel_classically_is_refused_unless_allowed(
    service: Any, code_of: CodeOf
) -> None:
    document = service.signed(service.keyset(key_release="classical")).to_json_bytes()
    assert keyset_code(service, document, code_of) == "service-classical-release"
    allowing = replace(service, client={"allow_classical_release": True})
    assert keyset_code(allowing, document, code_of) is None
    other = replace(service, client={"allow_classical_requests": True})
    assert keyset_code(other, document, code_of) == "service-classical-release"


@pytest.mark.parametrize("names", [("keys",), ("suites",), ("keys", "suites"), ("key_release",)], ids=repr)
def test_a_host_that_edits_the_suites_is_refused(
    service: Any, code_of: CodeOf, names: tuple[str, ...]
) -> None:
    """It puts members of a lesser keyset into the one that the broker signed."""
    allowing = replace(service, client={"allow_classical_requests": True, "allow_classical_release": True})
    signed = service.signed(service.keyset())
    payload = json.loads(signed.payload)
    lesser = json.loads(service.keyset(keys=service.classical_keys, key_release="classical").payload())
    changed = jcs.canonical({**payload, **{name: lesser[name] for name in names}})
    assert changed != signed.payload
    document = replace(signed, payload=changed).to_json_bytes()
    assert keyset_code(allowing, document, code_of) == "service-keyset-signature"


def test_a_host_that_strips_half_of_the_signature_is_refused(service: Any, code_of: CodeOf) -> None:
    signed = service.signed(service.keyset())
    for kept in (signed.signature[-64:], signed.signature[:-64], signed.signature[:1984]):
        document = replace(signed, signature=kept).to_json_bytes()
        assert keyset_code(service, document, code_of) == "keyset-malformed"
    blank = replace(signed, signature=signed.signature[:1984] + bytes(3309) + signed.signature[-64:])
    assert keyset_code(service, blank.to_json_bytes(), code_of) == "service-keyset-signature"


def test_a_release_policy_that_admits_classical_keys_is_refused(service: Any) -> None:
    lesser = replace(service, release={"allow_classical_release": True})
    appraisal = ServiceAppraisal(lesser.client_policy(), lesser.now)
    appraisal.keyset(lesser.signed(lesser.keyset()).to_json_bytes())
    with pytest.raises(PolicyRefused, match="without post-quantum protection") as caught:
        appraisal.release_policy(lesser.release_policy())
    assert caught.value.code == "service-release-policy-wider"
    allowing = replace(lesser, client={"allow_classical_release": True})
    assert allowing.verdict(allowing.worker(), nonce=allowing.nonce).workers == 1
