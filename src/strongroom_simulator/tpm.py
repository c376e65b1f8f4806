"""A test TPM: an attestation key in memory, and TPM 2.0 quotes by it. It protects nothing.

The JSON forms are those of `strongroom.attestation.tpm_forms`. An Azure VM is simulated with its paravisor:
a report that names the key, around a simulated report or quote of the hardware.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.codec import b64

SNP_REPORT: Final = 2
TD_REPORT: Final = 4
"""Numbers of the kinds of hardware report (AZURE: `HclReport`)."""

_PCRS: Final = 24
_GENERATED: Final = 0xFF544347
_QUOTE: Final = 0x8018
_SHA256: Final = 0x000B
_RSASSA: Final = 0x0014
_HARDWARE_SIZE: Final = 1184
_TD_SIZE: Final = 1024
_TD_TYPE: Final = 0x81
_TD_REPORT_DATA: Final = 0x80


def init_data_register(init_data: bytes) -> bytes:
    """What PCR 8 holds after it was extended with the init-data."""
    return hashlib.sha256(bytes(32) + hashlib.sha256(init_data).digest()).digest()


@dataclass(frozen=True)
class SimulatedTpm:
    """A TPM with an RSA attestation key.

    Attributes:
        key: The attestation key.
        pcrs: Values of the bank SHA-256 by number, 32 bytes each; the others are zeros.
    """

    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    pcrs: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def spki(self) -> bytes:
        """The public key, SubjectPublicKeyInfo in DER."""
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_sha256(self) -> str:
        """What a policy pins: SHA-256 of `spki`, lower-case hex."""
        return hashlib.sha256(self.spki).hexdigest()

    def registers(self) -> list[bytes]:
        """All 24 values."""
        return [self.pcrs.get(number, bytes(32)) for number in range(_PCRS)]

    def attest(self, nonce: bytes) -> bytes:
        """A TPMS_ATTEST over all registers."""
        signer = _SHA256.to_bytes(2) + b"\x77" * 32
        digest = hashlib.sha256(b"".join(self.registers())).digest()
        return b"".join(
            (
                struct.pack(">IH", _GENERATED, _QUOTE),
                _sized(signer),
                _sized(nonce),
                struct.pack(">QIIBQ", 1, 2, 3, 1, 4),  # clock, starts, resumptions, safe, firmware
                struct.pack(">IHB3s", 1, _SHA256, 3, b"\xff" * 3),
                _sized(digest),
            )
        )

    def sign(self, attest: bytes) -> bytes:
        """A bare RSASSA signature."""
        return self.key.sign(attest, padding.PKCS1v15(), hashes.SHA256())

    def evidence(self, nonce: bytes) -> bytes:
        """The evidence of a machine, as Trustee's attester for a TPM sends it."""
        attest = self.attest(nonce)
        signature = struct.pack(">HH", _RSASSA, _SHA256) + _sized(self.sign(attest))
        quote = {
            "signature": b64.encode_std(signature),
            "message": b64.encode_std(attest),
            "pcrs": [value.hex() for value in self.registers()],
        }
        return json.dumps({"ak_public": b64.encode_std(self.spki), "tpm_quote": quote}).encode()

    def runtime_data(self) -> bytes:
        """What a paravisor says of its VM: the digest of this is the report data of the hardware report."""
        numbers = self.key.public_key().public_numbers()
        modulus = b64.encode_url(numbers.n.to_bytes(self.key.key_size // 8))
        key = {"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": "AQAB", "n": modulus}
        return json.dumps({"keys": [key], "vm-configuration": {"secure-boot": True}}).encode()

    def hcl_report(self, kind: int, hardware: bytes) -> bytes:
        """The report of a paravisor.

        Args:
            kind: `SNP_REPORT` or `TD_REPORT`.
            hardware: The report of the hardware, over `hardware_data`.
        """
        runtime = self.runtime_data()
        request = struct.pack("<5I", 20 + len(runtime), 1, kind, 1, len(runtime))
        size = 32 + _HARDWARE_SIZE + len(request) + len(runtime)
        head = struct.pack("<4s4I12s", b"HCLA", 2, size, 2, 0, bytes(12))
        return head + hardware.ljust(_HARDWARE_SIZE, b"\0") + request + runtime

    def hardware_data(self) -> bytes:
        """The 64 bytes of report data that bind the runtime data into the report of the hardware."""
        return hashlib.sha256(self.runtime_data()).digest().ljust(64, b"\0")

    def td_report(self) -> bytes:
        """What the paravisor on TDX has of the TD: a report that only its own machine could check."""
        report = bytearray(_TD_SIZE)
        report[0] = _TD_TYPE
        report[_TD_REPORT_DATA : _TD_REPORT_DATA + 64] = self.hardware_data()
        return bytes(report)

    def azure_snp(self, nonce: bytes, report: bytes, vcek: bytes) -> bytes:
        """The evidence of an Azure VM on SNP: a report over `hardware_data`, its chip's certificate (DER)."""
        return self._azure(nonce, self.hcl_report(SNP_REPORT, report), "vcek", vcek)

    def azure_tdx(self, nonce: bytes, td_quote: bytes) -> bytes:
        """The evidence of an Azure VM on TDX: a quote over `hardware_data`."""
        return self._azure(nonce, self.hcl_report(TD_REPORT, self.td_report()), "td_quote", td_quote)

    def _azure(self, nonce: bytes, hcl_report: bytes, name: str, hardware: bytes) -> bytes:
        attest = self.attest(nonce)
        quote = {
            "signature": self.sign(attest).hex(),
            "message": attest.hex(),
            "pcrs": [value.hex() for value in self.registers()],
        }
        members = {"version": 1, "tpm_quote": quote, "hcl_report": _padded_url(hcl_report)}
        return json.dumps({**members, name: _padded_url(hardware)}).encode()


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


def _padded_url(data: bytes) -> str:
    return b64.encode_std(data).replace("+", "-").replace("/", "_")
