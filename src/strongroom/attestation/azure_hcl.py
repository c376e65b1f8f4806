"""Azure confidential VMs: the report of the paravisor (HCL), which binds a virtual TPM to an SNP or TDX VM.

The hardware report covers the paravisor. Its report data is the digest of the runtime data, a JSON text with
the attestation key (HCLAkPub) of the virtual TPM that the paravisor runs; that key signs quotes. The nonce of
the relying party is in the quote and not in the hardware report, which is made at the start of the VM.

The chain of trust is complete only when the hardware report has been verified too, see `check_hardware`.

Sources: Microsoft, "Azure confidential VMs: guest attestation", and the definitions of the paravisor
(github.com/microsoft/openvmm, openhcl_attestation_protocol). Numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric import rsa

from strongroom.attestation.errors import (
    EVIDENCE_ALGORITHM,
    EVIDENCE_BINDING,
    EVIDENCE_FORMAT,
    EVIDENCE_KEY,
    EVIDENCE_MALFORMED,
    EVIDENCE_TOO_LARGE,
)
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.tpm import Pcrs, TpmClaims, verify_quote_by_key
from strongroom.attestation.tpm_keys import rsa_key
from strongroom.codec import b64, jcs
from strongroom.errors import CodecError, EvidenceError

MAX_REPORT: Final = 16 * 1024
"""Most bytes of a report; the TPM keeps it in an NV index (0x01400001) of 2600."""

_MAGIC: Final = b"HCLA"
_HEADER: Final = struct.Struct("<4s4I12s")
"""Magic, version, size of the whole, kind of request, status, reserved."""

_HARDWARE: Final = 1184
"""Bytes of the place for the hardware report: the larger of SNP's and TDX's."""

_REQUEST: Final = struct.Struct("<5I")
"""Size with the runtime data, version, kind of hardware report, hash, size of the runtime data."""

_RUNTIME: Final = _HEADER.size + _HARDWARE + _REQUEST.size
_VERSIONS: Final = (1, 2)
_ATTESTATION: Final = 2
_REQUEST_VERSION: Final = 1
_SHA256: Final = 1
_TD_REPORT: Final = 0x81
"""REPORTTYPE.TYPE of a TD report; an SGX report has 0."""

_KINDS: Final[Mapping[int, tuple[EvidenceKind, int, int]]] = {
    2: (EvidenceKind.SNP, 1184, 0x50),
    4: (EvidenceKind.TDX, 1024, 0x80),
}
"""By the number of the kind of hardware report: the kind, its size, and where its report data is."""

_AK: Final = "HCLAkPub"
_MAX_KEYS: Final = 8
_MAX_MODULUS: Final = 512
_HEX: Final = re.compile(r"([0-9A-Fa-f]{2}){0,64}")


@dataclass(frozen=True, slots=True)
class HclReport:
    """A report whose runtime data is what its hardware report binds. The hardware report is not verified.

    Attributes:
        kind: SNP or TDX.
        hardware_report: SNP: the attestation report, 1184 bytes. TDX: the TD report, 1024 bytes, which has
            no signature but a MAC that only its own machine can check.
        report_data: Of the hardware report, 64 bytes.
        ak: HCLAkPub.
        vm_configuration: What the paravisor says of the VM, for example `secure-boot`.
        user_data: What the VM had put into the report, at most 64 bytes.
    """

    kind: EvidenceKind
    hardware_report: bytes
    report_data: bytes
    ak: rsa.RSAPublicKey
    vm_configuration: Mapping[str, Any]
    user_data: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a report; zeros may follow it, since the NV index is larger.

        Raises:
            EvidenceError: `evidence-too-large`, `evidence-malformed`, `evidence-format` (magic, version,
                kind), `evidence-algorithm` (not SHA-256), `evidence-binding` (the runtime data is not that
                of the hardware report) or `evidence-key` (HCLAkPub).
        """
        kind, hardware, report_data, runtime = _split(bytes(data[: MAX_REPORT + 1]))
        if not hmac.compare_digest(hashlib.sha256(runtime).digest(), report_data[:32]):
            raise EvidenceError(EVIDENCE_BINDING, "the runtime data is not that of the hardware report")
        members = _object(_decode(runtime), "runtime data")
        configuration = _object(members.get("vm-configuration"), "vm-configuration")
        return cls(kind, hardware, report_data, _ak(members), configuration, _user_data(members))


@dataclass(frozen=True, slots=True)
class AzureClaims:
    """What a VM's report and a quote of its virtual TPM say together.

    Attributes:
        report: The report of the paravisor.
        tpm: The quote; it has no `ak_name`, since the paravisor vouches for the key and not for a name.
    """

    report: HclReport
    tpm: TpmClaims


def verify(
    hcl_report: bytes, attest: bytes, signature: bytes, *, nonce: bytes | None, pcrs: Pcrs
) -> AzureClaims:
    """Verify that a VM's report holds together, and a quote by the key in it.

    This trusts the hardware report within. Verify that as well, by itself, and pass what it binds to
    `check_hardware`: before that, nothing here has been shown.

    Args:
        hcl_report: From the NV index.
        attest: TPMS_ATTEST, as it was signed.
        signature: TPMT_SIGNATURE; `tpm_structures.frame_rsassa` makes it of a bare one.
        nonce: What the quote must be for, 1 to 66 bytes; None to accept any, where freshness is shown
            otherwise.
        pcrs: The values that the quote must cover, exactly.

    Raises:
        EvidenceError: As `HclReport.parse` and `tpm.verify_quote_by_key`.
    """
    report = HclReport.parse(hcl_report)
    return AzureClaims(report, verify_quote_by_key(report.ak, attest, signature, nonce=nonce, pcrs=pcrs))


def check_hardware(claims: AzureClaims, kind: EvidenceKind, report_data: bytes) -> None:
    """Check that verified hardware evidence is of the VM of these claims.

    Args:
        claims: Of the VM.
        kind: Of the evidence that was verified. SNP: `claims.report.hardware_report` with its certificates.
            TDX: a quote that was made from that TD report.
        report_data: What that evidence binds, 64 bytes.

    Raises:
        EvidenceError: `evidence-binding`.
    """
    if kind is not claims.report.kind or not hmac.compare_digest(report_data, claims.report.report_data):
        raise EvidenceError(EVIDENCE_BINDING, "the hardware evidence is not that of the HCL report")


def _malformed(detail: str) -> EvidenceError:
    return EvidenceError(EVIDENCE_MALFORMED, f"HCL report: {detail}")


def _split(data: bytes) -> tuple[EvidenceKind, bytes, bytes, bytes]:
    """Kind, hardware report, report data, and runtime data."""
    if len(data) > MAX_REPORT:
        raise EvidenceError(EVIDENCE_TOO_LARGE, "HCL report", expected=f"at most {MAX_REPORT} bytes")
    if len(data) < _RUNTIME:
        raise _malformed("truncated")
    magic, version, whole, request, status, reserved = _HEADER.unpack_from(data)
    if magic != _MAGIC or version not in _VERSIONS or request != _ATTESTATION:
        raise EvidenceError(EVIDENCE_FORMAT, "HCL report", found=f"version {version}", expected=_VERSIONS)
    size, version, number, digest, length = _REQUEST.unpack_from(data, _HEADER.size + _HARDWARE)
    if version != _REQUEST_VERSION or number not in _KINDS:
        raise EvidenceError(EVIDENCE_FORMAT, "HCL request", found=f"version {version}, kind {number}")
    if digest != _SHA256:
        raise EvidenceError(EVIDENCE_ALGORITHM, "HCL report data", found=digest, expected="1 (SHA-256)")
    if status or any(reserved) or size != _REQUEST.size + length or whole != _RUNTIME + length:
        raise _malformed("header")
    if whole > len(data) or any(data[whole:]):
        raise _malformed("truncated, or something after its end")
    kind, report_size, place = _KINDS[number]
    hardware = data[_HEADER.size : _HEADER.size + _HARDWARE]
    if any(hardware[report_size:]) or (kind is EvidenceKind.TDX and hardware[0] != _TD_REPORT):
        raise _malformed("hardware report")
    return kind, hardware[:report_size], hardware[place : place + 64], data[_RUNTIME:whole]


def _decode(runtime: bytes) -> Any:
    try:
        return jcs.parse(runtime, limit=MAX_REPORT, what="runtime data")
    except CodecError as error:
        raise _malformed(f"runtime data: {error.kind.title}") from None


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _malformed(f"{what} is not an object")
    return value


def _ak(members: Mapping[str, Any]) -> rsa.RSAPublicKey:
    """The one key HCLAkPub, an RSA key in JWK (RFC 7517; RFC 7518, section 6.3.1) that signs only."""
    keys = members.get("keys")
    if not isinstance(keys, list) or len(keys) > _MAX_KEYS:
        raise _malformed("keys")
    found = [key for key in keys if isinstance(key, dict) and key.get("kid") == _AK]
    if len(found) != 1:
        raise _malformed(f"{len(found)} keys {_AK}")
    if found[0].get("kty") != "RSA" or found[0].get("key_ops") != ["sign"]:
        raise EvidenceError(EVIDENCE_KEY, _AK, expected="an RSA key that signs only")
    modulus = _base64(found[0].get("n"), _MAX_MODULUS)
    return rsa_key(modulus, int.from_bytes(_base64(found[0].get("e"), 4)), 8 * len(modulus))


def _base64(value: Any, limit: int) -> bytes:
    try:
        return b64.decode_url(value, limit=limit, what=_AK)
    except CodecError as error:
        raise _malformed(f"{_AK}: {error.kind.title}") from None


def _user_data(members: Mapping[str, Any]) -> bytes:
    value = members.get("user-data", "")
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise _malformed("user-data")
    return bytes.fromhex(value)
