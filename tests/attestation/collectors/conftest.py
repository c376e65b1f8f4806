"""What the hardware of each kind would sign, made by the simulator."""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from strongroom.attestation import ccel
from strongroom.attestation.evidence import EvidenceKind
from strongroom_simulator.nitro import NitroPlatform
from strongroom_simulator.pki import Pki
from strongroom_simulator.quotes import QuotingEnclave, enclave_report, td_report
from strongroom_simulator.snp import Guest, SnpPlatform

NOW = 1_800_000_000
Attest = Callable[[bytes], bytes]


@pytest.fixture(scope="session")
def sgx(pki: Pki) -> Attest:
    enclave = QuotingEnclave(pki, EvidenceKind.SGX, os.urandom)
    return lambda report_data: enclave.quote(enclave_report(b"\x11" * 32, b"", report_data))


@pytest.fixture(scope="session")
def tdx(pki: Pki) -> Attest:
    enclave = QuotingEnclave(pki, EvidenceKind.TDX, os.urandom)
    return lambda report_data: enclave.quote(td_report(b"\x11" * 48, b"", report_data))


@pytest.fixture(scope="session")
def platform() -> SnpPlatform:
    return SnpPlatform.create(NOW, b"\x44" * 64, rsa_bits=2048)


@pytest.fixture(scope="session")
def snp(platform: SnpPlatform) -> Attest:
    return lambda report_data: platform.report(Guest(b"\x11" * 48, report_data))


@pytest.fixture(scope="session")
def nitro() -> NitroPlatform:
    return NitroPlatform.create(NOW)


@pytest.fixture(scope="session")
def ccel_log(testdata: Path) -> bytes:
    """The event log of a real TDX guest."""
    return ccel.trimmed((testdata / "vectors/tdx-eventlog/ccel_data.dat").read_bytes())


_ENTRY = struct.Struct("<16sII")


@pytest.fixture(scope="session")
def table_of() -> Callable[..., bytes]:
    """`table_of(certificates, little=False)`: the table of a host, by GUID."""

    def make(certificates: Mapping[uuid.UUID, bytes], *, little: bool = False) -> bytes:
        place = _ENTRY.size * (len(certificates) + 1)
        head = body = b""
        for guid, content in certificates.items():
            head += _ENTRY.pack(guid.bytes_le if little else guid.bytes, place + len(body), len(content))
            body += content
        return head + bytes(_ENTRY.size) + body

    return make
