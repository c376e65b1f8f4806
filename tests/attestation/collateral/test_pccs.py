"""Answers of a PCCS in all forms that there are, and those that are none."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from collateral_rig import NOW, SGX, CollateralServer, Reply, Simulated, bare, serve
from mutants import mutants
from strongroom.attestation.certificates import MAX_CRL
from strongroom.attestation.collateral.complete import complete
from strongroom.attestation.collateral.needs import DcapItem
from strongroom.attestation.collateral.pccs import (
    INTEL_PCS,
    INTEL_ROOT_CRL,
    Pccs,
    chain_of,
    crl_hex,
)
from strongroom.attestation.collateral.source import CollateralSource
from strongroom.attestation.collateral.web import Answer, Web
from strongroom.attestation.evidence import EvidenceKind
from strongroom.errors import StrongroomError

TCB = f"{SGX}/tcb"
QE = f"{SGX}/qe/identity"
PCK_CRL = f"{SGX}/pckcrl"
ROOT_CRL = f"{SGX}/rootcacrl"


@pytest.fixture
def item(server: CollateralServer, simulated: Simulated) -> DcapItem:
    (found,) = serve(server, simulated.evidence())
    assert isinstance(found, DcapItem)
    return found


def _code(function: Callable[..., Any], *args: Any) -> str | None:
    try:
        function(*args)
    except StrongroomError as error:
        return error.code
    return None


@pytest.mark.parametrize("suffix", ["", "/", "/sgx/certification/v4", "/sgx/certification/v4/"])
def test_addresses(suffix: str, item: DcapItem, server: CollateralServer, simulated: Simulated) -> None:
    """Configurations of Intel's own library have the longer form."""
    assert Pccs(server.url + suffix, Web()).fetch(item) == simulated.parts()
    assert server.asked == [
        f"{TCB}?fmspc=51d000000000&update=standard",
        f"{QE}?update=standard",
        f"{PCK_CRL}?ca=platform&encoding=der",
        ROOT_CRL,
    ]


def test_tdx_has_paths_of_its_own(server: CollateralServer, simulated: Simulated) -> None:
    evidence = simulated.evidence(EvidenceKind.TDX)
    (item,) = serve(server, evidence)
    assert isinstance(item, DcapItem)
    assert Pccs(server.url, Web()).fetch(item) == evidence.collateral
    assert [path.split("/")[1] for path in server.asked] == ["tdx", "tdx", "sgx", "sgx"]


def test_intels_own_service_has_the_roots_list_elsewhere(
    item: DcapItem, server: CollateralServer, simulated: Simulated
) -> None:
    assert INTEL_ROOT_CRL == "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
    assert Pccs(INTEL_PCS, Web())._root_crl == INTEL_ROOT_CRL
    parts = simulated.parts()
    server.replies["/IntelSGXRootCA.der"] = Reply(bytes.fromhex(parts["root_ca_crl"]))
    del server.replies[ROOT_CRL]
    pccs = Pccs(server.url, Web(), root_crl=f"{server.url}/IntelSGXRootCA.der")
    assert pccs.fetch(item) == parts


def test_the_older_name_of_a_header(item: DcapItem, server: CollateralServer, simulated: Simulated) -> None:
    chain = urllib.parse.quote(simulated.parts()["tcb_info_issuer_chain"])
    server.change(TCB, headers={"SGX-TCB-Info-Issuer-Chain": chain})
    assert Pccs(server.url, Web()).fetch(item) == simulated.parts()


@pytest.mark.parametrize("path", [TCB, QE, PCK_CRL])
def test_a_missing_header(
    path: str, item: DcapItem, server: CollateralServer, source: CollateralSource
) -> None:
    server.change(path, headers={})
    assert _code(source.find, item, NOW) == "collateral-answer-invalid"


@pytest.mark.parametrize("path", [TCB, QE, PCK_CRL])
@pytest.mark.parametrize(
    "value",
    [
        "",
        "-----BEGIN",
        "%",
        "%00",
        urllib.parse.quote("-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"),
    ],
)
def test_a_garbled_chain(
    path: str, value: str, item: DcapItem, server: CollateralServer, source: CollateralSource
) -> None:
    (key,) = [each for each in server.replies if each.startswith(path)]
    (name,) = server.replies[key].headers
    server.change(path, headers={name: value})
    assert _code(source.find, item, NOW) == "collateral-answer-invalid"
    assert source.folder.load(item) is None


@pytest.mark.parametrize("path", [TCB, QE])
@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"tcbInfo":{},"signature":1}', b"\xff", b"[" * 200_000]
)
def test_a_garbled_statement(
    path: str, body: bytes, item: DcapItem, server: CollateralServer, source: CollateralSource
) -> None:
    server.change(path, body=body)
    assert _code(source.find, item, NOW) == "collateral-answer-invalid"


@pytest.mark.parametrize("path", [PCK_CRL, ROOT_CRL])
@pytest.mark.parametrize("body", [b"", b"zz", b"30", b"\x30", b"-----BEGIN X509 CRL-----\n"])
def test_a_garbled_list(
    path: str, body: bytes, item: DcapItem, server: CollateralServer, source: CollateralSource
) -> None:
    server.change(path, body=body)
    assert _code(source.find, item, NOW) == "collateral-answer-invalid"


@pytest.mark.parametrize("path", [TCB, QE, PCK_CRL, ROOT_CRL])
def test_each_answer_is_bounded(
    path: str, item: DcapItem, server: CollateralServer, source: CollateralSource
) -> None:
    server.change(path, body=b" " * (2 * MAX_CRL + 1))
    assert _code(source.find, item, NOW) == "collateral-answer-invalid"


@pytest.mark.parametrize("path", [TCB, QE, PCK_CRL, ROOT_CRL])
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "collateral-not-found"),
        (503, "collateral-unreachable"),
        (302, "collateral-answer-invalid"),
        (401, "collateral-answer-invalid"),
    ],
)
def test_each_answer_has_a_status(
    path: str, status: int, code: str, item: DcapItem, server: CollateralServer, source: CollateralSource
) -> None:
    server.change(path, status=status)
    assert _code(source.find, item, NOW) == code


def test_the_wrong_family_in_the_answer(
    item: DcapItem, server: CollateralServer, simulated: Simulated, source: CollateralSource
) -> None:
    parts = simulated.parts()
    other = parts["tcb_info"].replace("51D000000000", "00606A000000")
    server.serve_dcap(item, {**parts, "tcb_info": other})
    with pytest.raises(StrongroomError) as caught:
        complete(bare(simulated.evidence()), source, NOW)
    assert caught.value.code == "collateral-answer-invalid"
    assert (caught.value.found, caught.value.expected) == ("00606a000000", "51d000000000")


def test_text_is_cut_out_of_the_answer_as_it_is(
    item: DcapItem, server: CollateralServer, simulated: Simulated
) -> None:
    """Members in another order, spaces around and unknown members: the signed text stays what it is."""
    parts = simulated.parts()
    body = (
        f' {{ "signature" : "{parts["tcb_info_signature"]}" , "more":[1], "tcbInfo" : {parts["tcb_info"]} }} '
    )
    server.change(TCB, body=body.encode())
    assert Pccs(server.url, Web()).fetch(item) == parts


@pytest.mark.parametrize("form", ["der", "pem", "hex", "HEX", "json"])
def test_forms_of_a_list(form: str, simulated: Simulated) -> None:
    digits = simulated.parts()["pck_crl"]
    der = bytes.fromhex(digits)
    pem = x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
    forms = {
        "der": der,
        "pem": pem,
        "hex": digits.encode() + b"\n",
        "HEX": digits.upper().encode(),
        "json": f'"{digits}"'.encode(),
    }
    assert crl_hex(Answer("", {}, forms[form])) == digits


def test_a_list_that_fits_no_verifier() -> None:
    assert _code(crl_hex, Answer("", {}, b"\x30" * (MAX_CRL + 1))) == "collateral-answer-invalid"
    assert crl_hex(Answer("", {}, b"\x30" * MAX_CRL)) == "30" * MAX_CRL


@given(st.binary(max_size=200) | st.text("0123456789abcdefABCDEF ", max_size=80).map(str.encode))
def test_bytes_of_all_sorts_as_a_list(body: bytes) -> None:
    code = _code(crl_hex, Answer("", {}, body))
    assert code in {None, "collateral-answer-invalid"}
    if code is None:
        assert bytes.fromhex(crl_hex(Answer("", {}, body)))


@given(st.text(st.characters(codec="latin-1"), max_size=200) | st.text().map(urllib.parse.quote))
def test_any_header(value: str) -> None:
    code = _code(chain_of, Answer("", {"chain": value}, b""), "Chain")
    assert code == "collateral-answer-invalid" or urllib.parse.unquote(value).startswith("-----BEGIN")


@given(st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=500), st.booleans())
def test_chains_come_through_their_encoding(text: str, space: bool) -> None:
    pem = "-----BEGIN CERTIFICATE-----\n" + text
    value = urllib.parse.quote(pem, safe=" /" if space else "")
    assert chain_of(Answer("", {"chain": value}, b""), "Chain") == pem


def test_a_chain_that_is_not_ascii() -> None:
    value = urllib.parse.quote("-----BEGIN CERTIFICATE-----\n\u00e9")
    assert _code(chain_of, Answer("", {"chain": value}, b""), "Chain") == "collateral-answer-invalid"


def test_a_chain_of_many(simulated: Simulated) -> None:
    value = urllib.parse.quote(simulated.parts()["tcb_info_issuer_chain"] * 30)
    assert _code(chain_of, Answer("", {"chain": value}, b""), "Chain") == "collateral-answer-invalid"


def test_mutants_of_a_statement(item: DcapItem, server: CollateralServer, simulated: Simulated) -> None:
    import json

    value = json.loads(server.replies[f"{TCB}?fmspc=51d000000000&update=standard"].body)
    pccs = Pccs(server.url, Web())
    codes = set()
    for body in mutants(value, lambda changed: json.dumps(changed).encode(), 60, 5):
        server.change(TCB, body=body)
        codes.add(_code(pccs.fetch, item))
    assert codes <= {None, "collateral-answer-invalid"}
    assert "collateral-answer-invalid" in codes
