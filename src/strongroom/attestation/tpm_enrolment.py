"""Enrolling a TPM: how its owner learns that an attestation key is in a TPM of a maker that he trusts.

    machine   Identity: the attestation key, and the certificate of the endorsement key (EK)
    owner     verifies the certificate, and encrypts a secret for that TPM and that key: Challenge
    machine   lets the TPM decrypt it: Answer
    owner     the secret is the one: the key's digest goes into a policy's `tpm_keys`

It is done once for each machine. The four messages are JSON files.

Source: TCG, "Trusted Platform Module Library, Part 1", section 24 (credential protection).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.attestation.certificates import MAX_CERTIFICATE
from strongroom.attestation.errors import EVIDENCE_KEY, EVIDENCE_MALFORMED
from strongroom.attestation.fields import Fields, parse_object
from strongroom.attestation.tpm import (
    Credential,
    check_attestation_key,
    make_credential,
    verify_ek_chain,
)
from strongroom.attestation.tpm_keys import TpmPublic
from strongroom.attestation.tpm_reader import MAX_STRUCTURE
from strongroom.codec import b64, jcs
from strongroom.errors import EvidenceError

MAX_MESSAGE: Final = 128 * 1024
SECRET_SIZE: Final = 32

_IDENTITY: Final = "strongroom-tpm-identity/1"
_CHALLENGE: Final = "strongroom-tpm-challenge/1"
_EXPECTED: Final = "strongroom-tpm-expected/1"
_ANSWER: Final = "strongroom-tpm-answer/1"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a machine says of its TPM. Nothing is verified.

    Attributes:
        ak: The attestation key, TPMT_PUBLIC.
        ek_certificate: Certificate of the endorsement key, in DER.
    """

    ak: bytes
    ek_certificate: bytes

    def to_json_bytes(self) -> bytes:
        """The message."""
        certificate = b64.encode_url(self.ek_certificate)
        return _write(_IDENTITY, ak=b64.encode_url(self.ak), ek_certificate=certificate)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the message, at most 128 KiB.

        Raises:
            EvidenceError: `evidence-malformed`.
        """
        fields = _read(_IDENTITY, data, "ak", "ek_certificate")
        certificate = fields.blob("ek_certificate", limit=MAX_CERTIFICATE)
        return cls(fields.blob("ak", limit=MAX_STRUCTURE), certificate)


@dataclass(frozen=True, slots=True)
class Challenge:
    """A secret that only one TPM can read, and only if it has one key.

    Attributes:
        credential: The encrypted secret.
    """

    credential: Credential

    def to_json_bytes(self) -> bytes:
        """The message."""
        blob, secret = self.credential.id_object, self.credential.encrypted_secret
        return _write(_CHALLENGE, id_object=b64.encode_url(blob), encrypted_secret=b64.encode_url(secret))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the message.

        Raises:
            EvidenceError: `evidence-malformed`.
        """
        fields = _read(_CHALLENGE, data, "id_object", "encrypted_secret")
        parts = (fields.blob(name, limit=MAX_STRUCTURE) for name in ("id_object", "encrypted_secret"))
        return cls(Credential(*parts))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the TPM has decrypted.

    Attributes:
        secret: 32 bytes.
    """

    secret: bytes

    def to_json_bytes(self) -> bytes:
        """The message."""
        return _write(_ANSWER, secret=b64.encode_url(self.secret))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the message.

        Raises:
            EvidenceError: `evidence-malformed`.
        """
        return cls(_read(_ANSWER, data, "secret").blob("secret", limit=SECRET_SIZE, exact=True))


@dataclass(frozen=True, slots=True)
class Expected:
    """What the owner keeps until the answer comes. Whoever has it can pass for the TPM.

    Attributes:
        secret: 32 bytes.
        ak_sha256: SHA-256 of the attestation key (SubjectPublicKeyInfo in DER), lower-case hex.
        ek_sha256: The same of the endorsement key.
    """

    secret: bytes
    ak_sha256: str
    ek_sha256: str

    def __repr__(self) -> str:
        return f"Expected(ak_sha256={self.ak_sha256!r}, ek_sha256={self.ek_sha256!r})"

    def to_json_bytes(self) -> bytes:
        """The file's content."""
        return _write(
            _EXPECTED,
            secret=b64.encode_url(self.secret),
            ak=b64.encode_url(bytes.fromhex(self.ak_sha256)),
            ek=b64.encode_url(bytes.fromhex(self.ek_sha256)),
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the file's content.

        Raises:
            EvidenceError: `evidence-malformed`.
        """
        fields = _read(_EXPECTED, data, "secret", "ak", "ek")
        secret, ak, ek = (fields.blob(name, limit=32, exact=True) for name in ("secret", "ak", "ek"))
        return cls(secret, ak.hex(), ek.hex())

    def accept(self, answer: Answer) -> str:
        """The digest to pin, if the TPM has answered.

        Raises:
            EvidenceError: `evidence-key`: another secret.
        """
        if not hmac.compare_digest(answer.secret, self.secret):
            raise EvidenceError(EVIDENCE_KEY, "the answer is not of the TPM with this key")
        return self.ak_sha256


def challenge(
    identity: Identity,
    authorities: Sequence[bytes],
    roots: Collection[str],
    now: int,
    *,
    rng: Callable[[int], bytes],
) -> tuple[Challenge, Expected]:
    """Verify that the EK is of a trusted maker, and make a challenge for the attestation key.

    Args:
        identity: What the machine says.
        authorities: Certificates in DER above it, the root last.
        roots: SHA-256 of the DER of the trusted roots, lower-case hex.
        now: Unix time.
        rng: Source of random bytes.

    Raises:
        EvidenceError: As `tpm.verify_ek_chain`, `TpmPublic.parse` and `tpm.check_attestation_key`.
    """
    ek = verify_ek_chain((identity.ek_certificate, *authorities), roots, now)
    ak = TpmPublic.parse(identity.ak)
    check_attestation_key(ak)
    secret = rng(SECRET_SIZE)
    made = Challenge(make_credential(ek.key, ak.name, secret, rng=rng))
    spki = ak.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return made, Expected(secret, hashlib.sha256(spki).hexdigest(), ek.key_sha256)


def _write(kind: str, **members: object) -> bytes:
    return jcs.canonical({"type": kind, **members}) + b"\n"


def _read(kind: str, data: bytes, *names: str) -> Fields:
    fields = parse_object(EVIDENCE_MALFORMED, kind, data, limit=MAX_MESSAGE, names=("type", *names))
    fields.constant("type", kind)
    return fields
