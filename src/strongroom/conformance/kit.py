"""The whole kit, and what an implementation says to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.attestation.evidence import DCAP_KINDS, EvidenceKind
from strongroom.conformance import case as one
from strongroom.conformance import dcap, documents, gpu, nitro, release, service, snp, tpm, values
from strongroom.conformance.case import ACCEPTED, Case
from strongroom.errors import StrongroomError
from strongroom_simulator.gpu import GpuPlatform
from strongroom_simulator.nitro import NitroPlatform
from strongroom_simulator.pki import Pki
from strongroom_simulator.snp import SnpPlatform

RSA_BITS: Final = 2048
"""Of simulated AMD authorities; AMD's have 4096, which takes seconds to make."""

UNUSABLE: Final = "case-unusable"
"""A case that is not of the form that is documented."""

_CHIP: Final = bytes(range(64))
_RUNNERS: Final[Mapping[str, Callable[[Mapping[str, Any]], None]]] = {
    "appraisal": one.appraise,
    "document": one.read_document,
    "policy": one.read_policy,
    "service": service.run,
    "release": release.run,
}


@dataclass(frozen=True, slots=True)
class Result:
    """What was said to a case.

    Attributes:
        case: The case.
        found: The code, or `accepted`.
    """

    case: Case
    found: str

    @property
    def passed(self) -> bool:
        """Whether it is what the case expects."""
        return self.found == self.case.expected

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "id": self.case.name,
            "changes": self.case.changes,
            "expected": self.case.expected,
            "found": self.found,
            "passed": self.passed,
        }


def generate(now: int) -> Iterator[Case]:
    """All cases, with keys and evidence made on the spot; all evidence is SIMULATED.

    Args:
        now: Unix time at which all is made and, but for some cases, appraised.
    """
    pki, other = (Pki.create(now, os.urandom) for _ in range(2))
    amd, second = (SnpPlatform.create(now, _CHIP, rsa_bits=RSA_BITS) for _ in range(2))
    aws, third = (NitroPlatform.create(now) for _ in range(2))
    nvidia, fourth = (GpuPlatform.create(now) for _ in range(2))
    for kind in DCAP_KINDS:
        yield from dcap.cases(pki, other, kind, now)
    yield from snp.cases(amd, second, now)
    yield from nitro.cases(aws, third, now)
    yield from tpm.cases(amd, pki, now)
    yield from gpu.cases(amd, nvidia, fourth, now)
    yield from values.cases(dcap.subject(pki, EvidenceKind.SGX, now), now)
    yield from documents.cases()
    yield from service.cases(pki, other, now)
    yield from release.cases(pki, other, now)


def run(case: Case) -> str:
    """The code with which this implementation refuses a case, `accepted`, or `case-unusable`."""
    try:
        _RUNNERS[case.type](case.members)
    except StrongroomError as error:
        return error.code
    except (KeyError, TypeError, ValueError, AttributeError):  # of a case that is not of the documented form
        return UNUSABLE
    return ACCEPTED


def results(cases: Iterable[Case]) -> list[Result]:
    """What this implementation says to each case."""
    return [Result(case, run(case)) for case in cases]


def summary(found: list[Result]) -> dict[str, Any]:
    """Numbers of cases and codes, and whether all passed."""
    codes = sorted({result.case.expected for result in found} - {ACCEPTED})
    return {
        "cases": len(found),
        "refusals": sum(result.case.expected != ACCEPTED for result in found),
        "codes": codes,
        "failed": [result.case.name for result in found if not result.passed],
    }
