"""Reports of AMD SEV-SNP, and documents of AWS Nitro Enclaves."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any, Final

from fuzz.material import NOW, Material
from fuzz.roots import ANY
from fuzz.target import MAX_INPUT, Parser, join, split, time_of
from strongroom.attestation import nitro, snp, snp_json
from strongroom.attestation.collectors import snp_certificates
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.nitro import NitroDocument
from strongroom.attestation.snp_report import SnpReport
from strongroom.codec import b64, jcs


def _report(data: bytes) -> None:
    snp_json.encode(data)
    SnpReport.parse(data)


def _verify_snp(data: bytes) -> None:
    now, report, collateral = split(data, 3)
    parts = jcs.parse(collateral, limit=MAX_INPUT)
    snp.verify(Evidence(EvidenceKind.SNP, report, parts), ANY, time_of(now))


def _json(data: bytes) -> None:
    snp_json.decode(jcs.parse(data, limit=MAX_INPUT))


def _verify_nitro(data: bytes) -> None:
    document = NitroDocument.parse(data)
    nitro.verify(Evidence(EvidenceKind.NITRO, data), ANY, document.timestamp // 1000)


def _table(data: bytes) -> None:
    snp_certificates.collateral(data)


def _tables(_: Material) -> Iterator[bytes]:
    """A host's VCEK, ASK and ARK, behind an entry each and one of zeros."""
    guids = (snp_certificates.VCEK, snp_certificates.ASK, snp_certificates.ARK)
    entries = (struct.pack("<16sII", guid.bytes, 96 + 4 * place, 4) for place, guid in enumerate(guids))
    yield b"".join(entries) + bytes(24) + b"VCEKask ark "


def _recorded(vector: dict[str, Any], name: str) -> bytes:
    return base64.b64decode(vector[name])


def _reports(material: Material) -> Iterator[bytes]:
    yield b64.decode_url(material.accepted("snp")["evidence"]["quote"], limit=MAX_INPUT)
    yield from (_recorded(vector, "report") for vector in material.vectors("SNP_*.json"))


def _snp_inputs(material: Material) -> Iterator[bytes]:
    evidence = Evidence.from_json(material.accepted("snp")["evidence"])
    yield join(NOW.to_bytes(6), evidence.quote, json.dumps(dict(evidence.collateral or {})).encode())
    for vector in material.vectors("SNP_*.json"):
        pem = {name: _pem(_recorded(vector, name)) for name in ("ek", "ask", "ark")}
        collateral = {"vek": pem["ek"], "chain": pem["ask"] + pem["ark"]}
        report = _recorded(vector, "report")
        yield join(vector["now"].to_bytes(6), report, json.dumps(collateral).encode())


def _pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"


def _json_reports(material: Material) -> Iterator[bytes]:
    yield from (json.dumps(snp_json.encode(report)).encode() for report in _reports(material))


def _documents(material: Material) -> Iterator[bytes]:
    yield b64.decode_url(material.accepted("nitro")["evidence"]["quote"], limit=MAX_INPUT)
    yield from (_recorded(vector, "doc") for vector in material.vectors("NITRO_*.json"))


PARSERS: Final = (
    Parser("SNP report", _report, _reports),
    Parser("SNP report with certificates", _verify_snp, _snp_inputs),
    Parser("SNP report in JSON", _json, _json_reports),
    Parser("Nitro document", _verify_nitro, _documents),
    Parser("a host's table of certificates", _table, _tables),
)
