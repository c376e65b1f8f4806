"""A test "AWS": root, intermediate and a short-lived signer, and Nitro attestation documents under them.

The documents have the format of the real ones and are read by the production verifier. They protect nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.certificates import sha256
from strongroom.codec import cbor
from strongroom_simulator import _x509

_SIGNER_LIFETIME: Final = timedelta(hours=3)
_BACKDATE: Final = timedelta(seconds=5)
_ES384: Final = {1: -35}


@dataclass(frozen=True, slots=True)
class NitroPlatform:
    """A simulated Nitro hypervisor. Make one with `create`.

    Attributes:
        root: "aws.nitro-enclaves", with `root_key`.
        authority: An instance's authority.
        signer: The enclave's certificate, valid for three hours, with `key`.
    """

    root: x509.Certificate
    root_key: ec.EllipticCurvePrivateKey
    authority: x509.Certificate
    signer: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, now: int, *, curve: ec.EllipticCurve | None = None) -> NitroPlatform:
        """Make all keys and certificates; the signer's is valid from `now` for three hours.

        Args:
            now: Unix time.
            curve: Of the keys; AWS has P-384.
        """
        root_key, authority_key, key = (ec.generate_private_key(curve or ec.SECP384R1()) for _ in range(3))
        names = [
            _x509.name(text, "SIMULATED, not Amazon")
            for text in ("aws.nitro-enclaves", "i-0.instance", "i-0-enc0.enclave")
        ]
        root = _issue(names[0], names[0], root_key, root_key, now, path_length=1)
        authority = _issue(names[1], names[0], authority_key, root_key, now, path_length=0)
        signer = _issue(
            names[2], names[1], key, authority_key, now, lifetime=_SIGNER_LIFETIME, path_length=None
        )
        return cls(root, root_key, authority, signer, key)

    @property
    def root_sha256(self) -> str:
        """SHA-256 of the root's DER, lower-case hex: what a policy pins."""
        return sha256(self.root)

    def payload(self, pcrs: Mapping[int, bytes], user_data: bytes | None, now: int) -> dict[str, Any]:
        """What a document says.

        Args:
            pcrs: Registers by number, 48 bytes each.
            user_data: Chosen by the enclave, at most 512 bytes.
            now: Unix time.
        """
        return {
            "module_id": "i-0-enc0",
            "digest": "SHA384",
            "timestamp": now * 1000,
            "pcrs": dict(pcrs),
            "certificate": _der(self.signer),
            "cabundle": [_der(self.root), _der(self.authority)],
            "public_key": None,
            "user_data": user_data,
            "nonce": None,
        }

    def document(self, payload: Mapping[str, Any]) -> bytes:
        """A signed document (COSE_Sign1, ES384)."""
        return self.signed(cbor.encode(_ES384), cbor.encode(payload))

    def signed(self, protected: bytes, payload: bytes) -> bytes:
        """A COSE_Sign1 of these two parts, signed."""
        content = cbor.encode(["Signature1", protected, b"", payload])
        r, s = decode_dss_signature(self.key.sign(content, ec.ECDSA(hashes.SHA384())))
        return cbor.encode([protected, {}, payload, r.to_bytes(48) + s.to_bytes(48)])


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _issue(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: int,
    *,
    path_length: int | None,
    lifetime: timedelta = _x509.LIFETIME,
) -> x509.Certificate:
    return (
        _x509.builder(subject, issuer, key.public_key(), now, lifetime=lifetime, backdate=_BACKDATE)
        .add_extension(
            x509.BasicConstraints(ca=path_length is not None, path_length=path_length), critical=True
        )
        .sign(issuer_key, hashes.SHA384())
    )
