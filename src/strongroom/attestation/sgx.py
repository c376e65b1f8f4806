"""SGX: from a verified quote (version 3) to claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from strongroom.attestation import initdata
from strongroom.attestation.claims import Claims
from strongroom.attestation.dcap import verify_quote
from strongroom.attestation.errors import EVIDENCE_INIT_DATA, EVIDENCE_MALFORMED
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.roots import TrustRoots
from strongroom.errors import EvidenceError

_DEBUG: Final = 0x02
_KEY_SEPARATION: Final = 0x80
"""KSS, the key separation and sharing bit: without it CONFIGID does not exist and its place is reserved."""

_CONFIG_ID: Final = slice(32, 96)
"""Within the 96 bytes between MRSIGNER and ISVPRODID."""


def verify(evidence: Evidence, roots: TrustRoots, now: int) -> Claims:
    """Verify an SGX quote, and the init-data if it comes along.

    Raises:
        EvidenceError: A code `evidence-...`.
    """
    quote = verify_quote(evidence, roots, now)
    form, report = quote.report
    if form != "SgxEnclave":
        raise EvidenceError(EVIDENCE_MALFORMED, "not the quote of an SGX enclave")
    flags = bytes.fromhex(report["attributes"])[0]
    config_id = _config_id(report, flags)
    if evidence.init_data is not None and config_id != initdata.digest(evidence.init_data).ljust(64, b"\0"):
        raise EvidenceError(EVIDENCE_INIT_DATA, "CONFIGID")
    return Claims(
        kind=evidence.kind,
        anchor=quote.anchor,
        root_sha256=quote.root_sha256,
        measurement=report["mr_enclave"],
        signer=report["mr_signer"],
        report_data=bytes.fromhex(report["report_data"]),
        init_data_digest=config_id[:48],
        tcb_status=quote.tcb_status,
        advisories=quote.advisories,
        debug=bool(flags & _DEBUG),
        product_id=report["isv_prod_id"],
        svn=report["isv_svn"],
        expires=quote.expires,
        fmspc=quote.fmspc,
    )


def _config_id(report: Mapping[str, Any], flags: int) -> bytes:
    if not flags & _KEY_SEPARATION:
        return bytes(64)
    return bytes.fromhex(report["reserved3"])[_CONFIG_ID]
