"""A machine with a TPM 2.0: a quote over its registers, by an attestation key of the TPM."""

from __future__ import annotations

from strongroom.attestation import tpm_forms
from strongroom.attestation.collectors import tpm_device
from strongroom.attestation.collectors.source import check_report_data
from strongroom.attestation.evidence import Evidence, EvidenceKind


class TpmCollector:
    """Evidence of a machine with a TPM.

    Args:
        init_data: What the machine was started with; PCR 8 was extended with it.
        tcti: How to reach the TPM, in the words of tpm2-tss.
        key: Handle of an attestation key that is in the TPM, or `tpm_device.MADE_ANEW`.
    """

    name = "tpm"

    def __init__(
        self,
        *,
        init_data: bytes | None = None,
        tcti: str = tpm_device.DEFAULT,
        key: int = tpm_device.MADE_ANEW,
    ) -> None:
        self._init_data = init_data
        self._tcti = tcti
        self._handle = key

    def probe(self) -> EvidenceKind:
        """As `Collector.probe`."""
        with tpm_device.opened(self._tcti):
            return EvidenceKind.TPM

    def collect(self, report_data: bytes) -> Evidence:
        """As `Collector.collect`."""
        check_report_data(report_data)
        with tpm_device.opened(self._tcti) as device, device.key(self._handle) as key:
            quote = device.quote(key, tpm_forms.nonce(report_data))
            form = tpm_forms.write_tpm(device.public_key(key), quote)
        return Evidence(EvidenceKind.TPM, form, init_data=self._init_data)
