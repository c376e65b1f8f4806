"""Azure confidential VMs, whole: a recorded one verifies; each part of another VM's evidence is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation import initdata
from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.verify import verify_evidence
from strongroom.errors import EvidenceError
from strongroom_simulator.collateral import make_collateral
from strongroom_simulator.pki import Pki
from strongroom_simulator.quotes import QuotingEnclave, td_report
from strongroom_simulator.snp import Guest, SnpPlatform
from strongroom_simulator.tpm import SimulatedTpm, init_data_register

NOW = 1_800_000_000
NONCE = bytes(range(48))
INIT_DATA = b"version = 1"
MEASUREMENT = b"\x11" * 48
RECORDED = 1_770_000_000  # within the life of its certificates


@pytest.fixture(scope="module")
def tpm() -> SimulatedTpm:
    return SimulatedTpm(pcrs={4: b"\x04" * 32, 8: init_data_register(INIT_DATA)})


@pytest.fixture(scope="module")
def platform() -> SnpPlatform:
    return SnpPlatform.create(NOW, b"\x44" * 64, rsa_bits=2048)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki.create(NOW, bytes)


def _on_snp(platform: SnpPlatform, tpm: SimulatedTpm, **changes: Any) -> Claims:
    report = changes.get("report") or platform.report(Guest(MEASUREMENT, tpm.hardware_data()))
    quote = changes.get("quote") or tpm.azure_snp(NONCE, report, platform.signer.public_bytes(Encoding.DER))
    collateral = {"chain": platform.collateral()["chain"]}
    evidence = Evidence(EvidenceKind.AZ_SNP, quote, collateral, changes.get("init_data"))
    return verify_evidence(evidence, TrustRoots(frozenset({platform.root_sha256})), NOW)


def _on_tdx(pki: Pki, tpm: SimulatedTpm, report_data: bytes | None = None) -> Claims:
    enclave = QuotingEnclave(pki, EvidenceKind.TDX, bytes)
    td_quote = enclave.quote(td_report(MEASUREMENT, bytes(48), report_data or tpm.hardware_data()))
    collateral = make_collateral(pki, EvidenceKind.TDX, NOW)
    evidence = Evidence(EvidenceKind.AZ_TDX, tpm.azure_tdx(NONCE, td_quote), collateral)
    return verify_evidence(evidence, TrustRoots(frozenset({pki.root_sha256})), NOW)


def test_a_recorded_vm_verifies_up_to_amds_root(testdata: Path) -> None:
    quote = (testdata / "vectors/evidence/AZVTPM_snp_evidence-v2.json").read_bytes()
    product = json.loads(quote)["vcek"]
    name = "milan" if b"Milan" in base64.urlsafe_b64decode(product) else "genoa"
    pem = (testdata / f"vectors/amd/{name}_ask_ark_asvk.pem").read_text()
    ask, ark = pem.split("-----END CERTIFICATE-----\n")[:2]
    chain = "".join(f"{each}-----END CERTIFICATE-----\n" for each in (ask, ark))
    evidence = Evidence(EvidenceKind.AZ_SNP, quote, {"chain": chain})
    claims = verify_evidence(evidence, TrustRoots(), RECORDED)
    assert (claims.kind, claims.anchor) == (EvidenceKind.AZ_SNP, Anchor.AMD)
    assert claims.product == name.capitalize()
    assert len(claims.pcrs) == 24
    assert claims.pcrs[7].startswith("f014e5cbfa297ee7")
    assert claims.report_data.hex().startswith("982f5c6e45df0ed3")
    assert claims.report_data[48:] == bytes(16)
    assert not claims.debug
    with pytest.raises(EvidenceError, match="evidence-untrusted-root"):
        verify_evidence(evidence, TrustRoots(amd=False), RECORDED)
    assert verify_evidence(Evidence(EvidenceKind.AZ_SNP, quote), TrustRoots(), RECORDED) == claims


def test_a_vm_on_snp_verifies(platform: SnpPlatform, tpm: SimulatedTpm) -> None:
    claims = _on_snp(platform, tpm, init_data=INIT_DATA)
    assert (claims.kind, claims.anchor, claims.product) == (EvidenceKind.AZ_SNP, Anchor.SIMULATED, "Milan")
    assert claims.measurement == MEASUREMENT.hex()
    assert claims.report_data == NONCE.ljust(64, b"\0")
    assert claims.init_data_digest == initdata.digest(INIT_DATA)
    assert claims.pcrs[4] == "04" * 32
    assert claims.to_json()["pcrs"]["4"] == "04" * 32
    assert _on_snp(platform, tpm).init_data_digest == bytes(48)


def test_a_vm_on_tdx_verifies(pki: Pki, tpm: SimulatedTpm) -> None:
    claims = _on_tdx(pki, tpm)
    assert (claims.kind, claims.anchor) == (EvidenceKind.AZ_TDX, Anchor.SIMULATED)
    assert (claims.measurement, claims.tcb_status) == (MEASUREMENT.hex(), "UpToDate")
    assert claims.report_data == NONCE.ljust(64, b"\0")
    assert claims.pcrs[4] == "04" * 32


def test_hardware_evidence_of_another_paravisor_is_refused(pki: Pki, tpm: SimulatedTpm) -> None:
    """The TD's quote is good, and binds another TPM's key."""
    with pytest.raises(EvidenceError, match="evidence-binding"):
        _on_tdx(pki, tpm, SimulatedTpm().hardware_data())


def test_a_report_of_another_paravisor_is_refused(platform: SnpPlatform, tpm: SimulatedTpm) -> None:
    report = platform.report(Guest(MEASUREMENT, SimulatedTpm().hardware_data()))
    with pytest.raises(EvidenceError, match="evidence-binding"):
        _on_snp(platform, tpm, report=report)


def test_a_report_that_the_hardware_did_not_sign_is_refused(platform: SnpPlatform, tpm: SimulatedTpm) -> None:
    report = bytearray(platform.report(Guest(MEASUREMENT, tpm.hardware_data())))
    report[0x90] ^= 1  # the measurement
    with pytest.raises(EvidenceError, match="evidence-signature"):
        _on_snp(platform, tpm, report=bytes(report))


def test_another_value_of_a_register_is_refused(platform: SnpPlatform, tpm: SimulatedTpm) -> None:
    report = platform.report(Guest(MEASUREMENT, tpm.hardware_data()))
    quote = json.loads(tpm.azure_snp(NONCE, report, platform.signer.public_bytes(Encoding.DER)))
    quote["tpm_quote"]["pcrs"][4] = "05" * 32
    with pytest.raises(EvidenceError, match="evidence-binding"):
        _on_snp(platform, tpm, quote=json.dumps(quote).encode())


def test_a_quote_by_another_tpm_is_refused(platform: SnpPlatform, tpm: SimulatedTpm) -> None:
    report = platform.report(Guest(MEASUREMENT, tpm.hardware_data()))
    vcek = platform.signer.public_bytes(Encoding.DER)
    quote = json.loads(tpm.azure_snp(NONCE, report, vcek))
    stranger = SimulatedTpm(pcrs=tpm.pcrs)
    quote["tpm_quote"] = json.loads(stranger.azure_snp(NONCE, report, vcek))["tpm_quote"]
    with pytest.raises(EvidenceError, match="evidence-signature"):
        _on_snp(platform, tpm, quote=json.dumps(quote).encode())


def test_init_data_that_was_not_measured_is_refused(platform: SnpPlatform, tpm: SimulatedTpm) -> None:
    with pytest.raises(EvidenceError, match=r"PCR 8.*evidence-init-data"):
        _on_snp(platform, tpm, init_data=b"version = 2")


def test_the_evidence_of_the_other_hardware_is_refused(
    platform: SnpPlatform, pki: Pki, tpm: SimulatedTpm
) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        _on_snp(platform, tpm, quote=tpm.azure_tdx(NONCE, b"quote"))
    snp = tpm.azure_snp(NONCE, platform.report(Guest(MEASUREMENT, tpm.hardware_data())), b"vcek")
    collateral = make_collateral(pki, EvidenceKind.TDX, NOW)
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        verify_evidence(Evidence(EvidenceKind.AZ_TDX, snp, collateral), TrustRoots(), NOW)


def test_on_tdx_nothing_verifies_without_collateral(tpm: SimulatedTpm) -> None:
    with pytest.raises(EvidenceError, match="evidence-no-collateral"):
        verify_evidence(Evidence(EvidenceKind.AZ_TDX, tpm.azure_tdx(NONCE, b"quote")), TrustRoots(), NOW)


def test_on_snp_only_amds_own_authorities_are_known(platform: SnpPlatform, tpm: SimulatedTpm) -> None:
    report = platform.report(Guest(MEASUREMENT, tpm.hardware_data()))
    quote = tpm.azure_snp(NONCE, report, platform.signer.public_bytes(Encoding.DER))
    roots = TrustRoots(frozenset({platform.root_sha256}))
    with pytest.raises(EvidenceError, match=r"issuer.*evidence-chain"):
        verify_evidence(Evidence(EvidenceKind.AZ_SNP, quote), roots, NOW)
