"""Public areas of keys in a TPM 2.0. Nothing is verified here.

Source: TCG, "Trusted Platform Module Library, Part 2: Structures", revision 1.59; each class and function
names its structure there. Numbers are big-endian. A buffer `TPM2B_...` is a length of two bytes and as many
bytes. Whatever the input, only `EvidenceError` is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Final, Self, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from strongroom.attestation.errors import EVIDENCE_ALGORITHM, EVIDENCE_KEY
from strongroom.attestation.tpm_reader import MAX_STRUCTURE, TpmHash, TpmReader, TpmScheme
from strongroom.errors import EvidenceError

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

RSA_BITS: Final = (2048, 3072, 4096)
_AES: Final = 0x0006
_CFB: Final = 0x0043
_RSA: Final = 0x0001
_ECC: Final = 0x0023
_EXPONENT: Final = 65537
_AES_BITS: Final = (128, 192, 256)
_MAX_POLICY: Final = 64
_CURVES: Final[Mapping[int, tuple[type[ec.EllipticCurve], int]]] = {
    0x0003: (ec.SECP256R1, 32),
    0x0004: (ec.SECP384R1, 48),
}


class Attributes(IntFlag):
    """The bits of TPMA_OBJECT (section 8.3) that a verifier looks at; others may be set too."""

    FIXED_TPM = 1 << 1
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18


@dataclass(frozen=True, slots=True)
class TpmPublic:
    """The public area of a key (TPMT_PUBLIC, section 12.2.4).

    Attributes:
        name: What the TPM calls the key (Part 1, section 16): `name_hash` in two bytes, then the digest of
            the public area by it.
        name_hash: Hash of the name.
        attributes: TPMA_OBJECT with all its bits.
        scheme: Scheme and hash to which the key is bound; None if its user may choose.
        symmetric: Whether the key has a symmetric algorithm, as keys that protect others do.
        key: RSA-2048, -3072 or -4096 with exponent 65537, or a point on P-256 or P-384.
    """

    name: bytes
    name_hash: TpmHash
    attributes: Attributes
    scheme: tuple[TpmScheme, TpmHash] | None
    symmetric: bool
    key: PublicKey

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a TPMT_PUBLIC.

        Raises:
            EvidenceError: `evidence-too-large`, `evidence-malformed`, `evidence-algorithm`, or
                `evidence-key` (the key itself is none).
        """
        reader = TpmReader(data, "public area")
        kind, name_hash = reader.number(2), reader.code(TpmHash, "name hash")
        attributes = Attributes(reader.number(4))
        reader.buffer(_MAX_POLICY)  # the key's policy concerns its user only
        symmetric = _symmetric(reader)
        scheme = _scheme(reader)
        if kind == _RSA:
            key: PublicKey = _rsa(reader)
        elif kind == _ECC:
            key = _ecc(reader)
        else:
            raise EvidenceError(EVIDENCE_ALGORITHM, "type of a TPM key", found=f"{kind:#06x}")
        reader.end()
        name = name_hash.to_bytes(2) + name_hash.digest(data)
        return cls(name, name_hash, attributes, scheme, symmetric, key)

    @classmethod
    def parse_sized(cls, data: bytes) -> Self:
        """Read a TPM2B_PUBLIC (section 12.2.5): a public area with its length before it.

        Raises:
            EvidenceError: As `parse`.
        """
        reader = TpmReader(data, "sized public area")
        area = reader.buffer(MAX_STRUCTURE)
        reader.end()
        return cls.parse(area)


def rsa_key(modulus: bytes, exponent: int, bits: int) -> rsa.RSAPublicKey:
    """An RSA key of exactly 2048, 3072 or 4096 bits and with exponent 65537.

    Raises:
        EvidenceError: `evidence-key`.
    """
    number = int.from_bytes(modulus)
    if bits not in RSA_BITS or number.bit_length() != bits or len(modulus) * 8 != bits:
        raise EvidenceError(EVIDENCE_KEY, "size of an RSA key", found=number.bit_length(), expected=RSA_BITS)
    if not number & 1:  # the library would take it
        raise EvidenceError(EVIDENCE_KEY, "even modulus of an RSA key")
    if exponent != _EXPONENT:
        raise EvidenceError(EVIDENCE_KEY, "exponent of an RSA key", found=exponent, expected=_EXPONENT)
    return rsa.RSAPublicNumbers(exponent, number).public_key()


def _symmetric(reader: TpmReader) -> bool:
    """TPMT_SYM_DEF_OBJECT (section 11.1.7)."""
    if reader.null():
        return False
    found = reader.number(2), reader.number(2), reader.number(2)
    if found not in {(_AES, bits, _CFB) for bits in _AES_BITS}:
        raise EvidenceError(EVIDENCE_ALGORITHM, "symmetric algorithm of a TPM key", expected="AES in CFB")
    return True


def _scheme(reader: TpmReader) -> tuple[TpmScheme, TpmHash] | None:
    """TPMT_RSA_SCHEME (section 11.2.4.2) or TPMT_ECC_SCHEME (11.2.5.6), of those that are accepted."""
    if reader.null():
        return None
    return reader.code(TpmScheme, "scheme"), reader.code(TpmHash, "hash of the scheme")


def _rsa(reader: TpmReader) -> rsa.RSAPublicKey:
    """The rest of TPMS_RSA_PARMS (section 12.2.3.5), and TPM2B_PUBLIC_KEY_RSA."""
    bits, exponent = reader.number(2), reader.number(4)
    # An exponent of 0 stands for the default.
    return rsa_key(reader.buffer(max(RSA_BITS) // 8), exponent or _EXPONENT, bits)


def _ecc(reader: TpmReader) -> ec.EllipticCurvePublicKey:
    """The rest of TPMS_ECC_PARMS (section 12.2.3.6), and TPMS_ECC_POINT."""
    number = reader.number(2)
    if number not in _CURVES:
        raise EvidenceError(EVIDENCE_ALGORITHM, "curve of a TPM key", found=f"{number:#06x}")
    curve, size = _CURVES[number]
    if not reader.null():
        raise EvidenceError(EVIDENCE_ALGORITHM, "key derivation of a TPM key", expected="none")
    x, y = reader.buffer(size), reader.buffer(size)
    try:
        return ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), curve()).public_key()
    except ValueError:
        raise EvidenceError(EVIDENCE_KEY, "not a point on the curve") from None
