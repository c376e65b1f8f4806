"""A test "NVIDIA": a GPU with its certificates and reports, and signed reference values. It protects nothing.

The formats are those of Hopper GPUs and are read by the production verifiers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.certificates import sha256
from strongroom.codec import b64
from strongroom_simulator import _x509

DRIVER: Final = "550.90.07"
VBIOS: Final = "96.00.9F.00.01"
MEASUREMENTS: Final[Mapping[int, bytes]] = {1: b"\x11" * 48, 2: b"\x22" * 48, 3: b"\x33" * 48}
"""By SPDM index, from 1."""

DRIVER_INDEXES: Final = (1, 2)
"""Which measurements the driver's reference values are of; the VBIOS has the others."""

_FIELDS: Final = {
    3: DRIVER.encode() + b"\0",
    6: bytes.fromhex("009f009601000000"),  # the VBIOS
    11: b"\xaa",
    21: b"\x55",
}
_SWID: Final = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_HASH: Final = "http://www.w3.org/2001/04/xmlenc#sha384"
_DS: Final = "http://www.w3.org/2000/09/xmldsig#"


@dataclass(frozen=True, slots=True)
class GpuPlatform:
    """A simulated GPU. Make one with `create`.

    Attributes:
        chain: Signer, identity of the chip, authority, root.
        key: Of the signer.
        rim_chain: Signer of reference values, root; the root is that of `chain`.
        rim_key: Of that signer.
    """

    chain: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey
    rim_chain: tuple[x509.Certificate, ...]
    rim_key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, now: int) -> GpuPlatform:
        """Make all keys and certificates, valid for ten years."""
        root_key, authority_key, identity_key, key, rim_key = (
            ec.generate_private_key(ec.SECP384R1()) for _ in range(5)
        )
        root = _authority("NVIDIA Device Identity CA", root_key, None, root_key, now)
        authority = _authority("NVIDIA GH100 Identity", authority_key, root, root_key, now)
        identity = _authority("GH100 A01 GSP BROM", identity_key, authority, authority_key, now)
        signer = _signer("GH100 A01 GSP", key, identity, identity_key, now)
        rim_signer = _signer("NVIDIA RIM signer", rim_key, root, root_key, now)
        return cls((signer, identity, authority, root), key, (rim_signer, root), rim_key)

    @property
    def root_sha256(self) -> str:
        """SHA-256 of the root's DER, lower-case hex: what a policy pins."""
        return sha256(self.chain[-1])

    @property
    def chain_pem(self) -> str:
        """The certificates, signer first."""
        return "".join(each.public_bytes(Encoding.PEM).decode() for each in self.chain)

    def report(self, nonce: bytes, measurements: Mapping[int, bytes] = MEASUREMENTS) -> bytes:
        """Request and signed response for a nonce of 32 bytes."""
        blocks = [
            struct.pack("<BBHBH", index, 1, 51, 1, 48) + digest for index, digest in measurements.items()
        ]
        record = b"".join(blocks)
        fields = b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in _FIELDS.items())
        content = b"".join(
            (
                b"\x11\xe0\x01\xff" + nonce + b"\0",
                b"\x11\x60\0\0" + bytes((len(blocks),)) + len(record).to_bytes(3, "little") + record,
                b"\x99" * 32 + struct.pack("<H", len(fields)) + fields,
            )
        )
        return content + _sign(self.key, content)

    def rims(self, measurements: Mapping[int, bytes] = MEASUREMENTS) -> tuple[bytes, bytes]:
        """Signed reference values of the driver and of the VBIOS (SWID tags)."""
        driver = {index: value for index, value in measurements.items() if index in DRIVER_INDEXES}
        vbios = {index: value for index, value in measurements.items() if index not in DRIVER_INDEXES}
        return self._rim(DRIVER, driver), self._rim(VBIOS, vbios)

    def _rim(self, version: str, golden: Mapping[int, bytes]) -> bytes:
        # All is written in its canonical form, so that nobody has to canonicalise it.
        resources = "".join(
            f'<Resource active="True" alternatives="1" index="{index - 1}" size="48" type="Measurement"'
            f' h:Hash0="{digest.hex()}"></Resource>'
            for index, digest in golden.items()
        )
        head = f'<SoftwareIdentity xmlns="{_SWID}" xmlns:h="{_HASH}" tagId="simulated-{version}">'
        meta = f'<Meta colloquialVersion="{version}" product="GH100"></Meta>'
        body = f"{head}{meta}<Payload>{resources}</Payload>"
        end = "</SoftwareIdentity>"
        digest = hashlib.sha384((body + end).encode()).digest()
        signature = _sign(self.rim_key, _signed_info(digest, canonical=True).encode())
        listed = "".join(
            f"<ds:X509Certificate>{b64.encode_std(each.public_bytes(Encoding.DER))}</ds:X509Certificate>"
            for each in self.rim_chain
        )
        return (
            f'{body}<ds:Signature xmlns:ds="{_DS}">{_signed_info(digest, canonical=False)}'
            f"<ds:SignatureValue>{b64.encode_std(signature)}</ds:SignatureValue>"
            f"<ds:KeyInfo><ds:X509Data>{listed}</ds:X509Data></ds:KeyInfo></ds:Signature>{end}"
        ).encode()


def devices_text(reports: Sequence[tuple[bytes, str]]) -> str:
    """The evidence of devices as Confidential Containers' attester sends it, of reports with their chains."""
    entries = [
        {
            "arch": "HOPPER",
            "uuid": f"GPU-{place}",
            "evidence": base64.b64encode(report).decode(),
            "certificate": base64.b64encode(chain.encode()).decode(),
        }
        for place, (report, chain) in enumerate(reports)
    ]
    return json.dumps({"nvidia": {"device_evidence_list": entries}})


def _signed_info(digest: bytes, *, canonical: bool) -> str:
    """What is signed; in its canonical form it repeats the name spaces of what is around it."""
    c14n = "http://www.w3.org/2006/12/xml-c14n11"
    spaces = f' xmlns="{_SWID}" xmlns:ds="{_DS}" xmlns:h="{_HASH}"' if canonical else ""
    algorithm = "http://www.w3.org/2001/04/xmldsig-more#"
    return (
        f'<ds:SignedInfo{spaces}><ds:CanonicalizationMethod Algorithm="{c14n}"></ds:CanonicalizationMethod>'
        f'<ds:SignatureMethod Algorithm="{algorithm}ecdsa-sha384"></ds:SignatureMethod>'
        f'<ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="{_DS}enveloped-signature">'
        f'</ds:Transform><ds:Transform Algorithm="{c14n}"></ds:Transform></ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{algorithm}sha384"></ds:DigestMethod>'
        f"<ds:DigestValue>{b64.encode_std(digest)}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
    )


def _sign(key: ec.EllipticCurvePrivateKey, content: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(content, ec.ECDSA(hashes.SHA384())))
    return r.to_bytes(48) + s.to_bytes(48)


def _name(common_name: str) -> x509.Name:
    return _x509.name(common_name, "SIMULATED, not NVIDIA Corporation")


def _authority(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: int,
) -> x509.Certificate:
    subject = _name(name)
    return (
        _x509.builder(subject, issuer.subject if issuer else subject, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA384())
    )


def _signer(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: int,
) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _x509.builder(_name(name), issuer.subject, key.public_key(), now)
        .add_extension(usage, critical=True)
        .sign(issuer_key, hashes.SHA384())
    )
