"""NVIDIA Hopper GPUs: from an attestation report with its certificates to claims.

The chain is the key that signed the report, which the GPU derives from its firmware at each start; the
GPU's own identity (BROM); NVIDIA's authorities; NVIDIA's root. All are ECDSA on P-384. What the measurements
should be, only signed reference values say: see `gpu_rim`.

Not done here: revocation. NVIDIA tells it by OCSP only, and a GPU's own certificates have no end of validity
(the year 9999). A relying party needs another way to learn that a GPU or its firmware is revoked.

Bytes of the certificates in PEM, and an ECDSA signature, can be changed without becoming invalid: recognise
a replay by the nonce, never by a digest of the evidence.

Sources: DMTF DSP0274 1.1; TCG DICE Attestation Architecture; github.com/NVIDIA/nvtrust (local verifier).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.attestation import certificates
from strongroom.attestation.errors import (
    EVIDENCE_BINDING,
    EVIDENCE_CERTIFICATE,
    EVIDENCE_KEY,
    EVIDENCE_NONCE,
)
from strongroom.attestation.gpu_report import DIGEST_SIZE, GpuReport, OpaqueField
from strongroom.attestation.roots import NVIDIA_ROOT_SHA256, untrusted_root
from strongroom.errors import EvidenceError

NVIDIA_ROOTS: Final = frozenset({NVIDIA_ROOT_SHA256})
HOPPER: Final = frozenset({"GH100"})
"""Products whose reports are accepted. The same root stands above NVIDIA's switches too."""

_FWID: Final = x509.ObjectIdentifier("2.23.133.5.4.1")
_DEVICE_INFO: Final = x509.ObjectIdentifier("1.3.6.1.4.1.412.274.1")
_UTF8_STRING: Final = 0x0C
_DEVICE: Final = re.compile(r"NVIDIA:([0-9A-Za-z]{1,16}):([0-9A-Za-z]{1,32})")
_MODEL: Final = re.compile(r"([0-9A-Za-z]{1,16})( [0-9A-Za-z]{1,16}){1,4}")

# TCG "CompositeDeviceID": SEQUENCE { version 1, key of the device, SEQUENCE { SHA-384, OCTET STRING } }.
_COMPOSITE: Final = bytes.fromhex("3081ba020101")
_COMPOSITE_DIGEST: Final = bytes.fromhex("303d06096086480165030402020430")


@dataclass(frozen=True, slots=True)
class GpuClaims:
    """What the evidence of one GPU says, after its signatures have been verified. Not yet appraised.

    Attributes:
        root_sha256: SHA-256 of the DER of the root certificate, lower-case hex.
        nonce: 32 bytes that the request carried. They are all that binds a report to its occasion.
        measurements: Lower-case hex of 48 bytes by SPDM index, which begins at 1.
        driver_version: Of the kernel driver, for example `550.90.07`.
        vbios_version: For example `96.00.9F.00.01`.
        product: Of the chip, for example `GH100`.
        hardware_model: Name of the chip's identity, for example `GH100 A01 GSP BROM`.
        device: Serial number of the chip, as DMTF's device information in the certificate has it; empty
            without one.
        ueid: Serial number of the signing certificate in decimal: what NVIDIA's own verifier calls UEID.
        device_key_sha256: SHA-256 of the key of the chip's identity, lower-case hex. It tells GPUs apart and
            outlives changes of firmware.
        fwid: SHA-384 of the firmware that holds the signing key, lower-case hex; empty without one.
        board_id: Lower-case hex of the field as it is; empty without one.
        project: With the next three: what the board is; empty where the field is empty or missing.
        project_sku: See `project`.
        chip_sku: See `project`.
        chip_sku_mod: See `project`.
        nvdec0_enabled: Whether the first video decoder is on; None if the report does not say.
        protected_pcie: Whether the GPU shares memory in the clear over NVLink; None if it does not say.
        expires: Unix time at which the first certificate of the chain expires.
    """

    root_sha256: str
    nonce: bytes
    measurements: Mapping[int, str]
    driver_version: str
    vbios_version: str
    product: str
    hardware_model: str
    device: str
    ueid: str
    device_key_sha256: str
    fwid: str
    board_id: str
    project: str
    project_sku: str
    chip_sku: str
    chip_sku_mod: str
    nvdec0_enabled: bool | None
    protected_pcie: bool | None
    expires: int


def verify(
    report: bytes,
    chain_pem: str,
    *,
    nonce: bytes | None,
    now: int,
    roots: Collection[str] = NVIDIA_ROOTS,
    products: Collection[str] = HOPPER,
) -> GpuClaims:
    """Verify a report with its certificates.

    Args:
        report: Request and response, at most 64 KiB.
        chain_pem: The signing certificate first, the root last.
        nonce: 32 bytes that the report must be for; None to accept any, where freshness is shown otherwise.
        now: Unix time of the appraisal.
        roots: SHA-256 of the DER of roots up to which it may verify, lower-case hex.
        products: Products of which the GPU may be.

    Raises:
        EvidenceError: A code `evidence-...`.
    """
    parsed = GpuReport.parse(report)
    chain = _chain(chain_pem, roots)
    certificates.verify_chain(chain, now)
    model = _model(chain[1], products)
    product = model.partition(" ")[0]
    device = _device(chain[0], product)
    _check_signer(chain[0])
    certificates.verify_p384(chain[0], parsed.r, parsed.s, parsed.signed, "GPU report")
    if nonce is not None and parsed.nonce != nonce:
        raise EvidenceError(EVIDENCE_NONCE, "GPU report")
    return GpuClaims(
        root_sha256=certificates.sha256(chain[-1]),
        nonce=parsed.nonce,
        measurements={index: digest.hex() for index, digest in parsed.measurements.items()},
        driver_version=parsed.text(OpaqueField.DRIVER_VERSION, needed=True),
        vbios_version=parsed.vbios_version(),
        product=product,
        hardware_model=model,
        device=device,
        ueid=str(chain[0].serial_number),
        device_key_sha256=certificates.key_sha256(chain[1]),
        fwid=_firmware(parsed, chain).hex(),
        board_id=parsed.opaque.get(OpaqueField.BOARD_ID, b"")[:32].hex(),
        project=parsed.text(OpaqueField.PROJECT),
        project_sku=parsed.text(OpaqueField.PROJECT_SKU),
        chip_sku=parsed.text(OpaqueField.CHIP_SKU),
        chip_sku_mod=parsed.text(OpaqueField.CHIP_SKU_MOD),
        nvdec0_enabled=parsed.switch(OpaqueField.NVDEC0_STATUS),
        protected_pcie=parsed.switch(OpaqueField.PROTECTED_PCIE_STATUS),
        expires=certificates.expiry(chain),
    )


def _chain(pem: str, roots: Collection[str]) -> tuple[x509.Certificate, ...]:
    chain = certificates.parse_chain(pem, "certificates of the GPU")
    # Below three, the signer or the identity would be the root itself.
    if len(chain) < 3:
        raise EvidenceError(
            EVIDENCE_CERTIFICATE, "certificates of the GPU", found=len(chain), expected="at least 3"
        )
    if (digest := certificates.sha256(chain[-1])) not in roots:
        raise untrusted_root(digest, roots, what="certificates of the GPU")
    return chain


def _check_signer(signer: x509.Certificate) -> None:
    # An authority's key must not sign reports: what it signs is not what a GPU measured.
    if _is_authority(signer) or not _may_sign(signer):
        raise EvidenceError(EVIDENCE_KEY, "the first certificate is not one for signing reports")


def _model(identity: x509.Certificate, products: Collection[str]) -> str:
    """The model of a chip by the name of its identity, if it is of a product that is accepted."""
    names = identity.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    match = _MODEL.fullmatch(str(names[0].value)) if len(names) == 1 else None
    if match is None or match[1] not in products:
        raise EvidenceError(
            EVIDENCE_KEY,
            "product",
            found=certificates.name_of(identity),
            expected=" or ".join(sorted(products)),
        )
    return match[0]


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        return False


def _device(signer: x509.Certificate, product: str) -> str:
    """The chip's serial number from DMTF's device information (DSP0274, "Subject Alternative Name")."""
    try:
        names = signer.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    values = [
        each.value for each in names.get_values_for_type(x509.OtherName) if each.type_id == _DEVICE_INFO
    ]
    if not values:
        return ""
    match = _DEVICE.fullmatch(_utf8_string(values[0]))
    if len(values) != 1 or match is None:
        raise EvidenceError(EVIDENCE_CERTIFICATE, "device information of the GPU")
    if match[1] != product:
        raise EvidenceError(EVIDENCE_BINDING, "product of the device", found=match[1], expected=product)
    return match[2]


def _utf8_string(der: bytes) -> str:
    """A DER UTF8String of ASCII characters, fewer than 128; else nothing."""
    if len(der) < 2 or (der[0], der[1]) != (_UTF8_STRING, len(der) - 2) or der[1] > 127 or not der.isascii():
        return ""
    return der[2:].decode("ascii")


def _firmware(report: GpuReport, chain: Sequence[x509.Certificate]) -> bytes:
    """The firmware's digest, the same in the certificate and, if it is there too, in the report.

    Like NVIDIA's verifier this demands nothing of older firmware, whose report does not have it.
    """
    certified = _certified_firmware(chain)
    reported = report.opaque.get(OpaqueField.FWID, certified)
    if reported != certified:
        raise EvidenceError(
            EVIDENCE_BINDING, "firmware", found=reported[:DIGEST_SIZE].hex(), expected=certified.hex()
        )
    return certified


def _certified_firmware(chain: Sequence[x509.Certificate]) -> bytes:
    try:
        value = chain[0].extensions.get_extension_for_oid(_FWID).value
    except x509.ExtensionNotFound:
        return b""
    der = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
    # The device's key in it is that of the issuer: so the whole has one form only.
    key = chain[1].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    head = _COMPOSITE + key + _COMPOSITE_DIGEST
    if not der.startswith(head) or len(der) != len(head) + DIGEST_SIZE:
        raise EvidenceError(EVIDENCE_BINDING, "identity of the firmware in the certificate of the GPU")
    return der[len(head) :]
