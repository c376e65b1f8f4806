"""NVIDIA GPUs: their reports and certificates, through NVIDIA's management library.

Needs NVIDIA's driver, and `nvidia-ml-py` (the extra `gpu`). The result is the text that CPU evidence binds,
see `devices`.

Source: NVIDIA, NVML API reference, "Confidential Compute"; github.com/NVIDIA/nvtrust.
"""

from __future__ import annotations

from typing import Any, Final

from strongroom.attestation.collectors.errors import (
    COLLECTOR_ABSENT,
    COLLECTOR_ANSWER,
    COLLECTOR_FAILED,
)
from strongroom.attestation.devices import MAX_DEVICES
from strongroom.attestation.runtime_data import DEVICE_NONCE_BYTES
from strongroom.codec import b64, jcs
from strongroom.errors import EvidenceError

_ENABLED: Final = 1
_HOPPER: Final = 9


def collect(nonce: bytes, library: Any = None) -> str:
    """The evidence of all GPUs of this host, as a JSON text.

    Args:
        nonce: 32 bytes that each report is for: `RuntimeData.device_nonce`.
        library: The module `pynvml`, or what stands for it.

    Raises:
        EvidenceError: `collector-absent`: no driver, no GPU, or not in confidential mode; `collector-failed`
            or `collector-answer-invalid`.
    """
    if len(nonce) != DEVICE_NONCE_BYTES:
        raise ValueError(f"the nonce of a GPU has {DEVICE_NONCE_BYTES} bytes, not {len(nonce)}")
    nvml = library or _library()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise EvidenceError(COLLECTOR_ABSENT, f"NVIDIA's driver: {error}") from error
    try:
        entries = [_entry(nvml, device, nonce) for device in _devices(nvml)]
    except nvml.NVMLError as error:
        raise EvidenceError(COLLECTOR_FAILED, f"NVIDIA's driver: {error}") from error
    finally:
        nvml.nvmlShutdown()
    return jcs.canonical({"nvidia": {"device_evidence_list": entries}}).decode()


def _library() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise EvidenceError(
            COLLECTOR_ABSENT, "nvidia-ml-py is not installed; install strongroom[gpu]"
        ) from error
    return pynvml


def _devices(nvml: Any) -> list[Any]:
    try:
        state = nvml.nvmlSystemGetConfComputeState()
    except nvml.NVMLError_NotSupported as error:
        raise EvidenceError(COLLECTOR_ABSENT, "GPUs without a confidential mode") from error
    if state.ccFeature != _ENABLED:
        raise EvidenceError(COLLECTOR_ABSENT, "confidential mode of the GPUs", found="off", expected="on")
    count = nvml.nvmlDeviceGetCount()
    if not 1 <= count <= MAX_DEVICES:
        raise EvidenceError(COLLECTOR_ABSENT, "GPUs", found=count, expected=f"1 to {MAX_DEVICES}")
    return [nvml.nvmlDeviceGetHandleByIndex(place) for place in range(count)]


def _entry(nvml: Any, device: Any, nonce: bytes) -> dict[str, str]:
    architecture = nvml.nvmlDeviceGetArchitecture(device)
    if architecture != _HOPPER:
        raise EvidenceError(
            COLLECTOR_ABSENT, "architecture of a GPU", found=architecture, expected=f"{_HOPPER} (Hopper)"
        )
    answer = nvml.nvmlDeviceGetConfComputeGpuAttestationReport(device, nonce)
    certificates = nvml.nvmlDeviceGetConfComputeGpuCertificate(device)
    report = _part(answer.attestationReport, answer.attestationReportSize)
    chain = _part(certificates.attestationCertChain, certificates.attestationCertChainSize)
    return {
        "arch": "HOPPER",
        "uuid": str(nvml.nvmlDeviceGetUUID(device)),
        "evidence": b64.encode_std(report),
        "certificate": b64.encode_std(chain),
    }


def _part(array: Any, size: int) -> bytes:
    """What the driver says that it has filled in."""
    if not 0 < size <= len(array):
        raise EvidenceError(
            COLLECTOR_ANSWER, "size of a GPU's report", found=size, expected=f"1 to {len(array)}"
        )
    return bytes(array[:size])
