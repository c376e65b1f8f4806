"""What a TPM 2.0 signs, and its signatures. Nothing is verified here.

Source: TCG, "Trusted Platform Module Library, Part 2: Structures", revision 1.59; each class and function
names its structure there. Numbers are big-endian. A buffer `TPM2B_...` is a length of two bytes and as many
bytes. Whatever the input, only `EvidenceError` is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from strongroom.attestation.errors import (
    EVIDENCE_BINDING,
    EVIDENCE_FORMAT,
    EVIDENCE_MALFORMED,
    EVIDENCE_TOO_LARGE,
)
from strongroom.attestation.tpm_keys import RSA_BITS
from strongroom.attestation.tpm_reader import TpmHash, TpmReader, TpmScheme
from strongroom.errors import EvidenceError

MAX_DATA: Final = 66
"""Most bytes of a TPM2B_DATA (section 10.4.3) or TPM2B_NAME (10.5.3): an algorithm and a SHA-512 digest."""

MAX_PCR: Final = 31
"""Highest number of a PCR that is read; platforms have 24."""

_GENERATED: Final = 0xFF544347
"""TPM_GENERATED_VALUE (section 6.2): a restricted key signs nothing from outside that begins so."""

_ATTEST_QUOTE: Final = 0x8018
_MAX_DIGEST: Final = 64
_MAX_COORDINATE: Final = 48
_MAX_BANKS: Final = 4
_PCR_SELECT: Final = range(1, 5)


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
        reader = TpmReader(data, "quote")
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
        reader = TpmReader(data, "TPM signature")
        scheme = reader.code(TpmScheme, "signature scheme")
        digest = reader.code(TpmHash, "hash of the signature")
        if scheme is TpmScheme.ECDSA:
            values: tuple[bytes, ...] = (reader.buffer(_MAX_COORDINATE), reader.buffer(_MAX_COORDINATE))
        else:
            values = (reader.buffer(max(RSA_BITS) // 8),)
        reader.end()
        return cls(scheme, digest, values)


def frame_rsassa(signature: bytes, digest: TpmHash = TpmHash.SHA256) -> bytes:
    """A TPMT_SIGNATURE around a bare RSASSA (PKCS #1 v1.5) signature, which is all that some tools keep.

    Raises:
        EvidenceError: `evidence-too-large`: longer than that of an RSA-4096 key.
    """
    if len(signature) > max(RSA_BITS) // 8:
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


def _yes_no(reader: TpmReader) -> bool:
    """TPMI_YES_NO (section 9.2)."""
    found = reader.number(1)
    if found > 1:
        raise reader.error("neither yes nor no")
    return bool(found)


def _selection(reader: TpmReader) -> tuple[PcrSelection, ...]:
    """TPML_PCR_SELECTION (section 10.9.7)."""
    count = reader.number(4)
    if count > _MAX_BANKS:
        raise reader.error(f"{count} banks of PCRs, at most {_MAX_BANKS} are allowed")
    found = tuple(_bank(reader) for _ in range(count))
    if len({each.bank for each in found}) != count:
        raise reader.error("a bank of PCRs comes twice")
    return found


def _bank(reader: TpmReader) -> PcrSelection:
    bank, size = reader.code(TpmHash, "bank of PCRs"), reader.number(1)
    if size not in _PCR_SELECT:
        raise reader.error("size of a selection of PCRs")
    bits = int.from_bytes(reader.take(size), "little")
    return PcrSelection(bank, tuple(number for number in range(8 * size) if bits >> number & 1))


def _text(selection: Mapping[TpmHash, tuple[int, ...]]) -> str:
    banks = (f"{bank.label}:{','.join(map(str, numbers))}" for bank, numbers in selection.items())
    return "+".join(banks)[:200] or "none"
