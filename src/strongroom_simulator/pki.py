"""A test "Intel": root CA, PCK platform CA, TCB signing key, and one platform's PCK certificate.

The names and extensions are those of Intel's certificates, so that production verifiers read them, with the
word SIMULATED in front.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ObjectIdentifier

from strongroom_simulator import _der, _x509

FMSPC: Final = bytes.fromhex("51d000000000")
"""Platform family. Intel has none of this number."""

PCE_ID: Final = bytes(2)
PCE_SVN: Final = 13
CPU_SVN: Final = bytes([3, 3, 2, 2, 4, 1, 0, 5, *[0] * 8])

_SGX_EXTENSION: Final = "1.2.840.113741.1.13.1"
_LIFETIME: Final = timedelta(days=3650)
_BACKDATE: Final = timedelta(days=1)
_SCALABLE: Final = 1  # SGXType of a platform with a platform CA


@dataclass(frozen=True, slots=True)
class Holder:
    """A certificate and its private key (ECDSA P-256)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Pki:
    """All keys of one simulated vendor and platform.

    Attributes:
        root: "SGX Root CA".
        platform_ca: "SGX PCK Platform CA", under the root.
        tcb_signing: "SGX TCB Signing", under the root; signs TCB info and QE identity.
        pck: "SGX PCK Certificate" of the one platform, under the platform CA.
        ppid: The platform's identity (16 bytes).
    """

    root: Holder
    platform_ca: Holder
    tcb_signing: Holder
    pck: Holder
    ppid: bytes

    @classmethod
    def create(cls, now: int, rng: Callable[[int], bytes]) -> Pki:
        """Make all keys and certificates, valid for ten years.

        Args:
            now: Unix time.
            rng: Randomness for the platform's identity; keys come from the operating system.
        """
        ppid = rng(16)
        root = _issue("SIMULATED SGX Root CA", None, now, path_length=1)
        platform_ca = _issue("SIMULATED SGX PCK Platform CA", root, now, path_length=0)
        tcb_signing = _issue("SIMULATED SGX TCB Signing", root, now)
        pck = _issue("SIMULATED SGX PCK Certificate", platform_ca, now, extension=_sgx_extension(ppid))
        return cls(root, platform_ca, tcb_signing, pck, ppid)

    @property
    def root_sha256(self) -> str:
        """SHA-256 of the root's DER, lower-case hex: what a policy pins."""
        return hashlib.sha256(self.root.certificate.public_bytes(Encoding.DER)).hexdigest()


def pem(*holders: Holder) -> str:
    """The certificates as a PEM chain."""
    return "".join(holder.certificate.public_bytes(Encoding.PEM).decode() for holder in holders)


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ECDSA P-256 with SHA-256, as r and s of 32 bytes each."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def public_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key as x and y of 32 bytes each."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def _issue(
    name: str,
    issuer: Holder | None,
    now: int,
    *,
    path_length: int | None = None,
    extension: bytes | None = None,
) -> Holder:
    """A new key and its certificate; self-signed without an issuer, a CA's with a path length."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_key = issuer.key if issuer else key
    subject = _x509.name(name, "SIMULATED, not Intel Corporation")
    is_ca = path_length is not None
    issuer_name = issuer.certificate.subject if issuer else subject
    builder = (
        _x509.builder(subject, issuer_name, key.public_key(), now)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_distribution_points(), critical=False)
        .add_extension(_key_usage(is_ca=is_ca), critical=True)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
    )
    if extension is not None:
        unparsed = x509.UnrecognizedExtension(ObjectIdentifier(_SGX_EXTENSION), extension)
        builder = builder.add_extension(unparsed, critical=False)
    return Holder(builder.sign(issuer_key, hashes.SHA256()), key)


def _distribution_points() -> x509.CRLDistributionPoints:
    """Intel's own verifier insists on this extension; nobody fetches from it."""
    url = x509.UniformResourceIdentifier("https://simulated.invalid/root.crl")
    return x509.CRLDistributionPoints([x509.DistributionPoint([url], None, None, None)])


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=not is_ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _sgx_extension(ppid: bytes) -> bytes:
    """Intel SGX PCK Certificate and CRL Profile Specification, section 1.3.5."""

    def pair(suffix: str, value: bytes) -> bytes:
        return _der.sequence(_der.oid(f"{_SGX_EXTENSION}.{suffix}"), value)

    components = [pair(f"2.{index + 1}", _der.integer(svn)) for index, svn in enumerate(CPU_SVN)]
    tcb = _der.sequence(*components, pair("2.17", _der.integer(PCE_SVN)), pair("2.18", _der.octets(CPU_SVN)))
    configuration = _der.sequence(  # dynamic platform, cached keys, SMT enabled
        pair("7.1", _der.boolean(False)),
        pair("7.2", _der.boolean(False)),
        pair("7.3", _der.boolean(False)),
    )
    return _der.sequence(
        pair("1", _der.octets(ppid)),
        pair("2", tcb),
        pair("3", _der.octets(PCE_ID)),
        pair("4", _der.octets(FMSPC)),
        pair("5", _der.enumerated(_SCALABLE)),
        pair("6", _der.octets(hashlib.sha256(ppid).digest()[:16])),
        pair("7", configuration),
    )
