"""NVIDIA's reference values: a signed SWID tag (RIM) of one driver or one VBIOS, and the match with a GPU.

The signature is XML-DSig, enveloped, and of NVIDIA's one profile only: canonical XML 1.1, SHA-384, ECDSA on
P-384, one reference to the whole document. What is signed is canonicalised, checked, parsed again from
just those bytes, and only then read, so that no value can come from elsewhere in the document.

lxml writes canonical XML 1.0; 1.1 differs from it in attributes `xml:...` of ancestors only, and documents
with such attributes are refused.

Needs lxml, which is loaded at the first use. Not done here: revocation, which NVIDIA tells by OCSP only.
The signing certificates live for one or two years: who keeps reference values must fetch them anew.

Sources: W3C XML Signature 1.1; TCG Reference Integrity Manifest Information Model; ISO/IEC 19770-2;
github.com/NVIDIA/nvtrust (local verifier).
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509

from strongroom.attestation import certificates
from strongroom.attestation.errors import (
    EVIDENCE_ALGORITHM,
    EVIDENCE_BINDING,
    EVIDENCE_CERTIFICATE,
    EVIDENCE_FORMAT,
    EVIDENCE_MALFORMED,
    EVIDENCE_SIGNATURE,
    EVIDENCE_TOO_LARGE,
)
from strongroom.attestation.gpu import GpuClaims
from strongroom.attestation.gpu_report import DIGEST_SIZE, MAX_INDEX, SIGNATURE_SIZE
from strongroom.attestation.roots import untrusted_root
from strongroom.errors import EvidenceError

NVIDIA_RIM_ROOT_SHA256: Final = "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1"
"""SHA-256 of the DER of "NVIDIA CoRIM signing Root CA"."""

NVIDIA_RIM_ROOTS: Final = frozenset({NVIDIA_RIM_ROOT_SHA256})

MAX_RIM: Final = 2 * 1024 * 1024
"""Most bytes of a RIM; NVIDIA's have about 20 KiB."""

MAX_ALTERNATIVES: Final = 64
"""Most values of one measurement."""

MAX_NAMESPACES: Final = 64
"""Most declarations of namespaces; NVIDIA's RIMs have six."""

MAX_ATTRIBUTES: Final = 96
"""Most attributes of an element: what a resource with the most values has, and some more."""

NVDEC0_INDEX: Final = 36
"""SPDM index of the measurement that means nothing while the first video decoder is off."""

_SWID: Final = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
_DS: Final = "{http://www.w3.org/2000/09/xmldsig#}"
_XML: Final = "{http://www.w3.org/XML/1998/namespace}"
_HASH: Final = "{http://www.w3.org/2001/04/xmlenc#sha384}Hash"
_C14N: Final = "http://www.w3.org/2006/12/xml-c14n11"
_ENVELOPED: Final = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_ECDSA_SHA384: Final = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
_SHA384: Final = "http://www.w3.org/2001/04/xmldsig-more#sha384"

_ACTIVE: Final = {"True": True, "False": False}
_VERSION: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")
_TAG: Final = re.compile(r"[0-9A-Za-z._-]{1,128}")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,3}")
_DIGEST: Final = re.compile(rf"[0-9a-f]{{{2 * DIGEST_SIZE}}}")
_DECLARATION: Final = re.compile(rb"<\?xml [^<>?]{1,100}\?>")


@dataclass(frozen=True, slots=True)
class Rim:
    """Verified reference values.

    A tag does not say whether it is of a driver or a VBIOS, nor of which board: only its version tells.

    Attributes:
        root_sha256: SHA-256 of the DER of the root certificate, lower-case hex.
        product: Of the chip, for example `GH100`.
        version: Of the driver or the VBIOS.
        tag_id: NVIDIA's name of the tag.
        golden: Accepted digests, lower-case hex of 48 bytes, by SPDM index; only of measurements that are to
            be compared. NVIDIA counts from 0 in a tag and from 1 in a report; here it is from 1.
        expires: Unix time at which the first certificate of the chain expires.
    """

    root_sha256: str
    product: str
    version: str
    tag_id: str
    golden: Mapping[int, tuple[str, ...]]
    expires: int


@dataclass(frozen=True, slots=True)
class RimMatch:
    """Measurements against reference values. All are sorted SPDM indexes.

    Attributes:
        matched: The measurement is one of the accepted ones.
        mismatched: It is another one, or there is none.
        skipped: There are reference values, but they do not apply to this GPU.
        unreferenced: A measurement for which no RIM has reference values.
    """

    matched: tuple[int, ...]
    mismatched: tuple[int, ...]
    skipped: tuple[int, ...]
    unreferenced: tuple[int, ...]

    @property
    def good(self) -> bool:
        """Whether something was compared and nothing differed."""
        return bool(self.matched) and not self.mismatched


def verify_rim(xml: bytes, *, now: int, roots: Collection[str] = NVIDIA_RIM_ROOTS) -> Rim:
    """Verify a signed SWID tag.

    Args:
        xml: UTF-8, at most 2 MiB, without document type, comments, CDATA and processing instructions.
        now: Unix time of the appraisal.
        roots: SHA-256 of the DER of roots up to which it may verify, lower-case hex.

    Raises:
        EvidenceError: A code `evidence-...`.
    """
    signature, signed_info, body = _dissect(_parse(xml))
    _check_reference(_parse(signed_info), body)
    chain = _chain(signature, roots)
    certificates.verify_chain(chain, now)
    _check_signature(signature, signed_info, chain[0])
    return _read(_parse(body), chain)


def match(
    measurements: Mapping[int, str], rims: Iterable[Rim], *, nvdec0_enabled: bool | None = True
) -> RimMatch:
    """Compare measurements with reference values.

    Args:
        measurements: Lower-case hex by SPDM index, as in `GpuClaims`.
        rims: Verified reference values, as a rule of the driver and of the VBIOS.
        nvdec0_enabled: From `GpuClaims`. If false, `NVDEC0_INDEX` is skipped, as NVIDIA's verifier does.

    Raises:
        EvidenceError: `evidence-binding`: two RIMs have values for the same measurement.
    """
    golden: dict[int, tuple[str, ...]] = {}
    for rim in rims:
        if both := golden.keys() & rim.golden.keys():
            raise EvidenceError(EVIDENCE_BINDING, f"two RIMs for measurements {sorted(both)}")
        golden.update(rim.golden)
    skipped = {NVDEC0_INDEX} & golden.keys() if nvdec0_enabled is False else set()
    compared = golden.keys() - skipped
    matched = {index for index in compared if measurements.get(index) in golden[index]}
    return RimMatch(
        matched=tuple(sorted(matched)),
        mismatched=tuple(sorted(compared - matched)),
        skipped=tuple(sorted(skipped)),
        unreferenced=tuple(sorted(measurements.keys() - golden.keys())),
    )


def match_claims(claims: GpuClaims, rims: Iterable[Rim]) -> RimMatch:
    """Compare a GPU with the reference values of its own driver and VBIOS; both must be there, once.

    Args:
        claims: Of verified evidence.
        rims: Verified reference values of any drivers and VBIOSes.

    Raises:
        EvidenceError: `evidence-binding`: none or more than one for the driver or the VBIOS, or both have
            values for the same measurement.
    """
    usable = [rim for rim in rims if rim.product == claims.product]
    chosen = [_only(usable, what, version) for what, version in _versions(claims).items()]
    return match(claims.measurements, chosen, nvdec0_enabled=claims.nvdec0_enabled)


def _versions(claims: GpuClaims) -> dict[str, str]:
    return {"driver": claims.driver_version, "VBIOS": claims.vbios_version}


def _only(rims: Sequence[Rim], what: str, version: str) -> Rim:
    found = [rim for rim in rims if rim.version.upper() == version.upper()]
    if len(found) != 1:
        raise EvidenceError(EVIDENCE_BINDING, f"RIMs of {what} {version}", found=len(found), expected=1)
    return found[0]


def _etree() -> Any:
    """lxml, which has no types and which only programs with RIMs need."""
    try:
        return importlib.import_module("lxml.etree")
    except ImportError:
        raise EvidenceError(EVIDENCE_FORMAT, "reading a RIM needs the package lxml") from None


def _parse(data: bytes) -> Any:
    """The root element of a document that has elements, attributes and text and nothing else."""
    if len(data) > MAX_RIM:
        raise EvidenceError(
            EVIDENCE_TOO_LARGE, "RIM", found=f"{len(data)} bytes", expected=f"at most {MAX_RIM}"
        )
    etree = _etree()
    declaration = _DECLARATION.match(data)
    content = data[declaration.end() :] if declaration else data
    # In UTF-8, "<!" and "<?" are always markup: document types, comments, CDATA, processing instructions.
    if b"<!" in content or b"<?" in content:
        raise _malformed("a document type, comment, CDATA or processing instruction")
    # Declarations of namespaces take quadratic time, and nothing is verified yet.
    if content.count(b"xmlns") > MAX_NAMESPACES:
        raise _malformed("declarations of namespaces", expected=f"at most {MAX_NAMESPACES}")
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever the declaration says: the check above is for UTF-8
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
    )
    try:
        content.decode("utf-8")
        root = etree.fromstring(content, parser)
    except (etree.LxmlError, ValueError) as error:
        raise _malformed("not XML") from error
    _check_attributes(root)
    return root


def _check_attributes(root: Any) -> None:
    for element in root.iter():
        # To sort them for the canonical form takes quadratic time.
        if len(element.attrib) > MAX_ATTRIBUTES:
            raise _malformed("attributes of an element", expected=f"at most {MAX_ATTRIBUTES}")
        if any(name.startswith(_XML) for name in element.attrib):
            raise _malformed("an attribute xml:...")


def _dissect(root: Any) -> tuple[Any, bytes, bytes]:
    """The signature, and canonical XML of its SignedInfo and of the document without the signature."""
    if root.tag != _SWID + "SoftwareIdentity":
        raise EvidenceError(EVIDENCE_FORMAT, "RIM: not a SWID tag")
    signatures = list(root.iter(_DS + "Signature"))
    if len(signatures) != 1 or signatures[0].getparent() is not root:
        raise _malformed("not one signature at its place")
    signature = signatures[0]
    signed_info = _canonical(_children(signature, "SignedInfo", "SignatureValue", "KeyInfo")[0])
    # What stands after an element is its `tail`, which lxml would remove with it.
    before, tail = signature.getprevious(), signature.tail or ""
    if before is None:
        root.text = (root.text or "") + tail
    else:
        before.tail = (before.tail or "") + tail
    root.remove(signature)
    return signature, signed_info, _canonical(root)


def _canonical(element: Any) -> bytes:
    etree = _etree()
    try:
        found: bytes = etree.tostring(element, method="c14n", exclusive=False, with_comments=False)
    except (etree.LxmlError, ValueError) as error:
        raise _malformed("no canonical form") from error
    return found


def _chain(signature: Any, roots: Collection[str]) -> tuple[x509.Certificate, ...]:
    (data,) = _children(signature[2], "X509Data")
    if not 2 <= len(data) <= certificates.MAX_CHAIN:
        raise EvidenceError(EVIDENCE_CERTIFICATE, "certificates of the RIM", found=len(data))
    found = _children(data, *["X509Certificate"] * len(data))
    chain = tuple(certificates.parse_certificate(_base64(each), "certificate of the RIM") for each in found)
    if (digest := certificates.sha256(chain[-1])) not in roots:
        raise untrusted_root(digest, roots, what="certificates of the RIM")
    return chain


def _check_signature(signature: Any, signed_info: bytes, signer: x509.Certificate) -> None:
    value, half = _base64(signature[1]), SIGNATURE_SIZE // 2
    r, s = int.from_bytes(value[:half]), int.from_bytes(value[half:])
    certificates.verify_p384(signer, r, s, signed_info, "RIM")
    if len(value) != SIGNATURE_SIZE:  # the second number could stand there without its leading zeros
        raise EvidenceError(EVIDENCE_SIGNATURE, "RIM", found=f"{len(value)} bytes", expected=SIGNATURE_SIZE)


def _check_reference(signed_info: Any, body: bytes) -> None:
    """What is signed is the digest of the whole document, by the algorithms of NVIDIA's profile."""
    canonical, method, reference = _children(
        signed_info, "CanonicalizationMethod", "SignatureMethod", "Reference"
    )
    if dict(reference.attrib) != {"URI": ""}:
        raise _malformed("the reference is not to the whole document")
    transforms, digest_method, digest = _children(reference, "Transforms", "DigestMethod", "DigestValue")
    enveloped, again = _children(transforms, "Transform", "Transform")
    for element, algorithm in (
        (canonical, _C14N),
        (method, _ECDSA_SHA384),
        (enveloped, _ENVELOPED),
        (again, _C14N),
        (digest_method, _SHA384),
    ):
        if dict(element.attrib) != {"Algorithm": algorithm} or len(element):
            raise EvidenceError(EVIDENCE_ALGORITHM, "RIM", expected=algorithm)
    if _base64(digest) != hashlib.sha384(body).digest():
        raise EvidenceError(EVIDENCE_SIGNATURE, "RIM: digest of the document")


def _read(body: Any, chain: Sequence[x509.Certificate]) -> Rim:
    meta, payload = body.findall(_SWID + "Meta"), body.findall(_SWID + "Payload")
    if len(meta) != 1 or len(payload) != 1:
        raise _malformed("not one Meta and one Payload")
    golden: dict[int, tuple[str, ...]] = {}
    seen: set[int] = set()
    for resource in payload[0]:
        index, active, digests = _resource(resource)
        if index in seen:
            raise _malformed(f"two resources for measurement {index}")
        seen.add(index)
        if active:
            golden[index] = digests
    if not golden:
        raise _malformed("no reference values")
    return Rim(
        root_sha256=certificates.sha256(chain[-1]),
        product=_attribute(meta[0], "product", _VERSION),
        version=_attribute(meta[0], "colloquialVersion", _VERSION),
        tag_id=_attribute(body, "tagId", _TAG),
        golden=golden,
        expires=certificates.expiry(chain),
    )


def _resource(resource: Any) -> tuple[int, bool, tuple[str, ...]]:
    """One measurement: its SPDM index, whether it is to be compared, and its accepted digests."""
    active = _ACTIVE.get(resource.get("active"))
    if resource.tag != _SWID + "Resource" or resource.get("type") != "Measurement" or active is None:
        raise _malformed("a resource of another kind")
    index = int(_attribute(resource, "index", _NUMBER)) + 1
    count = int(_attribute(resource, "alternatives", _NUMBER))
    if index > MAX_INDEX or not 1 <= count <= MAX_ALTERNATIVES or resource.get("size") != str(DIGEST_SIZE):
        raise _malformed("index, alternatives or size of a resource")
    names = [f"{_HASH}{number}" for number in range(count)]
    if {name for name in resource.attrib if name.startswith(_HASH)} != set(names):
        raise _malformed(f"digests of measurement {index}")
    return index, active, tuple(_attribute(resource, name, _DIGEST) for name in names)


def _children(element: Any, *names: str) -> list[Any]:
    """The children of an element of XML-DSig, which must be just these."""
    found = list(element)
    if [each.tag for each in found] != [_DS + name for name in names]:
        raise _malformed("members of the signature", expected=", ".join(names))
    return found


def _attribute(element: Any, name: str, form: re.Pattern[str]) -> str:
    value = element.get(name)
    if value is None or not form.fullmatch(value):
        raise _malformed(f"attribute {name.rpartition('}')[2]}", expected=form.pattern)
    return str(value)


def _base64(element: Any) -> bytes:
    """The text of an element, which must have nothing else."""
    if len(element):
        raise _malformed("not text")
    try:
        return base64.b64decode("".join((element.text or "").split()), validate=True)
    except ValueError:
        raise _malformed("not base64") from None


def _malformed(detail: str, *, expected: object = None) -> EvidenceError:
    return EvidenceError(EVIDENCE_MALFORMED, f"RIM: {detail}", expected=expected)
