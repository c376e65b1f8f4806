"""The primary evidence of the KBS protocol by kind: what attesters send, as `Evidence`, and back.

    sgx           {"quote": BASE64}
    tdx           {"quote": BASE64, "cc_eventlog": BASE64 or null}
    snp           {"attestation_report": {...}, "cert_chain": null or
                   [{"cert_type": "VCEK" or "VLEK", "data": [BYTE, ...]}]}
    az-*, tpm     see `strongroom.attestation.tpm_forms`
    nitro         {"quote": BASE64}, a kind that the protocol itself does not have

Ours may carry `"collateral": {NAME: TEXT}` in it too, so that a broker can appraise without a network. An
event log is accepted and not used: no claim is drawn from it.
"""

from __future__ import annotations

from ssl import DER_cert_to_PEM_cert
from typing import Annotated, Any, Final, TypeVar

import msgspec

from strongroom.attestation import snp_json
from strongroom.attestation.certificates import MAX_CERTIFICATE
from strongroom.attestation.evidence import MAX_QUOTE, TPM_KINDS, Evidence, EvidenceKind
from strongroom.broker.errors import BODY_INVALID
from strongroom.codec import b64, jcs
from strongroom.errors import BrokerError, CodecError, EvidenceError
from strongroom.forms import ready

Collateral = dict[str, str]
_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Form = TypeVar("_Form", bound=msgspec.Struct)

_MAX_TABLE: Final = 8
_LEAVES: Final = ("VCEK", "VLEK")


@ready
class _Quote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    quote: str
    collateral: Collateral | None = None


@ready
class _Tpm(msgspec.Struct, frozen=True):
    """Any form of `tpm_forms`: texts, a version, and a quote of texts. Numbers cost most to write again."""

    form: dict[str, str | int | dict[str, str | list[str]]]


@ready
class _Tdx(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    quote: str
    cc_eventlog: str | None = None
    collateral: Collateral | None = None


@ready
class _Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cert_type: str | dict[str, str]
    data: Annotated[list[_Byte], msgspec.Meta(max_length=MAX_CERTIFICATE)]


@ready
class _Snp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    attestation_report: dict[str, Any]
    cert_chain: Annotated[list[_Certificate], msgspec.Meta(max_length=_MAX_TABLE)] | None = None
    collateral: Collateral | None = None


def read(kind: EvidenceKind, value: dict[str, Any], init_data: bytes | None) -> Evidence:
    """The evidence in a body; nothing in it is verified.

    Args:
        kind: The kind that the session announced.
        value: The member `primary_evidence`.
        init_data: What came beside it.

    Raises:
        BrokerError: `kbs-body-invalid`.
        EvidenceError: `evidence-malformed` or `evidence-too-large`.
    """
    if kind in TPM_KINDS:
        collateral = _convert({"quote": "", "collateral": value.get("collateral")}, _Quote).collateral
        form = {name: member for name, member in value.items() if name != "collateral"}
        return Evidence(kind, jcs.canonical(_convert({"form": form}, _Tpm).form), collateral, init_data)
    if kind is EvidenceKind.SNP:
        snp = _convert(value, _Snp)
        report = snp_json.decode(snp.attestation_report)
        return Evidence(kind, report, snp.collateral or _certificates(snp.cert_chain), init_data)
    plain = _convert(value, _Tdx) if kind is EvidenceKind.TDX else _convert(value, _Quote)
    try:
        quote = b64.decode_std(plain.quote, limit=MAX_QUOTE, what="quote")
    except CodecError as error:
        raise BrokerError(BODY_INVALID, str(error)) from error
    return Evidence(kind, quote, plain.collateral, init_data)


def write(evidence: Evidence) -> dict[str, Any]:
    """The member `primary_evidence` for evidence.

    Raises:
        BrokerError: `kbs-body-invalid`: its quote is not of its kind.
    """
    collateral = {} if evidence.collateral is None else {"collateral": dict(evidence.collateral)}
    try:
        if evidence.kind in TPM_KINDS:
            return {**_object(evidence.quote), **collateral}
        if evidence.kind is EvidenceKind.SNP:
            report = snp_json.encode(evidence.quote)
            return {"attestation_report": report, "cert_chain": None, **collateral}
    except (CodecError, EvidenceError) as error:
        raise BrokerError(BODY_INVALID, str(error)) from error
    quote: dict[str, Any] = {"quote": b64.encode_std(evidence.quote)}
    return {**quote, **({"cc_eventlog": None} if evidence.kind is EvidenceKind.TDX else {}), **collateral}


def _certificates(table: list[_Certificate] | None) -> Collateral | None:
    """The chip's or the provider's certificate; AMD's own are known."""
    found = [bytes(entry.data) for entry in table or () if entry.cert_type in _LEAVES]
    if len(found) > 1:
        raise BrokerError(BODY_INVALID, "more than one VCEK or VLEK")
    return {"vek": DER_cert_to_PEM_cert(found[0])} if found else None


def _object(data: bytes) -> dict[str, Any]:
    value = jcs.parse(data, limit=MAX_QUOTE, what="TPM evidence")
    if not isinstance(value, dict):
        raise BrokerError(BODY_INVALID, "the evidence of a TPM is a JSON object")
    return value


def _convert(value: Any, form: type[_Form]) -> _Form:
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        raise BrokerError(BODY_INVALID, str(error)) from error
