"""Collateral: certificates and revocation lists, and what the services of Intel and AMD answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ssl import PEM_cert_to_DER_cert
from typing import Any, Final

from fuzz.material import NOW, Material
from fuzz.target import MAX_INPUT, Parser, join, split, time_of
from strongroom.attestation import certificates, dcap
from strongroom.attestation.collateral import validity
from strongroom.attestation.collateral.kds import Kds
from strongroom.attestation.collateral.needs import AmdItem, DcapItem, VcekItem, item_of
from strongroom.attestation.collateral.pccs import Pccs
from strongroom.attestation.collateral.web import Answer, Web
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.snp_report import SigningKey
from strongroom.codec import jcs

_DCAP: Final = DcapItem(EvidenceKind.SGX, "00a067110000", "platform")
_AMD: Final = AmdItem("Milan", SigningKey.VCEK)
_VCEK: Final = VcekItem("Milan", bytes(64), bytes(8))
_CHAINS: Final = (
    "TCB-Info-Issuer-Chain",
    "SGX-Enclave-Identity-Issuer-Chain",
    "SGX-PCK-CRL-Issuer-Chain",
)


class _Recorded(Web):
    """Answers in the order in which they were recorded, instead of the network."""

    def __init__(self, headers: dict[str, str], *bodies: bytes) -> None:
        super().__init__()
        self._headers = headers
        self._bodies = iter(bodies)

    def get(self, url: str, *, limit: int) -> Answer:
        return Answer(url, self._headers, next(self._bodies)[:limit])


def _pccs(data: bytes) -> None:
    """The item that is asked for, the header of the chains, and four bodies."""
    name, header, *bodies = split(data, 6)
    item = item_of(name.decode("latin-1"))
    if not isinstance(item, DcapItem):
        return
    headers = dict.fromkeys((name.lower() for name in _CHAINS), header.decode("latin-1"))
    parts = Pccs("https://pccs.example", _Recorded(headers, *bodies)).fetch(item)
    validity.check(item, parts)


def _kds(data: bytes) -> None:
    parts = Kds("https://kds.example", _Recorded({}, *split(data, 2))).fetch(_AMD)
    validity.check(_AMD, parts)


def _kds_vcek(data: bytes) -> None:
    parts = Kds("https://kds.example", _Recorded({}, data)).fetch(_VCEK)
    validity.check(_VCEK, parts)


def _kept(data: bytes) -> None:
    """The parts of a file in a folder of collateral."""
    parts = jcs.parse(data, limit=MAX_INPUT)
    if isinstance(parts, dict) and all(isinstance(each, str) for each in parts.values()):
        item = _DCAP if "tcb_info" in parts else _VCEK if "vek" in parts else _AMD
        validity.check(item, parts)


def _chain(data: bytes) -> None:
    text = data.decode("latin-1")
    chain = certificates.parse_chain(text, "chain")
    for each in chain:
        certificates.name_of(each)
        certificates.common_name(each.issuer)
        certificates.sha256(each)
        certificates.key_sha256(each)
    certificates.verify_chain(chain, NOW)
    certificates.expiry(chain)


def _certificate(data: bytes) -> None:
    certificates.parse_certificate(data, "certificate")


def _revocation(data: bytes) -> None:
    now, chain, crl = split(data, 3)
    issuer = certificates.parse_chain(chain.decode("latin-1"), "chain")[-1]
    certificates.check_revocation(crl, issuer, [issuer], time_of(now))


def _root(data: bytes) -> None:
    dcap.choose_root(data.decode("latin-1"), TrustRoots())


def _collateral(material: Material) -> Iterator[tuple[int, dict[str, Any]]]:
    for group in ("sgx", "tdx"):
        yield NOW, material.accepted(group)["evidence"]["collateral"]
    for vector in material.vectors("*X_v*.json"):
        yield vector["now"], vector["collateral"]


def _pccs_answers(material: Material) -> Iterator[bytes]:
    for _, parts in _collateral(material):
        tcb = f'{{"tcbInfo":{parts["tcb_info"]},"signature":"{parts["tcb_info_signature"]}"}}'
        qe = f'{{"enclaveIdentity":{parts["qe_identity"]},"signature":"{parts["qe_identity_signature"]}"}}'
        header = parts["tcb_info_issuer_chain"].replace("\n", "%0A").encode()
        pck_crl = bytes.fromhex(parts["pck_crl"])
        said = json.loads(parts["tcb_info"])
        for authority in ("platform", "processor"):
            name = f"{said['id']}-{said['fmspc']}-{authority}".lower().encode()
            yield join(name, header, tcb.encode(), qe.encode(), pck_crl, parts["root_ca_crl"].encode())


def _amd_parts(material: Material) -> dict[str, str]:
    parts: dict[str, str] = material.accepted("snp")["evidence"]["collateral"]
    return parts


def _kds_answers(material: Material) -> Iterator[bytes]:
    parts = _amd_parts(material)
    yield join(parts["chain"].encode(), bytes.fromhex(parts.get("crl", "")))
    yield from (join(chain, b"\x30\x00") for chain in material.files("amd/*.pem"))


def _vceks(material: Material) -> Iterator[bytes]:
    yield PEM_cert_to_DER_cert(_amd_parts(material)["vek"])
    yield from material.files("negative/*.der")
    yield PEM_cert_to_DER_cert(_collateral_root(material))


def _collateral_root(material: Material) -> str:
    _, parts = next(_collateral(material))
    text: str = parts["tcb_info_issuer_chain"]
    return text[: text.index("-----END") + 26]


def _kept_files(material: Material) -> Iterator[bytes]:
    yield from (json.dumps(parts).encode() for _, parts in _collateral(material))
    parts = _amd_parts(material)
    yield json.dumps({name: text for name, text in parts.items() if name != "vek"}).encode()
    yield json.dumps({"vek": parts["vek"]}).encode()


def _chains(material: Material) -> Iterator[bytes]:
    for _, parts in _collateral(material):
        yield from (text.encode() for name, text in parts.items() if name.endswith("_chain"))
    yield from (text.encode() for name, text in _amd_parts(material).items() if name != "crl")


def _revocations(material: Material) -> Iterator[bytes]:
    for now, parts in _collateral(material):
        for crl, chain in (("pck_crl", "pck_crl_issuer_chain"), ("root_ca_crl", "tcb_info_issuer_chain")):
            yield join(now.to_bytes(6), parts[chain].encode(), bytes.fromhex(parts[crl]))
    parts = _amd_parts(material)
    yield join(NOW.to_bytes(6), parts["chain"].encode(), bytes.fromhex(parts.get("crl", "")))


PARSERS: Final = (
    Parser("answers of a PCCS", _pccs, _pccs_answers),
    Parser("answers of AMD's service", _kds, _kds_answers),
    Parser("answer of AMD's service, VCEK", _kds_vcek, _vceks),
    Parser("file of collateral", _kept, _kept_files),
    Parser("chain in PEM", _chain, _chains),
    Parser("certificate", _certificate, _vceks),
    Parser("revocation list", _revocation, _revocations),
    Parser("root at the end of a chain", _root, _chains),
)
