"""Quotes in Intel's binary formats: SGX version 3 and TDX version 4.

Sources: Intel SGX ECDSA QuoteLibReference (DCAP), appendix A.4 (version 3); Intel TDX DCAP Quoting Library
API, appendix 3 (version 4); Intel SDM volume 3D, table 38-21 (REPORT with KSS); TDX module ABI, TDREPORT.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.attestation.evidence import EvidenceKind
from strongroom_simulator.errors import BAD_FIELD, SimulatorError
from strongroom_simulator.pki import CPU_SVN, PCE_SVN, Pki, pem, public_point, sign

MR_SIGNER: Final = hashlib.sha256(b"strongroom: simulated enclave signer").digest()
QE_MR_SIGNER: Final = hashlib.sha256(b"strongroom: simulated quoting enclave signer").digest()
QE_MR_ENCLAVE: Final = hashlib.sha256(b"strongroom: simulated quoting enclave").digest()
QE_SVN: Final = 8
QE_PRODUCT: Final = {EvidenceKind.SGX: 1, EvidenceKind.TDX: 2}
TEE_TCB_SVN: Final = bytes([5, 1, 2, *[0] * 13])

SGX_DEBUG: Final = 0x02
SGX_KSS: Final = 0x80
_SGX_INIT_64BIT: Final = 0x05
_SGX_PROVISION_KEY: Final = 0x10
_XFRM: Final = 0xE7

TD_DEBUG: Final = 0x01
_TD_SEPT_VE_DISABLE: Final = 1 << 28
_TD_XFAM: Final = 0x602E7

_INTEL_QE_VENDOR: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_ECDSA_P256: Final = 2
_TEE_TYPE: Final = {EvidenceKind.SGX: 0x00, EvidenceKind.TDX: 0x81}
_PCK_CHAIN: Final = 5
_QE_REPORT: Final = 6
_AUTHENTICATION_DATA: Final = 32


def enclave_report(
    measurement: bytes,
    config_id: bytes,
    report_data: bytes,
    *,
    flags: int = _SGX_INIT_64BIT | SGX_KSS,
    signer: bytes = MR_SIGNER,
    product: int = 0,
    svn: int = 1,
) -> bytes:
    """The 384 bytes of an SGX report body.

    Args:
        measurement: MRENCLAVE, 32 bytes.
        config_id: CONFIGID, at most 64 bytes; zeros follow. It exists with the KSS flag only.
        report_data: 64 bytes.
        flags: Lower half of ATTRIBUTES.
        signer: MRSIGNER, 32 bytes.
        product: ISVPRODID.
        svn: ISVSVN.

    Raises:
        SimulatorError: `simulator-field-size`.
    """
    return b"".join(
        [
            CPU_SVN,
            bytes(4),  # MISCSELECT
            bytes(12),
            bytes(16),  # ISVEXTPRODID
            struct.pack("<QQ", flags, _XFRM),
            _exact("MRENCLAVE", measurement, 32),
            bytes(32),
            _exact("MRSIGNER", signer, 32),
            bytes(32),
            _padded("CONFIGID", config_id, 64),
            struct.pack("<HHH", product, svn, 0),  # ISVPRODID, ISVSVN, CONFIGSVN
            bytes(42),
            bytes(16),  # ISVFAMILYID
            _exact("REPORTDATA", report_data, 64),
        ]
    )


def td_report(
    measurement: bytes,
    config_id: bytes,
    report_data: bytes,
    *,
    attributes: int = _TD_SEPT_VE_DISABLE,
) -> bytes:
    """The 584 bytes of a TD 1.0 report body.

    Args:
        measurement: MRTD, 48 bytes.
        config_id: MRCONFIGID, at most 48 bytes; zeros follow.
        report_data: 64 bytes.
        attributes: TD attributes.

    Raises:
        SimulatorError: `simulator-field-size`.
    """
    return b"".join(
        [
            TEE_TCB_SVN,
            bytes(48),  # MRSEAM
            bytes(48),  # MRSIGNERSEAM
            bytes(8),  # SEAMATTRIBUTES
            struct.pack("<QQ", attributes, _TD_XFAM),
            _exact("MRTD", measurement, 48),
            _padded("MRCONFIGID", config_id, 48),
            bytes(48),  # MROWNER
            bytes(48),  # MROWNERCONFIG
            bytes(4 * 48),  # RTMR0 to RTMR3
            _exact("REPORTDATA", report_data, 64),
        ]
    )


class QuotingEnclave:
    """Signs reports with an attestation key that the platform's PCK key certifies.

    Args:
        pki: Keys of the vendor and the platform.
        kind: `SGX` makes version 3, `TDX` version 4.
        rng: Randomness for the authentication data.
        svn: Security version of the quoting enclave.
    """

    def __init__(
        self, pki: Pki, kind: EvidenceKind, rng: Callable[[int], bytes], *, svn: int = QE_SVN
    ) -> None:
        self._kind = kind
        self._qe_id = hashlib.sha256(pki.ppid).digest()[:16]
        self._key = ec.generate_private_key(ec.SECP256R1())
        authentication = rng(_AUTHENTICATION_DATA)
        binding = hashlib.sha256(public_point(self._key) + authentication).digest()
        report = enclave_report(
            QE_MR_ENCLAVE,
            b"",
            binding.ljust(64, b"\0"),
            flags=_SGX_INIT_64BIT | _SGX_PROVISION_KEY,
            signer=QE_MR_SIGNER,
            product=QE_PRODUCT[kind],
            svn=svn,
        )
        chain = pem(pki.pck, pki.platform_ca, pki.root).encode() + b"\0"
        self._certification = b"".join(
            [
                report,
                sign(pki.pck.key, report),
                struct.pack("<H", len(authentication)),
                authentication,
                struct.pack("<HI", _PCK_CHAIN, len(chain)),
                chain,
            ]
        )

    def quote(self, report: bytes) -> bytes:
        """A quote over a report body of this kind."""
        signed = self._header() + report
        signature = sign(self._key, signed) + public_point(self._key)
        certification = self._certification
        if self._kind is EvidenceKind.TDX:
            certification = struct.pack("<HI", _QE_REPORT, len(certification)) + certification
        authentication = signature + certification
        return signed + struct.pack("<I", len(authentication)) + authentication

    def _header(self) -> bytes:
        sgx = self._kind is EvidenceKind.SGX
        versions = struct.pack("<HH", QE_SVN, PCE_SVN) if sgx else bytes(4)
        start = struct.pack("<HHI", 3 if sgx else 4, _ECDSA_P256, _TEE_TYPE[self._kind])
        return start + versions + _INTEL_QE_VENDOR + self._qe_id + bytes(4)


def _exact(name: str, value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise SimulatorError(BAD_FIELD, name, found=f"{len(value)} bytes", expected=f"{size} bytes")
    return value


def _padded(name: str, value: bytes, size: int) -> bytes:
    if len(value) > size:
        raise SimulatorError(BAD_FIELD, name, found=f"{len(value)} bytes", expected=f"at most {size} bytes")
    return value.ljust(size, b"\0")
