"""What a quote needs, read from the quote alone. Nothing is verified: a quote can name any platform.

Collateral comes in items, each with a name under which it is kept: Intel's for one TEE, platform family
(FMSPC) and certificate authority; AMD's chain and revocation list for one product; one chip's VCEK for its
firmware versions.

Sources: Intel SGX PCK Certificate and CRL Profile Specification (FMSPC, CA); AMD 57230 (VCEK certificates and
key distribution service).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ssl import DER_cert_to_PEM_cert
from typing import Final

from strongroom.attestation.collateral.errors import COLLATERAL_UNAVAILABLE
from strongroom.attestation.errors import EVIDENCE_CHAIN, EVIDENCE_MALFORMED, EVIDENCE_TOO_LARGE
from strongroom.attestation.evidence import MAX_QUOTE, EvidenceKind
from strongroom.attestation.snp_report import SigningKey, SnpReport
from strongroom.errors import EvidenceError

_CHIP_ID: Final = 64
_TURIN_CHIP_ID: Final = 8
_UNNAMED: Final = ("Milan", "Genoa")
"""Products of which there are reports of version 2, which do not name theirs."""

_DCAP_NAME: Final = re.compile(r"(sgx|tdx)-([0-9a-f]{12})-(platform|processor)")
_ISSUER: Final = re.compile(r"SEV-(VLEK-)?(Milan|Genoa|Turin)")
_AMD_NAME: Final = re.compile(r"snp-(milan|genoa|turin)-(vcek|vlek)")
_VCEK_NAME: Final = re.compile(r"snp-(milan|genoa|turin)-([0-9a-f]{128}|[0-9a-f]{16})-([0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class DcapItem:
    """Intel's statements on a platform family.

    Attributes:
        tee: `SGX` or `TDX`.
        fmspc: The family: 12 lower-case hexadecimal digits.
        authority: Who issued the platform's certificate: `platform` or `processor`.
    """

    tee: EvidenceKind
    fmspc: str
    authority: str

    @property
    def name(self) -> str:
        """The name under which it is kept."""
        return f"{self.tee}-{self.fmspc}-{self.authority}"


@dataclass(frozen=True, slots=True)
class AmdItem:
    """AMD's authorities of a product and its revocation list.

    Attributes:
        product: `Milan`, `Genoa` or `Turin`.
        key: The kind of key that the authority issues.
    """

    product: str
    key: SigningKey

    @property
    def name(self) -> str:
        """The name under which it is kept."""
        return f"snp-{self.product}-{self.key.name}".lower()


@dataclass(frozen=True, slots=True)
class VcekItem:
    """The certificate of one chip's key for its firmware.

    Attributes:
        product: `Milan`, `Genoa` or `Turin`.
        chip_id: 64 bytes, of Turin 8.
        tcb: Versions of the firmware's parts, 8 bytes.
    """

    product: str
    chip_id: bytes
    tcb: bytes

    @property
    def name(self) -> str:
        """The name under which it is kept."""
        return f"snp-{self.product}-{self.chip_id.hex()}-{self.tcb.hex()}".lower()


Item = DcapItem | AmdItem | VcekItem


def item_of(name: str) -> Item | None:
    """The item of a name, None if it is no such name."""
    if found := _DCAP_NAME.fullmatch(name):
        return DcapItem(EvidenceKind(found[1]), found[2], found[3])
    if found := _AMD_NAME.fullmatch(name):
        return AmdItem(found[1].title(), SigningKey[found[2].upper()])
    if found := _VCEK_NAME.fullmatch(name):
        item = VcekItem(found[1].title(), bytes.fromhex(found[2]), bytes.fromhex(found[3]))
        return item if len(item.chip_id) == _chip_id_size(item.product) else None
    return None


def needs(kind: EvidenceKind, quote: bytes) -> tuple[tuple[Item, ...], ...]:
    """What verification needs beside a quote: one of these sets of items, the likeliest first.

    Nitro documents and bare TPMs need nothing: one empty set. An SNP report of version 2 does not name its
    product, so there are two sets.

    Args:
        kind: Kind of evidence.
        quote: What the hardware signed, at most 64 KiB.

    Raises:
        EvidenceError: `evidence-too-large`, `evidence-malformed`, another code of an SNP report, or
            `collateral-unavailable`: a VLEK, a hidden chip, or a quote without the platform's certificate.
    """
    if len(quote) > MAX_QUOTE:
        raise EvidenceError(EVIDENCE_TOO_LARGE, "quote", found=len(quote), expected=f"at most {MAX_QUOTE}")
    match kind:
        case EvidenceKind.SGX | EvidenceKind.TDX:
            return ((_dcap_item(kind, quote),),)
        case EvidenceKind.AZ_TDX:
            from strongroom.attestation.tpm_forms import parse_azure_tdx

            return ((_dcap_item(EvidenceKind.TDX, parse_azure_tdx(quote).hardware),),)
        case EvidenceKind.SNP:
            return _snp_items(SnpReport.parse(quote))
        case EvidenceKind.AZ_SNP:
            from strongroom.attestation.tpm_forms import parse_azure_snp

            return ((authority_of(DER_cert_to_PEM_cert(parse_azure_snp(quote).hardware)),),)
        case EvidenceKind.NITRO | EvidenceKind.TPM:
            return ((),)


def authority_of(vek: str) -> AmdItem:
    """The authorities above a VCEK or VLEK, as its certificate names its issuer.

    Args:
        vek: The certificate in PEM.

    Raises:
        EvidenceError: `evidence-certificate` or `evidence-chain` (an issuer that is not AMD's).
    """
    from strongroom.attestation import certificates

    certificate = certificates.parse_chain(vek, "VCEK or VLEK")[0]
    name = certificates.common_name(certificate.issuer)
    found = _ISSUER.fullmatch(name)
    if found is None:
        raise EvidenceError(
            EVIDENCE_CHAIN, "an issuer that is not known", found=certificates.name_of(certificate)
        )
    return AmdItem(found[2], SigningKey.VLEK if found[1] else SigningKey.VCEK)


def _dcap_item(kind: EvidenceKind, quote: bytes) -> DcapItem:
    import dcap_qvl

    try:
        parsed = dcap_qvl.parse_quote(quote)
        certified = parsed.cert_chain_pem_bytes() is not None
    except ValueError:
        raise EvidenceError(EVIDENCE_MALFORMED, "not a quote") from None
    if parsed.is_tdx() is not (kind is EvidenceKind.TDX):
        raise EvidenceError(EVIDENCE_MALFORMED, "quote", found=parsed.quote_type(), expected=kind.upper())
    if not certified:
        # Types 1 to 4 have an encrypted PPID: Intel gives the certificate to the platform's registered owner.
        raise EvidenceError(
            COLLATERAL_UNAVAILABLE,
            "the quote does not hold the platform's certificate (PCK)",
            expected="certification data of type 5",
        )
    try:
        fmspc, authority = parsed.fmspc().lower(), parsed.ca()
    except ValueError:
        raise EvidenceError(EVIDENCE_MALFORMED, "the platform's certificate in the quote") from None
    item = item_of(f"{kind}-{fmspc}-{authority}")
    if not isinstance(item, DcapItem):
        raise EvidenceError(EVIDENCE_MALFORMED, "authority of the platform's certificate")
    return item


def _snp_items(report: SnpReport) -> tuple[tuple[Item, ...], ...]:
    if report.signing_key is SigningKey.VLEK:
        raise EvidenceError(COLLATERAL_UNAVAILABLE, "AMD gives a VLEK certificate to its provider only")
    if not any(report.chip_id):
        raise EvidenceError(COLLATERAL_UNAVAILABLE, "the report hides the chip's id")
    products = _UNNAMED if report.product is None else (report.product,)
    return tuple((_vcek_item(report, product), AmdItem(product, SigningKey.VCEK)) for product in products)


def _vcek_item(report: SnpReport, product: str) -> VcekItem:
    return VcekItem(product, report.chip_id[: _chip_id_size(product)], report.reported_tcb)


def _chip_id_size(product: str) -> int:
    return _TURIN_CHIP_ID if product == "Turin" else _CHIP_ID
