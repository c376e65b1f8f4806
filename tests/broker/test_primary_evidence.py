"""Primary evidence of every kind: what is written is read, and a guest of each kind gets what it may."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation import snp_json
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.verify import verify_evidence
from strongroom.broker import admin, messages, primary_evidence
from strongroom.broker.kbs import KeyBroker
from strongroom.errors import BrokerError
from strongroom_simulator.collateral import make_collateral
from strongroom_simulator.nitro import NitroPlatform
from strongroom_simulator.pki import Pki
from strongroom_simulator.quotes import QuotingEnclave, td_report
from strongroom_simulator.snp import TCB, Guest, SnpPlatform
from strongroom_simulator.tpm import SimulatedTpm, init_data_register

NOW = 1_800_000_000
MEASUREMENT = b"\x11" * 48
SNP = SnpPlatform.create(NOW, bytes(range(64)), rsa_bits=2048)
NITRO = NitroPlatform.create(NOW)
PKI = Pki.create(NOW, bytes)


def _snp(init_data: bytes, report_data: bytes) -> Evidence:
    guest = Guest(MEASUREMENT, report_data, host_data=hashlib.sha256(init_data).digest())
    return Evidence(EvidenceKind.SNP, SNP.report(guest), SNP.collateral(), init_data)


def _azure_snp(init_data: bytes, report_data: bytes) -> Evidence:
    tpm = SimulatedTpm(pcrs={8: init_data_register(init_data)})
    report = SNP.report(Guest(MEASUREMENT, tpm.hardware_data()))
    quote = tpm.azure_snp(report_data[:48], report, SNP.signer.public_bytes(Encoding.DER))
    return Evidence(EvidenceKind.AZ_SNP, quote, {"chain": SNP.collateral()["chain"]}, init_data)


def _azure_tdx(init_data: bytes, report_data: bytes) -> Evidence:
    tpm = SimulatedTpm(pcrs={8: init_data_register(init_data)})
    td = td_report(MEASUREMENT, bytes(48), tpm.hardware_data())
    quote = tpm.azure_tdx(report_data[:48], QuotingEnclave(PKI, EvidenceKind.TDX, bytes).quote(td))
    return Evidence(EvidenceKind.AZ_TDX, quote, make_collateral(PKI, EvidenceKind.TDX, NOW), init_data)


TPM_KEY = SimulatedTpm()


def _tpm(init_data: bytes, report_data: bytes) -> Evidence:
    tpm = replace(TPM_KEY, pcrs={8: init_data_register(init_data)})
    return Evidence(EvidenceKind.TPM, tpm.evidence(report_data), None, init_data)


MAKERS = {
    EvidenceKind.SNP: _snp,
    EvidenceKind.AZ_SNP: _azure_snp,
    EvidenceKind.AZ_TDX: _azure_tdx,
    EvidenceKind.TPM: _tpm,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_guest_of_each_kind_gets_its_keys(rig: Any, refused: Any, kind: EvidenceKind) -> None:
    """The whole way through the broker, with production formats and verifiers."""
    rig.clock.time = float(NOW)
    listed = {} if kind is EvidenceKind.TPM else {kind: [MEASUREMENT.hex()]}
    init_data = b""
    for _ in range(2):  # the register depends on the init-data, which names the policy
        text = render_policy(
            kinds=[kind],
            measurements=listed,
            tcb_floor={"Milan": dict(TCB)},
            require_revocation=False,
            allow_simulated=True,
            simulated_roots=[SNP.root_sha256, PKI.root_sha256],
            pcrs={4: ["00" * 32]},
            tpm_keys=[TPM_KEY.key_sha256],
        )
        init_data = rig.init_data(release_policy=Policy.parse(text).digest)
    admin.register_service(rig.store, "pictures", text, ["default/model/lite0"], "Example Bank")
    broker = KeyBroker(rig.store, now=rig.clock)
    attester = rig.attester(init_data=init_data)

    def attest(report_data: bytes | None = None) -> tuple[str, str]:
        given = broker.auth(messages.auth_body(str(kind)))
        bound = report_data or messages.report_data(given.nonce, attester.jwk)
        body = messages.attest_body(given.nonce, attester.jwk, MAKERS[kind](init_data, bound))
        return given.session, broker.attest(given.session, body)

    session, token = attest()
    assert broker.resource(session, None, "default/model/lite0")
    assert token.count(".") == 2
    with refused("policy-report-data"):
        attest(b"\x99" * 48 + bytes(16))


@pytest.mark.parametrize(
    "evidence",
    [
        *(make(b"version = 1", bytes(range(48)) + bytes(16)) for make in MAKERS.values()),
        Evidence(EvidenceKind.NITRO, NITRO.document(NITRO.payload({0: b"\1" * 48}, b"\2" * 64, NOW))),
        Evidence(EvidenceKind.TPM, TPM_KEY.evidence(b"n" * 48), None, None),
    ],
    ids=lambda evidence: str(evidence.kind),
)
def test_what_is_written_is_read(evidence: Evidence) -> None:
    value = json.loads(json.dumps(primary_evidence.write(evidence)))
    read = primary_evidence.read(evidence.kind, value, evidence.init_data)
    assert (read.kind, read.collateral, read.init_data) == (
        evidence.kind,
        evidence.collateral,
        evidence.init_data,
    )
    if evidence.kind in {EvidenceKind.SNP, EvidenceKind.NITRO}:
        assert read.quote == evidence.quote
    else:
        assert json.loads(read.quote) == json.loads(evidence.quote)


def test_a_guest_sends_only_its_chips_certificate(testdata: Any) -> None:
    """As Confidential Containers does; AMD's own certificates are known."""
    vector = json.loads((testdata / "vectors/evidence/SNP_milan_trustee.json").read_text())
    value = {
        "attestation_report": snp_json.encode(base64.b64decode(vector["report"])),
        "cert_chain": [
            {"cert_type": "VCEK", "data": list(base64.b64decode(vector["ek"]))},
            {"cert_type": {"OTHER": "00000000-0000-0000-0000-000000000000"}, "data": []},
        ],
    }
    evidence = primary_evidence.read(EvidenceKind.SNP, value, None)
    claims = verify_evidence(evidence, Policy.parse(_ANY).roots, vector["now"])
    assert (str(claims.anchor), claims.product) == ("amd", "Milan")


_ANY = render_policy(kinds=[EvidenceKind.SGX], measurements={EvidenceKind.SGX: ["11" * 32]})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (EvidenceKind.SNP, {}),
        (EvidenceKind.SNP, {"attestation_report": [], "cert_chain": None}),
        (EvidenceKind.SNP, {"attestation_report": {}, "cert_chain": [{"cert_type": "VCEK"}]}),
        (EvidenceKind.SNP, {"attestation_report": {}, "more": 1}),
        (EvidenceKind.SNP, {"attestation_report": {}, "cert_chain": [{"cert_type": "VCEK", "data": [256]}]}),
        (EvidenceKind.SNP, {"attestation_report": {}, "cert_chain": [{"cert_type": "VCEK", "data": []}] * 9}),
        (EvidenceKind.TPM, {"collateral": 1}),
        (EvidenceKind.TPM, {"tpm_quote": [0.5] * 16_000}),
        (EvidenceKind.TPM, {"tpm_quote": {"pcrs": [0.5] * 16_000}}),
        (EvidenceKind.AZ_SNP, {"collateral": {"chain": 1}}),
        (EvidenceKind.NITRO, {"quote": "", "cc_eventlog": None}),
        (EvidenceKind.TDX, {"quote": "="}),
    ],
)
def test_another_form_is_refused(refused: Any, kind: EvidenceKind, value: dict[str, Any]) -> None:
    with refused("kbs-body-invalid"):
        primary_evidence.read(kind, value, None)


def test_two_certificates_of_chips_are_refused(refused: Any) -> None:
    table = [{"cert_type": name, "data": [1]} for name in ("VCEK", "VLEK")]
    value = {
        "attestation_report": snp_json.encode(SNP.report(Guest(MEASUREMENT, bytes(64)))),
        "cert_chain": table,
    }
    with refused("kbs-body-invalid"):
        primary_evidence.read(EvidenceKind.SNP, value, None)


@pytest.mark.parametrize(
    ("kind", "quote"), [(EvidenceKind.SNP, b"report"), (EvidenceKind.TPM, b"[]"), (EvidenceKind.TPM, b"{")]
)
def test_a_quote_of_another_kind_has_no_form(kind: EvidenceKind, quote: bytes) -> None:
    with pytest.raises(BrokerError, match="kbs-body-invalid"):
        primary_evidence.write(Evidence(kind, quote))
