"""SEV-SNP: from a report with its certificates to claims.

The chain is ARK (AMD's root of a product), ASK or ASVK, then the key that signed the report: a VCEK of one
chip or a VLEK of one provider. AMD publishes no status of firmware versions as Intel does: that the versions
are good enough is for the policy's own floor.

Sources: AMD 56860 (firmware ABI) and 57230 (VCEK certificates and key distribution service).
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping
from typing import Final

from cryptography import x509

from strongroom.attestation import certificates, initdata
from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.errors import (
    EVIDENCE_CERTIFICATE,
    EVIDENCE_CHAIN,
    EVIDENCE_CRL,
    EVIDENCE_INIT_DATA,
    EVIDENCE_KEY,
    EVIDENCE_NO_COLLATERAL,
    EVIDENCE_PLATFORM,
    EVIDENCE_TCB_MISMATCH,
)
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.roots import AMD_ROOT_KEYS, TrustRoots, untrusted_root
from strongroom.attestation.snp_report import SigningKey, SnpReport, tcb_parts
from strongroom.errors import EvidenceError

PRODUCTS: Final = ("Milan", "Genoa", "Turin")

_AMD: Final = "1.3.6.1.4.1.3704.1"
_PRODUCT_NAME: Final = f"{_AMD}.2"
_HARDWARE_ID: Final = f"{_AMD}.4"
_SVN: Final = {
    "bootloader": f"{_AMD}.3.1",
    "tee": f"{_AMD}.3.2",
    "snp": f"{_AMD}.3.3",
    "microcode": f"{_AMD}.3.8",
    "fmc": f"{_AMD}.3.9",
}
_INTEGER: Final = 0x02
_OCTETS: Final = 0x04
_CHIP_ID_SIZES: Final = (8, 64)


def verify(evidence: Evidence, roots: TrustRoots, now: int) -> Claims:
    """Verify a report with its certificates, and the init-data if it comes along.

    Raises:
        EvidenceError: A code `evidence-...`.
    """
    if evidence.collateral is None:
        raise EvidenceError(EVIDENCE_NO_COLLATERAL)
    report = SnpReport.parse(evidence.quote)
    chain = _chain(evidence.collateral)
    anchor, product = _choose_root(chain[-1], roots)
    certificates.verify_chain(chain, now)
    expires = certificates.expiry(chain)
    if (crl := evidence.collateral.get("crl")) is not None:
        due = certificates.check_revocation(_hex(crl), chain[-1], chain[:-1], now)
        expires = min(expires, due)
    _check_signature(report, chain[0])
    _check_platform(report, chain[0], product)
    return Claims(
        kind=evidence.kind,
        anchor=anchor,
        root_sha256=certificates.sha256(chain[-1]),
        measurement=report.measurement.hex(),
        signer=report.id_key_digest.hex(),
        report_data=report.report_data,
        init_data_digest=_init_data_digest(report, evidence.init_data),
        tcb_status="",
        advisories=(),
        debug=report.debug,
        product_id=0,
        svn=report.guest_svn,
        expires=expires,
        product=product,
        tcb=tcb_parts(report.reported_tcb, product),
        privilege=report.vmpl,
        migratable=report.migratable,
        revocation_checked=crl is not None,
    )


def _chain(collateral: Mapping[str, str]) -> tuple[x509.Certificate, ...]:
    """The signing key's certificate, its authority's, and the root."""
    leaf = certificates.parse_chain(collateral["vek"], "VCEK or VLEK")
    chain = collateral.get("chain")
    above = _known(leaf[0]) if chain is None else certificates.parse_chain(chain, "ASK and ARK")
    if len(leaf) != 1 or len(above) != 2:
        raise EvidenceError(
            EVIDENCE_CERTIFICATE, "number", found=f"{len(leaf)} and {len(above)}", expected="1 and 2"
        )
    return (*leaf, *above)


def _known(leaf: x509.Certificate) -> tuple[x509.Certificate, ...]:
    """AMD's authority that has issued a certificate, by its own word, and the root above."""
    for authority, root in _authorities():
        if authority.subject == leaf.issuer:
            return authority, root
    raise EvidenceError(EVIDENCE_CHAIN, "an issuer that is not known", found=certificates.name_of(leaf))


@functools.cache
def _authorities() -> tuple[tuple[x509.Certificate, x509.Certificate], ...]:
    """ASK and ASVK of each product, each with its ARK, as AMD's key distribution service has them."""
    folder = importlib.resources.files("strongroom.attestation") / "amd"
    found = []
    for product in PRODUCTS:
        pem = (folder / f"{product.lower()}.pem").read_text("ascii")
        ask, ark, asvk = certificates.parse_chain(pem, f"AMD's certificates, {product}")
        found += [(ask, ark), (asvk, ark)]
    return tuple(found)


def _choose_root(root: x509.Certificate, roots: TrustRoots) -> tuple[Anchor, str]:
    """Who stands behind a root that is trusted, and the product that it is of."""
    product = AMD_ROOT_KEYS.get(certificates.key_sha256(root))
    if product is not None and roots.amd:
        return Anchor.AMD, product
    digest = certificates.sha256(root)
    named = certificates.common_name(root.subject).removeprefix("ARK-")
    if digest in roots.simulated and named in PRODUCTS:
        return Anchor.SIMULATED, named
    raise untrusted_root(digest, roots.simulated, vendor="AMD's" if roots.amd else "")


def _check_signature(report: SnpReport, signer: x509.Certificate) -> None:
    kind = certificates.common_name(signer.subject).removeprefix("SEV-")
    if kind != report.signing_key.name:
        raise EvidenceError(EVIDENCE_KEY, found=kind[:40], expected=report.signing_key.name)
    certificates.verify_p384(signer, report.r, report.s, report.signed, "SNP report")


def _check_platform(report: SnpReport, signer: x509.Certificate, product: str) -> None:
    """The report is of the product, the chip and the firmware that the certificate was issued for."""
    if report.product not in {None, product}:
        raise EvidenceError(EVIDENCE_PLATFORM, "product", found=report.product, expected=product)
    named = _extension(signer, _PRODUCT_NAME)
    if not (named or b"")[2:].startswith(product.encode()):
        raise EvidenceError(EVIDENCE_PLATFORM, "product of the certificate", expected=product)
    reported = tcb_parts(report.reported_tcb, product)
    certified = {part: _integer(signer, _SVN[part]) for part in reported}
    if certified != reported:
        raise EvidenceError(EVIDENCE_TCB_MISMATCH, found=dict(reported), expected=certified)
    if report.signing_key is SigningKey.VCEK and report.chip_id != _hardware_id(signer):
        raise EvidenceError(EVIDENCE_PLATFORM, "chip id")


def _init_data_digest(report: SnpReport, init_data: bytes | None) -> bytes:
    """SHA-384 of the init-data that HOST_DATA binds; HOST_DATA itself has room for SHA-256 only."""
    if init_data is None:
        return bytes(48)
    if report.host_data != initdata.host_data(init_data):
        raise EvidenceError(EVIDENCE_INIT_DATA, "HOST_DATA")
    return initdata.digest(init_data)


def _extension(certificate: x509.Certificate, oid: str) -> bytes | None:
    try:
        found = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(oid))
    except x509.ExtensionNotFound:
        return None
    return found.value.value if isinstance(found.value, x509.UnrecognizedExtension) else None


def _integer(certificate: x509.Certificate, oid: str) -> int | None:
    """An extension that is a DER INTEGER of one byte or, above 127, two."""
    value = _extension(certificate, oid)
    if value is None or not 3 <= len(value) <= 4 or value[0] != _INTEGER or value[1] != len(value) - 2:
        return None
    return int.from_bytes(value[2:], signed=True)


def _hardware_id(certificate: x509.Certificate) -> bytes | None:
    """The chip id, padded to 64 bytes: 64 or 8 bytes, bare or as a DER OCTET STRING."""
    value = _extension(certificate, _HARDWARE_ID)
    if (
        value is not None
        and len(value) - 2 in _CHIP_ID_SIZES
        and value[:2] == bytes((_OCTETS, len(value) - 2))
    ):
        value = value[2:]
    return None if value is None or len(value) not in _CHIP_ID_SIZES else value.ljust(64, b"\0")


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise EvidenceError(EVIDENCE_CRL, "not hexadecimal") from None
