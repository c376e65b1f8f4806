"""Bounds that the documentation promises, by their numbers: tests of parsers take them from the constants."""

from __future__ import annotations

import pytest

from strongroom.attestation import (
    azure_hcl,
    ccel,
    certificates,
    devices,
    evidence,
    evidence_file,
    gpu_report,
    gpu_rim,
    initdata,
    keyset,
    runtime_data,
    service_evidence,
    tpm_reader,
    tpm_structures,
)
from strongroom.broker import (
    admin_requests,
    admin_secrets,
    consent,
    envelope,
    hpke_release,
    jwe,
    messages,
    service,
)

KIB = 1024
MIB = 1024 * KIB


@pytest.mark.parametrize(
    ("bound", "promised"),
    [
        (service.MAX_CONNECTIONS, 512),
        (evidence.MAX_QUOTE, 64 * KIB),
        (evidence.MAX_COLLATERAL, 512 * KIB),
        (evidence.MAX_INIT_DATA, 64 * KIB),
        (evidence.MAX_EVENT_LOG, 192 * KIB),
        (evidence.MAX_DOCUMENT, MIB),
        (evidence_file.MAX_FILE, 4 * MIB),
        (evidence_file.MAX_RIMS, 16),
        (evidence_file.MAX_RIMS_SIZE, MIB),
        (initdata.MAX_INIT_DATA, 64 * KIB),
        (initdata.MAX_MODELS, 64),
        (initdata.MAX_WITNESSES, 16),
        (devices.MAX_DEVICES, 16),
        (devices.MAX_TEXT, 512 * KIB),
        (devices.MAX_RIMS, 256),
        (runtime_data.MAX_RUNTIME_DATA, 768 * KIB),
        (service_evidence.MAX_SERVICE_EVIDENCE, MIB + 24 * KIB),
        (service_evidence.MAX_WORKERS, 32),
        (service_evidence.MAX_EVIDENCE_LIST, 4 * MIB),
        (keyset.MAX_PAYLOAD, 128 * KIB),
        (keyset.MAX_KEYS, 64 * KIB),
        (keyset.MAX_MODELS, 64),
        (ccel.MAX_LOG, 512 * KIB),
        (ccel.MAX_EVENTS, 1024),
        (gpu_report.MAX_REPORT, 64 * KIB),
        (gpu_rim.MAX_RIM, 2 * MIB),
        (certificates.MAX_CERTIFICATE, 8 * KIB),
        (certificates.MAX_CHAIN, 8),
        (certificates.MAX_CRL, 256 * KIB),
        (azure_hcl.MAX_REPORT, 16 * KIB),
        (tpm_reader.MAX_STRUCTURE, 2 * KIB),
        (tpm_structures.MAX_DATA, 66),
        (tpm_structures.MAX_PCR, 31),
        (hpke_release.MAX_PLAINTEXT, 512 * KIB),
        (jwe.MAX_PLAINTEXT, 512 * KIB),
        (envelope.MAX_ENVELOPE, 384 * KIB),
        (messages.MAX_AUTH, 16 * KIB),
        (messages.MAX_ATTEST, MIB),
        (consent.MAX_APPROVERS, 16),
        (admin_requests.MAX_REQUEST, 512 * KIB),
        (admin_secrets.MAX_SECRET, 64 * KIB),
    ],
)
def test_a_bound_is_what_is_promised(bound: int, promised: int) -> None:
    assert bound == promised
