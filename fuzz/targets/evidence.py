"""Evidence in the forms in which it is handed over, and all that is in it, up to the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fuzz.material import NOW, Material
from fuzz.roots import ANY
from fuzz.target import MAX_INPUT, Parser
from strongroom.attestation.composite import verify_composite
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.evidence_file import EvidenceFile
from strongroom.attestation.runtime_data import RuntimeData
from strongroom.attestation.service_evidence import EvidenceList, ServiceEvidence
from strongroom.codec import b64
from strongroom.frontend.documents import _binds


def _document(data: bytes) -> None:
    Evidence.parse(data)


def _file(data: bytes) -> None:
    """Verify a whole file, up to whatever root it names."""
    file = EvidenceFile.parse(data)
    bound = None if file.runtime_data is None else RuntimeData.parse(file.runtime_data)
    verify_composite(file.evidence, bound, ANY, file.collected, rims=file.rims)


def _service(data: bytes) -> None:
    _binds(data, "sha256:")
    ServiceEvidence.parse(data)


def _list(data: bytes) -> None:
    EvidenceList.parse(data)


def _runtime_data(data: bytes) -> None:
    found = RuntimeData.parse(data)
    found.report_data()
    found.device_nonce()


def _documents(material: Material) -> Iterator[bytes]:
    yield from (each["document"].encode()[:MAX_INPUT] for each in material.of_type("document"))
    for group in ("sgx", "tdx", "snp", "nitro", "tpm", "az-snp-vtpm", "az-tdx-vtpm"):
        yield Evidence.from_json(material.accepted(group)["evidence"]).to_json_bytes()


def _files(material: Material) -> Iterator[bytes]:
    for group in ("sgx", "tdx", "snp", "nitro", "tpm", "az-snp-vtpm", "az-tdx-vtpm", "gpu"):
        members = material.accepted(group)
        evidence = Evidence.from_json(members["evidence"])
        yield EvidenceFile(evidence, NOW).to_json_bytes()
        if "runtime_data" in members:
            bound = b64.decode_url(members["runtime_data"], limit=MAX_INPUT)
            rims = tuple(b64.decode_url(each, limit=MAX_INPUT) for each in members["rims"])
            yield EvidenceFile(evidence, NOW, bound).to_json_bytes()
            yield EvidenceFile(evidence, NOW, bound, rims).to_json_bytes()


def _lists(material: Material) -> Iterator[bytes]:
    yield material.accepted("service")["evidence"].encode()


def _services(material: Material) -> Iterator[bytes]:
    for document in _lists(material):
        yield from (each.to_json_bytes() for each in EvidenceList.parse(document).workers)


def _runtimes(material: Material) -> Iterator[bytes]:
    yield b64.decode_url(material.accepted("gpu")["runtime_data"], limit=MAX_INPUT)


PARSERS: Final = (
    Parser("evidence document", _document, _documents),
    Parser("evidence file", _file, _files),
    Parser("evidence of one worker", _service, _services),
    Parser("evidence of a service", _list, _lists),
    Parser("runtime data", _runtime_data, _runtimes),
)
