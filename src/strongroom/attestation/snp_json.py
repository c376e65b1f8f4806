"""An SEV-SNP report as JSON, member by member, as Confidential Containers' attester sends it.

It is what `serde` makes of virtee/sev's `AttestationReport`: numbers, lists of bytes, firmware versions as
objects. The signature covers the bytes, so a report that does not come back to the very bytes is refused by
its signature. Older releases of that library name some members otherwise and show reserved ones too.

Source: github.com/virtee/sev, src/firmware/guest/types/snp.rs; the places are those of AMD 56860.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from strongroom.attestation.errors import EVIDENCE_MALFORMED
from strongroom.attestation.snp_report import REPORT_SIZE, SIGNED_SIZE, TCB_PLACES, TURIN_TCB_PLACES
from strongroom.errors import EvidenceError

_NUMBERS: Final = {
    "version": (0x00, 4),
    "guest_svn": (0x04, 4),
    "policy": (0x08, 8),
    "vmpl": (0x30, 4),
    "sig_algo": (0x34, 4),
    "plat_info": (0x40, 8),
    "key_info": (0x48, 4),
}
_ARRAYS: Final = {
    "family_id": (0x10, 16),
    "image_id": (0x20, 16),
    "report_data": (0x50, 64),
    "measurement": (0x90, 48),
    "host_data": (0xC0, 32),
    "id_key_digest": (0xE0, 48),
    "author_key_digest": (0x110, 48),
    "report_id": (0x140, 32),
    "report_id_ma": (0x160, 32),
    "chip_id": (0x1A0, 64),
}
_TCBS: Final = {"current_tcb": 0x38, "reported_tcb": 0x180, "committed_tcb": 0x1E0, "launch_tcb": 0x1F0}
_CPUID: Final = {"cpuid_fam_id": (0x188, 1), "cpuid_mod_id": (0x189, 1), "cpuid_step": (0x18A, 1)}
_MITIGATIONS: Final = {"launch_mit_vector": (0x1F8, 8), "current_mit_vector": (0x200, 8)}
_VERSIONS: Final = {"current": 0x1E8, "committed": 0x1EC}
_PARTS_OF_VERSION: Final = ("build", "minor", "major")
_COORDINATES: Final = {"r": (SIGNED_SIZE, 72), "s": (SIGNED_SIZE + 72, 72)}
_OLD_NAMES: Final[Mapping[str, str]] = {"_author_key_en": "key_info", "author_key_en": "key_info"}
_RESERVED: Final = "_reserved"

_CPUID_SINCE: Final = 3
_MITIGATIONS_SINCE: Final = 5


def decode(value: object) -> bytes:
    """The 1184 bytes of a report.

    Args:
        value: The JSON object.

    Raises:
        EvidenceError: `evidence-malformed`.
    """
    members = _members(value, "report")
    report = bytearray(REPORT_SIZE)
    for place, size, number in _fields(members):
        report[place : place + size] = number.to_bytes(size, "little")
    return bytes(report)


def encode(report: bytes) -> dict[str, Any]:
    """The JSON object of a report.

    Raises:
        EvidenceError: `evidence-malformed`: it is not of 1184 bytes.
    """
    if len(report) != REPORT_SIZE:
        raise EvidenceError(EVIDENCE_MALFORMED, "SNP report", found=len(report), expected=REPORT_SIZE)

    def number(place: int, size: int) -> int:
        return int.from_bytes(report[place : place + size], "little")

    version = number(*_NUMBERS["version"])
    turin = version >= _CPUID_SINCE and report[_CPUID["cpuid_fam_id"][0]] >= 0x1A
    places = TURIN_TCB_PLACES if turin else TCB_PLACES
    optional = {
        name: number(*where) if version >= since else None
        for fields, since in ((_CPUID, _CPUID_SINCE), (_MITIGATIONS, _MITIGATIONS_SINCE))
        for name, where in fields.items()
    }
    return {
        **{name: number(*where) for name, where in _NUMBERS.items()},
        **{name: list(report[place : place + size]) for name, (place, size) in _ARRAYS.items()},
        **{
            name: {"fmc": None, **{part: report[at + offset] for part, offset in places.items()}}
            for name, at in _TCBS.items()
        },
        **{
            name: {part: report[at + offset] for offset, part in enumerate(_PARTS_OF_VERSION)}
            for name, at in _VERSIONS.items()
        },
        **optional,
        "signature": {
            name: list(report[place : place + size]) for name, (place, size) in _COORDINATES.items()
        },
    }


def _fields(members: dict[str, Any]) -> Iterator[tuple[int, int, int]]:
    """Place, size and value of each field; `members` must hold all of them and nothing else."""
    for name, (place, size) in _NUMBERS.items():
        yield place, size, _number(members.pop(name, None), size, name)
    for name, (place, size) in _ARRAYS.items():
        yield place, size, _array(members.pop(name, None), size, name)
    for name, (place, size) in (_CPUID | _MITIGATIONS).items():
        if (found := members.pop(name, None)) is not None:
            yield place, size, _number(found, size, name)
    for name, place in _TCBS.items():
        yield from _tcb(members.pop(name, None), place, name)
    for name, place in _VERSIONS.items():
        parts = _members(members.pop(name, None), name)
        for offset, part in enumerate(_PARTS_OF_VERSION):
            yield place + offset, 1, _number(parts.pop(part, None), 1, name)
        _end(parts, name)
    signature = _members(members.pop("signature", None), "signature")
    for name, (place, size) in _COORDINATES.items():
        yield place, size, _array(signature.pop(name, None), size, name)
    _end(signature, "signature")
    _end(members, "report")


def _tcb(value: object, place: int, name: str) -> Iterator[tuple[int, int, int]]:
    parts = _members(value, name)
    # Only a Turin has this part, and the others in other places.
    turin = parts.get("fmc") is not None
    if not turin:
        parts.pop("fmc", None)
    for part, offset in (TURIN_TCB_PLACES if turin else TCB_PLACES).items():
        yield place + offset, 1, _number(parts.pop(part, None), 1, name)
    _end(parts, name)


def _members(value: object, what: str) -> dict[str, Any]:
    """The members of an object, by their present names, without reserved ones."""
    if not isinstance(value, dict):
        raise _malformed(what)
    found: dict[str, Any] = {}
    for name, member in value.items():
        if name.startswith(_RESERVED):
            if any(member if isinstance(member, list) else [member]):
                raise _malformed(f"{what}: a reserved member that is not zero")
            continue
        present = _OLD_NAMES.get(name, name)
        if present in found:
            raise _malformed(f"{what}: a member that is there twice")
        found[present] = member
    return found


def _number(value: object, size: int, name: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 8 * size:
        raise _malformed(name)
    return value


def _array(value: object, size: int, name: str) -> int:
    if not isinstance(value, list) or len(value) != size:
        raise _malformed(name)
    return int.from_bytes(bytes(_number(each, 1, name) for each in value), "little")


def _end(members: Mapping[str, Any], what: str) -> None:
    if members:
        raise _malformed(f"{what}: members that are not known")


def _malformed(detail: str) -> EvidenceError:
    return EvidenceError(EVIDENCE_MALFORMED, f"SNP report in JSON: {detail}")
