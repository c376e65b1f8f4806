"""NVIDIA's management library: the real module's structures, and a driver that is a fake."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from strongroom.attestation.collectors import nvml
from strongroom.attestation.devices import verify_devices
from strongroom.attestation.roots import TrustRoots
from strongroom.errors import EvidenceError
from strongroom_simulator.gpu import GpuPlatform

pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")

NOW = 1_800_000_000
NONCE = bytes(range(32))


@pytest.fixture(scope="module")
def gpus() -> tuple[GpuPlatform, ...]:
    return GpuPlatform.create(NOW), GpuPlatform.create(NOW)


@dataclass
class Driver:
    """The functions of `pynvml` that reach the driver; types and errors are those of the real module."""

    gpus: tuple[GpuPlatform, ...]
    architecture: int = 9
    feature: int = 1
    failing: str = ""
    error: type[Exception] = pynvml.NVMLError_Unknown
    report_size: Callable[[int], int] = int
    running: int = 0

    NVMLError = pynvml.NVMLError
    NVMLError_NotSupported = pynvml.NVMLError_NotSupported

    def nvmlInit(self) -> None:  # noqa: N802 -- NVIDIA's name
        self._fail("init")
        self.running += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.running -= 1

    def nvmlSystemGetConfComputeState(self) -> Any:  # noqa: N802
        self._fail("state")
        return SimpleNamespace(ccFeature=self.feature)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, place: int) -> GpuPlatform:  # noqa: N802
        return self.gpus[place]

    def nvmlDeviceGetArchitecture(self, device: GpuPlatform) -> int:  # noqa: N802
        return self.architecture

    def nvmlDeviceGetUUID(self, device: GpuPlatform) -> str:  # noqa: N802
        return f"GPU-{self.gpus.index(device)}"

    def nvmlDeviceGetConfComputeGpuAttestationReport(self, device: GpuPlatform, nonce: bytes) -> Any:  # noqa: N802
        self._fail("report")
        report = device.report(nonce)
        answer = pynvml.c_nvmlConfComputeGpuAttestationReport_t()
        answer.attestationReport[: len(report)] = list(report)
        answer.attestationReportSize = self.report_size(len(report))
        return answer

    def nvmlDeviceGetConfComputeGpuCertificate(self, device: GpuPlatform) -> Any:  # noqa: N802
        chain = device.chain_pem.encode()
        answer = pynvml.c_nvmlConfComputeGpuCertificate_t()
        answer.attestationCertChain[: len(chain)] = list(chain)
        answer.attestationCertChainSize = len(chain)
        return answer

    def _fail(self, place: str) -> None:
        if place == self.failing:
            raise self.error()


def test_the_evidence_of_all_gpus_verifies(gpus: tuple[GpuPlatform, ...]) -> None:
    driver = Driver(gpus)
    text = nvml.collect(NONCE, driver)
    roots = TrustRoots(simulated=frozenset(each.root_sha256 for each in gpus))
    found = verify_devices(text, nonce=NONCE, roots=roots, now=NOW)
    assert [each.gpu.root_sha256 for each in found] == [each.root_sha256 for each in gpus]
    assert [each["uuid"] for each in json.loads(text)["nvidia"]["device_evidence_list"]] == ["GPU-0", "GPU-1"]
    assert driver.running == 0


def test_a_host_without_a_driver_has_nothing() -> None:
    with pytest.raises(EvidenceError, match=r"NVIDIA's driver.*collector-absent"):
        nvml.collect(NONCE)  # the real library: this machine has no driver


def test_a_driver_that_does_not_start_is_no_driver(gpus: tuple[GpuPlatform, ...]) -> None:
    driver = Driver(gpus, failing="init", error=pynvml.NVMLError_DriverNotLoaded)
    with pytest.raises(EvidenceError, match=r"Driver Not Loaded.*collector-absent"):
        nvml.collect(NONCE, driver)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"feature": 0}, r"confidential mode of the GPUs \(found off, expected on\)"),
        ({"failing": "state", "error": pynvml.NVMLError_NotSupported}, r"without a confidential mode"),
        ({"architecture": 10}, r"architecture of a GPU \(found 10, expected 9 \(Hopper\)\)"),
    ],
)
def test_gpus_without_evidence_that_we_know_are_named(
    gpus: tuple[GpuPlatform, ...], changes: dict[str, Any], expected: str
) -> None:
    driver = Driver(gpus, **changes)
    with pytest.raises(EvidenceError, match=rf"{expected}.*collector-absent"):
        nvml.collect(NONCE, driver)
    assert driver.running == 0


@pytest.mark.parametrize("count", [0, 17])
def test_no_gpu_or_more_than_a_verifier_takes_is_refused(gpus: tuple[GpuPlatform, ...], count: int) -> None:
    with pytest.raises(EvidenceError, match=rf"GPUs \(found {count}, expected 1 to 16\).*collector-absent"):
        nvml.collect(NONCE, Driver(gpus[:1] * count))


def test_an_error_of_the_driver_is_named(gpus: tuple[GpuPlatform, ...]) -> None:
    driver = Driver(gpus, failing="report")
    with pytest.raises(EvidenceError, match=r"Unknown Error.*collector-failed"):
        nvml.collect(NONCE, driver)
    assert driver.running == 0


@pytest.mark.parametrize("size", [0, 0x2001])
def test_a_size_that_the_structure_has_not_is_refused(gpus: tuple[GpuPlatform, ...], size: int) -> None:
    driver = Driver(gpus, report_size=lambda _: size)
    with pytest.raises(EvidenceError, match=rf"found {size}, expected 1 to 8192.*collector-answer-invalid"):
        nvml.collect(NONCE, driver)


def test_a_nonce_of_another_size_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 64"):
        nvml.collect(bytes(64))
