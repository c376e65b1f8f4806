"""Answers of AMD's key distribution service."""

from __future__ import annotations

from collections.abc import Callable
from ssl import PEM_cert_to_DER_cert

import pytest

from collateral_rig import NOW, CollateralServer, Simulated, give
from strongroom.attestation.certificates import MAX_CRL
from strongroom.attestation.collateral.kds import AMD_KDS, Kds, vcek_path
from strongroom.attestation.collateral.needs import AmdItem, VcekItem, needs
from strongroom.attestation.collateral.source import CollateralSource
from strongroom.attestation.collateral.web import Web
from strongroom.attestation.snp_report import SigningKey

Code = Callable[..., str | None]
AUTHORITY = AmdItem("Milan", SigningKey.VCEK)


@pytest.fixture
def vcek(server: CollateralServer, simulated: Simulated) -> VcekItem:
    evidence = simulated.snp_evidence()
    assert evidence.collateral is not None
    ((found, authority),) = needs(evidence.kind, evidence.quote)
    give(server, (found, authority), dict(evidence.collateral))
    assert isinstance(found, VcekItem)
    return found


def test_the_address() -> None:
    assert Kds(AMD_KDS + "/", Web()).url == "https://kdsintf.amd.com"


def test_paths_of_certificates() -> None:
    """AMD 57230, chapter 4; the example is that of a Milan with the places of AMD 56860."""
    tcb = bytes([3, 1, 0, 0, 0, 0, 8, 115])
    chip = bytes(range(64))
    assert vcek_path(VcekItem("Milan", chip, tcb)) == (
        f"/vcek/v1/Milan/{chip.hex()}?blSPL=3&teeSPL=1&snpSPL=8&ucodeSPL=115"
    )
    turin = vcek_path(VcekItem("Turin", chip[:8], bytes([1, 2, 3, 4, 0, 0, 0, 5])))
    assert turin == "/vcek/v1/Turin/0001020304050607?fmcSPL=1&blSPL=2&teeSPL=3&snpSPL=4&ucodeSPL=5"


def test_a_certificate(vcek: VcekItem, server: CollateralServer, simulated: Simulated) -> None:
    found = Kds(server.url, Web()).fetch(vcek)
    assert found.keys() == {"vek"}
    assert PEM_cert_to_DER_cert(found["vek"]) == PEM_cert_to_DER_cert(simulated.snp.collateral()["vek"])


def test_authorities(vcek: VcekItem, server: CollateralServer, simulated: Simulated) -> None:
    found = Kds(server.url, Web()).fetch(AUTHORITY)
    assert found["chain"] == simulated.snp.collateral()["chain"]
    assert server.asked == ["/vcek/v1/Milan/cert_chain", "/vcek/v1/Milan/crl"]


@pytest.mark.parametrize("body", [b"", b"garbage", b"a" * 9000])
def test_a_garbled_certificate(
    body: bytes, vcek: VcekItem, server: CollateralServer, source: CollateralSource, code_of: Code
) -> None:
    server.change("/vcek/v1/Milan/44", body=body)
    assert code_of(source.find, vcek, NOW) == "collateral-answer-invalid"
    assert source.folder.load(vcek) is None


@pytest.mark.parametrize("body", [b"", b"\xff", b"-----BEGIN CERTIFICATE-----\n", b"a" * 40_000])
def test_garbled_authorities(
    body: bytes, vcek: VcekItem, server: CollateralServer, source: CollateralSource, code_of: Code
) -> None:
    server.change("/vcek/v1/Milan/cert_chain", body=body)
    assert code_of(source.find, AUTHORITY, NOW) == "collateral-answer-invalid"


@pytest.mark.parametrize("body", [b"", b"\x30", b"a" * (MAX_CRL + 1)])
def test_a_garbled_list(
    body: bytes, vcek: VcekItem, server: CollateralServer, source: CollateralSource, code_of: Code
) -> None:
    server.change("/vcek/v1/Milan/crl", body=body)
    assert code_of(source.find, AUTHORITY, NOW) == "collateral-answer-invalid"


def test_another_product(
    vcek: VcekItem, server: CollateralServer, simulated: Simulated, source: CollateralSource, code_of: Code
) -> None:
    genoa = simulated.genoa()
    server.change("/vcek/v1/Milan/44", body=PEM_cert_to_DER_cert(genoa.collateral()["vek"]))
    server.change("/vcek/v1/Milan/cert_chain", body=genoa.collateral()["chain"].encode())
    server.change("/vcek/v1/Milan/crl", body=genoa.revocation_list(NOW))
    assert code_of(source.find, vcek, NOW) == "collateral-answer-invalid"
    assert code_of(source.find, AUTHORITY, NOW) == "collateral-answer-invalid"


def test_a_chip_that_amd_does_not_know(source: CollateralSource, code_of: Code) -> None:
    assert code_of(source.find, VcekItem("Milan", bytes(64), bytes(8)), NOW) == "collateral-not-found"


def test_too_many_questions(
    vcek: VcekItem, server: CollateralServer, source: CollateralSource, code_of: Code
) -> None:
    """The service is known to answer so."""
    server.change("/vcek/v1/Milan/44", status=429)
    assert code_of(source.find, vcek, NOW) == "collateral-unreachable"
