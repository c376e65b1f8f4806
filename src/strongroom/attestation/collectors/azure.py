"""Azure confidential VMs: the paravisor's report and a quote of the virtual TPM, and the hardware's part.

The report is in an NV index of the virtual TPM, the key of the quote at a fixed handle. The host's own
services add what the guest cannot have: on SNP the chip's certificate, on TDX a quote of the TD report. They
are not trusted; what they give is verified up to the vendor's root.

Sources: Microsoft, "Azure confidential VMs: guest attestation"; github.com/kinvolk/azure-cvm-tooling.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final

import httpx

from strongroom.attestation import tpm_forms
from strongroom.attestation.azure_hcl import HclReport
from strongroom.attestation.collectors import tpm_device
from strongroom.attestation.collectors.errors import COLLECTOR_ANSWER, COLLECTOR_FAILED
from strongroom.attestation.collectors.source import check_report_data
from strongroom.attestation.evidence import MAX_COLLATERAL, Evidence, EvidenceKind
from strongroom.codec import b64, jcs
from strongroom.errors import CodecError, EvidenceError

REPORT_INDEX: Final = 0x01400001
KEY: Final = 0x81000003

HOST: Final = "http://169.254.169.254"
"""The host, as every Azure VM reaches it: the link-local address of its instance metadata service."""

_VCEK: Final = "/metadata/THIM/amd/certification"
_TD_QUOTE: Final = "/acc/tdquote"
_SECONDS: Final = 10.0

_KINDS: Final = {EvidenceKind.SNP: EvidenceKind.AZ_SNP, EvidenceKind.TDX: EvidenceKind.AZ_TDX}

Fetch = Callable[[str, dict[str, str] | None], bytes]
"""GET of a path of the host's services, or POST of a JSON object to it."""


class AzureCollector:
    """Evidence of an Azure confidential VM.

    Args:
        init_data: What the VM was started with; PCR 8 was extended with it.
        tcti: How to reach the virtual TPM, in the words of tpm2-tss.
        fetch: How to reach the host's services; raises `collector-failed`.
    """

    name = "azure"

    def __init__(
        self,
        *,
        init_data: bytes | None = None,
        tcti: str = tpm_device.DEFAULT,
        fetch: Fetch | None = None,
    ) -> None:
        self._init_data = init_data
        self._tcti = tcti
        self._fetch = fetch or fetch_from(HOST)

    def probe(self) -> EvidenceKind:
        """As `Collector.probe`."""
        with tpm_device.opened(self._tcti) as device:
            return _KINDS[_report(device)[1].kind]

    def collect(self, report_data: bytes) -> Evidence:
        """As `Collector.collect`."""
        check_report_data(report_data)
        with tpm_device.opened(self._tcti) as device:
            report, parsed = _report(device)
            quote = device.quote(device.persistent_key(KEY), tpm_forms.nonce(report_data))
        form = tpm_forms.write_azure(report, quote, self._hardware(parsed))
        return Evidence(_KINDS[parsed.kind], form, init_data=self._init_data)

    def _hardware(self, report: HclReport) -> dict[str, bytes]:
        if report.kind is EvidenceKind.SNP:
            certificate = _text(_json(self._fetch(_VCEK, None)), "vcekCert")
            try:
                return {"vcek": ssl.PEM_cert_to_DER_cert(certificate.strip())}
            except ValueError as error:
                raise EvidenceError(COLLECTOR_ANSWER, "the chip's certificate of Azure's host") from error
        asked = {"report": b64.encode_url(report.hardware_report)}
        quote = _text(_json(self._fetch(_TD_QUOTE, asked)), "quote")
        try:
            return {"td_quote": b64.decode_url(quote.rstrip("="), limit=MAX_COLLATERAL, what="TD quote")}
        except CodecError as error:
            raise EvidenceError(COLLECTOR_ANSWER, f"Azure's host: {error}") from error


def fetch_from(address: str, *, seconds: float = _SECONDS) -> Fetch:
    """Reach the services of a host: no proxy, no redirects, answers of at most 512 KiB.

    Args:
        address: Scheme and authority.
        seconds: Time for each step of a request.
    """

    def fetch(path: str, body: dict[str, str] | None) -> bytes:
        client = httpx.Client(base_url=address, timeout=seconds, trust_env=False)
        method = "GET" if body is None else "POST"
        headers = {"Metadata": "true"}
        try:
            with client, client.stream(method, path, json=body, headers=headers) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise EvidenceError(
                        COLLECTOR_FAILED, f"{address}{path}", found=f"status {answer.status_code}"
                    )
                found = bytearray()
                for part in answer.iter_bytes():
                    found += part
                    if len(found) > MAX_COLLATERAL:
                        raise EvidenceError(COLLECTOR_ANSWER, f"{address}{path}: too long")
                return bytes(found)
        except httpx.HTTPError as error:
            raise EvidenceError(COLLECTOR_FAILED, f"{address}{path}: {type(error).__name__}") from error

    return fetch


def _report(device: tpm_device.TpmDevice) -> tuple[bytes, HclReport]:
    report = device.read_nv(REPORT_INDEX)
    try:
        return report, HclReport.parse(report)
    except EvidenceError as error:
        raise EvidenceError(COLLECTOR_ANSWER, f"report of the paravisor: {error}") from error


def _json(answer: bytes) -> Any:
    try:
        return jcs.parse(answer, limit=MAX_COLLATERAL, what="answer of Azure's host")
    except CodecError as error:
        raise EvidenceError(COLLECTOR_ANSWER, str(error)) from error


def _text(answer: Any, name: str) -> str:
    match answer:
        case {**members} if isinstance(found := members.get(name), str):
            return found
    raise EvidenceError(COLLECTOR_ANSWER, "answer of Azure's host", expected=f"a text {name}")
