"""Evidence of devices beside that of the CPU: NVIDIA GPUs, in the form of Confidential Containers.

    {"nvidia": {"device_evidence_list": [{"arch": "HOPPER", "uuid": TEXT, "evidence": BASE64 or HEX,
                "certificate": BASE64 of a PEM chain}, ...]}}

The text is a member of the runtime data that the CPU's evidence binds (`runtime_data`). `uuid` is not signed
and not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from strongroom.attestation.errors import EVIDENCE_BINDING, EVIDENCE_FORMAT, EVIDENCE_MALFORMED
from strongroom.attestation.gpu import NVIDIA_ROOTS, GpuClaims
from strongroom.attestation.gpu import verify as verify_gpu
from strongroom.attestation.gpu_report import MAX_REPORT
from strongroom.attestation.gpu_rim import NVIDIA_RIM_ROOTS, Rim, match_claims, verify_rim
from strongroom.attestation.roots import TrustRoots
from strongroom.codec import b64, jcs
from strongroom.errors import CodecError, EvidenceError
from strongroom.forms import ready

MAX_DEVICES: Final = 16
MAX_TEXT: Final = 512 * 1024
MAX_RIMS: Final = 256
"""Most files of reference values; NVIDIA has one for each driver and each VBIOS."""

_MAX_CHAIN: Final = 64 * 1024
_HOPPER: Final = "hopper"


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU whose evidence has been verified. Not yet appraised.

    Attributes:
        gpu: What its evidence says.
        differing: Indexes of measurements that are not the reference values; None if there were none of its
            driver and VBIOS.
    """

    gpu: GpuClaims
    differing: tuple[int, ...] | None

    def to_json(self) -> dict[str, Any]:
        """The claims for machines."""
        return {
            "product": self.gpu.product,
            "root_sha256": self.gpu.root_sha256,
            "driver_version": self.gpu.driver_version,
            "vbios_version": self.gpu.vbios_version,
            "device_key_sha256": self.gpu.device_key_sha256,
            "differing": None if self.differing is None else list(self.differing),
            "expires": self.gpu.expires,
        }


@ready
class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    arch: Annotated[str, msgspec.Meta(max_length=32)]
    evidence: str
    certificate: str
    uuid: Annotated[str, msgspec.Meta(max_length=128)] = ""


@ready
class _Nvidia(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device_evidence_list: Annotated[tuple[_Entry, ...], msgspec.Meta(min_length=1, max_length=MAX_DEVICES)]


@ready
class _Devices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    nvidia: _Nvidia


def verify_devices(
    text: str, *, nonce: bytes, roots: TrustRoots, now: int, rims: Sequence[Rim] = ()
) -> tuple[Device, ...]:
    """Verify the evidence of all devices.

    Args:
        text: The JSON text, at most 512 KiB and 16 devices.
        nonce: 32 bytes that each report must be for.
        roots: Roots up to which it may verify.
        now: Unix time of the appraisal.
        rims: Verified reference values, see `verify_rims`.

    Raises:
        EvidenceError: A code `evidence-...`; `evidence-binding` also if a GPU is there twice.
    """
    trusted = roots.simulated | (NVIDIA_ROOTS if roots.nvidia else frozenset())
    found = [verify_gpu(report, chain, nonce=nonce, now=now, roots=trusted) for report, chain in _parse(text)]
    if len({each.device_key_sha256 for each in found}) != len(found):
        raise EvidenceError(EVIDENCE_BINDING, "a GPU is there twice")
    return tuple(Device(each, _differing(each, rims)) for each in found)


def verify_rims(files: Sequence[bytes], *, roots: TrustRoots, now: int) -> tuple[Rim, ...]:
    """Verify NVIDIA's signed reference values. Needs lxml, the extra `gpu`.

    Args:
        files: SWID tags, at most 256.
        roots: Roots up to which they may verify.
        now: Unix time of the appraisal.

    Raises:
        EvidenceError: A code `evidence-...`.
    """
    if len(files) > MAX_RIMS:
        raise EvidenceError(
            EVIDENCE_MALFORMED, "number of RIMs", found=len(files), expected=f"at most {MAX_RIMS}"
        )
    trusted = roots.simulated | (NVIDIA_RIM_ROOTS if roots.nvidia else frozenset())
    return tuple(verify_rim(each, now=now, roots=trusted) for each in files)


def _parse(text: str) -> list[tuple[bytes, str]]:
    """Report and certificates of each device."""
    try:
        value = jcs.parse(text.encode("utf-8", "surrogatepass"), limit=MAX_TEXT, what="devices")
        entries = msgspec.convert(value, _Devices).nvidia.device_evidence_list
    except CodecError as error:
        raise _malformed(error.kind.title) from None
    except msgspec.ValidationError:
        raise _malformed("members") from None
    for entry in entries:
        if entry.arch.lower() != _HOPPER:
            raise EvidenceError(EVIDENCE_FORMAT, "architecture of a GPU", expected=_HOPPER)
    return [(_report(entry.evidence), _chain(entry.certificate)) for entry in entries]


def _report(text: str) -> bytes:
    """Base64, or hex as older attesters send it; a report is longer than one could be read as the other."""
    try:
        return bytes.fromhex(text) if _is_hex(text) else b64.decode_std(text, limit=MAX_REPORT, what="report")
    except (CodecError, ValueError):
        raise _malformed("encoding of a report") from None


def _is_hex(text: str) -> bool:
    return all(char in "0123456789abcdefABCDEF" for char in text)


def _chain(text: str) -> str:
    try:
        return b64.decode_std(text, limit=_MAX_CHAIN, what="certificates").decode("ascii")
    except (CodecError, UnicodeDecodeError):
        raise _malformed("encoding of the certificates") from None


def _differing(gpu: GpuClaims, rims: Sequence[Rim]) -> tuple[int, ...] | None:
    versions = {rim.version.upper() for rim in rims if rim.product == gpu.product}
    if not {gpu.driver_version.upper(), gpu.vbios_version.upper()} <= versions:
        return None
    return match_claims(gpu, rims).mismatched


def _malformed(detail: str) -> EvidenceError:
    return EvidenceError(EVIDENCE_MALFORMED, f"evidence of devices: {detail}")
