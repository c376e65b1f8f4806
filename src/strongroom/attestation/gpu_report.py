"""The attestation report of an NVIDIA GPU: a transcript of SPDM, parsed. Nothing is verified.

A report is the request GET_MEASUREMENTS (37 bytes) and the response MEASUREMENTS to it, one after the other;
the signature at its end covers all that is before it. All numbers are little-endian.

Sources: DMTF DSP0274 1.1, "GET_MEASUREMENTS request message", "MEASUREMENTS response message" and "DMTF
specification for the Measurement field"; github.com/NVIDIA/nvtrust for what is in the opaque data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from strongroom.attestation.errors import EVIDENCE_FORMAT, EVIDENCE_MALFORMED, EVIDENCE_TOO_LARGE
from strongroom.attestation.reader import Reader
from strongroom.errors import EvidenceError

MAX_REPORT: Final = 64 * 1024
"""Most bytes of a report; one of a Hopper GPU has about 4 KiB."""

MAX_PADDING: Final = 15
"""Most zeros behind a report."""

NONCE_SIZE: Final = 32
SIGNATURE_SIZE: Final = 96
"""ECDSA on P-384: r and s, 48 bytes each, big-endian (DSP0274, "Signature generation")."""

DIGEST_SIZE: Final = 48
"""SHA-384."""

MAX_INDEX: Final = 0xEF
"""Largest index of a measurement; the higher ones are reserved or have a special meaning."""

# Version 1.1, GET_MEASUREMENTS, "with signature, digests rather than raw", "all measurements".
_REQUEST: Final = b"\x11\xe0\x01\xff"
# Version 1.1, MEASUREMENTS, and no count of measurements, which only another request asks for.
_RESPONSE: Final = b"\x11\x60\x00"
_SLOT: Final = 0x0F
_DMTF: Final = 1
_RAW: Final = 0x80

_TEXT: Final = re.compile(rb"([0-9A-Za-z._-]{0,32})\0*")
_SWITCH: Final = {0xAA: True, 0x55: False}
_VBIOS_SIZE: Final = 8


class OpaqueField(IntEnum):
    """Fields of the opaque data that are read here."""

    DRIVER_VERSION = 3
    VBIOS_VERSION = 6
    NVDEC0_STATUS = 11
    BOARD_ID = 14
    CHIP_SKU = 15
    CHIP_SKU_MOD = 16
    PROJECT = 17
    PROJECT_SKU = 18
    PROJECT_SKU_MOD = 19
    FWID = 20
    PROTECTED_PCIE_STATUS = 21


@dataclass(frozen=True, slots=True)
class GpuReport:
    """A report, parsed and not verified.

    Attributes:
        nonce: 32 bytes that the request carried: what the relying party chose.
        responder_nonce: 32 bytes that the GPU added.
        measurements: Digests (SHA-384, 48 bytes) by SPDM index, which begins at 1.
        opaque: NVIDIA's fields by their numbers, all of them.
        signed: What the signature covers.
        r: Of the ECDSA signature.
        s: Of the ECDSA signature.
    """

    nonce: bytes
    responder_nonce: bytes
    measurements: Mapping[int, bytes]
    opaque: Mapping[int, bytes]
    signed: bytes
    r: int
    s: int

    @classmethod
    def parse(cls, data: bytes) -> GpuReport:
        """Read a report of at most `MAX_REPORT` bytes, behind which a few zeros may stand.

        Some versions of NVIDIA's driver round a report up. Whatever else follows is refused.

        Raises:
            EvidenceError: `evidence-too-large`, `evidence-format` (another message, version or kind of
                measurement) or `evidence-malformed`.
        """
        if len(data) > MAX_REPORT:
            raise EvidenceError(
                EVIDENCE_TOO_LARGE, "GPU report", found=f"{len(data)} bytes", expected=f"at most {MAX_REPORT}"
            )
        reader = Reader(data, "GPU report", "little")
        _expect(reader, _REQUEST, "the request")
        nonce = reader.take(NONCE_SIZE)
        slot = reader.number(1)
        _expect(reader, _RESPONSE, "the response")
        if reader.number(1) & _SLOT != slot:
            raise EvidenceError(EVIDENCE_MALFORMED, "GPU report: the slot of the certificates")
        count = reader.number(1)
        measurements = _measurements(reader.take(reader.number(3)), count)
        responder_nonce = reader.take(NONCE_SIZE)
        opaque = _opaque(reader.take(reader.number(2)))
        end = reader.position
        signature = reader.take(SIGNATURE_SIZE)
        if len(reader.rest) > MAX_PADDING or any(reader.rest):
            raise reader.error("bytes after its end")
        half = SIGNATURE_SIZE // 2
        return cls(
            nonce=nonce,
            responder_nonce=responder_nonce,
            measurements=measurements,
            opaque=opaque,
            signed=data[:end],
            r=int.from_bytes(signature[:half]),
            s=int.from_bytes(signature[half:]),
        )

    def text(self, field: OpaqueField, *, needed: bool = False) -> str:
        """A field of the opaque data that is a short ASCII string, padded with zero bytes.

        Returns:
            At most 32 letters, digits, `.`, `_` and `-`; empty if the field is empty or is not there.

        Raises:
            EvidenceError: `evidence-malformed`: another form, or it is needed and there is none.
        """
        match = _TEXT.fullmatch(self.opaque.get(field, b""))
        if match is None or (needed and not match[1]):
            raise _malformed(f"opaque field {field.name}")
        return match[1].decode("ascii")

    def switch(self, field: OpaqueField) -> bool | None:
        """A field that says whether something is on: one byte, 0xAA or 0x55; None if it is not there.

        Raises:
            EvidenceError: `evidence-malformed`.
        """
        value = self.opaque.get(field)
        if value is None:
            return None
        if len(value) != 1 or value[0] not in _SWITCH:
            raise _malformed(f"opaque field {field.name}")
        return _SWITCH[value[0]]

    def vbios_version(self) -> str:
        """The version of the VBIOS as NVIDIA writes it, for example `96.00.9F.00.01`.

        The field has four bytes, the highest last, then the fifth part of the version, then zeros.

        Raises:
            EvidenceError: `evidence-malformed`: there is none or it has another form.
        """
        value = self.opaque.get(OpaqueField.VBIOS_VERSION, b"")
        if len(value) != _VBIOS_SIZE or any(value[5:]):
            raise _malformed(f"opaque field {OpaqueField.VBIOS_VERSION.name}")
        return ".".join(f"{part:02X}" for part in (*reversed(value[:4]), value[4]))


def _expect(reader: Reader, header: bytes, what: str) -> None:
    if (found := reader.take(len(header))) != header:
        raise EvidenceError(EVIDENCE_FORMAT, f"GPU report: {what}", found=found.hex(), expected=header.hex())


def _measurements(record: bytes, count: int) -> dict[int, bytes]:
    """The measurement record: blocks of index, specification, size and a measurement in DMTF's form."""
    reader = Reader(record, "measurement record", "little")
    found: dict[int, bytes] = {}
    for _ in range(count):
        index, specification, size = reader.number(1), reader.number(1), reader.number(2)
        if specification != _DMTF:
            raise EvidenceError(EVIDENCE_FORMAT, f"measurement {index}: specification", found=specification)
        if index in found or not 1 <= index <= MAX_INDEX:
            raise _malformed(f"index of a measurement: {index}")
        found[index] = _measurement(reader.take(size), index)
    reader.end()
    if not found:
        raise _malformed("no measurement")
    return found


def _measurement(block: bytes, index: int) -> bytes:
    reader = Reader(block, f"measurement {index}", "little")
    if reader.number(1) & _RAW:
        raise EvidenceError(EVIDENCE_FORMAT, f"measurement {index} is not a digest")
    size = reader.number(2)
    if size != DIGEST_SIZE:
        raise EvidenceError(EVIDENCE_FORMAT, f"size of measurement {index}", found=size, expected=DIGEST_SIZE)
    digest = reader.take(size)
    reader.end()
    return digest


def _opaque(data: bytes) -> dict[int, bytes]:
    """The opaque data: fields of type, size and value."""
    reader = Reader(data, "opaque data", "little")
    found: dict[int, bytes] = {}
    while reader.peek(1):
        kind = reader.number(2)
        if kind in found:
            raise _malformed(f"opaque field {kind} is there twice")
        found[kind] = reader.take(reader.number(2))
    return found


def _malformed(detail: str) -> EvidenceError:
    return EvidenceError(EVIDENCE_MALFORMED, f"GPU report: {detail}")
