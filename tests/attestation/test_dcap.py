"""The root at the end of an issuer chain: found in linear time, bounded, and only where it ends the chain."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation import sgx, tdx
from strongroom.attestation.claims import Anchor
from strongroom.attestation.dcap import MAX_CERTIFICATE, choose_root, verify_quote
from strongroom.attestation.evidence import MAX_COLLATERAL, Evidence, EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.errors import EvidenceError
from strongroom_simulator.collateral import make_collateral
from strongroom_simulator.pki import Pki
from strongroom_simulator.pki import pem as pem_of
from strongroom_simulator.quotes import QuotingEnclave, enclave_report, td_report

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
DER = b"\x30\x82" + bytes(range(256))
ROOTS = TrustRoots(simulated=frozenset({hashlib.sha256(DER).hexdigest()}), intel=False)


def pem(der: bytes) -> str:
    return f"{BEGIN}\n{base64.encodebytes(der).decode()}{END}\n"


NOW = 1_800_000_000


@pytest.mark.parametrize("change", ["issuer", "signature", "nothing"])
def test_a_pinned_root_must_have_signed_itself(change: str) -> None:
    """Under a root that names another issuer, dcap-qvl ends the process: a panic in it is an abort."""
    pki = Pki.create(NOW, os.urandom)
    quote = QuotingEnclave(pki, EvidenceKind.SGX, os.urandom).quote(
        enclave_report(bytes(32), bytes(64), bytes(64))
    )
    collateral = make_collateral(pki, EvidenceKind.SGX, NOW)
    root = pki.root.certificate.public_bytes(Encoding.DER)
    if change == "issuer":
        root = root.replace(b"SIMULATED SGX Root", b"SIMULATED SGX Toor", 1)
        assert b"SIMULATED SGX Root" in root
    elif change == "signature":
        root = root[:-1] + bytes([root[-1] ^ 1])
    collateral["tcb_info_issuer_chain"] = pem_of(pki.tcb_signing) + pem(root)
    roots = TrustRoots(simulated=frozenset({hashlib.sha256(root).hexdigest()}))
    evidence = Evidence(EvidenceKind.SGX, quote, collateral)
    if change == "nothing":
        assert verify_quote(evidence, roots, NOW).anchor is Anchor.SIMULATED
    else:
        with pytest.raises(EvidenceError, match="evidence-chain"):
            verify_quote(evidence, roots, NOW)


def simulated(kind: EvidenceKind, report: bytes) -> tuple[Evidence, TrustRoots]:
    """A quote over this report, and the root up to which it verifies."""
    pki = Pki.create(NOW, os.urandom)
    quote = QuotingEnclave(pki, kind, os.urandom).quote(report)
    evidence = Evidence(kind, quote, make_collateral(pki, kind, NOW))
    return evidence, TrustRoots(simulated=frozenset({pki.root_sha256}))


def test_a_td_has_no_security_version_of_its_own() -> None:
    evidence, roots = simulated(EvidenceKind.TDX, td_report(bytes(48), bytes(48), bytes(64)))
    claims = tdx.verify(evidence, roots, NOW)
    assert (claims.svn, claims.product_id, claims.debug) == (0, 0, False)


@pytest.mark.parametrize("other", [0, 0x400, 0x1000])
def test_without_key_separation_there_is_no_config_id(other: int) -> None:
    """Whatever other flags are set, also those above it."""
    init_64bit = 0x05
    report = bytearray(enclave_report(bytes(32), b"", bytes(64), flags=init_64bit | other))
    report[192:256] = b"\x11" * 64  # where CONFIGID would be
    evidence, roots = simulated(EvidenceKind.SGX, bytes(report))
    assert sgx.verify(evidence, roots, NOW).init_data_digest == bytes(48)


def test_all_vendors_are_trusted_unless_it_is_said_otherwise() -> None:
    roots = TrustRoots()
    assert (roots.intel, roots.amd, roots.aws, roots.nvidia) == (True,) * 4
    assert not roots.simulated


@pytest.mark.parametrize(
    ("roots", "expected"),
    [
        (TrustRoots(simulated=frozenset({"bb" * 32, "aa" * 32}), intel=False),
         f"sha256:{'aa' * 32} or sha256:{'bb' * 32}"),
        (TrustRoots(), "Intel's"),
        (TrustRoots(intel=False), "none"),
    ],
)  # fmt: skip
def test_a_refused_root_is_named_with_those_that_are_trusted(roots: TrustRoots, expected: str) -> None:
    evidence, _ = simulated(EvidenceKind.SGX, enclave_report(bytes(32), bytes(64), bytes(64)))
    with pytest.raises(EvidenceError) as caught:
        verify_quote(evidence, roots, NOW)
    assert (caught.value.code, caught.value.expected) == ("evidence-untrusted-root", expected)


@pytest.mark.parametrize("tail", ["", "\n", "\0", " \r\n\t\0 \n", "\n\n\0\0"])
def test_the_last_certificate_counts(tail: str) -> None:
    assert choose_root(pem(b"leaf") + pem(DER) + tail, ROOTS) == (Anchor.SIMULATED, DER)


@pytest.mark.parametrize(
    "chain",
    [
        "",
        END,
        BEGIN,
        END + BEGIN,
        BEGIN + END,
        f"{BEGIN}\n \n{END}",
        BEGIN + "-----END CERTIFICATE-----"[5:],
        pem(DER) + "x",
        pem(DER).replace("MIIA", "MII-"),
        pem(DER)[:60] + "\0" + pem(DER)[60:],
        f"{BEGIN}\u00e9{END}",
        f"{BEGIN}AAA{END}",
        pem(DER).strip().removesuffix(END) + "-" * len(END),  # the root, and no end
        "A" * (len(BEGIN) - 1) + pem(DER).strip().removeprefix(BEGIN),  # the root, and no begin
    ],
)
def test_what_is_not_a_chain_is_refused(chain: str) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        choose_root(chain, ROOTS)


@pytest.mark.parametrize("now", [-1, 2**40 + 1, 2**63, 2**64])
def test_a_time_out_of_range_is_refused(
    vector: Callable[[str], tuple[Evidence, int]], code_of: Callable[..., str | None], now: int
) -> None:
    """The library would not refuse it, but fail."""
    evidence, _ = vector("SGX_v3_00A067110000")
    assert code_of(verify_quote, evidence, TrustRoots(), now) == "evidence-expired"


def test_a_certificate_is_bounded() -> None:
    room = MAX_CERTIFICATE - len(pem(DER)) + len(BEGIN) + len(END) + 1
    assert choose_root(f"{BEGIN}{' ' * room}{pem(DER)[len(BEGIN) :]}", ROOTS)[1] == DER
    with pytest.raises(EvidenceError, match="the root"):
        choose_root(f"{BEGIN}{' ' * (room + 1)}{pem(DER)[len(BEGIN) :]}", ROOTS)


@pytest.mark.parametrize(
    "part", [" ", "\0", " \0", BEGIN, END, BEGIN + "A", f"{END} ", f"{BEGIN}A{END} ", f"{BEGIN}{END}\0 "]
)
@pytest.mark.parametrize("end", ["x", " x", f"{BEGIN}A{END}", ""])
def test_takes_linear_time_before_anything_is_verified(part: str, end: str) -> None:
    """512 KiB, the most that collateral may have; with a backtracking search this took minutes."""
    chain = part * (MAX_COLLATERAL // len(part)) + end
    begun = time.process_time()
    with pytest.raises(EvidenceError):
        choose_root(chain, ROOTS)
    with pytest.raises(EvidenceError):
        choose_root(f"{pem(DER)}{chain}x", ROOTS)
    assert time.process_time() - begun < 1
