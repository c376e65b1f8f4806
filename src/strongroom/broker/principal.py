"""Principals: who administers, and who approves. One text names each.

- `operator`: the command line on the broker's own machine
- `mtls:0f3a...`: the holder of a client certificate, by SHA-256 of its public key (SPKI, DER), hex
- `oidc:https://login.example#alice`: a subject of an OIDC issuer

The names in a certificate are what its issuer says they are, and may be said again of another key; its key is
not.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

from strongroom.broker.admin_errors import PRINCIPAL_INVALID
from strongroom.errors import BrokerError

MAX_SUBJECT: Final = 255
"""OpenID Connect Core 1.0, section 2: a subject has at most 255 ASCII characters."""
MAX_ISSUER: Final = 255

_MTLS: Final = re.compile(r"mtls:[0-9a-f]{64}")
_OIDC: Final = re.compile(
    rf"oidc:(?P<issuer>https?://[!$-~]{{1,{MAX_ISSUER}}})#(?P<subject>[!-~]{{1,{MAX_SUBJECT}}})"
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts.

    Attributes:
        text: As above.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the name of a principal that acts from elsewhere.

        Raises:
            BrokerError: `principal-invalid`.
        """
        if not _MTLS.fullmatch(text) and not _OIDC.fullmatch(text):
            raise BrokerError(PRINCIPAL_INVALID, found=text[:64], expected="mtls:HEX or oidc:ISSUER#SUBJECT")
        return cls(text)

    @classmethod
    def of_key(cls, spki: bytes) -> Self:
        """The holder of a public key, given as DER of its SubjectPublicKeyInfo."""
        return cls(f"mtls:{hashlib.sha256(spki).hexdigest()}")

    @classmethod
    def of_subject(cls, issuer: str, subject: str) -> Self:
        """A subject of an OIDC issuer.

        Raises:
            BrokerError: `principal-invalid`.
        """
        return cls.parse(f"oidc:{issuer}#{subject}")

    @property
    def is_operator(self) -> bool:
        """Whether this is the broker's operator, who may do everything."""
        return self is OPERATOR


OPERATOR: Final = Principal("operator")
"""The command line on the broker's own machine. Nothing that comes over the network is this object."""
