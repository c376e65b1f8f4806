"""TPM 2.0: structures, quotes, the evidence of machines with one, and reports of Azure's paravisor."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any, Final

from fuzz.material import NOW, Material
from fuzz.roots import ANY
from fuzz.target import MAX_INPUT, Parser
from strongroom.attestation import tpm_forms, tpm_host
from strongroom.attestation.azure_hcl import HclReport, verify
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.tpm import Credential, verify_ek_chain
from strongroom.attestation.tpm_enrolment import Answer, Challenge, Expected, Identity
from strongroom.attestation.tpm_keys import TpmPublic
from strongroom.attestation.tpm_structures import TpmQuote, TpmSignature
from strongroom.codec import b64


def _public(data: bytes) -> None:
    TpmPublic.parse(data)


def _sized_public(data: bytes) -> None:
    TpmPublic.parse_sized(data)


def _quote(data: bytes) -> None:
    TpmQuote.parse(data)


def _signature(data: bytes) -> None:
    TpmSignature.parse(data)


def _machine(data: bytes) -> None:
    tpm_host.verify(Evidence(EvidenceKind.TPM, data), ANY, NOW)


def _azure_snp(data: bytes) -> None:
    _azure(tpm_forms.parse_azure_snp(data))


def _azure_tdx(data: bytes) -> None:
    _azure(tpm_forms.parse_azure_tdx(data))


def _azure(form: tpm_forms.AzureForm) -> None:
    quote = form.quote
    verify(form.hcl_report, quote.attest, quote.signature, nonce=None, pcrs=quote.banks)


def _hcl_report(data: bytes) -> None:
    HclReport.parse(data)


def _chain(data: bytes) -> None:
    """Two certificates, of which each half of the input is one: what is read comes before the chain."""
    half = len(data) // 2
    verify_ek_chain([data[:half], data[half:]], ANY.tpm_keys, NOW)


def _enrolment(data: bytes) -> None:
    """The first byte chooses the message."""
    messages = (Identity, Challenge, Answer, Expected)
    messages[data[0] % len(messages) if data else 0].parse(data[1:])


def _enrolments(_: Material) -> Iterator[bytes]:
    secret = bytes(32)
    messages: tuple[Any, ...] = (
        Identity(b"public area", b"certificate"),
        Challenge(Credential(b"id object", b"encrypted secret")),
        Answer(secret),
        Expected(secret, "aa" * 32, "bb" * 32),
    )
    yield from (bytes([number]) + message.to_json_bytes() for number, message in enumerate(messages))


def _forms(material: Material, group: str) -> Iterator[bytes]:
    yield b64.decode_url(material.accepted(group)["evidence"]["quote"], limit=MAX_INPUT)


def _machines(material: Material) -> Iterator[bytes]:
    yield from _forms(material, "tpm")


def _azure_snps(material: Material) -> Iterator[bytes]:
    yield from _forms(material, "az-snp-vtpm")
    yield from material.files("evidence/AZVTPM_snp_*.json")


def _azure_tdxs(material: Material) -> Iterator[bytes]:
    yield from _forms(material, "az-tdx-vtpm")


def _hcl_reports(material: Material) -> Iterator[bytes]:
    yield from (_url(_object(form)["hcl_report"]) for form in _azure_snps(material))
    yield from (_url(_object(form)["hcl_report"]) for form in _azure_tdxs(material))


def _quotes(material: Material) -> Iterator[bytes]:
    yield from (_std(_object(form)["tpm_quote"]["message"]) for form in _machines(material))
    yield from (bytes.fromhex(_object(form)["tpm_quote"]["message"]) for form in _azure_snps(material))


def _signatures(material: Material) -> Iterator[bytes]:
    yield from (_std(_object(form)["tpm_quote"]["signature"]) for form in _machines(material))
    yield struct.pack(">HHH32sH32s", 0x18, 0x0B, 32, b"\x01" * 32, 32, b"\x02" * 32)


def _publics(_: Material) -> Iterator[bytes]:
    """An AK on P-256 for ECDSA, and one of RSA-2048 for RSASSA, by hand (TPMT_PUBLIC)."""
    head = struct.pack(">HIH", 0x0B, 0x00050072, 0)
    point = struct.pack(">H32sH32s", 32, b"\x01" * 32, 32, b"\x02" * 32)
    yield struct.pack(">H", 0x23) + head + struct.pack(">HHHHH", 0x10, 0x18, 0x0B, 3, 0x10) + point
    modulus = b"\xff" * 256
    yield struct.pack(">H", 1) + head + struct.pack(">HHHHIH", 0x10, 0x14, 0x0B, 2048, 0, 256) + modulus


def _sized_publics(material: Material) -> Iterator[bytes]:
    yield from (len(area).to_bytes(2) + area for area in _publics(material))


def _chains(material: Material) -> Iterator[bytes]:
    for form in _azure_snps(material):
        certificate = _url(_object(form)["vcek"])
        yield certificate * 2


def _object(form: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(form)
    return value


def _url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _std(text: str) -> bytes:
    return base64.b64decode(text)


PARSERS: Final = (
    Parser("public area", _public, _publics),
    Parser("sized public area", _sized_public, _sized_publics),
    Parser("quote", _quote, _quotes),
    Parser("signature", _signature, _signatures),
    Parser("evidence of a machine", _machine, _machines),
    Parser("evidence of an Azure VM on SNP", _azure_snp, _azure_snps),
    Parser("evidence of an Azure VM on TDX", _azure_tdx, _azure_tdxs),
    Parser("report of the paravisor", _hcl_report, _hcl_reports),
    Parser("certificate of an endorsement key", _chain, _chains),
    Parser("messages of an enrolment", _enrolment, _enrolments),
)
