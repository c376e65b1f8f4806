"""`strongroom evidence`: real and simulated evidence, packed, shown and appraised."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.evidence_file import EvidenceFile
from strongroom.attestation.gpu_checks import GpuDemand
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.runtime_data import RuntimeData
from strongroom.cli.evidence import Kind
from strongroom_simulator.gpu import DRIVER, VBIOS, GpuPlatform, devices_text
from strongroom_simulator.nitro import NitroPlatform
from strongroom_simulator.snp import TCB, Guest, SnpPlatform
from strongroom_simulator.tpm import SimulatedTpm

NOW = 1_800_000_000
WHEN = "2027-01-15T08:00:00Z"
DAY = 24 * 3600
GUEST = Guest(measurement=b"\x11" * 48, report_data=b"\x22" * 64)


@dataclass(frozen=True)
class Bench:
    """Files of a simulated SNP guest, and policies."""

    folder: Path
    platform: SnpPlatform

    def options(self) -> list[object]:
        return [
            "--kind",
            "snp",
            "--report",
            self.folder / "r.bin",
            "--vek",
            self.folder / "vek.der",
            "--chain",
            self.folder / "chain.pem",
        ]

    def policy(self, **changes: Any) -> Path:
        settings: dict[str, Any] = {
            "kinds": [EvidenceKind.SNP],
            "measurements": {EvidenceKind.SNP: [GUEST.measurement.hex()]},
            "tcb_floor": {"Milan": dict(TCB)},
            "allow_simulated": True,
            "simulated_roots": [self.platform.root_sha256],
            "require_revocation": False,
        }
        path = self.folder / "policy.toml"
        path.write_text(render_policy(**(settings | changes)))
        return path


@pytest.fixture(scope="module")
def platform() -> SnpPlatform:
    return SnpPlatform.create(NOW, b"\x44" * 64, rsa_bits=2048)


@pytest.fixture
def bench(tmp_path: Path, platform: SnpPlatform) -> Bench:
    (tmp_path / "r.bin").write_bytes(platform.report(GUEST))
    (tmp_path / "vek.der").write_bytes(platform.signer.public_bytes(Encoding.DER))
    (tmp_path / "chain.pem").write_text(platform.collateral()["chain"])
    (tmp_path / "crl.der").write_bytes(platform.revocation_list(NOW))
    return Bench(tmp_path, platform)


@pytest.fixture
def packed(bench: Bench, cli: Any) -> Path:
    path = bench.folder / "e.json"
    assert cli("evidence", "pack", *bench.options(), "--collected", WHEN, "-o", path).code == 0
    return path


def test_what_is_packed_is_shown(bench: Bench, packed: Path, cli: Any) -> None:
    assert EvidenceFile.parse(packed.read_bytes()).collected == NOW
    result = cli("evidence", "show", packed)
    assert result.code == 0
    assert "snp evidence, not verified" in result.out
    assert "collected     2027-01-15 08:00:00 UTC, as the file says" in result.out
    assert cli("evidence", "show", packed, "--json").json == {
        "kind": "snp",
        "collected": NOW,
        "quote_bytes": 1184,
        "collateral": ["chain", "vek"],
        "init_data_bytes": None,
        "events": None,
        "verified": False,
    }


def test_evidence_is_appraised_as_of_its_collection(bench: Bench, packed: Path, cli: Any) -> None:
    result = cli("evidence", "verify", packed, "--at", "collected", "--policy", bench.policy())
    assert result.code == 0, result.err
    assert result.out.startswith("SIMULATED: ")
    assert "which admits simulated evidence" in result.out
    assert "when the file says that it was collected; nothing is said of today" in result.out
    assert "bootloader 4, tee 0, snp 24, microcode 219" in result.out
    found = cli("evidence", "verify", packed, "--at", "collected", "--policy", bench.policy(), "--json").json
    assert (found["verdict"], found["at"], found["at_source"]) == ("SIMULATED", NOW, "collected")
    assert found["claims"]["measurement"] == GUEST.measurement.hex()
    assert found["claims"]["revocation_checked"] is False


def test_another_time_gives_another_answer(bench: Bench, packed: Path, cli: Any) -> None:
    policy = bench.policy()
    found = cli("evidence", "verify", packed, "--at", str(NOW + DAY), "--policy", policy, "--json").json
    assert (found["at"], found["at_source"]) == (NOW + DAY, "given")
    late = cli("evidence", "verify", packed, "--at", "2050-01-01T00:00:00Z", "--policy", policy, "--json")
    assert (late.code, late.error["code"]) == (3, "evidence-expired")


def test_now_is_the_default(bench: Bench, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificates are of 2027; a clock that says so finds them valid."""
    path = bench.folder / "e.json"
    cli("evidence", "pack", *bench.options(), "--collected", "0", "-o", path)
    monkeypatch.setattr("strongroom.cli._evidence.time.time", lambda: NOW + 5.5)
    found = cli("evidence", "verify", path, "--policy", bench.policy(), "--json").json
    assert (found["at"], found["at_source"], found["collected"]) == (NOW + 5, "now", 0)
    assert "UTC, now" in cli("evidence", "verify", path, "--policy", bench.policy()).out
    early = cli("evidence", "verify", path, "--at", "collected", "--policy", bench.policy(), "--json")
    assert early.error["code"] == "evidence-expired"


def test_without_a_policy_nothing_passes(packed: Path, cli: Any) -> None:
    result = cli("evidence", "verify", packed, "--at", "collected", "--json")
    assert (result.code, result.error["code"]) == (3, "policy-missing")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"measurements": {EvidenceKind.SNP: ["00" * 48]}}, "policy-measurement"),
        ({"tcb_floor": {"Milan": {"snp": 25}}}, "policy-tcb-floor"),
        ({"require_revocation": True}, "policy-revocation"),
        ({"simulated_roots": ["00" * 32]}, "evidence-untrusted-root"),
    ],
)
def test_a_policy_refuses(bench: Bench, packed: Path, cli: Any, changes: dict[str, Any], code: str) -> None:
    policy = bench.policy(**changes)
    result = cli("evidence", "verify", packed, "--at", "collected", "--policy", policy, "--json")
    assert (result.code, result.error["code"]) == (3, code)


@pytest.mark.parametrize("pem", [False, True])
def test_a_revocation_list_comes_in_der_or_pem(bench: Bench, cli: Any, pem: bool) -> None:
    crl, path = bench.folder / "crl.der", bench.folder / "e.json"
    if pem:
        body = base64.encodebytes(crl.read_bytes())
        crl.write_bytes(b"-----BEGIN X509 CRL-----\n" + body + b"-----END X509 CRL-----\n")
    cli("evidence", "pack", *bench.options(), "--crl", crl, "--collected", WHEN, "-o", path)
    policy = bench.policy(require_revocation=True)
    result = cli("evidence", "verify", path, "--at", "collected", "--policy", policy, "--json")
    assert result.json["claims"]["revocation_checked"] is True


def test_real_intel_evidence_is_packed_and_appraised(testdata: Path, tmp_path: Path, cli: Any) -> None:
    vector = json.loads((testdata / "vectors/evidence/TDX_v4_B0C06F000000_263b491b.json").read_text())
    (tmp_path / "q.bin").write_bytes(bytes.fromhex(vector["quote"]))
    (tmp_path / "c.json").write_text(json.dumps(vector["collateral"]))
    path, policy = tmp_path / "e.json", tmp_path / "p.toml"
    options = ["--kind", "tdx", "--quote", tmp_path / "q.bin", "--collateral", tmp_path / "c.json"]
    assert cli("evidence", "pack", *options, "--collected", vector["now"], "-o", path).code == 0
    policy.write_text(render_policy(kinds=[EvidenceKind.TDX], measurements={EvidenceKind.TDX: ["00" * 48]}))
    verify = ["evidence", "verify", path, "--at", "collected", "--policy", policy]
    refused = cli(*verify, "--json")
    assert (refused.code, refused.error["code"]) == (3, "policy-measurement")
    measured = refused.error["found"]
    policy.write_text(render_policy(kinds=[EvidenceKind.TDX], measurements={EvidenceKind.TDX: [measured]}))
    result = cli(*verify)
    assert result.code == 0, result.err
    assert result.out.startswith("ATTESTED: ")
    assert "anchor        intel" in result.out


def test_a_recorded_azure_vm_is_packed_and_appraised(testdata: Path, tmp_path: Path, cli: Any) -> None:
    pem = (testdata / "vectors/amd/milan_ask_ark_asvk.pem").read_text()
    end = "-----END CERTIFICATE-----\n"
    (tmp_path / "chain.pem").write_text("".join(each + end for each in pem.split(end)[:2]))
    quote = testdata / "vectors/evidence/AZVTPM_snp_evidence-v2.json"
    path, policy = tmp_path / "e.json", tmp_path / "p.toml"
    options = ["--kind", "az-snp-vtpm", "--quote", quote, "--chain", tmp_path / "chain.pem"]
    assert cli("evidence", "pack", *options, "--collected", "1770000000", "-o", path).code == 0
    demands: dict[str, Any] = {
        "kinds": [EvidenceKind.AZ_SNP],
        "measurements": {EvidenceKind.AZ_SNP: ["00" * 48]},
        "tcb_floor": {"Milan": {}},
        "require_revocation": False,
        "pcrs": {7: ["00" * 32]},
    }
    verify = ["evidence", "verify", path, "--at", "collected", "--policy", policy]
    policy.write_text(render_policy(**demands))
    refused = cli(*verify, "--json")
    assert (refused.code, refused.error["code"]) == (3, "policy-measurement")
    demands["measurements"] = {EvidenceKind.AZ_SNP: [refused.error["found"]]}
    policy.write_text(render_policy(**demands))
    refused = cli(*verify, "--json")
    assert (refused.code, refused.error["code"]) == (3, "policy-pcr")
    demands["pcrs"] = {7: [refused.error["found"]]}
    policy.write_text(render_policy(**demands))
    result = cli(*verify)
    assert result.code == 0, result.err
    assert "anchor        amd" in result.out
    assert "PCR 7         f014e5cbfa297ee7" in result.out


def test_a_gpu_beside_the_cpu_is_appraised_too(bench: Bench, cli: Any) -> None:
    pytest.importorskip("lxml.etree")
    gpu, asked = GpuPlatform.create(NOW), RuntimeData("bm9uY2U=", {"kty": "EC"})
    text = devices_text([(gpu.report(asked.device_nonce()), gpu.chain_pem)])
    bound = replace(asked, additional_evidence=text)
    guest = replace(GUEST, report_data=bound.report_data())
    (bench.folder / "r.bin").write_bytes(bench.platform.report(guest))
    (bench.folder / "d.json").write_bytes(bound.to_bytes())
    rims = [bench.folder / name for name in ("driver.swidtag", "vbios.swidtag")]
    for path, rim in zip(rims, gpu.rims(), strict=True):
        path.write_bytes(rim)
    file = bench.folder / "e.json"
    line = [*bench.options(), "--runtime-data", bench.folder / "d.json", "--collected", WHEN, "-o", file]
    assert cli("evidence", "pack", *line, "--rim", rims[0], "--rim", rims[1]).code == 0
    demand = GpuDemand(1, frozenset({DRIVER}), frozenset({VBIOS}), reference_values=True)
    policy = bench.policy(gpu=demand, simulated_roots=[bench.platform.root_sha256, gpu.root_sha256])
    verify = ["evidence", "verify", file, "--at", "collected", "--policy", policy]
    result = cli(*verify)
    assert result.code == 0, result.err
    assert f"GPU 0         GH100, driver {DRIVER}, VBIOS {VBIOS}, 0 measurements differ" in result.out
    assert cli("evidence", "pack", *line).code == 0
    refused = cli(*verify, "--json")
    assert (refused.code, refused.error["code"]) == (3, "policy-gpu-reference")


def test_what_a_tpm_does_not_do_is_said(tmp_path: Path, cli: Any) -> None:
    tpm = SimulatedTpm()
    (tmp_path / "q.json").write_bytes(tpm.evidence(b"n" * 48))
    path, policy = tmp_path / "e.json", tmp_path / "p.toml"
    assert cli("evidence", "pack", "--kind", "tpm", "--quote", tmp_path / "q.json", "-o", path).code == 0
    text = render_policy(
        kinds=[EvidenceKind.TPM], measurements={}, pcrs={4: ["00" * 32]}, tpm_keys=[tpm.key_sha256]
    )
    policy.write_text(text)
    result = cli("evidence", "verify", path, "--policy", policy)
    assert result.code == 0, result.err
    assert "It does not keep its owner from reading its memory." in result.out


def test_nitro_documents_need_nothing_beside_them(tmp_path: Path, cli: Any) -> None:
    platform = NitroPlatform.create(NOW)
    document = platform.document(platform.payload({0: b"\1" * 48}, b"\2" * 64, NOW))
    (tmp_path / "d.cbor").write_bytes(document)
    path, policy = tmp_path / "e.json", tmp_path / "p.toml"
    cli(
        "evidence",
        "pack",
        "--kind",
        "nitro",
        "--document",
        tmp_path / "d.cbor",
        "--collected",
        NOW,
        "-o",
        path,
    )
    measured = ":".join(["01" * 48, "00" * 48, "00" * 48])
    policy.write_text(
        render_policy(
            kinds=[EvidenceKind.NITRO],
            measurements={EvidenceKind.NITRO: [measured]},
            allow_simulated=True,
            simulated_roots=[platform.root_sha256],
        )
    )
    result = cli("evidence", "verify", path, "--at", "collected", "--policy", policy, "--json")
    assert result.json["claims"]["report_data"] == "02" * 64


def test_init_data_is_checked(bench: Bench, cli: Any) -> None:
    (bench.folder / "init.toml").write_text("version = 1")
    path = bench.folder / "e.json"
    options = [*bench.options(), "--init-data", bench.folder / "init.toml", "--collected", WHEN]
    cli("evidence", "pack", *options, "-o", path)
    assert cli("evidence", "show", path, "--json").json["init_data_bytes"] == 11
    result = cli("evidence", "verify", path, "--at", "collected", "--policy", bench.policy(), "--json")
    assert (result.code, result.error["code"]) == (3, "evidence-init-data")


@pytest.mark.parametrize("option", ["--collateral", "--vek", "--chain", "--crl"])
def test_an_option_of_another_kind_is_refused(bench: Bench, cli: Any, option: str) -> None:
    quote = bench.folder / "r.bin"
    kinds = ("snp", "nitro") if option == "--collateral" else ("sgx", "nitro")
    for kind in kinds:
        line = ["--kind", kind, "--quote", quote, option, quote, "-o", bench.folder / "e.json", "--json"]
        result = cli("evidence", "pack", *line)
        assert (result.code, result.error["code"]) == (2, "option-invalid")


def test_chain_and_list_need_the_chips_certificate(bench: Bench, cli: Any) -> None:
    line = ["--kind", "snp", "--report", bench.folder / "r.bin", "-o", bench.folder / "e.json", "--json"]
    for option in ("--chain", "--crl"):
        result = cli("evidence", "pack", *line, option, bench.folder / "vek.der")
        assert (result.code, result.error["code"]) == (2, "option-invalid")
    assert cli("evidence", "pack", *line, "--vek", bench.folder / "vek.der").code == 0
    verify = ["evidence", "verify", bench.folder / "e.json", "--policy", bench.policy(), "--json"]
    assert cli(*verify).error["code"] == "evidence-chain"  # a simulated issuer is not AMD's
    assert cli("evidence", "pack", *line).code == 0  # it cannot be verified, and says so then
    verify = ["evidence", "verify", bench.folder / "e.json", "--policy", bench.policy(), "--json"]
    assert cli(*verify).error["code"] == "evidence-no-collateral"


@pytest.mark.parametrize("text", ["yesterday", "-5", "2025-06-20", "2025-06-20T00:00:00", "9" * 30, ""])
def test_a_time_that_says_nothing_is_refused(bench: Bench, packed: Path, cli: Any, text: str) -> None:
    """A time without its zone is none."""
    result = cli("evidence", "verify", packed, f"--at={text}", "--policy", bench.policy(), "--json")
    assert (result.code, result.error["code"]) == (2, "option-invalid")


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("c.json", b"{", "file-unreadable"),
        ("c.json", b"[]", "file-unreadable"),
        ("c.json", b"{}", "evidence-malformed"),
    ],
)
def test_collateral_that_is_none_is_refused(
    tmp_path: Path, cli: Any, name: str, content: bytes, code: str
) -> None:
    (tmp_path / name).write_bytes(content)
    line = ["--kind", "sgx", "--quote", tmp_path / name, "--collateral", tmp_path / name]
    result = cli("evidence", "pack", *line, "-o", tmp_path / "e.json", "--json")
    assert result.error["code"] == code


def test_a_list_that_is_neither_der_nor_pem_is_refused(bench: Bench, cli: Any) -> None:
    crl = bench.folder / "crl.pem"
    crl.write_bytes(b"-----BEGIN X509 CRL-----\n!\n-----END X509 CRL-----\n")
    line = [*bench.options(), "--crl", crl, "-o", bench.folder / "e.json", "--json"]
    assert cli("evidence", "pack", *line).error["code"] == "file-unreadable"


def test_files_that_are_not_there_are_named(bench: Bench, cli: Any) -> None:
    for line in (
        ["show", "nowhere.json"],
        ["verify", "nowhere.json", "--policy", bench.policy()],
        ["pack", "--kind", "nitro", "--quote", "nowhere.json", "-o", bench.folder / "e.json"],
    ):
        result = cli("evidence", *line, "--json")
        assert (result.code, result.error["code"]) == (2, "file-unreadable")
        assert "nowhere.json" in result.error["detail"]


def test_a_quote_that_is_too_large_is_refused(bench: Bench, cli: Any) -> None:
    (bench.folder / "r.bin").write_bytes(bytes(70_000))
    result = cli("evidence", "pack", *bench.options(), "-o", bench.folder / "e.json", "--json")
    assert result.error["code"] == "evidence-too-large"


def test_a_real_event_log_is_packed_shown_and_checked(testdata: Path, tmp_path: Path, cli: Any) -> None:
    vector = json.loads((testdata / "vectors/evidence/TDX_v4_00806F050000_ebe41a4a.json").read_text())
    (tmp_path / "q.bin").write_bytes(bytes.fromhex(vector["quote"]))
    (tmp_path / "c.json").write_text(json.dumps(vector["collateral"]))
    log, path, policy = (
        testdata / "vectors/tdx-eventlog/ccel_data.dat",
        tmp_path / "e.json",
        tmp_path / "p.toml",
    )
    options = ["--kind", "tdx", "--quote", tmp_path / "q.bin", "--collateral", tmp_path / "c.json"]
    options += ["--event-log", log, "--collected", vector["now"], "-o", path]
    assert cli("evidence", "pack", *options).code == 0
    assert cli("evidence", "show", path, "--json").json["events"] == 43
    assert "    RTMR1  EV_EFI_ACTION" in cli("evidence", "show", path).out
    policy.write_text(render_policy(kinds=[EvidenceKind.TDX], measurements={EvidenceKind.TDX: ["00" * 48]}))
    verify = ["evidence", "verify", path, "--at", "collected", "--policy", policy]
    measured = cli(*verify, "--json").error["found"]
    policy.write_text(render_policy(kinds=[EvidenceKind.TDX], measurements={EvidenceKind.TDX: [measured]}))
    assert cli(*verify, "--json").json["event_log"] == "matches"
    assert "event log     matches the registers of the quote" in cli(*verify).out


def test_an_event_log_of_another_kind_is_refused(bench: Bench, testdata: Path, cli: Any) -> None:
    log = testdata / "vectors/tdx-eventlog/ccel_data.dat"
    result = cli(
        "evidence", "pack", *bench.options(), "--event-log", log, "-o", bench.folder / "e.json", "--json"
    )
    assert result.error["code"] == "evidence-malformed"


def test_the_kinds_on_the_command_line_are_those_of_evidence() -> None:
    assert {str(kind) for kind in Kind} == {str(kind) for kind in EvidenceKind}
