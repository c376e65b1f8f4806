"""HKDF-SHA256 and the labelled forms of HPKE (RFC 5869; RFC 9180, section 4)."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

HASH_SIZE: Final = 32
MAX_EXPAND: Final = 255 * HASH_SIZE

_SHA256: Final = SHA256()
_VERSION: Final = b"HPKE-v1"


def extract(salt: bytes, ikm: bytes) -> bytes:
    """HKDF-Extract."""
    return HKDF.extract(_SHA256, salt, ikm)


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand. `length` is at most `MAX_EXPAND`; the caller checks."""
    return HKDFExpand(_SHA256, length, info).derive(prk)


def labeled_extract(suite_id: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """LabeledExtract of RFC 9180."""
    return extract(salt, _VERSION + suite_id + label + ikm)


def labeled_expand(suite_id: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """LabeledExpand of RFC 9180."""
    return expand(prk, length.to_bytes(2) + _VERSION + suite_id + label + info, length)
