"""Evidence of GPUs beside that of the CPU: it verifies, and each check alone refuses."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutants import mutants
from strongroom.attestation.devices import (
    MAX_DEVICES,
    MAX_RIMS,
    MAX_TEXT,
    Device,
    verify_devices,
    verify_rims,
)
from strongroom.attestation.roots import NVIDIA_ROOT_SHA256, TrustRoots
from strongroom.errors import EvidenceError
from strongroom_simulator.gpu import MEASUREMENTS, GpuPlatform, devices_text

pytest.importorskip("lxml.etree")

NOW = 1_800_000_000
NONCE = bytes(range(32))
CodeOf = Callable[..., str | None]


@pytest.fixture(scope="module")
def gpu() -> GpuPlatform:
    return GpuPlatform.create(NOW)


def _roots(*platforms: GpuPlatform) -> TrustRoots:
    return TrustRoots(frozenset(each.root_sha256 for each in platforms))


def _verify(gpu: GpuPlatform, text: str | None = None, **changes: Any) -> tuple[Device, ...]:
    text = devices_text([(gpu.report(NONCE), gpu.chain_pem)]) if text is None else text
    return verify_devices(text, **({"nonce": NONCE, "roots": _roots(gpu), "now": NOW} | changes))


def _entry(gpu: GpuPlatform, **changes: Any) -> str:
    value = json.loads(devices_text([(gpu.report(NONCE), gpu.chain_pem)]))
    value["nvidia"]["device_evidence_list"][0] |= changes
    return json.dumps(value)


def test_a_gpu_verifies_with_and_without_reference_values(gpu: GpuPlatform) -> None:
    (device,) = _verify(gpu)
    assert (device.gpu.driver_version, device.gpu.vbios_version) == ("550.90.07", "96.00.9F.00.01")
    assert device.differing is None
    rims = verify_rims(gpu.rims(), roots=_roots(gpu), now=NOW)
    assert _verify(gpu, rims=rims)[0].differing == ()
    assert _verify(gpu, rims=rims[:1])[0].differing is None  # the VBIOS has none
    text = devices_text([(gpu.report(NONCE, MEASUREMENTS | {2: b"\x99" * 48}), gpu.chain_pem)])
    assert _verify(gpu, text, rims=rims)[0].differing == (2,)
    assert _verify(gpu, rims=rims)[0].to_json()["differing"] == []


def test_a_report_in_hex_is_read_too(gpu: GpuPlatform) -> None:
    assert len(_verify(gpu, _entry(gpu, evidence=gpu.report(NONCE).hex()))) == 1
    assert len(_verify(gpu, _entry(gpu, arch="Hopper", uuid="whatever"))) == 1


def test_two_gpus_verify_and_one_does_not_count_twice(gpu: GpuPlatform, code_of: CodeOf) -> None:
    other = GpuPlatform.create(NOW)
    text = devices_text([(each.report(NONCE), each.chain_pem) for each in (gpu, other)])
    assert len(_verify(gpu, text, roots=_roots(gpu, other))) == 2
    assert code_of(_verify, gpu, text) == "evidence-untrusted-root"
    twice = devices_text([(gpu.report(NONCE), gpu.chain_pem)] * 2)
    assert code_of(_verify, gpu, twice) == "evidence-binding"


def test_a_real_gpu_verifies_up_to_nvidias_root(testdata: Path, code_of: CodeOf) -> None:
    vector = json.loads((testdata / "vectors/evidence/GPU_hopper_sample.json").read_text())
    report = bytes.fromhex(vector["report"])
    text = devices_text([(report, vector["chain_pem"])])
    arguments = {"nonce": report[4:36], "roots": TrustRoots(), "now": vector["now"]}
    (device,) = verify_devices(text, **arguments)
    assert device.gpu.root_sha256 == NVIDIA_ROOT_SHA256
    untrusted = arguments | {"roots": TrustRoots(nvidia=False)}
    assert code_of(verify_devices, text, **untrusted) == "evidence-untrusted-root"
    rim = (testdata / "vectors/evidence/nvidia_rim_1010_0200_882.swidtag").read_bytes()
    rims = verify_rims([rim], roots=TrustRoots(), now=1_735_689_600)
    assert verify_devices(text, **arguments, rims=rims)[0].differing is None  # it is of another VBIOS
    assert code_of(verify_rims, [rim], roots=TrustRoots(nvidia=False), now=1_735_689_600) == (
        "evidence-untrusted-root"
    )


def test_another_nonce_time_or_root_is_refused(gpu: GpuPlatform, code_of: CodeOf) -> None:
    assert code_of(_verify, gpu, nonce=bytes(32)) == "evidence-nonce"
    assert code_of(_verify, gpu, now=NOW - 30 * 86400) == "evidence-expired"
    assert code_of(_verify, gpu, roots=TrustRoots()) == "evidence-untrusted-root"
    assert code_of(verify_rims, gpu.rims(), roots=TrustRoots(), now=NOW) == "evidence-untrusted-root"


def test_a_changed_report_or_rim_is_refused(gpu: GpuPlatform, code_of: CodeOf) -> None:
    report = bytearray(gpu.report(NONCE))
    report[60] ^= 1
    text = devices_text([(bytes(report), gpu.chain_pem)])
    assert code_of(_verify, gpu, text) == "evidence-signature"
    rim = gpu.rims()[0].replace(b"11" * 48, b"12" * 48)
    assert code_of(verify_rims, [rim], roots=_roots(gpu), now=NOW) == "evidence-signature"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"arch": "BLACKWELL"}, "evidence-format"),
        ({"arch": ""}, "evidence-format"),
        ({"arch": None}, "evidence-malformed"),
        ({"more": ""}, "evidence-malformed"),
        ({"evidence": "abc"}, "evidence-malformed"),
        ({"evidence": "!!!!"}, "evidence-malformed"),
        ({"evidence": base64.b64encode(bytes(70_000)).decode()}, "evidence-malformed"),
        ({"certificate": "AAA"}, "evidence-malformed"),
        ({"certificate": base64.b64encode(b"\xff").decode()}, "evidence-malformed"),
        ({"certificate": base64.b64encode(bytes(70_000)).decode()}, "evidence-malformed"),
        ({"certificate": ""}, "evidence-certificate"),
    ],
)
def test_an_entry_of_another_form_is_refused(
    gpu: GpuPlatform, changes: dict[str, Any], code: str, code_of: CodeOf
) -> None:
    assert code_of(_verify, gpu, _entry(gpu, **changes)) == code


def test_text_of_another_form_is_refused(gpu: GpuPlatform, code_of: CodeOf) -> None:
    empty = json.dumps({"nvidia": {"device_evidence_list": []}})
    for text in ("x", "[]", "{}", '{"amd":{}}', empty, '{"nvidia":{"device_evidence_list":[1]}}', "\ud800"):
        assert code_of(_verify, gpu, text) == "evidence-malformed", text
    assert code_of(_verify, gpu, _entry(gpu) + " " * MAX_TEXT) == "evidence-malformed"
    many = devices_text([(b"r", "c")] * (MAX_DEVICES + 1))
    assert code_of(_verify, gpu, many) == "evidence-malformed"


def test_reference_values_are_counted_before_they_are_read(gpu: GpuPlatform, code_of: CodeOf) -> None:
    good = gpu.rims()[:1]
    assert len(verify_rims(good, roots=_roots(gpu), now=NOW)) == 1
    assert code_of(verify_rims, good * (MAX_RIMS + 1), roots=_roots(gpu), now=NOW) == "evidence-malformed"


def test_mutants_give_our_errors_only(gpu: GpuPlatform) -> None:
    value = json.loads(_entry(gpu))
    refused = 0
    for mutant in mutants(value, lambda each: json.dumps(each).encode(), 2000, 11):
        try:
            _verify(gpu, mutant.decode("utf-8", "surrogateescape"))
        except EvidenceError:
            refused += 1
    assert refused > 1000
