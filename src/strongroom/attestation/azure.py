"""Azure confidential VMs: from the evidence of paravisor, virtual TPM and hardware to claims.

Three signatures hold together: the hardware vouches for the paravisor, whose report names the key of the
virtual TPM, which signs the VM's registers and the nonce. The measurement is the paravisor's; what the VM
itself has started is in its PCRs.
"""

from __future__ import annotations

from dataclasses import replace
from ssl import DER_cert_to_PEM_cert

from strongroom.attestation import azure_hcl, snp, tdx, tpm_forms
from strongroom.attestation.azure_hcl import AzureClaims
from strongroom.attestation.claims import Claims
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.tpm_forms import AzureForm


def verify_snp(evidence: Evidence, roots: TrustRoots, now: int) -> Claims:
    """Verify the evidence of a VM on SNP.

    Raises:
        EvidenceError: A code `evidence-...`.
    """
    form = tpm_forms.parse_azure_snp(evidence.quote)
    vm = _verify_vm(form)
    collateral = {**(evidence.collateral or {}), "vek": DER_cert_to_PEM_cert(form.hardware)}
    hardware = Evidence(EvidenceKind.SNP, vm.report.hardware_report, collateral)
    return _compose(evidence, form, vm, snp.verify(hardware, roots, now))


def verify_tdx(evidence: Evidence, roots: TrustRoots, now: int) -> Claims:
    """Verify the evidence of a VM on TDX.

    Raises:
        EvidenceError: A code `evidence-...`.
    """
    form = tpm_forms.parse_azure_tdx(evidence.quote)
    vm = _verify_vm(form)
    hardware = Evidence(EvidenceKind.TDX, form.hardware, evidence.collateral)
    return _compose(evidence, form, vm, tdx.verify(hardware, roots, now))


def _verify_vm(form: AzureForm) -> AzureClaims:
    quote = form.quote
    return azure_hcl.verify(form.hcl_report, quote.attest, quote.signature, nonce=None, pcrs=quote.banks)


def _compose(evidence: Evidence, form: AzureForm, vm: AzureClaims, hardware: Claims) -> Claims:
    azure_hcl.check_hardware(vm, hardware.kind, hardware.report_data)
    return replace(
        hardware,
        kind=evidence.kind,
        report_data=tpm_forms.report_data(vm.tpm.nonce),
        init_data_digest=tpm_forms.init_data_digest(form.quote.pcrs, evidence.init_data),
        pcrs=vm.tpm.pcrs["sha256"],
    )
