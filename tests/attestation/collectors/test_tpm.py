"""A software TPM that really runs: quotes that the verifier takes, and TPMs that lack something."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from soft_tpm import NEEDS_TPM, SoftTpm, need_bindings
from strongroom.attestation.collectors import tpm_device
from strongroom.attestation.collectors.tpm import TpmCollector
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.tpm_host import verify
from strongroom.errors import EvidenceError

need_bindings()
pytestmark = NEEDS_TPM

NOW = 1_800_000_000
NONCE = bytes(range(1, 49))
REPORT_DATA = NONCE + bytes(16)
INIT_DATA = b'version = "0.1.0"\n'


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftTpm]:
    running = SoftTpm(tmp_path_factory.mktemp("tpm"))
    extended = hashlib.sha256(INIT_DATA).hexdigest()
    running.run("tpm2_pcrextend", f"8:sha256={extended}")
    try:
        yield running
    finally:
        running.stop()


def key_of(evidence: Evidence) -> str:
    import base64

    return hashlib.sha256(base64.b64decode(json.loads(evidence.quote)["ak_public"])).hexdigest()


def test_a_quote_verifies_with_its_registers_and_init_data(tpm: SoftTpm) -> None:
    evidence = TpmCollector(init_data=INIT_DATA, tcti=tpm.tcti).collect(REPORT_DATA)
    claims = verify(evidence, TrustRoots(tpm_keys=frozenset({key_of(evidence)})), NOW)
    assert (claims.kind, claims.report_data) == (EvidenceKind.TPM, REPORT_DATA)
    assert claims.init_data_digest == hashlib.sha384(INIT_DATA).digest()
    assert len(claims.pcrs) == 24
    assert claims.pcrs[17] == "ff" * 32


def test_report_data_that_fills_all_bytes_is_signed_whole(tpm: SoftTpm) -> None:
    evidence = TpmCollector(tcti=tpm.tcti).collect(bytes(range(64)))
    claims = verify(evidence, TrustRoots(tpm_keys=frozenset({key_of(evidence)})), NOW)
    assert claims.report_data == bytes(range(64))


def test_the_key_is_the_same_each_time_and_nothing_stays_in_the_tpm(tpm: SoftTpm) -> None:
    keys = {key_of(TpmCollector(tcti=tpm.tcti).collect(REPORT_DATA)) for _ in range(5)}
    assert len(keys) == 1  # and five collections fit into a TPM with room for three objects


def test_another_tpm_has_another_key(tpm: SoftTpm, tmp_path: Path) -> None:
    other = SoftTpm(tmp_path)
    try:
        there = key_of(TpmCollector(tcti=other.tcti).collect(REPORT_DATA))
    finally:
        other.stop()
    assert there != key_of(TpmCollector(tcti=tpm.tcti).collect(REPORT_DATA))


def test_a_key_that_is_in_the_tpm_can_be_used(tpm: SoftTpm, tmp_path: Path) -> None:
    context = str(tmp_path / "ak")
    attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"
    tpm.run(
        "tpm2_createprimary", "-C", "e", "-G", "rsa2048:rsassa-sha256:null", "-a", attributes, "-c", context
    )
    tpm.run("tpm2_evictcontrol", "-C", "o", "-c", context, "0x81010002")
    tpm.run("tpm2_flushcontext", "-t")
    evidence = TpmCollector(tcti=tpm.tcti, key=0x81010002).collect(REPORT_DATA)
    claims = verify(evidence, TrustRoots(tpm_keys=frozenset({key_of(evidence)})), NOW)
    assert claims.report_data == REPORT_DATA
    assert key_of(evidence) != key_of(TpmCollector(tcti=tpm.tcti).collect(REPORT_DATA))


def test_a_handle_without_a_key_is_named(tpm: SoftTpm) -> None:
    with pytest.raises(EvidenceError, match=r"no key at 0x81010099.*collector-absent"):
        TpmCollector(tcti=tpm.tcti, key=0x81010099).collect(REPORT_DATA)


def test_registers_that_change_meanwhile_are_read_again(
    tpm: SoftTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tpm2_pytss.constants import ESYS_TR

    read, changes = tpm_device.TpmDevice._registers, iter([True])

    def read_and_extend(device: tpm_device.TpmDevice) -> list[bytes]:
        found = read(device)
        if next(changes, False):
            # Through the same connection: the software TPM has one only.
            device._esys.pcr_event(ESYS_TR(16), b"something is started")
        return found

    monkeypatch.setattr(tpm_device.TpmDevice, "_registers", read_and_extend)
    evidence = TpmCollector(tcti=tpm.tcti).collect(REPORT_DATA)
    assert verify(evidence, TrustRoots(tpm_keys=frozenset({key_of(evidence)})), NOW).pcrs[16] != "00" * 32


def test_registers_that_change_all_the_time_are_an_error(
    tpm: SoftTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tpm_device.TpmDevice, "_registers", lambda _: [bytes(32)] * 24)
    with pytest.raises(EvidenceError, match=r"registers of the TPM.*collector-raced"):
        TpmCollector(tcti=tpm.tcti).collect(REPORT_DATA)


def test_a_tpm_without_the_bank_is_named(tpm: SoftTpm, tmp_path: Path) -> None:
    other = SoftTpm(tmp_path)
    try:
        other.run("tpm2_pcrallocate", "sha384:all+sha256:none")
        other.restart()
        with pytest.raises(EvidenceError, match=r"no bank of registers for SHA-256.*collector-failed"):
            TpmCollector(tcti=other.tcti).collect(REPORT_DATA)
    finally:
        other.stop()


def test_a_hierarchy_with_a_password_is_an_error(tpm: SoftTpm, tmp_path: Path) -> None:
    other = SoftTpm(tmp_path)
    try:
        other.run("tpm2_changeauth", "-c", "e", "secret")
        with pytest.raises(EvidenceError, match=r"attestation key of the TPM.*collector-failed"):
            TpmCollector(tcti=other.tcti).collect(REPORT_DATA)
    finally:
        other.stop()


def test_the_probe_only_connects(tpm: SoftTpm) -> None:
    assert TpmCollector(tcti=tpm.tcti).probe() is EvidenceKind.TPM
    with pytest.raises(EvidenceError, match=r"TPM at swtpm:host=127.0.0.1,port=1: .*collector-absent"):
        TpmCollector(tcti="swtpm:host=127.0.0.1,port=1").probe()


def test_report_data_of_another_size_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="64 bytes, not 48"):
        TpmCollector().collect(NONCE)
