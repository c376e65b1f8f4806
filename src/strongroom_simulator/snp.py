"""A test "AMD": the root of a product, its ASK, one chip's VCEK, and SEV-SNP reports under them.

Reports and certificates have the formats of the real ones and are read by the production verifier. They
protect nothing: the chip is a key in a file.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ObjectIdentifier

from strongroom.attestation.certificates import sha256
from strongroom_simulator import _der, _x509

TCB: Final[Mapping[str, int]] = {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 219}
"""Firmware versions of the simulated chip."""

_BACKDATE: Final = timedelta(days=1)
_CRL_LIFETIME: Final = timedelta(days=365)
_AMD: Final = "1.3.6.1.4.1.3704.1"
_PLACES: Final = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
_EXTENSIONS: Final = {"bootloader": "3.1", "tee": "3.2", "snp": "3.3", "microcode": "3.8"}
_FAMILY_MODEL: Final = {"Milan": (0x19, 0x01), "Genoa": (0x19, 0x11)}
_DEBUG: Final = 1 << 19
_MIGRATABLE: Final = 1 << 18
_ALWAYS_SET: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class Guest:
    """What a report says of its guest.

    Attributes:
        measurement: Launch digest, 48 bytes.
        report_data: 64 bytes.
        host_data: 32 bytes: SHA-256 of the init-data.
        guest_svn: Its security version.
        vmpl: The privilege level that asks.
        debug: Whether the host may debug it.
        migratable: Whether a migration agent may be associated with it.
        id_key_digest: 48 bytes.
    """

    measurement: bytes
    report_data: bytes
    host_data: bytes = bytes(32)
    guest_svn: int = 0
    vmpl: int = 0
    debug: bool = False
    migratable: bool = False
    id_key_digest: bytes = bytes(48)


@dataclass(frozen=True, slots=True)
class SnpPlatform:
    """A simulated chip with its certificates. Make one with `create`.

    Attributes:
        product: `Milan` or `Genoa`.
        chip_id: 64 bytes, or 8, which a report pads with zeros.
        tcb: Versions of its firmware.
        root: "ARK-PRODUCT", with `root_key`.
        authority: "SEV-PRODUCT", with `authority_key`.
        signer: The chip's "SEV-VCEK", with `key`.
    """

    product: str
    chip_id: bytes
    tcb: Mapping[str, int]
    root: x509.Certificate
    root_key: rsa.RSAPrivateKey
    authority: x509.Certificate
    authority_key: rsa.RSAPrivateKey
    signer: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(
        cls,
        now: int,
        chip_id: bytes,
        *,
        product: str = "Milan",
        tcb: Mapping[str, int] = TCB,
        rsa_bits: int = 4096,
    ) -> SnpPlatform:
        """Make all keys and certificates, valid for ten years.

        Args:
            now: Unix time.
            chip_id: 64 bytes.
            product: `Milan` or `Genoa`.
            tcb: Versions of the firmware's parts.
            rsa_bits: Size of the two authorities' keys; AMD's have 4096, which takes a second to make.
        """
        root_key = rsa.generate_private_key(65537, rsa_bits)
        authority_key = rsa.generate_private_key(65537, rsa_bits)
        key = ec.generate_private_key(ec.SECP384R1())
        root_name, authority_name = _name(f"ARK-{product}"), _name(f"SEV-{product}")
        root = _authority(root_name, root_name, root_key, root_key, now, path_length=1)
        authority = _authority(authority_name, root_name, authority_key, root_key, now, path_length=0)
        signer = _signer(authority, authority_key, key, now, _chip_extensions(product, chip_id, tcb))
        return cls(product, chip_id, tcb, root, root_key, authority, authority_key, signer, key)

    @property
    def root_sha256(self) -> str:
        """SHA-256 of the root's DER, lower-case hex: what a policy pins."""
        return sha256(self.root)

    def collateral(self, *, crl: bytes | None = None) -> dict[str, str]:
        """The certificates in PEM, and a revocation list if there is one."""
        pem = [each.public_bytes(Encoding.PEM).decode() for each in (self.signer, self.authority, self.root)]
        parts = {"vek": pem[0], "chain": pem[1] + pem[2]}
        return parts if crl is None else {**parts, "crl": crl.hex()}

    def revocation_list(self, now: int, revoked: tuple[int, ...] = ()) -> bytes:
        """The root's list in DER, valid for a year, with these serial numbers in it."""
        time = datetime.fromtimestamp(now, UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.root.subject)
            .last_update(time - _BACKDATE)
            .next_update(time + _CRL_LIFETIME)
        )
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(time).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.root_key, hashes.SHA384(), rsa_padding=_pss()).public_bytes(Encoding.DER)

    def certified(
        self,
        now: int,
        *,
        key: ec.EllipticCurvePrivateKey | None = None,
        product: str | None = None,
        hardware_id: bytes | None = None,
    ) -> SnpPlatform:
        """The same chip with another VCEK.

        Args:
            now: Unix time.
            key: Its key, if another.
            product: The product that the certificate names, if another.
            hardware_id: The certificate's extension with the chip id, if not the bare chip id.
        """
        extensions = _chip_extensions(product or self.product, hardware_id or self.chip_id, self.tcb)
        key = key or self.key
        return replace(
            self, key=key, signer=_signer(self.authority, self.authority_key, key, now, extensions)
        )

    def with_key(self, key: ec.EllipticCurvePrivateKey) -> SnpPlatform:
        """The same chip with another key than the one in its certificate."""
        return replace(self, key=key)

    def report(self, guest: Guest, *, version: int = 3) -> bytes:
        """A signed report, 1184 bytes."""
        body = bytearray(0x2A0)
        policy = _ALWAYS_SET | guest.debug * _DEBUG | guest.migratable * _MIGRATABLE
        tcb = self._tcb_version()
        struct.pack_into("<IIQ", body, 0, version, guest.guest_svn, policy)
        struct.pack_into("<II", body, 0x30, guest.vmpl, 1)
        body[0x50:0x90] = guest.report_data
        body[0x90:0xC0] = guest.measurement
        body[0xC0:0xE0] = guest.host_data
        body[0xE0:0x110] = guest.id_key_digest
        for place in (0x38, 0x180, 0x1E0, 0x1F0):  # current, reported, committed and launch
            body[place : place + 8] = tcb
        if version >= 3:
            body[0x188:0x18A] = bytes(_FAMILY_MODEL[self.product])
        body[0x1A0:0x1E0] = self.chip_id.ljust(64, b"\0")
        return self.signed(bytes(body))

    def signed(self, body: bytes) -> bytes:
        """A body of 672 bytes with its signature."""
        r, s = decode_dss_signature(self.key.sign(body, ec.ECDSA(hashes.SHA384())))
        return body + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368)

    def _tcb_version(self) -> bytes:
        version = bytearray(8)
        for part, place in _PLACES.items():
            version[place] = self.tcb[part]
        return bytes(version)


def _chip_extensions(product: str, chip_id: bytes, tcb: Mapping[str, int]) -> dict[str, bytes]:
    """AMD 57230, section 3: product name, chip id and firmware versions of a VCEK."""
    name = f"{product}-B0".encode()
    versions = {f"{_AMD}.{_EXTENSIONS[part]}": _der.integer(tcb[part]) for part in _EXTENSIONS}
    return {f"{_AMD}.2": bytes([0x16, len(name)]) + name, **versions, f"{_AMD}.4": chip_id}


def _name(common_name: str) -> x509.Name:
    return _x509.name(common_name, "SIMULATED, not Advanced Micro Devices")


def _authority(
    subject: x509.Name,
    issuer: x509.Name,
    key: rsa.RSAPrivateKey,
    issuer_key: rsa.RSAPrivateKey,
    now: int,
    *,
    path_length: int,
) -> x509.Certificate:
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    return (
        _x509.builder(subject, issuer, key.public_key(), now)
        .add_extension(constraints, critical=True)
        .sign(issuer_key, hashes.SHA384(), rsa_padding=_pss())
    )


def _signer(
    authority: x509.Certificate,
    authority_key: rsa.RSAPrivateKey,
    key: ec.EllipticCurvePrivateKey,
    now: int,
    extensions: Mapping[str, bytes],
) -> x509.Certificate:
    builder = _x509.builder(_name("SEV-VCEK"), authority.subject, key.public_key(), now)
    for oid, value in extensions.items():
        unparsed = x509.UnrecognizedExtension(ObjectIdentifier(oid), value)
        builder = builder.add_extension(unparsed, critical=False)
    return builder.sign(authority_key, hashes.SHA384(), rsa_padding=_pss())


def _pss() -> padding.PSS:
    return padding.PSS(padding.MGF1(hashes.SHA384()), 48)
