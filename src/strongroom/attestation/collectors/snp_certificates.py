"""The table of certificates that a host may hand to an SEV-SNP guest beside its report.

Entries of 24 bytes: GUID, offset and length in little-endian, up to one of zeros; then the certificates, in
DER or PEM. The host is not trusted: what it gives is verified up to AMD's root as any other collateral.

Source: AMD 56421 (GHCB), SNP Extended Guest Request.
"""

from __future__ import annotations

import ssl
import struct
import uuid
from typing import Final

from strongroom.attestation.certificates import MAX_CERTIFICATE
from strongroom.attestation.collectors.errors import COLLECTOR_ANSWER
from strongroom.errors import EvidenceError

MAX_TABLE: Final = 64 * 1024

VCEK: Final = uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK: Final = uuid.UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
ASK: Final = uuid.UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
ARK: Final = uuid.UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")

_ENTRY: Final = struct.Struct("<16sII")
_MOST: Final = 16
_PEM: Final = b"-----BEGIN"


def collateral(table: bytes) -> dict[str, str] | None:
    """The collateral of SNP evidence: `vek`, and `chain` if the host gave both ASK and ARK.

    A VLEK comes before a VCEK: a host that has one signs with it.

    Args:
        table: The table, or nothing.

    Returns:
        None if there is neither VLEK nor VCEK in it.

    Raises:
        EvidenceError: `collector-answer-invalid`.
    """
    found = parse(table)
    leaf = found.get(VLEK) or found.get(VCEK)
    if leaf is None:
        return None
    # The host's ASK is that of the VCEK; a VLEK has another issuer, which the verifier knows.
    if VLEK not in found and ASK in found and ARK in found:
        return {"vek": _pem(leaf), "chain": _pem(found[ASK]) + _pem(found[ARK])}
    return {"vek": _pem(leaf)}


def parse(table: bytes) -> dict[uuid.UUID, bytes]:
    """What the table has, by GUID; GUIDs that are not known are left in.

    Raises:
        EvidenceError: `collector-answer-invalid`: too long, or an entry that points out of it, or one twice.
    """
    if len(table) > MAX_TABLE:
        raise _invalid("too long")
    found: dict[uuid.UUID, bytes] = {}
    for place in range(0, min(len(table), _MOST * _ENTRY.size), _ENTRY.size):
        if len(table) < place + _ENTRY.size:
            raise _invalid("an entry is cut off")
        name, offset, length = _ENTRY.unpack_from(table, place)
        if not any(name):
            return found
        # Hosts write the fields of the GUID in either byte order.
        guid = uuid.UUID(bytes=name)
        if guid not in {VCEK, VLEK, ASK, ARK}:
            guid = uuid.UUID(bytes_le=name)
        if guid in found or length > MAX_CERTIFICATE or offset + length > len(table):
            raise _invalid("an entry is there twice, or is not within the table")
        found[guid] = table[offset : offset + length]
    if table:
        raise _invalid("it does not end")
    return found


def _pem(certificate: bytes) -> str:
    if certificate.startswith(_PEM):
        return certificate.rstrip(b"\0").decode("ascii", "replace")
    return ssl.DER_cert_to_PEM_cert(certificate)


def _invalid(detail: str) -> EvidenceError:
    return EvidenceError(COLLECTOR_ANSWER, f"the host's table of certificates: {detail}")
