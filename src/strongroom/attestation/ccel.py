"""The event log of a TDX guest (CCEL), replayed into its run-time registers.

The log names what firmware, boot loader and kernel have measured, one digest each. It is not signed: it
counts only as far as its digests, chained, give the registers of a verified quote. An event's data counts
only where the digest is one of the data itself (`Event.covered`); for other types it is a description that
anybody may have written.

Sources: TCG PC Client Platform Firmware Profile, section 10; UEFI 2.10, section 38.4 (register numbers).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.errors import (
    EVIDENCE_ALGORITHM,
    EVIDENCE_BINDING,
    EVIDENCE_FORMAT,
    EVIDENCE_MALFORMED,
)
from strongroom.attestation.reader import Reader
from strongroom.errors import EvidenceError

MAX_LOG: Final = 512 * 1024
MAX_EVENTS: Final = 1024
REGISTERS: Final = 4

_NO_ACTION: Final = 3
_SIGNATURE: Final = b"Spec ID Event03\0"
_SHA384: Final = 0x000C
_DIGEST_SIZE: Final = 48
_MAX_ALGORITHMS: Final = 8
_LARGEST_DIGEST: Final = 64
_OLD_DIGEST: Final = 20
_FIRST: Final = struct.Struct("<II20sI")
_HEADER: Final = struct.Struct("<16sI4BI")
_FILLINGS: Final = (b"\0", b"\xff")
_WHAT: Final = "event log"

NAMES: Final = {
    0x00000003: "EV_NO_ACTION",
    0x00000004: "EV_SEPARATOR",
    0x00000005: "EV_ACTION",
    0x00000006: "EV_EVENT_TAG",
    0x0000000A: "EV_PLATFORM_CONFIG_FLAGS",
    0x0000000D: "EV_IPL",
    0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG",
    0x80000002: "EV_EFI_VARIABLE_BOOT",
    0x80000003: "EV_EFI_BOOT_SERVICES_APPLICATION",
    0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER",
    0x80000006: "EV_EFI_GPT_EVENT",
    0x80000007: "EV_EFI_ACTION",
    0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
    0x80000009: "EV_EFI_HANDOFF_TABLES",
    0x8000000A: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
    0x8000000B: "EV_EFI_HANDOFF_TABLES2",
    0x800000E0: "EV_EFI_VARIABLE_AUTHORITY",
}
"""Names of event types."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        register: 0 to 3 for RTMR0 to RTMR3; -1 for MRTD, which no event extends.
        type: Its type, see `NAMES`.
        digest: SHA-384, 48 bytes: what the register was extended with.
        data: What is said of it.
    """

    register: int
    type: int
    digest: bytes
    data: bytes

    @property
    def covered(self) -> bool:
        """Whether the digest is that of the data, so that nobody can have changed the data."""
        return hashlib.sha384(self.data).digest() == self.digest

    @property
    def name(self) -> str:
        """The name of its type, or its number."""
        return NAMES.get(self.type, f"{self.type:#010x}")


def parse(log: bytes) -> tuple[Event, ...]:
    """Read a log of at most 512 KiB; the area after the last event may be filled with zeros or 0xff.

    Raises:
        EvidenceError: `evidence-malformed`, `evidence-format` (no crypto-agile log) or `evidence-algorithm`
            (no SHA-384).
    """
    return _read(log)[0]


def trimmed(log: bytes) -> bytes:
    """The log without what fills its area after the last event.

    Raises:
        EvidenceError: As `parse`.
    """
    return log[: _read(log)[1]]


def replay(events: Sequence[Event]) -> tuple[str, ...]:
    """The values of RTMR0 to RTMR3 after these events, lower-case hex."""
    registers = [bytes(_DIGEST_SIZE)] * REGISTERS
    for event in events:
        if event.type != _NO_ACTION and event.register >= 0:
            registers[event.register] = hashlib.sha384(registers[event.register] + event.digest).digest()
    return tuple(register.hex() for register in registers)


def check(events: Sequence[Event], registers: Sequence[str]) -> None:
    """Check that a log accounts for all of a quote's registers.

    Args:
        events: The log.
        registers: RTMR0 to RTMR3 of the verified quote, lower-case hex.

    Raises:
        EvidenceError: `evidence-binding`, names the first register that differs.
    """
    for number, (replayed, quoted) in enumerate(zip(replay(events), registers, strict=True)):
        if replayed != quoted:
            raise EvidenceError(EVIDENCE_BINDING, f"event log, RTMR{number}", found=replayed, expected=quoted)


def describe(event: Event) -> str:
    """One line for people: register, type, digest, and the data where the digest covers it."""
    place = "MRTD" if event.register < 0 else f"RTMR{event.register}"
    shown = ""
    if event.covered:
        text = event.data[:120].rstrip(b"\0").decode("ascii", "replace")
        shown = "  " + "".join(char if char.isascii() and char.isprintable() else "." for char in text)
    return f"{place}  {event.name:<32} {event.digest.hex()[:16]}...{shown}".rstrip()


def _read(log: bytes) -> tuple[tuple[Event, ...], int]:
    """The events, and where they end."""
    if len(log) > MAX_LOG:
        raise EvidenceError(EVIDENCE_MALFORMED, "event log", found=len(log), expected=f"at most {MAX_LOG}")
    reader = Reader(log, _WHAT, "little")
    sizes = _digest_sizes(reader)
    events: list[Event] = []
    while not _at_end(reader):
        if len(events) == MAX_EVENTS:
            raise EvidenceError(EVIDENCE_MALFORMED, "event log", expected=f"at most {MAX_EVENTS} events")
        events.append(_event(reader, sizes))
    return tuple(events), reader.position


def _at_end(reader: Reader) -> bool:
    """Whether nothing but filling is left."""
    first = reader.peek(1)
    # An event of the log begins with its register, 0 to 4: only 0 can be taken for a filling.
    return first in {b"", *_FILLINGS} and not reader.rest.strip(first or None)


def _digest_sizes(reader: Reader) -> dict[int, int]:
    """The first event, in the old format: which algorithms the others have digests of."""
    _register, kind, digest, size = _FIRST.unpack(reader.take(_FIRST.size))
    head = reader.take(size)
    if (kind, digest) != (_NO_ACTION, bytes(_OLD_DIGEST)) or len(head) < _HEADER.size:
        raise EvidenceError(EVIDENCE_FORMAT, "event log", expected="a crypto-agile log")
    signature, _platform, _minor, _major, _errata, _uintn, count = _HEADER.unpack_from(head)
    if signature != _SIGNATURE or not 1 <= count <= _MAX_ALGORITHMS:
        raise EvidenceError(EVIDENCE_FORMAT, "event log", expected="a crypto-agile log")
    rest = Reader(head[_HEADER.size :], _WHAT, "little")
    sizes = {rest.number(2): rest.number(2) for _ in range(count)}
    rest.take(rest.number(1))  # the vendor's own
    if len(sizes) != count or any(not 0 < each <= _LARGEST_DIGEST for each in sizes.values()):
        raise EvidenceError(EVIDENCE_MALFORMED, "algorithms of the event log")
    if sizes.get(_SHA384) != _DIGEST_SIZE:
        raise EvidenceError(EVIDENCE_ALGORITHM, "event log", expected="SHA-384")
    return sizes


def _event(reader: Reader, sizes: dict[int, int]) -> Event:
    register, kind, count = reader.number(4), reader.number(4), reader.number(4)
    if register > REGISTERS:
        raise EvidenceError(EVIDENCE_MALFORMED, "register of an event", found=register)
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = reader.number(2)
        if algorithm not in sizes or algorithm in digests:
            raise EvidenceError(EVIDENCE_MALFORMED, "algorithm of an event", found=algorithm)
        digests[algorithm] = reader.take(sizes[algorithm])
    if _SHA384 not in digests:
        raise EvidenceError(EVIDENCE_ALGORITHM, "event", expected="SHA-384")
    return Event(register - 1, kind, digests[_SHA384], reader.take(reader.number(4)))
