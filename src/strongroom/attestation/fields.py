"""Reading the members of a JSON or TOML document strictly: exact names, types, forms and bounds.

Each reader raises `EvidenceError` with the code of the document that it reads, so that a parser built from
them lets nothing else out.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

from strongroom.codec import b64, jcs
from strongroom.errors import CodecError, ErrorCode, EvidenceError

SERVICE_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""Lower-case letters, digits and inner hyphens, at most 63: usable as a DNS label and in a URL path."""

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")
SHA384: Final = re.compile(r"sha384:[0-9a-f]{96}")
SIGNING_KEY: Final = re.compile(r"ed25519\+mldsa65:[A-Za-z0-9_-]{43}")
RESOURCE: Final = re.compile(r"kbs:///[A-Za-z0-9._-]{1,64}(/[A-Za-z0-9._-]{1,64}){2}")
NOTE_KEY: Final = re.compile(r"[A-Za-z0-9./:_-]{1,128}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}")
PLAIN_TEXT: Final = re.compile(r"[ -~]{1,128}")
"""A name for people: printable ASCII, so that it can be shown on a terminal as it is."""

MAX_TIME: Final = 2**53 - 1
"""Largest integer that JCS carries exactly."""


class Fields:
    """The members of one object, read by name.

    Args:
        kind: Code of the error to raise.
        what: Name of the document, for the error.
        value: The decoded document.
        names: The exact set of member names.

    Raises:
        EvidenceError: `value` is not an object with exactly these members.
    """

    def __init__(self, kind: ErrorCode, what: str, value: object, names: Collection[str]) -> None:
        self._kind = kind
        self._what = what
        if not isinstance(value, dict):
            raise self.error("not an object")
        missing, unknown = set(names) - value.keys(), value.keys() - set(names)
        if missing:
            raise self.error(f"without {', '.join(sorted(missing))}")
        if unknown:
            raise self.error(f"{len(unknown)} unknown members", expected=", ".join(sorted(names)))
        self._value: dict[str, Any] = value

    def error(self, detail: str, *, expected: object = None) -> EvidenceError:
        """An error of this document."""
        return EvidenceError(self._kind, f"{self._what}: {detail}", expected=expected)

    def has(self, name: str) -> bool:
        """Whether the object has the member."""
        return name in self._value

    def raw(self, name: str) -> Any:
        """A member as it is."""
        return self._value[name]

    def constant(self, name: str, expected: str) -> None:
        """A member that has one value only."""
        if self._value[name] != expected:
            raise self.error(f"another {name}", expected=expected)

    def text(self, name: str, form: re.Pattern[str]) -> str:
        """A string of the given form."""
        value = self._value[name]
        if not isinstance(value, str) or not form.fullmatch(value):
            raise self.error(f"{name} has not the expected form", expected=form.pattern)
        return value

    def integer(self, name: str, *, low: int = 0, high: int = MAX_TIME) -> int:
        """An integer within bounds, both included."""
        value = self._value[name]
        if type(value) is not int or not low <= value <= high:
            raise self.error(f"{name} is not an integer in range", expected=f"{low} to {high}")
        return value

    def texts(self, name: str, form: re.Pattern[str], *, most: int) -> tuple[str, ...]:
        """A list of distinct strings of the given form."""
        value = self._value[name]
        if not isinstance(value, list) or len(value) > most:
            raise self.error(f"{name} is not a list", expected=f"at most {most} strings")
        if not all(isinstance(item, str) and form.fullmatch(item) for item in value):
            raise self.error(f"{name} has an entry without the expected form", expected=form.pattern)
        if len(set(value)) != len(value):
            raise self.error(f"{name} has an entry twice")
        return tuple(value)

    def blob(self, name: str, *, limit: int, exact: bool = False) -> bytes:
        """Bytes in base64url without padding.

        Args:
            name: Member name.
            limit: Largest length in bytes.
            exact: Whether `limit` is the only length.
        """
        value = self._value[name]
        if not isinstance(value, str):
            raise self.error(f"{name} is not a base64url string")
        try:
            data = b64.decode_url(value, limit=limit, what=name)
        except CodecError as error:
            raise self.error(f"{name}: {error.kind.title}") from None
        if exact and len(data) != limit:
            raise self.error(f"{name} has the wrong length", expected=f"{limit} bytes")
        return data


def parse_object(kind: ErrorCode, what: str, data: bytes, *, limit: int, names: Collection[str]) -> Fields:
    """Decode bounded JSON bytes into the members of one object.

    Raises:
        EvidenceError: With code `kind`.
    """
    try:
        value = jcs.parse(data, limit=limit, what=what)
    except CodecError as error:
        raise EvidenceError(kind, f"{what}: {error.kind.title}") from None
    return Fields(kind, what, value, names)
