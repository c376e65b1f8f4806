"""TDX: from a verified quote (versions 4 and 5) to claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from strongroom.attestation import ccel, initdata
from strongroom.attestation.claims import Claims
from strongroom.attestation.dcap import verify_quote
from strongroom.attestation.errors import EVIDENCE_INIT_DATA, EVIDENCE_MALFORMED
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.roots import TrustRoots
from strongroom.errors import EvidenceError

_REGISTERS: Final = ("rt_mr0", "rt_mr1", "rt_mr2", "rt_mr3")
_UNTRUSTED: Final = 0xFF
"""The lowest byte of the TD attributes (TUD): a TD with any of its bits set can be read by its host."""


def verify(evidence: Evidence, roots: TrustRoots, now: int) -> Claims:
    """Verify a TDX quote, and init-data and event log if they come along.

    Raises:
        EvidenceError: A code `evidence-...`.
    """
    quote = verify_quote(evidence, roots, now)
    report = _td_report(*quote.report)
    config_id = bytes.fromhex(report["mr_config_id"])
    if evidence.init_data is not None and config_id != initdata.digest(evidence.init_data):
        raise EvidenceError(EVIDENCE_INIT_DATA, "MRCONFIGID")
    if evidence.event_log is not None:
        ccel.check(ccel.parse(evidence.event_log), [report[name] for name in _REGISTERS])
    return Claims(
        kind=evidence.kind,
        anchor=quote.anchor,
        root_sha256=quote.root_sha256,
        measurement=_measurement(report),
        signer=report["mr_owner"],
        report_data=bytes.fromhex(report["report_data"]),
        init_data_digest=config_id,
        tcb_status=quote.tcb_status,
        advisories=quote.advisories,
        debug=bool(bytes.fromhex(report["td_attributes"])[0] & _UNTRUSTED),
        product_id=0,
        svn=0,
        expires=quote.expires,
        fmspc=quote.fmspc,
    )


def _td_report(form: str, report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The members that TD reports 1.0 and 1.5 share."""
    if form == "TD10":
        return report
    if form == "TD15":
        base: Mapping[str, Any] = report["base"]
        return base
    raise EvidenceError(EVIDENCE_MALFORMED, "not the quote of a TD")


def _measurement(report: Mapping[str, Any]) -> str:
    """MRTD, and the run-time registers if any has been extended."""
    registers = [report[name] for name in _REGISTERS]
    used = any(bytes.fromhex(register).strip(b"\0") for register in registers)
    return ":".join([report["mr_td"], *registers] if used else [report["mr_td"]])
