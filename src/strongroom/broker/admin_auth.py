"""Who sends an administrative request: the holder of a client certificate, or of a bearer token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.broker.admin_errors import ADMIN_UNAUTHENTICATED
from strongroom.broker.oidc import OidcIssuer
from strongroom.broker.principal import Principal
from strongroom.errors import BrokerError

_BEARER: Final = "bearer "


class Authenticator:
    """Finds the principal of a request. Safe to share between threads.

    Args:
        issuers: OIDC issuers whose tokens are accepted.
        now: The clock, Unix seconds.
    """

    def __init__(self, issuers: Sequence[OidcIssuer], now: Callable[[], float]) -> None:
        self._issuers = tuple(issuers)
        self._now = now

    def principal(self, certificate: bytes | None, authorization: str | None) -> Principal:
        """Who asks.

        Args:
            certificate: The client's certificate (DER), which the TLS connection has verified; or None.
            authorization: The Authorization header, or None.

        Raises:
            BrokerError: `admin-unauthenticated`, neither or both, or one that does not hold;
                `oidc-unavailable`.
        """
        if (certificate is None) == (authorization is None):
            found = "neither" if certificate is None else "both"
            raise BrokerError(ADMIN_UNAUTHENTICATED, found=found, expected="a certificate or a token")
        if certificate is not None:
            return of_certificate(certificate)
        assert authorization is not None  # noqa: S101 -- one of the two is there
        return self._of_token(authorization)

    def _of_token(self, authorization: str) -> Principal:
        if not authorization.lower().startswith(_BEARER) or not self._issuers:
            raise BrokerError(ADMIN_UNAUTHENTICATED, expected="a bearer token of a configured issuer")
        token = authorization[len(_BEARER) :].strip()
        refused: BrokerError | None = None
        for issuer in self._issuers:
            try:
                return issuer.principal(token, self._now())
            except BrokerError as error:
                refused = error
        assert refused is not None  # noqa: S101 -- there is an issuer
        raise refused


def of_certificate(certificate: bytes) -> Principal:
    """The holder of a certificate's key.

    Args:
        certificate: DER.

    Raises:
        BrokerError: `admin-unauthenticated`, it is no certificate.
    """
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception as error:
        # Whatever it is: the library has several kinds of errors for a malformed certificate.
        raise BrokerError(ADMIN_UNAUTHENTICATED, "the certificate cannot be read") from error
    return Principal.of_key(spki)
