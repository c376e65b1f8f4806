"""What the certificates of all simulated vendors have in common."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

LIFETIME: Final = timedelta(days=3650)
"""How long certificates last, but for those that their vendor makes for hours."""


def name(common_name: str, organization: str) -> x509.Name:
    """A subject. The organization says that it is simulated."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        ]
    )


def builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    now: int,
    *,
    lifetime: timedelta = LIFETIME,
    backdate: timedelta = timedelta(days=1),
) -> x509.CertificateBuilder:
    """A certificate with a serial number of its own, to be extended and signed.

    Args:
        subject: Whose it is.
        issuer: Who signs it.
        key: The subject's.
        now: Unix time.
        lifetime: How long it is valid after `now`.
        backdate: How long it has been valid before `now`.
    """
    time = datetime.fromtimestamp(now, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(time - backdate)
        .not_valid_after(time + lifetime)
    )
