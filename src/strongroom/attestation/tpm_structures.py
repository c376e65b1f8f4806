"""Structures of a TPM 2.0 that a verifier reads: public areas, quotes, signatures. Nothing is verified here.

Source: TCG, "Trusted Platform Module Library, Part 2: Structures", revision 1.59; each class and function
names its structure there. Numbers are big-endian. A buffer `TPM2B_...` is a length of two bytes and as many
bytes. Whatever the input, only `EvidenceError` is raised, and nothing may follow a structure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, Self, TypeAlias, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from strongroom.attestation.errors import (
    EVIDENCE_ALGORITHM,
    EVIDENCE_BINDING,
    EVIDENCE_FORMAT,
    EVIDENCE_KEY,
    EVIDENCE_MALFORMED,
    EVIDENCE_TOO_LARGE,
)
from strongroom.errors import EvidenceError

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

MAX_STRUCTURE: Final = 2048
"""Most bytes of one structure; the largest that is accepted, the public area of an RSA-4096 key, has 600."""

MAX_DATA: Final = 66
"""Most bytes of a TPM2B_DATA (section 10.4.3) or TPM2B_NAME (10.5.3): an algorithm and a SHA-512 digest."""

MAX_PCR: Final = 31
"""Highest number of a PCR that is read; platforms have 24."""

_GENERATED: Final = 0xFF544347
"""TPM_GENERATED_VALUE (section 6.2): a restricted key signs nothing from outside that begins so."""

_ATTEST_QUOTE: Final = 0x8018
_NULL: Final = 0x0010
_AES: Final = 0x0006
_CFB: Final = 0x0043
_RSA: Final = 0x0001
_ECC: Final = 0x0023
_EXPONENT: Final = 65537
_RSA_BITS: Final = (2048, 3072, 4096)
_AES_BITS: Final = (128, 192, 256)
_MAX_DIGEST: Final = 64
_MAX_COORDINATE: Final = 48
_MAX_BANKS: Final = 4
_PCR_SELECT: Final = range(1, 5)
_CURVES: Final[Mapping[int, tuple[type[ec.EllipticCurve], int]]] = {
    0x0003: (ec.SECP256R1, 32),
    0x0004: (ec.SECP384R1, 48),
}

_Code = TypeVar("_Code", bound=IntEnum)


class TpmHash(IntEnum):
    """Hash algorithms that are accepted (TPM_ALG_ID, section 6.3). SHA-1, above all, is not."""

    SHA256 = 0x000B
    SHA384 = 0x000C

    @property
    def label(self) -> str:
        """`sha256` or `sha384`."""
        return self.name.lower()

    @property
    def size(self) -> int:
        """Length of a digest in bytes."""
        return hashlib.new(self.label).digest_size

    def digest(self, data: bytes) -> bytes:
        """The digest of some bytes."""
        return hashlib.new(self.label, data).digest()


class TpmScheme(IntEnum):
    """Signature schemes that are accepted (TPM_ALG_ID, section 6.3)."""

    RSASSA = 0x0014
    RSAPSS = 0x0016
    ECDSA = 0x0018


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
        reader = _Reader(data, "public area")
        kind, name_hash = reader.number(2), reader.code(TpmHash, "name hash")
        attributes = Attributes(reader.number(4))
        reader.buffer(_MAX_DIGEST)  # the key's policy concerns its user only
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
        reader = _Reader(data, "sized public area")
        area = reader.buffer(MAX_STRUCTURE)
        reader.end()
        return cls.parse(area)


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """PCRs of one bank (TPMS_PCR_SELECTION, section 10.6.2): their numbers, ascending; there may be none."""

    bank: TpmHash
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TpmQuote:
    """What a quote says (TPMS_ATTEST, section 10.12.12, with TPMS_QUOTE_INFO), parsed and not verified.

    Attributes:
        qualified_signer: Qualified name of the signing key, at most 66 bytes.
        extra_data: What the relying party asked to be signed, its nonce; at most 66 bytes.
        clock: Milliseconds for which the TPM has been powered, over all its life.
        reset_count: Starts of the TPM since it was cleared.
        restart_count: Resumptions since the last start.
        safe: Whether no higher `clock` was ever shown.
        firmware_version: As the TPM's vendor counts.
        selection: The PCRs, in the order in which they are hashed; each bank once.
        pcr_digest: Hash over their values, by the hash of the signature; at most 64 bytes.
    """

    qualified_signer: bytes
    extra_data: bytes
    clock: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware_version: int
    selection: tuple[PcrSelection, ...]
    pcr_digest: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the TPMS_ATTEST of a quote.

        Raises:
            EvidenceError: `evidence-too-large`, `evidence-malformed`, `evidence-format` (not made by a TPM,
                or no quote), or `evidence-algorithm` (a bank).
        """
        reader = _Reader(data, "quote")
        if (magic := reader.number(4)) != _GENERATED:
            raise EvidenceError(EVIDENCE_FORMAT, "magic of a quote", found=f"{magic:#x}")
        if (kind := reader.number(2)) != _ATTEST_QUOTE:
            raise EvidenceError(
                EVIDENCE_FORMAT, "type of attestation", found=f"{kind:#x}", expected="a quote"
            )
        quote = cls(
            qualified_signer=reader.buffer(MAX_DATA),
            extra_data=reader.buffer(MAX_DATA),
            clock=reader.number(8),
            reset_count=reader.number(4),
            restart_count=reader.number(4),
            safe=_yes_no(reader),
            firmware_version=reader.number(8),
            selection=_selection(reader),
            pcr_digest=reader.buffer(_MAX_DIGEST),
        )
        reader.end()
        return quote


@dataclass(frozen=True, slots=True)
class TpmSignature:
    """A signature (TPMT_SIGNATURE, section 11.3.4).

    Attributes:
        scheme: How it was made.
        digest: Hash of what was signed.
        values: RSA: the signature. ECDSA: r and s, big-endian.
    """

    scheme: TpmScheme
    digest: TpmHash
    values: tuple[bytes, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a TPMT_SIGNATURE.

        Raises:
            EvidenceError: `evidence-too-large`, `evidence-malformed` or `evidence-algorithm`.
        """
        reader = _Reader(data, "TPM signature")
        scheme = reader.code(TpmScheme, "signature scheme")
        digest = reader.code(TpmHash, "hash of the signature")
        if scheme is TpmScheme.ECDSA:
            values: tuple[bytes, ...] = (reader.buffer(_MAX_COORDINATE), reader.buffer(_MAX_COORDINATE))
        else:
            values = (reader.buffer(max(_RSA_BITS) // 8),)
        reader.end()
        return cls(scheme, digest, values)


def frame_rsassa(signature: bytes, digest: TpmHash = TpmHash.SHA256) -> bytes:
    """A TPMT_SIGNATURE around a bare RSASSA (PKCS #1 v1.5) signature, which is all that some tools keep.

    Raises:
        EvidenceError: `evidence-too-large`: longer than that of an RSA-4096 key.
    """
    if len(signature) > max(_RSA_BITS) // 8:
        raise EvidenceError(EVIDENCE_TOO_LARGE, "TPM signature", found=f"{len(signature)} bytes")
    head = TpmScheme.RSASSA.to_bytes(2) + digest.to_bytes(2)
    return head + len(signature).to_bytes(2) + signature


def pcr_digest(
    digest: TpmHash, selection: tuple[PcrSelection, ...], pcrs: Mapping[TpmHash, Mapping[int, bytes]]
) -> bytes:
    """Hash PCR values as TPM2_Quote does (Part 3, section 18.4): bank by bank, ascending.

    Args:
        digest: Hash of the quote's signature.
        selection: What to hash.
        pcrs: Values by bank and number; they must be those of the selection, no more and no fewer, so that
            no value goes with a quote that does not cover it.

    Raises:
        EvidenceError: `evidence-binding` (other PCRs) or `evidence-malformed` (length of a value).
    """
    selected = {each.bank: each.numbers for each in selection if each.numbers}
    given = {bank: tuple(sorted(values)) for bank, values in pcrs.items() if values}
    if selected != given:
        raise EvidenceError(
            EVIDENCE_BINDING, "selection of PCRs", found=_text(selected), expected=_text(given)
        )
    values = [(bank, pcrs[bank][number]) for bank, numbers in selected.items() for number in numbers]
    if any(len(value) != bank.size for bank, value in values):
        raise EvidenceError(EVIDENCE_MALFORMED, "length of a PCR's value")
    return digest.digest(b"".join(value for _, value in values))


def rsa_key(modulus: bytes, exponent: int, bits: int) -> rsa.RSAPublicKey:
    """An RSA key of exactly 2048, 3072 or 4096 bits and with exponent 65537.

    Raises:
        EvidenceError: `evidence-key`.
    """
    number = int.from_bytes(modulus)
    if bits not in _RSA_BITS or number.bit_length() != bits or len(modulus) * 8 != bits:
        raise EvidenceError(EVIDENCE_KEY, "size of an RSA key", found=number.bit_length(), expected=_RSA_BITS)
    if not number & 1:  # the library would take it
        raise EvidenceError(EVIDENCE_KEY, "even modulus of an RSA key")
    if exponent != _EXPONENT:
        raise EvidenceError(EVIDENCE_KEY, "exponent of an RSA key", found=exponent, expected=_EXPONENT)
    return rsa.RSAPublicNumbers(exponent, number).public_key()


class _Reader:
    """Reads big-endian members one after the other; never beyond the end."""

    def __init__(self, data: bytes, what: str) -> None:
        if len(data) > MAX_STRUCTURE:
            raise EvidenceError(
                EVIDENCE_TOO_LARGE, what, found=f"{len(data)} bytes", expected=f"at most {MAX_STRUCTURE}"
            )
        self._data = bytes(data)
        self._at = 0
        self._what = what

    def error(self, detail: str) -> EvidenceError:
        return EvidenceError(EVIDENCE_MALFORMED, f"{self._what}: {detail}")

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise self.error("truncated")
        self._at += size
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def buffer(self, most: int) -> bytes:
        """A TPM2B."""
        size = self.number(2)
        if size > most:
            raise self.error(f"a member of {size} bytes, at most {most} are allowed")
        return self.take(size)

    def code(self, codes: type[_Code], what: str) -> _Code:
        found = self.number(2)
        try:
            return codes(found)
        except ValueError:
            expected = ", ".join(each.name for each in codes)
            raise EvidenceError(
                EVIDENCE_ALGORITHM, f"{self._what}: {what}", found=f"{found:#06x}", expected=expected
            ) from None

    def null(self) -> bool:
        """Whether TPM_ALG_NULL comes next, which is then read."""
        found = self._data[self._at : self._at + 2] == _NULL.to_bytes(2)
        self._at += 2 * found
        return found

    def end(self) -> None:
        if self._at != len(self._data):
            raise self.error("bytes after its end")


def _symmetric(reader: _Reader) -> bool:
    """TPMT_SYM_DEF_OBJECT (section 11.1.7)."""
    if reader.null():
        return False
    found = reader.number(2), reader.number(2), reader.number(2)
    if found not in {(_AES, bits, _CFB) for bits in _AES_BITS}:
        raise EvidenceError(EVIDENCE_ALGORITHM, "symmetric algorithm of a TPM key", expected="AES in CFB")
    return True


def _scheme(reader: _Reader) -> tuple[TpmScheme, TpmHash] | None:
    """TPMT_RSA_SCHEME (section 11.2.4.2) or TPMT_ECC_SCHEME (11.2.5.6), of those that are accepted."""
    if reader.null():
        return None
    return reader.code(TpmScheme, "scheme"), reader.code(TpmHash, "hash of the scheme")


def _rsa(reader: _Reader) -> rsa.RSAPublicKey:
    """The rest of TPMS_RSA_PARMS (section 12.2.3.5), and TPM2B_PUBLIC_KEY_RSA."""
    bits, exponent = reader.number(2), reader.number(4)
    # An exponent of 0 stands for the default.
    return rsa_key(reader.buffer(max(_RSA_BITS) // 8), exponent or _EXPONENT, bits)


def _ecc(reader: _Reader) -> ec.EllipticCurvePublicKey:
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


def _yes_no(reader: _Reader) -> bool:
    """TPMI_YES_NO (section 9.2)."""
    found = reader.number(1)
    if found > 1:
        raise reader.error("neither yes nor no")
    return bool(found)


def _selection(reader: _Reader) -> tuple[PcrSelection, ...]:
    """TPML_PCR_SELECTION (section 10.9.7)."""
    count = reader.number(4)
    if count > _MAX_BANKS:
        raise reader.error(f"{count} banks of PCRs, at most {_MAX_BANKS} are allowed")
    found = tuple(_bank(reader) for _ in range(count))
    if len({each.bank for each in found}) != count:
        raise reader.error("a bank of PCRs comes twice")
    return found


def _bank(reader: _Reader) -> PcrSelection:
    bank, size = reader.code(TpmHash, "bank of PCRs"), reader.number(1)
    if size not in _PCR_SELECT:
        raise reader.error("size of a selection of PCRs")
    bits = int.from_bytes(reader.take(size), "little")
    return PcrSelection(bank, tuple(number for number in range(8 * size) if bits >> number & 1))


def _text(selection: Mapping[TpmHash, tuple[int, ...]]) -> str:
    banks = (f"{bank.label}:{','.join(map(str, numbers))}" for bank, numbers in selection.items())
    return "+".join(banks)[:200] or "none"
