"""Evidence that lost its collateral gets it back, and then verifies with the production verifiers."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from ssl import DER_cert_to_PEM_cert

import pytest

from collateral_rig import DAY, NOW, CollateralServer, Simulated, bare, give, serve
from strongroom.attestation.collateral.complete import complete, items_of, renew_all
from strongroom.attestation.collateral.needs import AmdItem, VcekItem, needs
from strongroom.attestation.collateral.source import CollateralSource, open_source
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.snp_report import SigningKey, SnpReport
from strongroom.attestation.verify import verify_evidence
from strongroom.errors import StrongroomError
from strongroom_simulator.quotes import QuotingEnclave, td_report
from strongroom_simulator.tpm import SimulatedTpm

Vector = Callable[[str], tuple[Evidence, int]]
Code = Callable[..., str | None]
REAL = (
    "SGX_v3_00606A000000_133e2998",
    "SGX_v3_00606A000000_cef42f35",
    "SGX_v3_00A067110000",
    "TDX_v4_00806F050000",
    "TDX_v4_00A06D080000",
    "TDX_v4_B0C06F000000",
    "TDX_v5_90C06F000000",
)


def _roots(simulated: Simulated) -> TrustRoots:
    return TrustRoots(simulated=frozenset({simulated.pki.root_sha256, simulated.snp.root_sha256}))


def _snp(testdata: Path, name: str) -> tuple[Evidence, int]:
    vector = json.loads((testdata / f"vectors/evidence/{name}.json").read_text())
    pem = {key: DER_cert_to_PEM_cert(base64.b64decode(vector[key])) for key in ("ek", "ask", "ark")}
    collateral = {"vek": pem["ek"], "chain": pem["ask"] + pem["ark"]}
    return Evidence(EvidenceKind.SNP, base64.b64decode(vector["report"]), collateral), vector["now"]


@pytest.mark.parametrize("name", REAL)
def test_real_quotes_verify_with_what_a_pccs_says(
    name: str, vector: Vector, server: CollateralServer, source: CollateralSource
) -> None:
    evidence, now = vector(name)
    (item,) = serve(server, evidence)
    assert item.name.split("-")[1] == name.split("_")[2].lower()
    completed = complete(bare(evidence), source, now)
    # To the byte: signatures are over the text.
    assert completed == evidence
    assert verify_evidence(completed, TrustRoots(), now) == verify_evidence(evidence, TrustRoots(), now)


def test_a_second_quote_of_the_family_asks_nobody(
    vector: Vector, server: CollateralServer, source: CollateralSource
) -> None:
    evidence, now = vector("SGX_v3_00606A000000_133e2998")
    other, _ = vector("SGX_v3_00606A000000_cef42f35")
    serve(server, evidence)
    complete(bare(evidence), source, now)
    asked = list(server.asked)
    assert len(asked) == 4
    complete(bare(other), source, now)
    assert server.asked == asked


def test_a_filled_folder_needs_no_network(
    vector: Vector, server: CollateralServer, source: CollateralSource
) -> None:
    evidence, now = vector("TDX_v4_B0C06F000000")
    serve(server, evidence)
    complete(bare(evidence), source, now)
    server.stop()
    offline = open_source(source.folder.path)
    completed = complete(bare(evidence), offline, now)
    assert verify_evidence(completed, TrustRoots(), now).tcb_status == "UpToDate"


def test_without_network_and_folder_it_is_refused(vector: Vector, tmp_path: Path, code_of: Code) -> None:
    evidence, now = vector("TDX_v4_B0C06F000000")
    assert code_of(complete, bare(evidence), open_source(tmp_path), now) == "collateral-missing"


def test_what_comes_along_wins(
    simulated: Simulated, server: CollateralServer, source: CollateralSource
) -> None:
    evidence = simulated.evidence()
    give(server, needs(evidence.kind, evidence.quote)[0], simulated.parts(now=NOW + DAY))
    assert complete(evidence, source, NOW + DAY) is evidence
    assert server.asked == []


def test_what_has_expired_is_replaced(
    simulated: Simulated, server: CollateralServer, source: CollateralSource, code_of: Code
) -> None:
    evidence, now = simulated.evidence(), NOW + 31 * DAY
    give(server, needs(evidence.kind, evidence.quote)[0], simulated.parts(now=now))
    assert code_of(verify_evidence, evidence, _roots(simulated), now) == "evidence-expired"
    completed = complete(evidence, source, now)
    assert verify_evidence(completed, _roots(simulated), now).tcb_status == "UpToDate"


def test_what_is_not_valid_yet_is_replaced(
    simulated: Simulated, server: CollateralServer, source: CollateralSource
) -> None:
    evidence = replace(simulated.evidence(), collateral=simulated.parts(now=NOW + 10 * DAY))
    give(server, needs(evidence.kind, evidence.quote)[0], simulated.parts())
    assert complete(evidence, source, NOW).collateral != evidence.collateral


@pytest.mark.parametrize("kind", [EvidenceKind.SGX, EvidenceKind.TDX])
def test_garbled_collateral_is_replaced(
    kind: EvidenceKind, simulated: Simulated, server: CollateralServer, source: CollateralSource
) -> None:
    evidence = simulated.evidence(kind)
    serve(server, evidence)
    garbled = replace(evidence, collateral={**(evidence.collateral or {}), "tcb_info": "{"})
    completed = complete(garbled, source, NOW)
    assert completed == evidence
    verify_evidence(completed, _roots(simulated), NOW)


def test_kinds_without_collateral_stay_as_they_are(
    server: CollateralServer, source: CollateralSource
) -> None:
    for kind in (EvidenceKind.NITRO, EvidenceKind.TPM):
        evidence = Evidence(kind, b"document")
        assert complete(evidence, source, NOW) is evidence
        assert renew_all(evidence, source, NOW) == {}
    assert server.asked == []


def test_snp_gets_certificate_authorities_and_list(
    simulated: Simulated, server: CollateralServer, source: CollateralSource
) -> None:
    evidence = simulated.snp_evidence()
    items = serve(server, evidence)
    completed = complete(bare(evidence), source, NOW)
    claims = verify_evidence(completed, _roots(simulated), NOW)
    assert claims.revocation_checked
    assert claims.product == "Milan"
    assert [item.name for item in items] == [
        f"snp-milan-{'44' * 64}-{SnpReport.parse(evidence.quote).reported_tcb.hex()}",
        "snp-milan-vcek",
    ]


def test_snp_with_its_certificate_gets_the_list(
    simulated: Simulated, server: CollateralServer, source: CollateralSource
) -> None:
    evidence = simulated.snp_evidence()
    serve(server, evidence)
    assert evidence.collateral is not None
    own = replace(evidence, collateral={"vek": evidence.collateral["vek"]})
    completed = complete(own, source, NOW)
    assert verify_evidence(completed, _roots(simulated), NOW).revocation_checked
    assert sorted(server.asked) == ["/vcek/v1/Milan/cert_chain", "/vcek/v1/Milan/crl"]


def test_snp_whole_asks_nobody(
    simulated: Simulated, server: CollateralServer, source: CollateralSource
) -> None:
    evidence = simulated.snp_evidence()
    assert complete(evidence, source, NOW) is evidence
    assert server.asked == []


def test_snp_without_a_source_of_lists_stays_as_it_is(
    simulated: Simulated, server: CollateralServer, tmp_path: Path
) -> None:
    evidence = replace(simulated.snp_evidence(), collateral=simulated.snp.collateral())
    assert complete(evidence, open_source(tmp_path, pccs=server.url), NOW) is evidence


def test_snp_with_a_source_of_lists_that_fails_is_refused(
    simulated: Simulated, server: CollateralServer, source: CollateralSource, code_of: Code
) -> None:
    evidence = replace(simulated.snp_evidence(), collateral=simulated.snp.collateral())
    server.stop()
    assert code_of(complete, evidence, source, NOW) == "collateral-unreachable"


def test_snp_with_an_expired_list_in_the_folder_is_refused(
    simulated: Simulated, server: CollateralServer, source: CollateralSource, code_of: Code
) -> None:
    evidence = simulated.snp_evidence()
    serve(server, evidence)
    complete(bare(evidence), source, NOW)
    offline, later = open_source(source.folder.path), NOW + 400 * DAY
    own = replace(evidence, collateral=simulated.snp.collateral())
    assert code_of(complete, own, offline, later) == "collateral-missing"


def test_snp_with_an_expired_list_gets_a_new_one(
    simulated: Simulated, server: CollateralServer, source: CollateralSource
) -> None:
    later = NOW + 400 * DAY
    evidence = simulated.snp_evidence()
    assert evidence.collateral is not None
    fresh = {**evidence.collateral, "crl": simulated.snp.revocation_list(later).hex()}
    give(server, needs(evidence.kind, evidence.quote)[0], fresh)
    completed = complete(evidence, source, later)
    assert verify_evidence(completed, _roots(simulated), later).revocation_checked


def test_snp_under_a_root_of_its_own_keeps_its_chain(
    simulated: Simulated, testdata: Path, server: CollateralServer, source: CollateralSource
) -> None:
    """AMD's list says nothing about another vendor's authorities."""
    evidence, _ = _snp(testdata, "SNP_milan_trustee")
    item = AmdItem("Milan", SigningKey.VCEK)
    later = NOW + DAY
    server.serve_authority(item, simulated.snp.collateral()["chain"], simulated.snp.revocation_list(later))
    assert complete(evidence, source, later) is evidence
    assert server.asked  # it was looked for


@pytest.mark.parametrize("name", ["SNP_milan_trustee", "SNP_genoa_azure"])
def test_real_reports_get_their_certificate(
    name: str, testdata: Path, simulated: Simulated, server: CollateralServer, source: CollateralSource
) -> None:
    """AMD's revocation lists are not among the vectors: this is the certificate of the chip alone."""
    evidence, now = _snp(testdata, name)
    assert evidence.collateral is not None
    report = SnpReport.parse(evidence.quote)
    choices = needs(evidence.kind, evidence.quote)
    product = name.split("_")[1].title()
    ((item, _),) = [each for each in choices if isinstance(each[0], VcekItem) and each[0].product == product]
    give(server, (item,), dict(evidence.collateral))
    found = source.find(item, now)
    assert server.asked[-1].startswith(f"/vcek/v1/{product}/{report.chip_id.hex()}?blSPL=")
    completed = replace(evidence, collateral=found)
    assert verify_evidence(completed, TrustRoots(), now).product == product


def test_a_report_that_names_no_product_is_looked_for_in_both(
    simulated: Simulated, server: CollateralServer, source: CollateralSource
) -> None:
    evidence = simulated.snp_evidence(version=2)
    choices = needs(evidence.kind, evidence.quote)
    assert [items[1].name for items in choices] == ["snp-milan-vcek", "snp-genoa-vcek"]
    assert evidence.collateral is not None
    genoa = replace(simulated, snp=simulated.genoa())
    other = genoa.snp_evidence(version=2)
    assert other.collateral is not None
    give(server, needs(other.kind, other.quote)[1], dict(other.collateral))
    completed = complete(bare(other), source, NOW)
    assert (
        verify_evidence(completed, TrustRoots(simulated=frozenset({genoa.snp.root_sha256})), NOW).product
        == "Genoa"
    )
    server.stop()
    offline = open_source(source.folder.path)
    assert complete(bare(other), offline, NOW) == completed


def test_a_vlek_cannot_be_fetched(testdata: Path, source: CollateralSource, code_of: Code) -> None:
    evidence, now = _snp(testdata, "SNP_milan_trustee_vlek")
    assert code_of(complete, bare(evidence), source, now) == "collateral-unavailable"


def test_a_vlek_that_comes_along_gets_the_list_of_its_own_authority(
    testdata: Path, server: CollateralServer, source: CollateralSource
) -> None:
    evidence, now = _snp(testdata, "SNP_milan_trustee_vlek")
    assert [each.name for each in items_of(evidence)[0]] == ["snp-milan-vlek"]
    with pytest.raises(StrongroomError) as caught:
        complete(evidence, source, now)
    assert caught.value.code == "collateral-not-found"
    assert server.asked == ["/vlek/v1/Milan/cert_chain"]


def test_an_azure_vm_gets_the_list(
    testdata: Path, simulated: Simulated, server: CollateralServer, source: CollateralSource
) -> None:
    quote = (testdata / "vectors/evidence/AZVTPM_snp_evidence-v2.json").read_bytes()
    evidence = Evidence(EvidenceKind.AZ_SNP, quote)
    assert [item.name for item in needs(evidence.kind, quote)[0]] == ["snp-milan-vcek"]
    give(server, needs(evidence.kind, quote)[0], {**simulated.snp_evidence().collateral})
    completed = complete(evidence, source, NOW)
    assert completed.collateral is not None
    assert completed.collateral.keys() == {"chain", "crl"}


def test_an_azure_vm_on_tdx_gets_what_its_quote_needs(
    simulated: Simulated, server: CollateralServer, source: CollateralSource
) -> None:
    tpm = SimulatedTpm(pcrs={4: b"\x04" * 32})
    enclave = QuotingEnclave(simulated.pki, EvidenceKind.TDX, os.urandom)
    quote = enclave.quote(td_report(bytes(48), bytes(48), tpm.hardware_data()))
    parts = simulated.parts(EvidenceKind.TDX)
    evidence = Evidence(EvidenceKind.AZ_TDX, tpm.azure_tdx(bytes(32), quote), parts)
    (item,) = serve(server, evidence)
    assert item.name == "tdx-51d000000000-platform"
    completed = complete(bare(evidence), source, NOW)
    assert completed == evidence
    assert verify_evidence(completed, _roots(simulated), NOW).tcb_status == "UpToDate"


def test_a_failure_is_not_taken_for_another_product(
    simulated: Simulated, server: CollateralServer, source: CollateralSource, code_of: Code
) -> None:
    evidence = simulated.snp_evidence(version=2)
    ((vcek, _), _) = needs(evidence.kind, evidence.quote)
    assert isinstance(vcek, VcekItem)
    server.serve_vcek(vcek, b"garbage")
    assert code_of(complete, bare(evidence), source, NOW) == "collateral-answer-invalid"
    assert len(server.asked) == 1


def test_a_folder_is_filled_anew_though_all_is_there(
    simulated: Simulated, server: CollateralServer, source: CollateralSource
) -> None:
    evidence = simulated.evidence()
    (item,) = serve(server, evidence)
    complete(bare(evidence), source, NOW)
    newer = simulated.parts(now=NOW + DAY)
    give(server, (item,), newer)
    assert renew_all(evidence, source, NOW + DAY) == {item: newer}
    assert source.folder.load(item) == newer


def test_a_folder_is_not_filled_without_a_service(
    simulated: Simulated, tmp_path: Path, code_of: Code
) -> None:
    assert code_of(renew_all, simulated.evidence(), open_source(tmp_path), NOW) == "collateral-missing"
