"""Signed notes: text, an empty line, and signature lines (C2SP signed-note).

    Ognuno sta solo sul cuor della terra

    — quasimodo.example/salvatore NnugSzTj...

A note proves nothing until a signature of a known key was checked: `strongroom.crypto.notes`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.codec import b64
from strongroom.codec.errors import NOTE_MALFORMED, VALUE_TOO_LARGE
from strongroom.errors import CodecError

MAX_NOTE: Final = 128 * 1024
MAX_SIGNATURES: Final = 32
MAX_NAME: Final = 256
"""Characters of a key's name."""

KEY_ID_BYTES: Final = 4
_MAX_SIGNATURE: Final = 8 * 1024
_DASH: Final = "\u2014 "
_NAME: Final = re.compile(r"[^\s+\x00-\x1f]+")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line.

    Attributes:
        name: Name of the key that is said to have signed.
        key_id: Four bytes that say which key and algorithm of that name.
        value: The signature.
    """

    name: str
    key_id: bytes
    value: bytes

    def line(self) -> str:
        """The line, with its newline."""
        return f"{_DASH}{self.name} {b64.encode_std(self.key_id + self.value)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text with signatures that nobody has checked yet.

    Attributes:
        text: What is signed, with its last newline.
        signatures: At least one.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def render(self) -> str:
        """The note as it is published."""
        return f"{self.text}\n{''.join(signature.line() for signature in self.signatures)}"


def is_name(text: str) -> bool:
    """Whether a text may name a key: not empty, no space of Unicode, no plus, no control character."""
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def parse(data: bytes) -> Note:
    """Read a signed note, at most 128 KiB with at most 32 signatures.

    Raises:
        CodecError: `value-too-large`, `note-malformed` or `base64-invalid`.
    """
    if len(data) > MAX_NOTE:
        raise CodecError(VALUE_TOO_LARGE, "note", found=f"{len(data)} bytes", expected=f"at most {MAX_NOTE}")
    text = _text(data)
    end = text.rfind("\n\n")
    if end < 0:
        raise CodecError(NOTE_MALFORMED, "no empty line between text and signatures")
    return Note(text[: end + 1], _signatures(text[end + 2 :]))


def parse_signatures(data: bytes) -> tuple[NoteSignature, ...]:
    """Read signature lines alone, as a witness answers with; at least one, at most 32.

    Raises:
        CodecError: As `parse`.
    """
    if len(data) > MAX_NOTE:
        raise CodecError(VALUE_TOO_LARGE, "signatures", expected=f"at most {MAX_NOTE} bytes")
    return _signatures(_text(data))


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise CodecError(NOTE_MALFORMED, "not UTF-8") from None
    if _CONTROL.search(text):
        raise CodecError(NOTE_MALFORMED, "a control character")
    return text


def _signatures(text: str) -> tuple[NoteSignature, ...]:
    if not text.endswith("\n"):
        raise CodecError(NOTE_MALFORMED, "no newline at the end")
    lines = text[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise CodecError(NOTE_MALFORMED, "too many signatures", expected=f"at most {MAX_SIGNATURES}")
    return tuple(_signature(line) for line in lines)


def _signature(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not is_name(name):
        raise CodecError(NOTE_MALFORMED, "a signature line has another form")
    value = b64.decode_std(encoded, limit=_MAX_SIGNATURE, what="signature")
    if len(value) <= KEY_ID_BYTES:
        raise CodecError(NOTE_MALFORMED, "a signature is too short")
    return NoteSignature(name, value[:KEY_ID_BYTES], value[KEY_ID_BYTES:])
