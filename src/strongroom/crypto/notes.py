"""Keys of signed notes: Ed25519 (C2SP signed-note), witness cosignatures (C2SP tlog-cosignature), our hybrid.

    key = NoteKey.parse("example.com/log+c74f20a3+ARpc2Q...")
    key.check(note)

A public key in text is `NAME+ID+BASE64`, a private one `PRIVATE+KEY+NAME+ID+BASE64`; the first byte of what
is encoded is the type. The hybrid, ML-DSA-65 with Ed25519, is for the holder of a `SigningKey`; see
`strongroom.crypto.hybrid_note`. Of it the text holds the digest that names the key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from strongroom.codec import b64, note
from strongroom.codec.note import KEY_ID_BYTES, Note, NoteSignature
from strongroom.crypto import hybrid_note
from strongroom.crypto._composite import parse_ed25519
from strongroom.crypto.errors import NOTE_KEY_INVALID, NOTE_UNSIGNED, SIGNATURE_INVALID
from strongroom.crypto.sign import SigningKey, VerifyingKey
from strongroom.errors import CodecError, CryptoError

KEY_SIZE: Final = 32
"""Bytes of an Ed25519 key, and of the digest of a hybrid one."""

SIGNATURE_SIZE: Final = 64
"""Bytes of an Ed25519 signature."""

_PRIVATE: Final = "PRIVATE+KEY+"
_TIME_BYTES: Final = 8
_MAX_TIME: Final = 2**63 - 1
_MAX_TEXT: Final = 512
_ID: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)


class NoteType(IntEnum):
    """Signature types of C2SP signed-note. Its 0xff is for types without a number; there is one here."""

    ED25519 = 0x01
    COSIGNATURE_V1 = 0x04
    HYBRID = 0xFF


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key of notes.

    Attributes:
        name: Its name, as signature lines have it.
        type: What its signatures are over.
        public: The Ed25519 key, or the digest of the hybrid one; 32 bytes.

    Raises:
        CryptoError: `signing-key-invalid`.
    """

    name: str
    type: NoteType
    public: bytes

    def __post_init__(self) -> None:
        if self.type is NoteType.HYBRID:
            VerifyingKey(self.public)
        else:
            parse_ed25519(self.public)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `NAME+ID+BASE64`.

        Raises:
            CryptoError: `note-key-invalid` or `signing-key-invalid`.
        """
        name, kind, raw = _parse(text)
        key = cls(name, kind, raw)
        if key.text != text:
            raise CryptoError(NOTE_KEY_INVALID, "its identifier is of another key")
        return key

    @property
    def key_id(self) -> bytes:
        """Four bytes that stand in its signature lines."""
        return _key_id(self.name, self.type, self.public)

    @property
    def text(self) -> str:
        """`NAME+ID+BASE64`."""
        return _text(self.name, self.key_id, self.type, self.public)

    def check(self, signed: Note) -> int:
        """Check all signatures of this key under a note, at least one.

        Returns:
            The time of the latest cosignature in unix seconds; 0 for a key of another type.

        Raises:
            CryptoError: `note-unsigned`, there is none; `signature-invalid`, one does not hold.
        """
        own = [each for each in signed.signatures if (each.name, each.key_id) == (self.name, self.key_id)]
        if not own:
            raise CryptoError(NOTE_UNSIGNED, expected=self.text)
        return max(self._check(signed.text, each.value) for each in own)

    def _check(self, text: str, value: bytes) -> int:
        if self.type is NoteType.HYBRID:
            hybrid_note.verify_note(VerifyingKey(self.public), text, value)
            return 0
        cosigned = self.type is NoteType.COSIGNATURE_V1
        if len(value) != SIGNATURE_SIZE + (_TIME_BYTES if cosigned else 0):
            raise CryptoError(SIGNATURE_INVALID, f"length, under note key {self.text}")
        time = int.from_bytes(value[:_TIME_BYTES], "big") if cosigned else 0
        if time > _MAX_TIME:
            raise CryptoError(SIGNATURE_INVALID, f"time, under note key {self.text}")
        message = _message(self.type, text, time)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(value[-SIGNATURE_SIZE:], message)
        except InvalidSignature as error:
            raise CryptoError(SIGNATURE_INVALID, f"under note key {self.text}") from error
        return time


class NoteSigner:
    """A private key of notes.

    Attributes:
        name: Its name.
        type: What its signatures are over.
        key: The public half.
    """

    __slots__ = ("_key_id", "_private", "_seed", "key", "name", "type")

    def __init__(self, name: str, kind: NoteType, seed: bytes) -> None:
        """Take the 32 secret bytes of an Ed25519 key.

        Raises:
            CryptoError: `note-key-invalid`: name or length.
        """
        if not note.is_name(name) or len(seed) != KEY_SIZE or kind is NoteType.HYBRID:
            raise CryptoError(NOTE_KEY_INVALID, "name, length or type")
        self.name = name
        self.type = kind
        self._seed = bytes(seed)
        self._private = Ed25519PrivateKey.from_private_bytes(self._seed)
        self.key = NoteKey(name, kind, self._private.public_key().public_bytes_raw())
        self._key_id = self.key.key_id

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `PRIVATE+KEY+NAME+ID+BASE64`.

        Raises:
            CryptoError: `note-key-invalid`.
        """
        if not text.startswith(_PRIVATE):
            raise CryptoError(NOTE_KEY_INVALID, "it is no private key", expected=f"{_PRIVATE}...")
        signer = cls(*_parse(text.removeprefix(_PRIVATE)))
        if signer.text != text:
            raise CryptoError(NOTE_KEY_INVALID, "its identifier is of another key")
        return signer

    @property
    def text(self) -> str:
        """`PRIVATE+KEY+NAME+ID+BASE64`. Secret."""
        return _PRIVATE + _text(self.name, self._key_id, self.type, self._seed)

    def sign(self, text: str, time: int = 0) -> NoteSignature:
        """Sign the text of a note.

        Args:
            text: With its last newline.
            time: Unix seconds, for a cosignature.
        """
        value = self._private.sign(_message(self.type, text, time))
        if self.type is NoteType.COSIGNATURE_V1:
            value = time.to_bytes(_TIME_BYTES, "big") + value
        return NoteSignature(self.name, self._key_id, value)

    def __repr__(self) -> str:
        return f"NoteSigner(public={self.key.text!r})"


def hybrid_key(name: str, key: VerifyingKey) -> NoteKey:
    """The note key of a hybrid signing key."""
    return NoteKey(name, NoteType.HYBRID, key.digest)


def sign_hybrid(name: str, key: SigningKey, text: str) -> NoteSignature:
    """A signature line of a hybrid signing key.

    Args:
        name: The key's name.
        key: The key.
        text: With its last newline.
    """
    own = hybrid_key(name, key.verifying_key)
    return NoteSignature(name, own.key_id, hybrid_note.sign_note(key, text))


def cosigners(signed: Note, witnesses: Iterable[NoteKey]) -> list[str]:
    """Names of the witnesses whose cosignature under a note holds, each key once.

    Raises:
        CryptoError: `signature-invalid`: a known witness's cosignature does not hold.
    """
    names = []
    for key in dict.fromkeys(witnesses):
        try:
            key.check(signed)
        except CryptoError as error:
            if error.kind is not NOTE_UNSIGNED:
                raise
            continue
        names.append(key.name)
    return names


def _message(kind: NoteType, text: str, time: int) -> bytes:
    head = f"cosignature/v1\ntime {time}\n" if kind is NoteType.COSIGNATURE_V1 else ""
    return (head + text).encode()


def _key_id(name: str, kind: NoteType, public: bytes) -> bytes:
    number = hybrid_note.NOTE_TYPE if kind is NoteType.HYBRID else bytes([kind])
    return hashlib.sha256(name.encode() + b"\n" + number + public).digest()[:KEY_ID_BYTES]


def _text(name: str, key_id: bytes, kind: NoteType, raw: bytes) -> str:
    return f"{name}+{key_id.hex()}+{b64.encode_std(bytes([kind]) + raw)}"


def _parse(text: str) -> tuple[str, NoteType, bytes]:
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    if len(text) > _MAX_TEXT or not note.is_name(name) or not _ID.fullmatch(key_id):
        raise CryptoError(NOTE_KEY_INVALID, expected="NAME+ID+BASE64")
    try:
        raw = b64.decode_std(encoded, limit=1 + KEY_SIZE, what="note key")
        kind = NoteType(raw[0])
    except (CodecError, IndexError, ValueError):
        raise CryptoError(NOTE_KEY_INVALID, "its type or encoding is not known") from None
    if len(raw) != 1 + KEY_SIZE:
        raise CryptoError(NOTE_KEY_INVALID, "its length", expected=f"{KEY_SIZE} bytes")
    return name, kind, raw[1:]
