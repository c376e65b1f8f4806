"""Cases of machines with a TPM and of Azure confidential VMs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.conformance import snp
from strongroom.conformance.case import Case
from strongroom.conformance.subject import Subject
from strongroom_simulator.collateral import make_collateral
from strongroom_simulator.pki import Pki
from strongroom_simulator.quotes import QuotingEnclave, td_report
from strongroom_simulator.snp import Guest, SnpPlatform
from strongroom_simulator.tpm import SimulatedTpm, init_data_register

_INIT_DATA = b'version = "0.1.0"\n'
_NONCE = bytes(range(1, 49))
_REPORT_DATA = _NONCE + bytes(16)
_MEASUREMENT = b"\x11" * 48
_PCRS = {4: b"\x04" * 32, 7: b"\x07" * 32, 8: init_data_register(_INIT_DATA)}
_DEMANDED = {4: ["04" * 32], 7: ["07" * 32]}


@dataclass(frozen=True, slots=True)
class _Machine:
    """How evidence of one kind is made."""

    kind: EvidenceKind
    make: Callable[[SimulatedTpm, bytes], bytes]
    collateral: dict[str, str] | None
    settings: dict[str, Any]


def cases(platform: SnpPlatform, pki: Pki, now: int) -> Iterator[Case]:
    """All cases; the policies pin the roots of both vendors, and the TPM."""
    tpm = SimulatedTpm(pcrs=_PCRS)
    for machine in (_tpm(tpm), _azure_snp(platform), _azure_tdx(pki, now)):
        evidence = Evidence(machine.kind, machine.make(tpm, _NONCE), machine.collateral, _INIT_DATA)
        good = Subject(str(machine.kind), evidence, machine.settings, now, _REPORT_DATA)
        yield good.accepted()
        yield from _of_the_registers(good, machine, tpm)
        yield from _of_the_quote(good, machine, tpm)
        yield from _of_the_form(good)
        if machine.kind is not EvidenceKind.TPM:
            yield from _of_the_hardware(good, machine)


def _tpm(tpm: SimulatedTpm) -> _Machine:
    settings = {
        "kinds": [EvidenceKind.TPM],
        "measurements": {},
        "pcrs": _DEMANDED,
        "tpm_keys": [tpm.key_sha256],
    }
    return _Machine(EvidenceKind.TPM, lambda each, nonce: each.evidence(nonce), None, settings)


def _azure_snp(platform: SnpPlatform) -> _Machine:
    vcek = platform.signer.public_bytes(Encoding.DER)

    def make(tpm: SimulatedTpm, nonce: bytes) -> bytes:
        return tpm.azure_snp(nonce, platform.report(Guest(_MEASUREMENT, tpm.hardware_data())), vcek)

    settings = snp.settings(platform, EvidenceKind.AZ_SNP)
    settings |= {"min_svn": 0, "require_revocation": False, "pcrs": _DEMANDED}
    return _Machine(EvidenceKind.AZ_SNP, make, {"chain": platform.collateral()["chain"]}, settings)


def _azure_tdx(pki: Pki, now: int) -> _Machine:
    enclave = QuotingEnclave(pki, EvidenceKind.TDX, os.urandom)

    def make(tpm: SimulatedTpm, nonce: bytes) -> bytes:
        return tpm.azure_tdx(nonce, enclave.quote(td_report(_MEASUREMENT, bytes(48), tpm.hardware_data())))

    settings = {
        "kinds": [EvidenceKind.AZ_TDX],
        "measurements": {EvidenceKind.AZ_TDX: [_MEASUREMENT.hex()]},
        "allow_simulated": True,
        "simulated_roots": [pki.root_sha256],
        "pcrs": _DEMANDED,
    }
    return _Machine(EvidenceKind.AZ_TDX, make, make_collateral(pki, EvidenceKind.TDX, now), settings)


def _of_the_registers(good: Subject, machine: _Machine, tpm: SimulatedTpm) -> Iterator[Case]:
    for number in (4, 7):
        yield good.policy(
            f"pcr{number}-demanded",
            f"another value of PCR {number} is demanded",
            "policy-pcr",
            pcrs={**_DEMANDED, number: ["99" * 32]},
        )
        started = replace(tpm, pcrs={**_PCRS, number: b"\x99" * 32})
        yield good.quote(
            f"pcr{number}-started",
            f"PCR {number} has another value",
            "policy-pcr",
            machine.make(started, _NONCE),
        )
    unmeasured = replace(tpm, pcrs={**_PCRS, 8: bytes(32)})
    yield good.quote(
        "init-data-unmeasured",
        "the init-data was not measured",
        "evidence-init-data",
        machine.make(unmeasured, _NONCE),
    )
    yield good.case(
        "init-data-other",
        "other init-data comes along",
        "evidence-init-data",
        evidence=replace(good.evidence, init_data=_INIT_DATA + b"\n"),
    )


def _of_the_quote(good: Subject, machine: _Machine, tpm: SimulatedTpm) -> Iterator[Case]:
    yield good.quote(
        "replayed", "the quote is of another occasion", "policy-report-data", machine.make(tpm, b"x" * 48)
    )
    yield good.quote("no-nonce", "the quote has no nonce", "policy-report-data", machine.make(tpm, b""))
    yield good.case("report-data", "another nonce is demanded", "policy-report-data", report_data=bytes(64))
    stranger = SimulatedTpm(pcrs=_PCRS)
    if machine.kind is EvidenceKind.TPM:
        yield good.quote(
            "other-tpm", "another TPM has signed", "evidence-untrusted-root", machine.make(stranger, _NONCE)
        )
        yield good.policy(
            "tpm-unpinned", "another TPM is pinned", "evidence-untrusted-root", tpm_keys=[stranger.key_sha256]
        )
    value = json.loads(good.evidence.quote)
    foreign = json.loads(machine.make(stranger, _NONCE))["tpm_quote"]
    mixed = value | {"tpm_quote": foreign}
    yield good.quote("quote-foreign", "another TPM's quote comes along", "evidence-signature", _text(mixed))
    for number in (0, 4, 23):
        pcrs = list(value["tpm_quote"]["pcrs"])
        pcrs[number] = "aa" * 32
        changed = value | {"tpm_quote": value["tpm_quote"] | {"pcrs": pcrs}}
        yield good.quote(
            f"pcr{number}-told",
            f"PCR {number} is told otherwise than quoted",
            "evidence-binding",
            _text(changed),
        )
    for member in ("message", "signature"):
        text = value["tpm_quote"][member]
        flipped = text[:40] + ("0" if text[40] != "0" else "1") + text[41:]
        changed = value | {"tpm_quote": value["tpm_quote"] | {member: flipped}}
        yield good.quote(
            f"{member}-flip",
            f"a character of the quote's {member} is another",
            "evidence-signature",
            _text(changed),
        )


def _of_the_form(good: Subject) -> Iterator[Case]:
    value = json.loads(good.evidence.quote)
    for member in value:
        left = {name: each for name, each in value.items() if name != member}
        yield good.quote(f"no-{member}", f"{member} is missing", "evidence-malformed", _text(left))
    quote = value["tpm_quote"]
    for name, changed in (
        ("more", value | {"more": 1}),
        ("pcrs-23", value | {"tpm_quote": quote | {"pcrs": quote["pcrs"][:23]}}),
        ("pcr-short", value | {"tpm_quote": quote | {"pcrs": ["00" * 31, *quote["pcrs"][1:]]}}),
        ("quote-text", value | {"tpm_quote": "quote"}),
        ("list", [value]),
    ):
        yield good.quote(
            f"form-{name}", "the evidence has another form", "evidence-malformed", _text(changed)
        )


def _of_the_hardware(good: Subject, machine: _Machine) -> Iterator[Case]:
    yield good.policy(
        "measurement",
        "another measurement is listed",
        "policy-measurement",
        measurements={machine.kind: ["22" * 48]},
    )
    yield good.policy(
        "simulated", "simulated evidence is not allowed", "policy-simulated", allow_simulated=False
    )
    yield good.policy(
        "root-unpinned", "another root is pinned", "evidence-untrusted-root", simulated_roots=["00" * 32]
    )
    value = json.loads(good.evidence.quote)
    elsewhere = json.loads(machine.make(SimulatedTpm(pcrs=_PCRS), _NONCE))
    if machine.kind is EvidenceKind.AZ_TDX:
        mixed = value | {"td_quote": elsewhere["td_quote"]}
        yield good.quote(
            "td-quote-foreign", "the TD's quote is of another VM", "evidence-binding", _text(mixed)
        )
    mixed = value | {"hcl_report": elsewhere["hcl_report"]}
    yield good.quote(
        "hcl-foreign", "the paravisor's report is of another VM", "evidence-signature", _text(mixed)
    )
    for version in (0, 3):
        yield good.quote(
            f"version-{version}",
            f"the form is of version {version}",
            "evidence-malformed",
            _text(value | {"version": version}),
        )
    yield good.case(
        "clock", "the certificates are not valid at the time", "evidence-expired", at=good.at - 3 * 86400
    )


def _text(value: object) -> bytes:
    return json.dumps(value).encode()
