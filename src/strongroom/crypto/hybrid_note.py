"""Signatures of notes (C2SP signed-note) with ML-DSA-65 and Ed25519 together.

    — NAME base64(key ID || signature)

C2SP assigns no type to this pair: its 0x06 is ML-DSA-44 alone, for cosignatures. So the type is 0xff and a
name of our own, as the specification recommends. The key ID is over the digest that names the signing key,
because that is all that a verifier has before it reads the line. The signature is that of
`strongroom.crypto.sign`, 5357 bytes, over the note's text with its last newline.

Verifiers that know Ed25519 notes only ignore such a line, and need one of that type beside it.
"""

from __future__ import annotations

import hashlib
from typing import Final

from strongroom.crypto.sign import SigningKey, VerifyingKey

NOTE_TYPE: Final = b"\xffstrongroom-ed25519+mldsa65/1"
PURPOSE: Final = "strongroom-note/1"
KEY_ID_BYTES: Final = 4


def key_id(name: str, key: VerifyingKey) -> bytes:
    """The four bytes in front of the signatures of a key of this name."""
    return hashlib.sha256(name.encode() + b"\n" + NOTE_TYPE + key.digest).digest()[:KEY_ID_BYTES]


def sign_note(key: SigningKey, text: str) -> bytes:
    """The signature over the text of a note, without the key ID."""
    return key.sign(PURPOSE, text.encode())


def verify_note(key: VerifyingKey, text: str, signature: bytes) -> None:
    """Check a signature over the text of a note.

    Raises:
        CryptoError: `signature-invalid`.
    """
    key.verify(PURPOSE, text.encode(), signature, what="note")
