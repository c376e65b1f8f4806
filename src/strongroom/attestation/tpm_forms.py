"""The JSON forms of evidence in which a TPM signs, as Trustee's attesters send them. Nothing is verified.

    Azure   {"version": 1 or 2, "hcl_report": BASE64URL, "tpm_quote": {"signature": HEX, "message": HEX,
             "pcrs": [HEX, ...]}, "vcek": BASE64URL}       on TDX "td_quote" in place of "vcek"
    TPM     {"ak_public": BASE64, "tpm_quote": {"signature": BASE64, "message": BASE64, "pcrs": [HEX, ...]}}

`pcrs` are the registers 0 to 23 of the bank SHA-256. Azure's signature is bare RSASSA, the TPM's a
TPMT_SIGNATURE. Version 2 of Azure's form differs from 1 in what the paravisor's report says only.

Source: github.com/confidential-containers/trustee, deps/verifier (az_snp_vtpm, az_tdx_vtpm, tpm).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from strongroom.attestation import initdata
from strongroom.attestation.errors import EVIDENCE_ALGORITHM, EVIDENCE_INIT_DATA, EVIDENCE_MALFORMED
from strongroom.attestation.evidence import MAX_QUOTE
from strongroom.attestation.tpm_reader import TpmHash, TpmScheme
from strongroom.attestation.tpm_structures import TpmSignature, frame_rsassa
from strongroom.codec import b64, jcs
from strongroom.errors import CodecError, EvidenceError
from strongroom.forms import ready

PCRS: Final = 24
"""Registers of a bank."""

INIT_DATA_PCR: Final = 8
"""The register that is extended with the init-data, once, before anything else is measured into it."""

REPORT_DATA_SIZE: Final = 64
_DIGEST_SIZE: Final = 48

_PcrText = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64}|[0-9A-F]{64})\Z")]


@dataclass(frozen=True, slots=True)
class Quote:
    """A TPM's quote with what it covers.

    Attributes:
        attest: TPMS_ATTEST, as it was signed.
        signature: TPMT_SIGNATURE.
        pcrs: Values of the bank SHA-256 by number, 32 bytes each.
    """

    attest: bytes
    signature: bytes
    pcrs: Mapping[int, bytes]

    @property
    def banks(self) -> Mapping[TpmHash, Mapping[int, bytes]]:
        """The values by bank, as the verifier wants them."""
        return {TpmHash.SHA256: self.pcrs}


@dataclass(frozen=True, slots=True)
class AzureForm:
    """What an Azure confidential VM sends.

    Attributes:
        hcl_report: The report of the paravisor.
        quote: Of the virtual TPM.
        hardware: On SNP the VCEK's certificate in DER; on TDX the quote of the TD.
    """

    hcl_report: bytes
    quote: Quote
    hardware: bytes


@dataclass(frozen=True, slots=True)
class TpmForm:
    """What a machine with a TPM sends.

    Attributes:
        ak: The attestation key, SubjectPublicKeyInfo in DER.
        quote: By that key.
    """

    ak: bytes
    quote: Quote


@ready
class _Quote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signature: str
    message: str
    pcrs: Annotated[tuple[_PcrText, ...], msgspec.Meta(min_length=PCRS, max_length=PCRS)]


@ready
class _AzureSnp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1, 2]
    hcl_report: str
    tpm_quote: _Quote
    vcek: str


@ready
class _AzureTdx(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1, 2]
    hcl_report: str
    tpm_quote: _Quote
    td_quote: str


@ready
class _Tpm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ak_public: str
    tpm_quote: _Quote


_Form = TypeVar("_Form", bound=msgspec.Struct)


def parse_azure_snp(data: bytes) -> AzureForm:
    """Read the form of an Azure VM on SNP, at most 64 KiB.

    Raises:
        EvidenceError: `evidence-malformed` or `evidence-too-large`.
    """
    form = _read(data, _AzureSnp)
    return AzureForm(_padded_url(form.hcl_report), _azure_quote(form.tpm_quote), _padded_url(form.vcek))


def parse_azure_tdx(data: bytes) -> AzureForm:
    """Read the form of an Azure VM on TDX, at most 64 KiB.

    Raises:
        EvidenceError: `evidence-malformed` or `evidence-too-large`.
    """
    form = _read(data, _AzureTdx)
    return AzureForm(_padded_url(form.hcl_report), _azure_quote(form.tpm_quote), _padded_url(form.td_quote))


def parse_tpm(data: bytes) -> TpmForm:
    """Read the form of a machine with a TPM, at most 64 KiB.

    Raises:
        EvidenceError: `evidence-malformed`.
    """
    form = _read(data, _Tpm)
    return TpmForm(_base64(form.ak_public), _quote(form.tpm_quote, _base64))


def write_azure(hcl_report: bytes, quote: Quote, hardware: Mapping[str, bytes]) -> bytes:
    """The form of an Azure VM.

    Args:
        hcl_report: The report of the paravisor.
        quote: Of the virtual TPM; its signature is RSASSA.
        hardware: One member: `vcek` (certificate in DER) or `td_quote`.

    Raises:
        EvidenceError: `evidence-algorithm`: another signature.
    """
    signature = TpmSignature.parse(quote.signature)
    if signature.scheme is not TpmScheme.RSASSA:
        raise EvidenceError(EVIDENCE_ALGORITHM, "signature of the quote", expected=TpmScheme.RSASSA.name)
    form = {
        "version": 1,
        "hcl_report": _to_padded_url(hcl_report),
        "tpm_quote": _quote_json(signature.values[0].hex(), quote.attest.hex(), quote.pcrs),
        **{name: _to_padded_url(value) for name, value in hardware.items()},
    }
    return jcs.canonical(form)


def write_tpm(ak: bytes, quote: Quote) -> bytes:
    """The form of a machine with a TPM.

    Args:
        ak: The attestation key, SubjectPublicKeyInfo in DER.
        quote: By that key.
    """
    signature, attest = b64.encode_std(quote.signature), b64.encode_std(quote.attest)
    form = {"ak_public": b64.encode_std(ak), "tpm_quote": _quote_json(signature, attest, quote.pcrs)}
    return jcs.canonical(form)


def nonce(report_data: bytes) -> bytes:
    """What a TPM is asked to sign for report data of 64 bytes: without the zeros at its end, if they are 16.

    See `report_data`, which is the way back.
    """
    return report_data[:_DIGEST_SIZE] if not any(report_data[_DIGEST_SIZE:]) else report_data


def report_data(nonce: bytes) -> bytes:
    """What a quote's nonce binds, as a report of 64 bytes would have it.

    A TPM takes no more bytes than its longest digest has, so attesters send the 48 that are not zero.
    """
    return nonce.ljust(REPORT_DATA_SIZE, b"\0")


def init_data_digest(pcrs: Mapping[int, bytes], init_data: bytes | None) -> bytes:
    """SHA-384 of the init-data with which PCR 8 was extended; zeros without init-data.

    Raises:
        EvidenceError: `evidence-init-data`.
    """
    if init_data is None:
        return bytes(48)
    extended = hashlib.sha256(bytes(32) + hashlib.sha256(init_data).digest()).digest()
    if not hmac.compare_digest(pcrs[INIT_DATA_PCR], extended):
        raise EvidenceError(EVIDENCE_INIT_DATA, f"PCR {INIT_DATA_PCR}")
    return initdata.digest(init_data)


def _read(data: bytes, form: type[_Form]) -> _Form:
    try:
        return msgspec.convert(jcs.parse(data, limit=MAX_QUOTE, what="TPM evidence"), form)
    except CodecError as error:
        raise EvidenceError(EVIDENCE_MALFORMED, f"TPM evidence: {error.kind.title}") from None
    except msgspec.ValidationError:
        raise EvidenceError(EVIDENCE_MALFORMED, "members of the TPM evidence") from None


def _azure_quote(form: _Quote) -> Quote:
    quote = _quote(form, _hex)
    return Quote(quote.attest, frame_rsassa(quote.signature), quote.pcrs)


def _quote(form: _Quote, decode: Callable[[str], bytes]) -> Quote:
    pcrs = {number: bytes.fromhex(value) for number, value in enumerate(form.pcrs)}
    return Quote(decode(form.message), decode(form.signature), pcrs)


def _quote_json(signature: str, message: str, pcrs: Mapping[int, bytes]) -> dict[str, object]:
    return {
        "signature": signature,
        "message": message,
        "pcrs": [value.hex() for _, value in sorted(pcrs.items())],
    }


def _to_padded_url(data: bytes) -> str:
    return b64.encode_std(data).replace("+", "-").replace("/", "_")


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise EvidenceError(EVIDENCE_MALFORMED, "TPM evidence: not hexadecimal") from None


def _padded_url(text: str) -> bytes:
    """Base64 of the other alphabet, with the padding that Trustee puts there."""
    if "+" in text or "/" in text:
        raise EvidenceError(EVIDENCE_MALFORMED, "TPM evidence: not base64url")
    return _base64(text.replace("-", "+").replace("_", "/"))


def _base64(text: str) -> bytes:
    try:
        return b64.decode_std(text, limit=MAX_QUOTE, what="a member")
    except CodecError as error:
        raise EvidenceError(EVIDENCE_MALFORMED, f"TPM evidence: {error.kind.title}") from None
