"""Cases of NVIDIA GPUs beside a CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.gpu_checks import GpuDemand
from strongroom.attestation.runtime_data import RuntimeData
from strongroom.conformance import snp
from strongroom.conformance.case import Case
from strongroom.conformance.subject import Subject
from strongroom_simulator.gpu import DRIVER, MEASUREMENTS, VBIOS, GpuPlatform, devices_text
from strongroom_simulator.snp import Guest, SnpPlatform

_ASKED = RuntimeData("Y29uZm9ybWFuY2U=", {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"})
_DEMAND = GpuDemand(1, frozenset({DRIVER}), frozenset({VBIOS}), reference_values=True)


def cases(cpu: SnpPlatform, gpu: GpuPlatform, other: GpuPlatform, now: int) -> Iterator[Case]:
    """All cases; the policy pins the roots of the CPU and of the first GPU. Reference values need lxml."""
    settings = snp.settings(cpu) | {
        "min_svn": 0,
        "require_revocation": False,
        "simulated_roots": [cpu.root_sha256, gpu.root_sha256],
        "gpu": _DEMAND,
    }
    nonce = _ASKED.device_nonce()
    text = devices_text([(gpu.report(nonce), gpu.chain_pem)])
    good = _bound(Subject("gpu", _evidence(cpu, bytes(64)), settings, now, bytes(64)), cpu, text)
    good = replace(good, rims=gpu.rims())
    yield good.accepted()
    yield from _of_the_policy(good, cpu, gpu)
    yield from _of_the_binding(good, cpu, gpu, text)
    yield from _of_the_report(good, cpu, gpu, other)
    yield from _of_the_form(good, cpu, text)
    yield from _of_the_reference_values(good, gpu, other)


def _evidence(cpu: SnpPlatform, report_data: bytes) -> Evidence:
    return Evidence(EvidenceKind.SNP, cpu.report(Guest(snp.GUEST.measurement, report_data)), cpu.collateral())


def _bound(good: Subject, cpu: SnpPlatform, text: str) -> Subject:
    """The subject, with a CPU that binds this evidence of devices."""
    data = replace(_ASKED, additional_evidence=text)
    return replace(
        good,
        evidence=_evidence(cpu, data.report_data()),
        report_data=data.report_data(),
        runtime_data=data.to_bytes(),
    )


def _of_the_policy(good: Subject, cpu: SnpPlatform, gpu: GpuPlatform) -> Iterator[Case]:
    for name, changes, expected, demand in (
        ("not-demanded", "the policy accepts no GPUs", "policy-gpu", None),
        ("too-few", "two GPUs are demanded", "policy-gpu", replace(_DEMAND, min_count=2)),
        (
            "driver",
            "another driver is listed",
            "policy-gpu-version",
            replace(_DEMAND, drivers=frozenset({"1"})),
        ),
        (
            "vbios",
            "another VBIOS is listed",
            "policy-gpu-version",
            replace(_DEMAND, vbioses=frozenset({"1"})),
        ),
    ):
        yield good.policy(name, changes, expected, gpu=demand)
    yield good.policy(
        "root-unpinned",
        "the GPU's root is not pinned",
        "evidence-untrusted-root",
        simulated_roots=[cpu.root_sha256],
    )
    yield good.policy(
        "cpu-unpinned",
        "the CPU's root is not pinned",
        "evidence-untrusted-root",
        simulated_roots=[gpu.root_sha256],
    )
    without = _bound(good, cpu, "")
    yield without.case("missing", "there is no GPU", "policy-gpu")


def _of_the_binding(good: Subject, cpu: SnpPlatform, gpu: GpuPlatform, text: str) -> Iterator[Case]:
    yield good.case(
        "not-bound", "the CPU binds no GPU", "evidence-binding", evidence=_evidence(cpu, _ASKED.report_data())
    )
    yield good.case(
        "bound-nothing", "the CPU binds nothing", "evidence-binding", evidence=_evidence(cpu, bytes(64))
    )
    for member, other in (
        ("nonce", replace(_ASKED, nonce="b3RoZXI=", additional_evidence=text)),
        ("key", replace(_ASKED, tee_pubkey={"kty": "EC"}, additional_evidence=text)),
        ("devices", replace(_ASKED, additional_evidence=text + " ")),
    ):
        yield good.case(
            f"runtime-{member}",
            f"the runtime data has another {member}",
            "evidence-binding",
            runtime_data=other.to_bytes(),
        )
    earlier = devices_text([(gpu.report(b"\x01" * 32), gpu.chain_pem)])
    yield _bound(good, cpu, earlier).case(
        "replayed", "the GPU's report is of another occasion", "evidence-nonce"
    )
    for name, data in (("none", b""), ("list", b"[]"), ("members", b'{"nonce":"x"}')):
        yield good.case(
            f"runtime-form-{name}",
            "the runtime data has another form",
            "evidence-malformed",
            runtime_data=data,
        )


def _of_the_report(good: Subject, cpu: SnpPlatform, gpu: GpuPlatform, other: GpuPlatform) -> Iterator[Case]:
    report = gpu.report(_ASKED.device_nonce())

    def with_report(name: str, changes: str, expected: str, data: bytes, chain: str = gpu.chain_pem) -> Case:
        return _bound(good, cpu, devices_text([(data, chain)])).case(name, changes, expected)

    for place in range(60, 200, 35):
        flipped = report[:place] + bytes([report[place] ^ 1]) + report[place + 1 :]
        yield with_report(
            f"flip-{place}", f"a bit of byte {place} of the report", "evidence-signature", flipped
        )
    yield with_report("flip-request", "a bit of the request", "evidence-format", b"\x10" + report[1:])
    for length in (0, 36, 100, len(report) - 1):
        name, changes = f"length-{length}", f"the report has {length} bytes"
        yield with_report(name, changes, "evidence-malformed", report[:length])
    yield with_report("trailing", "a byte follows the report", "evidence-malformed", report + b"\1")
    yield with_report("padding", "16 zeros follow the report", "evidence-malformed", report + bytes(16))
    yield with_report(
        "other-key", "another GPU has signed", "evidence-signature", other.report(_ASKED.device_nonce())
    )
    yield with_report(
        "other-vendor",
        "another vendor's GPU",
        "evidence-untrusted-root",
        other.report(_ASKED.device_nonce()),
        other.chain_pem,
    )
    certificates = gpu.chain_pem.split("-----END CERTIFICATE-----\n")[:-1]
    parts = [f"{each}-----END CERTIFICATE-----\n" for each in certificates]
    for name, chain, expected in (
        ("chain-short", parts[0] + parts[3], "evidence-certificate"),
        ("chain-gap", parts[0] + parts[2] + parts[3], "evidence-chain"),
        ("chain-order", parts[1] + parts[0] + parts[2] + parts[3], "evidence-chain"),
        ("chain-none", "x", "evidence-certificate"),
    ):
        yield with_report(name, "other certificates come along", expected, report, chain)
    twice = devices_text([(report, gpu.chain_pem)] * 2)
    yield _bound(good, cpu, twice).case("twice", "a GPU is there twice", "evidence-binding")
    yield good.case(
        "clock", "the certificates are not valid at the time", "evidence-expired", at=good.at - 3 * 86400
    )


def _of_the_form(good: Subject, cpu: SnpPlatform, text: str) -> Iterator[Case]:
    value = json.loads(text)
    entry = value["nvidia"]["device_evidence_list"][0]

    def with_entries(*entries: Mapping[str, Any]) -> str:
        return json.dumps({"nvidia": {"device_evidence_list": list(entries)}})

    for name, changed, expected in (
        ("empty", with_entries(), "evidence-malformed"),
        ("many", with_entries(*[entry] * 17), "evidence-malformed"),
        ("architecture", with_entries(entry | {"arch": "BLACKWELL"}), "evidence-format"),
        ("encoding", with_entries(entry | {"evidence": "!"}), "evidence-malformed"),
        ("certificate", with_entries(entry | {"certificate": "!"}), "evidence-malformed"),
        ("more", with_entries(entry | {"more": 1}), "evidence-malformed"),
        ("vendor", json.dumps({"amd": value["nvidia"]}), "evidence-malformed"),
        ("text", "GPU", "evidence-malformed"),
    ):
        yield _bound(good, cpu, changed).case(
            f"form-{name}", "the evidence of devices has another form", expected
        )


def _of_the_reference_values(good: Subject, gpu: GpuPlatform, other: GpuPlatform) -> Iterator[Case]:
    driver, vbios = good.rims
    yield good.case("rims-none", "there are no reference values", "policy-gpu-reference", rims=())
    yield good.case("rims-driver", "those of the VBIOS are missing", "policy-gpu-reference", rims=(driver,))
    yield good.case(
        "rims-foreign", "those of another vendor come along", "evidence-untrusted-root", rims=other.rims()
    )
    yield good.case(
        "rims-twice", "those of the driver are there twice", "evidence-binding", rims=(driver, vbios, driver)
    )
    for index in (1, 3):
        golden = gpu.rims({**MEASUREMENTS, index: b"\x99" * 48})
        yield good.case(
            f"rims-differ-{index}",
            f"measurement {index} is not the reference value",
            "policy-gpu-reference",
            rims=golden,
        )
    changed = driver.replace(b"11" * 48, b"12" * 48)
    yield good.case(
        "rims-changed", "a reference value was changed", "evidence-signature", rims=(changed, vbios)
    )
    yield good.case(
        "rims-none-xml", "a file is no reference values", "evidence-malformed", rims=(b"x", vbios)
    )
    yield good.case("rims-root", "a file is another document", "evidence-format", rims=(b"<a/>", vbios))
