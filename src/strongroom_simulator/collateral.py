"""Collateral: what the vendor states about platforms, in the form of Intel's provisioning service, version 4.

TCB info and QE identity are signed as JSON text, so the text is made once and never encoded again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.evidence import EvidenceKind
from strongroom_simulator.pki import CPU_SVN, FMSPC, PCE_ID, PCE_SVN, Holder, Pki, pem, sign
from strongroom_simulator.quotes import QE_MR_SIGNER, QE_PRODUCT, QE_SVN, TEE_TCB_SVN

VALIDITY: Final = 30 * 86400
"""Seconds for which collateral can be used, as with Intel's."""

BACKDATE: Final = 3600
"""Seconds by which collateral is dated back, for relying parties whose clock is slow."""

_EVALUATION: Final = 17
_OLD: Final = "2020-01-01T00:00:00Z"
_QE_NAME: Final = {EvidenceKind.SGX: "QE", EvidenceKind.TDX: "TD_QE"}


def make_collateral(
    pki: Pki,
    kind: EvidenceKind,
    issued: int,
    *,
    status: str = "UpToDate",
    advisories: Sequence[str] = (),
    revoked: Collection[int] = (),
) -> dict[str, str]:
    """Collateral for the one platform, usable for 30 days.

    Args:
        pki: Keys of the vendor.
        kind: `SGX` or `TDX`.
        issued: Unix time of issue.
        status: TCB status of the platform.
        advisories: Security advisories that apply to it.
        revoked: Serial numbers of revoked PCK certificates.
    """
    start = datetime.fromtimestamp(issued - BACKDATE, UTC)
    end = datetime.fromtimestamp(issued, UTC) + timedelta(seconds=VALIDITY)
    period = {"issueDate": _iso(start), "nextUpdate": _iso(end)}
    tcb_info = _compact(_tcb_info(kind, period, status, advisories))
    qe_identity = _compact(_qe_identity(kind, period))
    signing_chain = pem(pki.tcb_signing, pki.root)
    return {
        "pck_crl_issuer_chain": pem(pki.platform_ca, pki.root),
        "root_ca_crl": _crl(pki.root, (), start, end).hex(),
        "pck_crl": _crl(pki.platform_ca, revoked, start, end).hex(),
        "tcb_info_issuer_chain": signing_chain,
        "tcb_info": tcb_info,
        "tcb_info_signature": sign(pki.tcb_signing.key, tcb_info.encode()).hex(),
        "qe_identity_issuer_chain": signing_chain,
        "qe_identity": qe_identity,
        "qe_identity_signature": sign(pki.tcb_signing.key, qe_identity.encode()).hex(),
    }


def _tcb_info(
    kind: EvidenceKind, period: dict[str, str], status: str, advisories: Sequence[str]
) -> dict[str, Any]:
    current = _tcb(kind, CPU_SVN, TEE_TCB_SVN, PCE_SVN)
    lowest = _tcb(kind, bytes(16), bytes(16), 0)
    level: dict[str, Any] = {"tcb": current, "tcbDate": period["issueDate"], "tcbStatus": status}
    if advisories:
        level["advisoryIDs"] = list(advisories)
    old = {"tcb": lowest, "tcbDate": _OLD, "tcbStatus": "OutOfDate", "advisoryIDs": ["SIMULATED-SA-00001"]}
    info = {
        "id": kind.upper(),
        "version": 3,
        **period,
        "fmspc": FMSPC.hex().upper(),
        "pceId": PCE_ID.hex().upper(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": _EVALUATION,
    }
    if kind is EvidenceKind.TDX:
        info |= _tdx_module(period)
    return info | {"tcbLevels": [level, old]}


def _tcb(kind: EvidenceKind, cpu_svn: bytes, tee_svn: bytes, pce_svn: int) -> dict[str, Any]:
    tcb: dict[str, Any] = {"sgxtcbcomponents": [{"svn": svn} for svn in cpu_svn]}
    if kind is EvidenceKind.TDX:
        # The second component is the module's version; its level stands in the module's identity.
        tcb["tdxtcbcomponents"] = [{"svn": 0 if i == 1 else svn} for i, svn in enumerate(tee_svn)]
    return tcb | {"pcesvn": pce_svn}


def _tdx_module(period: dict[str, str]) -> dict[str, Any]:
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    level = {"tcb": {"isvsvn": 2}, "tcbDate": period["issueDate"], "tcbStatus": "UpToDate"}
    identity = {"id": f"TDX_{TEE_TCB_SVN[1]:02}", **module, "tcbLevels": [level]}
    return {"tdxModule": module, "tdxModuleIdentities": [identity]}


def _qe_identity(kind: EvidenceKind, period: dict[str, str]) -> dict[str, Any]:
    current = {"tcb": {"isvsvn": QE_SVN}, "tcbDate": period["issueDate"], "tcbStatus": "UpToDate"}
    old = {
        "tcb": {"isvsvn": 1},
        "tcbDate": _OLD,
        "tcbStatus": "OutOfDate",
        "advisoryIDs": ["SIMULATED-SA-00002"],
    }
    return {
        "id": _QE_NAME[kind],
        "version": 2,
        **period,
        "tcbEvaluationDataNumber": _EVALUATION,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_MR_SIGNER.hex().upper(),
        "isvprodid": QE_PRODUCT[kind],
        "tcbLevels": [current, old],
    }


def _crl(issuer: Holder, revoked: Collection[int], start: datetime, end: datetime) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(start)
        .next_update(end)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _iso(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
