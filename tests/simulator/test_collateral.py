"""Simulated collateral: its validity, its statements, and that nothing in it can be changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from strongroom.attestation.evidence import DCAP_COLLATERAL, DCAP_KINDS, EvidenceKind
from strongroom_simulator.collateral import BACKDATE, VALIDITY, make_collateral
from strongroom_simulator.pki import Pki
from strongroom_simulator.quotes import QuotingEnclave, enclave_report, td_report

Verify = Callable[..., dict[str, Any]]


@pytest.fixture(params=DCAP_KINDS, scope="module")
def kind(request: pytest.FixtureRequest) -> EvidenceKind:
    return EvidenceKind(request.param)


@pytest.fixture(scope="module")
def quote(pki: Pki, kind: EvidenceKind) -> bytes:
    sgx = kind is EvidenceKind.SGX
    body = enclave_report(bytes(32), b"", bytes(64)) if sgx else td_report(bytes(48), b"", bytes(64))
    return QuotingEnclave(pki, kind, os.urandom).quote(body)


def test_has_the_parts_of_version_3(pki: Pki, kind: EvidenceKind, now: int) -> None:
    collateral = make_collateral(pki, kind, now)
    assert collateral.keys() == DCAP_COLLATERAL
    assert json.loads(collateral["tcb_info"])["id"] == kind.upper()


def test_is_valid_for_30_days(pki: Pki, kind: EvidenceKind, quote: bytes, verify: Verify, now: int) -> None:
    collateral = make_collateral(pki, kind, now)
    for time in (now - BACKDATE, now, now + VALIDITY - 1):
        claims = verify(quote, collateral, now=time)
        assert claims["earliest_expiration_date"] == now + VALIDITY == now + 30 * 86400
    with pytest.raises(ValueError, match=r"(?i)expired"):
        verify(quote, collateral, now=now + VALIDITY + 1)
    with pytest.raises(ValueError, match="future"):
        verify(quote, collateral, now=now - BACKDATE - 1)


@pytest.mark.parametrize("status", ["SWHardeningNeeded", "ConfigurationNeeded", "OutOfDate"])
def test_states_status_and_advisories(
    pki: Pki, kind: EvidenceKind, quote: bytes, verify: Verify, now: int, status: str
) -> None:
    collateral = make_collateral(pki, kind, now, status=status, advisories=["SIMULATED-SA-7"])
    tcb = verify(quote, collateral)["tcb"]
    assert (tcb["status"], tcb["advisory_ids"]) == (status, ["SIMULATED-SA-7"])


def test_a_revoked_level_is_refused(
    pki: Pki, kind: EvidenceKind, quote: bytes, verify: Verify, now: int
) -> None:
    with pytest.raises(ValueError, match="Revoked"):
        verify(quote, make_collateral(pki, kind, now, status="Revoked"))


def test_a_revoked_platform_is_refused(
    pki: Pki, kind: EvidenceKind, quote: bytes, verify: Verify, now: int
) -> None:
    other = make_collateral(pki, kind, now, revoked=[pki.tcb_signing.certificate.serial_number])
    assert verify(quote, other)
    with pytest.raises(ValueError, match="certificate chain"):
        verify(quote, make_collateral(pki, kind, now, revoked=[pki.pck.certificate.serial_number]))


@pytest.mark.parametrize(
    "name",
    ["tcb_info", "qe_identity", "tcb_info_signature", "qe_identity_signature", "pck_crl", "root_ca_crl"],
)
def test_every_signed_part_is_checked(
    pki: Pki, kind: EvidenceKind, quote: bytes, verify: Verify, now: int, name: str
) -> None:
    collateral = make_collateral(pki, kind, now)
    text = collateral[name]
    middle = len(text) * 3 // 4
    changed = text[:middle] + ("1" if text[middle] != "1" else "2") + text[middle + 1 :]
    assert verify(quote, collateral)
    with pytest.raises(ValueError, match=r"."):
        verify(quote, collateral | {name: changed})


def test_the_other_kinds_collateral_is_refused(
    pki: Pki, kind: EvidenceKind, quote: bytes, verify: Verify, now: int
) -> None:
    (other,) = set(DCAP_KINDS) - {kind}
    with pytest.raises(ValueError, match=r"."):
        verify(quote, make_collateral(pki, other, now))
