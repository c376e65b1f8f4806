"""The trust between a client and a service: what workers show, and the client's decision "may I seal?"."""

from __future__ import annotations

from strongroom.attestation.appraisal import ServiceAppraisal
from strongroom.attestation.service_evidence import (
    EvidenceList,
    ServiceEvidence,
    broker_report_data,
    serve_report_data,
)
from strongroom.attestation.verdict import Verdict

__all__ = [
    "EvidenceList",
    "ServiceAppraisal",
    "ServiceEvidence",
    "Verdict",
    "broker_report_data",
    "serve_report_data",
]
