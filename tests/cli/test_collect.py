"""`strongroom evidence collect`: on a machine that has a TPM, or nothing at all."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from soft_tpm import MISSING, SoftTpm, need_bindings
from strongroom.attestation.collectors import nvml
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.evidence_file import EvidenceFile
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.runtime_data import RuntimeData
from strongroom_simulator.gpu import GpuPlatform, devices_text

NOWHERE = ("--tcti", "swtpm:host=127.0.0.1,port=1")
NOW = 1_800_000_000


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftTpm]:
    need_bindings()
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)} (swtpm, tpm2-tools)")
    running = SoftTpm(tmp_path_factory.mktemp("tpm"))
    try:
        yield running
    finally:
        running.stop()


def key_of(path: Path) -> str:
    quote = json.loads(EvidenceFile.parse(path.read_bytes()).evidence.quote)
    return hashlib.sha256(b64decode(quote["ak_public"])).hexdigest()


def test_what_this_machine_lacks_is_listed(cli: Any) -> None:
    rows = cli("evidence", "collect", "--list", *NOWHERE, "--json").json
    assert [row["source"] for row in rows] == ["gramine", "occlum", "nitro", "azure", "configfs-tsm", "tpm"]
    assert all((row["kind"] is None) == bool(row["missing"]) for row in rows)
    shown = cli("evidence", "collect", "--list", *NOWHERE).out
    assert "occlum         nothing. the variable OCCLUM, which Occlum sets, is not there" in shown


def test_a_machine_without_a_tee_ends_in_a_named_error(cli: Any, tmp_path: Path) -> None:
    result = cli("evidence", "collect", "--kind", "snp", *NOWHERE, "-o", tmp_path / "e.json", "--json")
    assert (result.code, result.error["code"]) == (4, "collector-absent")
    assert not (tmp_path / "e.json").exists()


def test_evidence_of_a_tpm_is_collected_and_verifies(cli: Any, tpm: SoftTpm, tmp_path: Path) -> None:
    path, policy = tmp_path / "e.json", tmp_path / "policy.toml"
    options = ("--kind", "tpm", "--tcti", tpm.tcti, "--report-data", "aa" * 32)
    result = cli("evidence", "collect", *options, "-o", path)
    assert result.code == 0, result.err
    assert f"{path}: tpm evidence of tpm, collected " in result.out
    assert "Nothing was verified" in result.out
    demands = {
        "kinds": [EvidenceKind.TPM], "measurements": {}, "tpm_keys": [key_of(path)], "pcrs": {17: ["ff" * 32]}
    }  # fmt: skip
    policy.write_text(render_policy(**demands))
    found = cli("evidence", "verify", path, "--policy", policy, "--json").json
    assert found["verdict"] == "ATTESTED"
    assert found["claims"]["report_data"] == "aa" * 32 + "00" * 32


def test_what_was_collected_is_said_in_json(cli: Any, tpm: SoftTpm, tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    found = cli("evidence", "collect", "--tcti", tpm.tcti, "-o", path, "--json").json
    assert (found["source"], found["kind"], found["report_data"]) == ("tpm", "tpm", "00" * 64)
    assert found["collected"] == EvidenceFile.parse(path.read_bytes()).collected


def test_init_data_goes_along(cli: Any, tpm: SoftTpm, tmp_path: Path) -> None:
    (tmp_path / "init.toml").write_bytes(b'version = "0.1.0"\n')
    options = ("--tcti", tpm.tcti, "--init-data", tmp_path / "init.toml", "-o", tmp_path / "e.json")
    assert cli("evidence", "collect", *options).code == 0
    assert EvidenceFile.parse((tmp_path / "e.json").read_bytes()).evidence.init_data == b'version = "0.1.0"\n'


def test_gpus_go_into_the_runtime_data_that_the_evidence_binds(
    cli: Any, tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no GPU here: the driver is left out, and a simulated GPU answers."""
    gpu = GpuPlatform.create(NOW)

    def collect(nonce: bytes) -> str:
        return devices_text([(gpu.report(nonce), gpu.chain_pem)])

    monkeypatch.setattr(nvml, "collect", collect)
    path = tmp_path / "e.json"
    options = ("--tcti", tpm.tcti, "--gpus", "--nonce", "a challenge", "-o", path)
    found = cli("evidence", "collect", *options, "--json").json
    file = EvidenceFile.parse(path.read_bytes())
    assert file.runtime_data is not None
    bound = RuntimeData.parse(file.runtime_data)
    assert (bound.nonce, bound.tee_pubkey) == ("a challenge", {})
    assert found["report_data"] == bound.report_data().hex()
    assert json.loads(bound.additional_evidence)["nvidia"]["device_evidence_list"][0]["arch"] == "HOPPER"
    assert gpu.report(bound.device_nonce())[4:36] == bound.device_nonce()


def test_without_a_challenge_each_collection_has_its_own(
    cli: Any, tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml, "collect", lambda nonce: json.dumps({"nonce": nonce.hex()}))
    options = ("--tcti", tpm.tcti, "--gpus", "-o", tmp_path / "e.json", "--json")
    assert len({cli("evidence", "collect", *options).json["report_data"] for _ in range(2)}) == 2


def test_a_machine_without_gpus_is_told_so(cli: Any, tpm: SoftTpm, tmp_path: Path) -> None:
    pytest.importorskip("pynvml")
    path = tmp_path / "e.json"
    result = cli("evidence", "collect", "--tcti", tpm.tcti, "--gpus", "-o", path, "--json")
    assert (result.code, result.error["code"]) == (4, "collector-absent")
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "a file to write"),
        (("-o", "e.json", "--report-data", "xyz"), "hex of at most 64 bytes"),
        (("-o", "e.json", "--report-data", "00" * 65), "hex of at most 64 bytes"),
        (("-o", "e.json", "--nonce", "n"), "--nonce has no meaning without --gpus"),
        (("-o", "e.json", "--gpus", "--report-data", "00"), "--report-data has no meaning with --gpus"),
        (("-o", "e.json", "--gpus", "--nonce", "\u00e9"), "ASCII, at most 256 characters"),
        (("-o", "e.json", "--gpus", "--nonce", "n" * 257), "ASCII, at most 256 characters"),
        (("-o", "e.json", "--ak-handle", "0x1"), "0x81000000 to 0x81ffffff"),
        (("-o", "e.json", "--ak-handle", "first"), "0x81000000 to 0x81ffffff"),
        (("-o", "e.json", "--cache", "c"), "--cache has no meaning without --fetch"),
    ],
)
def test_options_that_mean_nothing_are_refused(cli: Any, options: tuple[str, ...], expected: str) -> None:
    result = cli("evidence", "collect", *NOWHERE, *options)
    assert result.code == 2
    assert expected in result.err
