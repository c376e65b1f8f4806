"""X.509 chains of the makers of TEEs: parsed within bounds, verified link by link, at a given time.

Path building is not needed: who makes evidence knows the order of its chain, and the root is pinned by
digest. What is checked of each link is what the vendors' own verifiers check: name, signature, validity, and
that an issuer is an authority.
"""

from __future__ import annotations

import datetime
import hashlib
import warnings
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning

from strongroom.attestation.errors import (
    EVIDENCE_CERTIFICATE,
    EVIDENCE_CHAIN,
    EVIDENCE_CRL,
    EVIDENCE_EXPIRED,
    EVIDENCE_KEY,
    EVIDENCE_REVOKED,
    EVIDENCE_SIGNATURE,
)
from strongroom.errors import ErrorCode, EvidenceError

MAX_CERTIFICATE: Final = 8 * 1024
"""Most bytes of a certificate in DER."""

MAX_CHAIN: Final = 8
"""Most certificates of a chain."""

MAX_CRL: Final = 256 * 1024
"""Most bytes of a revocation list in DER."""

MAX_TIME: Final = 2**36
"""The year 4147: beyond the lifetime of any certificate, within what `datetime` can hold."""

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"

# AMD's VCEK certificates have the serial number 0, which X.509 does not allow.
warnings.filterwarnings(
    "ignore", message="Parsed a serial number which wasn't positive", category=CryptographyDeprecationWarning
)


def parse_certificate(der: bytes, what: str) -> x509.Certificate:
    """Read one certificate in DER.

    Raises:
        EvidenceError: `evidence-certificate`.
    """
    if len(der) > MAX_CERTIFICATE:
        raise EvidenceError(
            EVIDENCE_CERTIFICATE, what, found=f"{len(der)} bytes", expected=f"at most {MAX_CERTIFICATE}"
        )
    try:
        return _read_through(x509.load_der_x509_certificate(der))
    except Exception as error:  # ValueError, InvalidVersion, DuplicateExtension, ...: all mean the same here
        raise EvidenceError(EVIDENCE_CERTIFICATE, what) from error


def parse_chain(pem: str, what: str) -> tuple[x509.Certificate, ...]:
    """Read certificates in PEM, one after the other, at least one and at most `MAX_CHAIN`.

    Raises:
        EvidenceError: `evidence-certificate`.
    """
    if len(pem) > 2 * MAX_CHAIN * MAX_CERTIFICATE or not 1 <= pem.count(_BEGIN) <= MAX_CHAIN:
        raise EvidenceError(EVIDENCE_CERTIFICATE, what, expected=f"1 to {MAX_CHAIN} certificates in PEM")
    try:
        found = x509.load_pem_x509_certificates(pem.encode("ascii"))
        return tuple(_read_through(each) for each in found)
    except Exception as error:  # as in `parse_certificate`
        raise EvidenceError(EVIDENCE_CERTIFICATE, what) from error


def sha256(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate's DER, lower-case hex."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def key_sha256(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate's public key (SubjectPublicKeyInfo in DER), lower-case hex."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()


def verify_p384(signer: x509.Certificate, r: int, s: int, signed: bytes, what: str) -> None:
    """Check an ECDSA signature on P-384 with SHA-384 (FIPS 186-5, section 6), which most hardware makes.

    Args:
        signer: Certificate of the key.
        r: First number of the signature.
        s: Second number of the signature.
        signed: What was signed.
        what: Its name, for the error.

    Raises:
        EvidenceError: `evidence-key` (not a key on P-384) or `evidence-signature`.
    """
    key = signer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise EvidenceError(EVIDENCE_KEY, f"{what}: curve of the signing key", expected="P-384")
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise EvidenceError(EVIDENCE_SIGNATURE, what) from None


def verify_chain(chain: Sequence[x509.Certificate], now: int) -> None:
    """Check a chain from the leaf to a root that signs itself. That the root is trusted is for the caller.

    Args:
        chain: Leaf first.
        now: Unix time of the appraisal.

    Raises:
        EvidenceError: `evidence-chain` (names, signatures, or an issuer that is no authority) or
            `evidence-expired`.
    """
    for place, certificate in enumerate(chain):
        issuer = chain[min(place + 1, len(chain) - 1)]
        _check_link(certificate, issuer)
        if place:
            _check_authority(certificate, below=place - 1)
        check_validity(certificate, now)


def check_validity(certificate: x509.Certificate, now: int) -> None:
    """Check that a certificate is valid at a time.

    Raises:
        EvidenceError: `evidence-expired`.
    """
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= moment(now) <= end:
        raise EvidenceError(EVIDENCE_EXPIRED, name_of(certificate), found=now, expected=f"{start} to {end}")


def expiry(chain: Sequence[x509.Certificate]) -> int:
    """Unix time at which the first certificate of a chain expires."""
    return min(int(each.not_valid_after_utc.timestamp()) for each in chain)


def check_revocation(
    crl: bytes, issuer: x509.Certificate, chain: Sequence[x509.Certificate], now: int
) -> int:
    """Check a revocation list, and that it names none of these certificates.

    Args:
        crl: The list in DER.
        issuer: Who signed it.
        chain: Certificates that must not be in it.
        now: Unix time of the appraisal.

    Returns:
        Unix time at which the next list is due.

    Raises:
        EvidenceError: `evidence-crl` (malformed, of another issuer, or its signature does not hold),
            `evidence-expired` or `evidence-revoked`.
    """
    if len(crl) > MAX_CRL:
        raise EvidenceError(EVIDENCE_CRL, found=f"{len(crl)} bytes", expected=f"at most {MAX_CRL}")
    try:
        revoked = x509.load_der_x509_crl(crl)
        listed = {each.serial_number for each in revoked}
        name, issued, due = revoked.issuer, revoked.last_update_utc, revoked.next_update_utc
    except Exception as error:  # as in `parse_certificate`
        raise EvidenceError(EVIDENCE_CRL, "not well-formed") from error
    if name != issuer.subject:
        raise EvidenceError(EVIDENCE_CRL, "of another issuer")
    _check_signature(issuer, revoked, revoked.tbs_certlist_bytes, EVIDENCE_CRL)
    if due is None or not issued <= moment(now) <= due:
        raise EvidenceError(EVIDENCE_EXPIRED, "revocation list", found=now, expected=f"{issued} to {due}")
    for certificate in chain:
        if certificate.serial_number in listed and certificate.issuer == issuer.subject:
            raise EvidenceError(EVIDENCE_REVOKED, name_of(certificate))
    return int(due.timestamp())


def moment(now: int) -> datetime.datetime:
    """A Unix time for comparison with a certificate's times.

    Raises:
        EvidenceError: `evidence-expired`: no certificate lives then.
    """
    if not 0 <= now <= MAX_TIME:
        raise EvidenceError(EVIDENCE_EXPIRED, "the time of the appraisal is out of range")
    return datetime.datetime.fromtimestamp(now, datetime.UTC)


def name_of(certificate: x509.Certificate) -> str:
    """A certificate's subject for messages: bounded and printable."""
    text = certificate.subject.rfc4514_string()[:100]
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)


def common_name(name: x509.Name) -> str:
    """The common name, empty if there is none or more than one."""
    names = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def _read_through(certificate: x509.Certificate) -> x509.Certificate:
    """Touch what is parsed late: here is the place to find that it cannot be."""
    certificate.extensions, certificate.subject, certificate.issuer, certificate.public_key()
    certificate.signature_hash_algorithm, certificate.signature_algorithm_parameters  # noqa: B018
    return certificate


def _check_link(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    if certificate.issuer != issuer.subject:
        raise EvidenceError(EVIDENCE_CHAIN, f"{name_of(certificate)}: another issuer", found=name_of(issuer))
    _check_signature(issuer, certificate, certificate.tbs_certificate_bytes, EVIDENCE_CHAIN)


def _check_authority(certificate: x509.Certificate, *, below: int) -> None:
    """An issuer must be allowed to be one, with so many authorities below it."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = x509.BasicConstraints(ca=False, path_length=None)
    length = constraints.path_length
    if not constraints.ca or (length is not None and length < below):
        raise EvidenceError(EVIDENCE_CHAIN, f"{name_of(certificate)}: not an authority for what is below it")


def _check_signature(
    issuer: x509.Certificate,
    signed: x509.Certificate | x509.CertificateRevocationList,
    content: bytes,
    code: ErrorCode,
) -> None:
    """Check a signature by ECDSA or RSA with SHA-256 or better."""
    try:
        key, digest = issuer.public_key(), signed.signature_hash_algorithm
        parameters = signed.signature_algorithm_parameters
        if not isinstance(digest, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
            raise InvalidSignature
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(parameters, ec.ECDSA):
            key.verify(signed.signature, content, parameters)
        elif isinstance(key, rsa.RSAPublicKey) and isinstance(parameters, padding.PSS | padding.PKCS1v15):
            key.verify(signed.signature, content, parameters, digest)
        else:
            raise InvalidSignature
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise EvidenceError(code, f"signature of {name_of(issuer)}") from None
