"""Intel's own verification library on the cases of SGX: both accept, and both refuse."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ssl
from typing import Any

import pytest

from strongroom.attestation.evidence import Evidence
from strongroom.conformance.case import Case

qvl = pytest.importorskip("sgx_dcap_quote_verify", reason="Intel's library has a wheel for Python 3.11 only")

# What Intel's library is not asked: the policy, the init-data, and debug enclaves.
OURS = ("policy-", "evidence-init-data", "evidence-debug")
# It leaves the level of the platform to the caller, as our policy does.
LEVELS = {
    "STATUS_OK",
    "STATUS_TCB_SW_HARDENING_NEEDED",
    "STATUS_TCB_CONFIGURATION_NEEDED",
    "STATUS_TCB_OUT_OF_DATE",
}


def _signed(parts: Any, name: str, member: str) -> str:
    return f'{{"{member}":{parts[name]},"signature":"{parts[name + "_signature"]}"}}'


def _pem_crl(der: str) -> str:
    body = base64.encodebytes(bytes.fromhex(der)).decode()
    return f"-----BEGIN X509 CRL-----\n{body}-----END X509 CRL-----\n"


def _intel_accepts(case: Case) -> bool:
    evidence = Evidence.from_json(case.members["evidence"])
    parts = evidence.collateral
    if parts is None:
        return False
    end = "-----END CERTIFICATE-----\n"
    chain = evidence.quote[evidence.quote.find(b"-----BEGIN") :].rstrip(b"\0").decode("ascii", "replace")
    certificates = [f"{each}{end}" for each in chain.split(end)[:-1]]
    if len(certificates) != 3:
        return False
    pck, platform_ca, root = certificates
    if hashlib.sha256(ssl.PEM_cert_to_DER_cert(root)).hexdigest() not in case.members["policy"]:
        return False  # its caller says whom it trusts
    at = case.members["at"]
    if at < 0:
        return False
    try:
        result = qvl.verify(
            trusted_root_ca_certificate=root,
            pck_certificate=pck,
            pck_signing_chain=platform_ca + root,
            root_ca_crl=_pem_crl(parts["root_ca_crl"]),
            intermediate_ca_crl=_pem_crl(parts["pck_crl"]),
            tcb_info=_signed(parts, "tcb_info", "tcbInfo"),
            tcb_signing_chain=parts["tcb_info_issuer_chain"],
            quote=evidence.quote,
            qe_identity=_signed(parts, "qe_identity", "enclaveIdentity"),
            expiration_date=datetime.datetime.fromtimestamp(at, datetime.UTC).replace(tzinfo=None),
        )
    except (ValueError, RuntimeError):
        return False
    return (
        result.pck_certificate_status.name == "STATUS_OK"
        and result.tcb_info_status.name == "STATUS_OK"
        and result.qe_identity_status.name == "STATUS_OK"
        and result.quote_status.name in LEVELS
    )


def test_intels_library_agrees_on_every_case_of_sgx(cases: list[Case]) -> None:
    asked = [case for case in cases if case.name.startswith("sgx/") and case.type == "appraisal"]
    differing = []
    for case in asked:
        expected = case.expected == "accepted" or case.expected.startswith(OURS)
        if _intel_accepts(case) != expected:
            differing.append((case.name, case.expected))
    assert differing == []
    assert sum(not case.expected.startswith((*OURS, "accepted")) for case in asked) >= 30
