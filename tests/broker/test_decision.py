"""The release decision: each rule refuses alone, and the object only moves forward."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from strongroom.attestation.evidence import DCAP_KINDS, Evidence, EvidenceKind
from strongroom.attestation.gpu_checks import GpuDemand
from strongroom.attestation.runtime_data import RuntimeData
from strongroom.broker import messages, registry, teekey
from strongroom.broker.consent import Approval, Consent, statement_digest
from strongroom.broker.decision import ReleaseDecision
from strongroom.broker.messages import Attestation
from strongroom.broker.resource import Resource
from strongroom.errors import PolicyRefused
from strongroom_simulator.gpu import DRIVER, VBIOS, GpuPlatform, devices_text

NONCE = "bm9uY2Utbm9uY2Utbm9uY2Utbm9uY2Utbm9uY2UtMTI="
SIZES = {EvidenceKind.SGX: 32, EvidenceKind.TDX: 48}
KEY = Resource.service_key("pictures")
MODEL = Resource.parse("default/model/lite0")
NO_CONSENT = Consent()
PEOPLE = tuple(f"mtls:{digit * 64}" for digit in "abc")


class Case:
    """A decision with all that it judges, good unless a test changes it."""

    def __init__(self, rig: Any, kind: EvidenceKind = EvidenceKind.SGX, **changes: Any) -> None:
        self.rig = rig
        self.attester = rig.attester(kind, **changes)
        self.now = int(rig.clock())
        self.decision = ReleaseDecision(kind, NONCE, rig.broker_key.text)
        with rig.store.read() as db:
            self.service = registry.find_service(db, "pictures")
            self.model = registry.find_model(db, MODEL.path)

    def attestation(self, **changes: Any) -> Attestation:
        jwk = self.attester.jwk
        evidence = self.attester.quote(messages.report_data(NONCE, jwk))
        return replace(Attestation(NONCE, jwk, evidence), **changes)

    def answered(self, **changes: Any) -> ReleaseDecision:
        assert self.decision.answer(self.attestation(**changes)) == "pictures"
        return self.decision

    def appraised(self) -> ReleaseDecision:
        self.answered().appraise(self.service, self.now)
        return self.decision


@pytest.fixture(params=DCAP_KINDS)
def case(rig, request) -> Case:
    return Case(rig, request.param)


def test_good_evidence_gets_its_keys(case: Case) -> None:
    decision = case.appraised()
    decision.service_key(KEY, case.service, case.now)
    decision.model_key(MODEL, case.service, case.model, NO_CONSENT, case.now)
    assert decision.claims.simulated
    assert decision.init_data.service == "pictures"
    assert decision.tee_key is not None


# Rules 1 to 3: the answer.


@pytest.mark.parametrize("nonce", ["", NONCE[:-1], NONCE + "=", NONCE.lower(), "\u00e9", "AAAA" + NONCE[4:]])
def test_another_nonce(case: Case, refused, nonce: str) -> None:
    with refused("nonce-foreign"):
        case.answered(nonce=nonce)


def test_an_unusable_key(case: Case, refused) -> None:
    with refused("tee-key-unsupported"):
        case.answered(tee_pubkey={**case.attester.jwk, "alg": "HPKE-0x0050-0x0011-0x0002"})


def test_no_init_data(case: Case, refused) -> None:
    evidence = case.attestation().evidence
    with refused("init-data-missing"):
        case.answered(evidence=replace(evidence, init_data=None))


def test_init_data_that_is_none(case: Case, refused) -> None:
    evidence = case.attestation().evidence
    with refused("init-data-malformed"):
        case.answered(evidence=replace(evidence, init_data=b"anything else"))


@pytest.mark.parametrize("character", "-z")
def test_init_data_that_names_another_broker(rig, refused, character: str) -> None:
    case = Case(rig, broker_key="ed25519+mldsa65:" + character * 43)
    with refused("init-data-broker"):
        case.answered()


# Rules 4 to 7: the appraisal.


def test_a_service_that_is_not_registered(rig, refused) -> None:
    case = Case(rig, service="sounds")
    assert case.decision.answer(case.attestation()) == "sounds"
    with refused("service-unknown"):
        case.decision.appraise(None, case.now)


@pytest.mark.parametrize("service", ["a", "sounds"])
def test_a_record_of_another_service_is_a_mistake_of_the_caller(rig, service: str) -> None:
    case = Case(rig, service=service)
    case.decision.answer(case.attestation())
    with pytest.raises(RuntimeError):
        case.decision.appraise(case.service, case.now)


def test_init_data_that_names_another_policy(rig, refused) -> None:
    case = Case(rig, release_policy="sha256:" + "0" * 64)
    with refused("init-data-policy"):
        case.appraised()


def test_a_comment_makes_another_policy(case: Case, refused) -> None:
    case.answered()
    with refused("init-data-policy"):
        case.decision.appraise(replace(case.service, policy=case.service.policy + "# \n"), case.now)


def test_a_simulated_root_that_the_policy_does_not_pin(rig, other_simulator, refused) -> None:
    case = Case(rig, simulator=other_simulator)
    with refused("evidence-untrusted-root"):
        case.appraised()


def test_simulated_evidence_under_a_policy_for_hardware(rig, refused) -> None:
    rig.change_service(rig.policy(allow_simulated=False, simulated_roots=()))
    with refused("evidence-untrusted-root"):
        Case(rig).appraised()


def test_in_production_no_policys_permission_of_simulated_evidence_counts(case: Case, refused) -> None:
    case.decision = ReleaseDecision(case.decision.kind, NONCE, case.rig.broker_key.text, production=True)
    with refused("evidence-untrusted-root"):
        case.appraised()


@pytest.mark.parametrize(("kind", "other"), [("sgx", "tdx"), ("tdx", "sgx")])
def test_a_quote_of_another_kind_than_announced(rig, refused, kind: str, other: str) -> None:
    case = Case(rig, EvidenceKind(kind))
    made = rig.attester(EvidenceKind(other), init_data=case.attester.init_data)
    evidence = made.quote(messages.report_data(NONCE, case.attester.jwk))
    case.answered(evidence=replace(evidence, kind=EvidenceKind(kind)))
    with refused("evidence-malformed"):
        case.decision.appraise(case.service, case.now)


def test_a_kind_that_the_policy_does_not_list(rig, refused) -> None:
    measured = {EvidenceKind.TDX: ["00" * 48]}
    rig.change_service(rig.policy(kinds=["tdx"], measurements=measured))
    with refused("policy-kind"):
        Case(rig, EvidenceKind.SGX).appraised()


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_another_measurement(rig, refused, kind: EvidenceKind) -> None:
    size = 32 if kind is EvidenceKind.SGX else 48
    case = Case(rig, kind, measurement=b"\x66" * size)
    with refused("policy-measurement"):
        case.appraised()


def test_a_tcb_status_that_the_policy_does_not_list(rig, refused) -> None:
    rig.change_service(rig.policy(tcb_statuses=["OutOfDate"]))
    with refused("policy-tcb-status"):
        Case(rig).appraised()


def test_a_security_version_below_the_minimum(rig, refused) -> None:
    rig.change_service(rig.policy(min_svn=2))
    with refused("policy-svn"):
        Case(rig, EvidenceKind.SGX).appraised()


def test_collateral_that_has_expired(case: Case, refused) -> None:
    case.answered()
    with refused("evidence-expired"):
        case.decision.appraise(case.service, case.now + 400 * 86400)


def test_evidence_without_collateral(case: Case, refused) -> None:
    case.answered(evidence=replace(case.attestation().evidence, collateral=None))
    with refused("evidence-no-collateral"):
        case.decision.appraise(case.service, case.now)


def test_a_changed_quote(case: Case, refused) -> None:
    evidence = case.attestation().evidence
    quote = bytearray(evidence.quote)
    quote[200] ^= 1
    case.answered(evidence=replace(evidence, quote=bytes(quote)))
    with refused("evidence-unverified"):
        case.decision.appraise(case.service, case.now)


def test_another_key_in_the_report_data(case: Case, refused) -> None:
    """The host puts its own key beside genuine evidence: the key would be encrypted for the host."""
    case.answered(tee_pubkey=case.rig.attester().jwk)
    with refused("policy-report-data"):
        case.decision.appraise(case.service, case.now)


def test_another_nonce_in_the_report_data(case: Case, refused) -> None:
    """Evidence of an earlier session beside this session's nonce."""
    old = case.attester.quote(messages.report_data("AAAA" + NONCE[4:], case.attester.jwk))
    case.answered(evidence=old)
    with refused("policy-report-data"):
        case.decision.appraise(case.service, case.now)


def test_other_evidence_in_the_report_data(case: Case, refused) -> None:
    bound = case.attester.quote(messages.report_data(NONCE, case.attester.jwk, "{}"))
    case.answered(evidence=bound)
    with refused("policy-report-data"):
        case.decision.appraise(case.service, case.now)


def test_gpus_beside_the_cpu(rig, refused) -> None:
    """The CPU binds their evidence, they answer this session's question, and the policy demands them."""
    pytest.importorskip("lxml.etree")
    gpu = GpuPlatform.create(int(rig.clock()))
    demand = GpuDemand(1, frozenset({DRIVER}), frozenset({VBIOS}), reference_values=True)
    roots = [rig.simulator.root_sha256, gpu.root_sha256]
    rig.change_service(rig.policy(simulated_roots=roots, gpu=demand))

    def case_of(question: str = NONCE, *, bind: bool = True, rims: Any = None, report: Any = None) -> Case:
        case = Case(rig)
        case.decision = ReleaseDecision(
            EvidenceKind.SGX, NONCE, rig.broker_key.text, rims=gpu.rims() if rims is None else rims
        )
        nonce = RuntimeData(question, case.attester.jwk).device_nonce()
        text = devices_text([((report or gpu.report)(nonce), gpu.chain_pem)])
        data = RuntimeData(NONCE, case.attester.jwk, text if bind else "")
        case.answered(evidence=case.attester.quote(data.report_data()), additional_evidence=text)
        return case

    case = case_of()
    claims = case.decision.appraise(case.service, case.now)
    assert [device.differing for device in claims.devices] == [()]
    case.decision.service_key(KEY, case.service, case.now)
    newer = rig.policy(simulated_roots=roots, gpu=replace(demand, drivers=frozenset({"999.0"})))
    with pytest.raises(PolicyRefused) as caught:
        case.decision.model_key(MODEL, case.service, replace(case.model, policy=newer), NO_CONSENT, case.now)
    assert caught.value.detail == "policy of the model, driver"
    for code, changes in (
        ("policy-gpu", {"bind": False}),  # the CPU knows nothing of it, so it does not count
        ("evidence-nonce", {"question": "AAAA" + NONCE[4:]}),
        ("policy-gpu-reference", {"rims": ()}),
        ("evidence-signature", {"report": lambda nonce: GpuPlatform.create(int(rig.clock())).report(nonce)}),
    ):
        case = case_of(**changes)
        with refused(code):
            case.decision.appraise(case.service, case.now)


def test_a_refusal_says_whose_policy_it_was(case: Case) -> None:
    """Data owner and model owner meet in a release."""
    other = case.rig.policy(measurements={kind: ["99" * size] for kind, size in SIZES.items()})
    decision = case.appraised()
    with pytest.raises(PolicyRefused, match="policy of the model") as caught:
        decision.model_key(MODEL, case.service, replace(case.model, policy=other), NO_CONSENT, case.now)
    assert caught.value.code == "policy-measurement"
    case = Case(case.rig, case.attester.kind, measurement=b"\x77" * SIZES[case.attester.kind])
    case.answered()
    with pytest.raises(PolicyRefused, match="policy of the service") as caught:
        case.decision.appraise(case.service, case.now)
    assert (caught.value.code, caught.value.found) == ("policy-measurement", "77" * SIZES[case.attester.kind])
    assert caught.value.detail == "policy of the service"


def test_gpus_that_nobody_demands(case: Case, refused) -> None:
    gpu = GpuPlatform.create(case.now)
    case.rig.change_service(
        case.rig.policy(simulated_roots=[case.rig.simulator.root_sha256, gpu.root_sha256])
    )
    case = Case(case.rig, case.attester.kind)
    nonce = RuntimeData(NONCE, case.attester.jwk).device_nonce()
    data = RuntimeData(NONCE, case.attester.jwk, devices_text([(gpu.report(nonce), gpu.chain_pem)]))
    evidence = case.attester.quote(data.report_data())
    case.answered(evidence=evidence, additional_evidence=data.additional_evidence)
    with refused("policy-gpu"):
        case.decision.appraise(case.service, case.now)


def test_init_data_that_was_changed_after_the_start(case: Case, refused) -> None:
    """Same meaning, one more comment: the digest in the quote is of other bytes."""
    evidence = case.attestation().evidence
    case.answered(evidence=replace(evidence, init_data=evidence.init_data + b"# changed\n"))
    with refused("evidence-init-data"):
        case.decision.appraise(case.service, case.now)


def test_init_data_beside_evidence_that_carries_none(case: Case, refused) -> None:
    digest = bytes(48)
    report_data = messages.report_data(NONCE, case.attester.jwk)
    made = case.rig.simulator.quote(case.attester.kind, case.attester.measurement, digest, report_data)
    case.answered(evidence=Evidence(made.kind, made.quote, made.collateral, case.attester.init_data))
    with refused("evidence-init-data"):
        case.decision.appraise(case.service, case.now)


# Rules 8 to 11: the keys.


def test_a_service_that_is_no_longer_registered(case: Case, refused) -> None:
    decision = case.appraised()
    for ask in (
        lambda: decision.service_key(KEY, None, case.now),
        lambda: decision.model_key(MODEL, None, case.model, NO_CONSENT, case.now),
    ):
        with refused("service-unknown"):
            ask()


def test_a_policy_that_has_changed_since(case: Case, refused) -> None:
    decision = case.appraised()
    changed = replace(case.service, policy=case.rig.policy(min_svn=0, max_evidence_age=599))
    for ask in (
        lambda: decision.service_key(KEY, changed, case.now),
        lambda: decision.model_key(MODEL, changed, case.model, NO_CONSENT, case.now),
    ):
        with refused("init-data-policy"):
            ask()


def test_collateral_that_has_expired_since(case: Case, refused) -> None:
    decision = case.appraised()
    later = decision.claims.expires + 1
    for ask in (
        lambda: decision.service_key(KEY, case.service, later),
        lambda: decision.model_key(MODEL, case.service, case.model, NO_CONSENT, later),
    ):
        with refused("policy-expired"):
            ask()


@pytest.mark.parametrize(
    "path", ["sounds/service-key/current", "pictures/service-key/old", "pictures/model/x"]
)
def test_the_key_of_another_service(case: Case, refused, path: str) -> None:
    decision = case.appraised()
    with refused("service-foreign"):
        decision.service_key(Resource.parse(path), case.service, case.now)


def test_a_model_that_is_not_registered(case: Case, refused) -> None:
    decision = case.appraised()
    with refused("resource-unknown"):
        decision.model_key(MODEL, case.service, None, NO_CONSENT, case.now)


def test_a_model_of_another_service(rig, refused) -> None:
    """The init-data names it, the broker's registration does not."""
    case = Case(rig, models=("kbs:///default/model/lite0", "kbs:///default/model/other"))
    decision = case.appraised()
    other = Resource.parse("default/model/other")
    with refused("model-foreign"):
        decision.model_key(
            other, case.service, replace(case.model, resource=other.path), NO_CONSENT, case.now
        )


def test_a_model_that_the_init_data_does_not_name(rig, refused) -> None:
    case = Case(rig, models=("kbs:///default/model/other",))
    decision = case.appraised()
    with refused("init-data-model"):
        decision.model_key(MODEL, case.service, case.model, NO_CONSENT, case.now)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"measurements": {"sgx": ["77" * 32], "tdx": ["77" * 48]}}, "policy-measurement"),
        ({"allow_simulated": False, "simulated_roots": ()}, "policy-simulated"),
        ({"simulated_roots": ["88" * 32]}, "policy-simulated-root"),
        ({"tcb_statuses": ["OutOfDate"]}, "policy-tcb-status"),
        ({"service": "sounds"}, "model-policy-service"),
    ],
)
def test_the_models_own_policy(case: Case, refused, changes: dict[str, Any], code: str) -> None:
    decision = case.appraised()
    model = replace(case.model, policy=case.rig.policy(**changes))
    with refused(code):
        decision.model_key(MODEL, case.service, model, NO_CONSENT, case.now)
    decision.service_key(KEY, case.service, case.now)


def test_a_models_own_policy_that_accepts(case: Case) -> None:
    decision = case.appraised()
    model = replace(case.model, policy=case.rig.policy(service="pictures"))
    decision.model_key(MODEL, case.service, model, NO_CONSENT, case.now)
    assert decision.claims is not None


# Rule 12: consent.


def test_a_service_that_was_revoked_since(case: Case, refused) -> None:
    decision = case.appraised()
    revoked = replace(case.service, revoked=True)
    with refused("service-revoked"):
        decision.service_key(KEY, revoked, case.now)
    with refused("service-revoked"):
        decision.model_key(MODEL, revoked, case.model, NO_CONSENT, case.now)
    decision.service_key(KEY, case.service, case.now)


def test_a_service_that_was_revoked_before(case: Case, refused) -> None:
    with refused("service-revoked"):
        case.answered().appraise(replace(case.service, revoked=True), case.now)


def test_a_model_that_was_revoked(case: Case, refused) -> None:
    decision = case.appraised()
    with refused("resource-revoked"):
        decision.model_key(MODEL, case.service, replace(case.model, revoked=True), NO_CONSENT, case.now)


def test_a_model_of_another_tenant(case: Case, refused) -> None:
    decision = case.appraised()
    others = replace(case.service, tenant="hospital")
    with refused("model-not-granted"):
        decision.model_key(MODEL, others, case.model, NO_CONSENT, case.now)
    decision.model_key(MODEL, others, case.model, Consent(granted=True), case.now)


def test_a_model_that_two_of_three_must_approve(case: Case, refused) -> None:
    decision = case.appraised()
    model = replace(case.model, approvers=PEOPLE, approvals=2)
    statement = statement_digest(case.service, model)
    words = [Approval(person, statement, case.now + 1) for person in PEOPLE]
    for count, allowed in ((0, False), (1, False), (2, True), (3, True)):
        consent = Consent(approvals=tuple(words[:count]))
        if allowed:
            decision.model_key(MODEL, case.service, model, consent, case.now)
        else:
            with refused("approval-missing"):
                decision.model_key(MODEL, case.service, model, consent, case.now)
    with refused("approval-missing"):
        decision.model_key(MODEL, case.service, model, Consent(approvals=tuple(words)), case.now + 1)


# Forward only.


def test_nothing_is_given_before_the_appraisal(case: Case) -> None:
    for step in ("new", "answered"):
        if step == "answered":
            case.answered()
        with pytest.raises(RuntimeError):
            case.decision.service_key(KEY, case.service, case.now)
        with pytest.raises(RuntimeError):
            case.decision.model_key(MODEL, case.service, case.model, NO_CONSENT, case.now)


def test_steps_are_not_repeated_or_skipped(case: Case) -> None:
    with pytest.raises(RuntimeError):
        case.decision.appraise(case.service, case.now)
    case.appraised()
    with pytest.raises(RuntimeError):
        case.decision.answer(case.attestation())
    with pytest.raises(RuntimeError):
        case.decision.appraise(case.service, case.now)


def test_a_refused_answer_is_final(case: Case, refused) -> None:
    with refused("nonce-foreign"):
        case.answered(nonce="other")
    with pytest.raises(RuntimeError):
        case.decision.answer(case.attestation())
    with pytest.raises(RuntimeError):
        case.decision.appraise(case.service, case.now)


def test_a_refused_appraisal_is_final(rig, refused) -> None:
    case = Case(rig, measurement=b"\x66" * 32)
    with refused("policy-measurement"):
        case.appraised()
    for ask in (
        lambda: case.decision.appraise(case.service, case.now),
        lambda: case.decision.service_key(KEY, case.service, case.now),
        lambda: case.decision.model_key(MODEL, case.service, case.model, NO_CONSENT, case.now),
    ):
        with pytest.raises(RuntimeError):
            ask()


# Rule 12: the form of the one-time key.


def test_a_classical_key_is_refused_where_the_policy_does_not_allow_it(rig, refused) -> None:
    case = Case(rig, classical=True)
    decision = case.appraised()
    for ask in (
        lambda: decision.service_key(KEY, case.service, case.now),
        lambda: decision.model_key(MODEL, case.service, case.model, NO_CONSENT, case.now),
    ):
        with refused("release-classical"):
            ask()


def test_a_classical_key_gets_its_keys_where_every_policy_allows_it(rig, refused) -> None:
    rig.change_service(rig.policy(allow_classical_release=True))
    case = Case(rig, classical=True)
    decision = case.appraised()
    decision.service_key(KEY, case.service, case.now)
    decision.model_key(MODEL, case.service, case.model, NO_CONSENT, case.now)
    allowing = replace(case.model, policy=rig.policy(allow_classical_release=True))
    decision.model_key(MODEL, case.service, allowing, NO_CONSENT, case.now)
    with refused("release-classical"):  # the model's owner does not
        decision.model_key(
            MODEL, case.service, replace(case.model, policy=rig.policy()), NO_CONSENT, case.now
        )


def test_a_models_policy_alone_does_not_allow_a_classical_key(rig, refused) -> None:
    case = Case(rig, classical=True)
    decision = case.appraised()
    allowing = replace(case.model, policy=rig.policy(allow_classical_release=True))
    with refused("release-classical"):
        decision.model_key(MODEL, case.service, allowing, NO_CONSENT, case.now)


def test_an_hpke_key_does_wherever_a_classical_one_would(rig) -> None:
    rig.change_service(rig.policy(allow_classical_release=True))
    case = Case(rig)
    decision = case.appraised()
    decision.service_key(KEY, case.service, case.now)
    decision.model_key(MODEL, case.service, case.model, NO_CONSENT, case.now)
    assert not isinstance(decision.tee_key, teekey.ClassicalKey)
