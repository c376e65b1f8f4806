"""Simulated quotes: the production verifier reads them, accepts what is right and refuses what is not."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from typing import Any

import dcap_qvl
import pytest

from strongroom.attestation.evidence import DCAP_KINDS, EvidenceKind
from strongroom_simulator import quotes
from strongroom_simulator.collateral import make_collateral
from strongroom_simulator.errors import SimulatorError
from strongroom_simulator.pki import FMSPC, Pki
from strongroom_simulator.quotes import QuotingEnclave, enclave_report, td_report

Verify = Callable[..., dict[str, Any]]
SGX, TDX = EvidenceKind.SGX, EvidenceKind.TDX
DIGEST = bytes(range(48))
REPORT_DATA = bytes(range(64))


def report(kind: EvidenceKind) -> bytes:
    if kind is SGX:
        return enclave_report(b"E" * 32, DIGEST, REPORT_DATA)
    return td_report(b"T" * 48, DIGEST, REPORT_DATA)


def quote(pki: Pki, kind: EvidenceKind, body: bytes | None = None) -> bytes:
    return QuotingEnclave(pki, kind, os.urandom).quote(body or report(kind))


def test_sgx_quote_verifies_with_every_field(pki: Pki, verify: Verify, now: int) -> None:
    claims = verify(quote(pki, SGX), make_collateral(pki, SGX, now))
    assert claims["tcb"] | {"eval_data_number": 0} == {
        "status": "UpToDate",
        "advisory_ids": [],
        "eval_data_number": 0,
    }
    (found,) = claims["report"].values()
    assert claims["report"].keys() == {"SgxEnclave"}
    assert found["mr_enclave"] == (b"E" * 32).hex()
    assert found["mr_signer"] == quotes.MR_SIGNER.hex()
    assert found["report_data"] == REPORT_DATA.hex()
    assert (found["isv_prod_id"], found["isv_svn"]) == (0, 1)
    assert bytes.fromhex(found["attributes"])[0] == 0x85  # INIT, 64-bit, KSS
    # After MRSIGNER come 32 reserved bytes, then CONFIGID (SDM volume 3D); the verifier takes them as one.
    assert bytes.fromhex(found["reserved3"])[32:96] == DIGEST + bytes(16)


def test_tdx_quote_verifies_with_every_field(pki: Pki, verify: Verify, now: int) -> None:
    claims = verify(quote(pki, TDX), make_collateral(pki, TDX, now))
    assert claims["tcb"]["status"] == "UpToDate"
    found = claims["report"]["TD10"]
    assert found["mr_td"] == (b"T" * 48).hex()
    assert found["mr_config_id"] == DIGEST.hex()
    assert found["report_data"] == REPORT_DATA.hex()
    assert {found[f"rt_mr{number}"] for number in range(4)} == {"00" * 48}


@pytest.mark.parametrize(("kind", "version"), [(SGX, 3), (TDX, 4)])
def test_the_formats_are_the_real_ones(pki: Pki, kind: EvidenceKind, version: int) -> None:
    parsed = dcap_qvl.parse_quote(quote(pki, kind))
    assert parsed.header.version == version
    assert parsed.is_tdx() == (kind is TDX)
    assert bytes.fromhex(parsed.fmspc()) == FMSPC
    assert parsed.ca() == "platform"


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_two_platforms_do_not_verify_each_other(
    pki: Pki, verify: Verify, now: int, kind: EvidenceKind
) -> None:
    other = Pki.create(now, os.urandom)
    with pytest.raises(ValueError, match="Verification failed"):
        verify(quote(other, kind), make_collateral(pki, kind, now))
    with pytest.raises(ValueError, match="Verification failed"):
        verify(quote(other, kind), make_collateral(other, kind, now))  # by the first one's root
    assert verify(quote(other, kind), make_collateral(other, kind, now), by=other)


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_intels_root_refuses_it(pki: Pki, now: int, kind: EvidenceKind) -> None:
    collateral = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(make_collateral(pki, kind, now)))
    with pytest.raises(ValueError, match="Verification failed"):
        dcap_qvl.QuoteVerifier().verify_with_policy(
            quote(pki, kind), collateral, now, dcap_qvl.QuotePolicy.claims_only(now)
        )


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_every_flipped_bit_of_header_and_report_is_refused(
    pki: Pki, verify: Verify, now: int, kind: EvidenceKind
) -> None:
    good, collateral = quote(pki, kind), make_collateral(pki, kind, now)
    signed = 48 + len(report(kind))
    flips = random.Random(5)
    for position in range(signed):
        bad = bytearray(good)
        bad[position] ^= 1 << flips.randrange(8)
        with pytest.raises(ValueError, match=r"."):
            verify(bytes(bad), collateral)


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_debug_is_refused(pki: Pki, verify: Verify, now: int, kind: EvidenceKind) -> None:
    if kind is SGX:
        body = enclave_report(b"E" * 32, DIGEST, REPORT_DATA, flags=0x85 | quotes.SGX_DEBUG)
    else:
        body = td_report(b"T" * 48, DIGEST, REPORT_DATA, attributes=(1 << 28) | quotes.TD_DEBUG)
    with pytest.raises(ValueError, match="Debug"):
        verify(quote(pki, kind, body), make_collateral(pki, kind, now))


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_an_old_quoting_enclave_is_out_of_date(
    pki: Pki, verify: Verify, now: int, kind: EvidenceKind
) -> None:
    old = QuotingEnclave(pki, kind, os.urandom, svn=2).quote(report(kind))
    claims = verify(old, make_collateral(pki, kind, now))
    assert claims["tcb"]["status"] == "OutOfDate"


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (enclave_report, (b"E" * 31, DIGEST, REPORT_DATA)),
        (enclave_report, (b"E" * 48, DIGEST, REPORT_DATA)),
        (enclave_report, (b"E" * 32, b"C" * 65, REPORT_DATA)),
        (enclave_report, (b"E" * 32, DIGEST, b"R" * 63)),
        (td_report, (b"T" * 32, DIGEST, REPORT_DATA)),
        (td_report, (b"T" * 48, b"C" * 49, REPORT_DATA)),
        (td_report, (b"T" * 48, DIGEST, b"R" * 65)),
    ],
)
def test_fields_of_another_size_are_refused(make: Callable[..., bytes], fields: tuple[bytes, ...]) -> None:
    with pytest.raises(SimulatorError, match="simulator-field-size"):
        make(*fields)


def test_a_signer_of_another_size_is_refused() -> None:
    with pytest.raises(SimulatorError, match="simulator-field-size"):
        enclave_report(b"E" * 32, DIGEST, REPORT_DATA, signer=b"short")


def test_reports_have_their_exact_size() -> None:
    assert len(enclave_report(b"E" * 32, b"", REPORT_DATA)) == 384
    assert len(td_report(b"T" * 48, b"", REPORT_DATA)) == 584
