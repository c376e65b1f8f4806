"""`strongroom policy`: written from evidence, explained, compared, rehearsed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.evidence_file import EvidenceFile
from strongroom.attestation.policy import Policy
from strongroom_simulator.snp import Guest, SnpPlatform
from strongroom_simulator.tpm import SimulatedTpm

NOW = 1_800_000_000
PLATFORM = SnpPlatform.create(NOW, bytes(range(64)), rsa_bits=2048)
GUEST = Guest(b"\x11" * 48, bytes(64), guest_svn=2)


def _write(path: Path, guest: Guest = GUEST, *, crl: bool = True) -> Path:
    collateral = PLATFORM.collateral(crl=PLATFORM.revocation_list(NOW) if crl else None)
    evidence = Evidence(EvidenceKind.SNP, PLATFORM.report(guest), collateral)
    path.write_bytes(EvidenceFile(evidence, NOW).to_json_bytes())
    return path


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Three guests: as approved, of other code, and of an old version."""
    folder = tmp_path / "fleet"
    folder.mkdir()
    _write(folder / "a.json")
    _write(folder / "b.json", replace(GUEST, measurement=b"\x22" * 48))
    _write(folder / "c.json", replace(GUEST, guest_svn=1))
    (folder / "readme.txt").write_text("not evidence")
    return folder


@pytest.fixture
def policy(fleet: Path, tmp_path: Path, cli: Any) -> Path:
    path = tmp_path / "policy.toml"
    result = cli("policy", "init", fleet / "a.json", "-o", path, "--allow-simulated")
    assert result.code == 0, result.err
    assert "SIMULATED evidence is accepted. It is not protection." in result.out
    return path


def test_init_writes_a_policy_that_accepts_just_that(fleet: Path, policy: Path, cli: Any) -> None:
    text = policy.read_text()
    assert "SIMULATED" in text
    assert Policy.parse(text).min_svn == 2
    assert cli("evidence", "verify", fleet / "a.json", "--at", "collected", "--policy", policy).code == 0
    for name in ("b.json", "c.json"):
        assert cli("evidence", "verify", fleet / name, "--at", "collected", "--policy", policy).code == 3


def test_init_weakens_nothing_by_itself(tmp_path: Path, fleet: Path, cli: Any) -> None:
    out = tmp_path / "p.toml"
    result = cli("policy", "init", fleet / "a.json", "-o", out, "--json")
    assert (result.code, result.error["code"]) == (3, "policy-init-refused")
    assert "--allow-simulated" in result.error["detail"]
    debug = _write(tmp_path / "d.json", replace(GUEST, debug=True))
    line = ["policy", "init", debug, "-o", out, "--allow-simulated", "--json"]
    assert cli(*line).error["code"] == "policy-init-refused"
    assert cli(*line, "--allow-debug").json["simulated"] is True
    without = _write(tmp_path / "w.json", crl=False)
    line = ["policy", "init", without, "-o", out, "--allow-simulated", "--json"]
    assert cli(*line).error["code"] == "policy-init-refused"
    assert cli(*line, "--without-revocation").code == 0
    assert Policy.load(out).require_revocation is False


def test_init_from_evidence_that_does_not_verify_writes_nothing(tmp_path: Path, cli: Any) -> None:
    file = EvidenceFile.parse(_write(tmp_path / "e.json").read_bytes())
    changed = replace(file.evidence, quote=file.evidence.quote[:100] + b"\1" + file.evidence.quote[101:])
    (tmp_path / "e.json").write_bytes(replace(file, evidence=changed).to_json_bytes())
    out = tmp_path / "p.toml"
    result = cli("policy", "init", tmp_path / "e.json", "-o", out, "--allow-simulated", "--json")
    assert (result.code, result.error["code"]) == (3, "evidence-signature")
    assert not out.exists()


def test_init_pins_a_tpm_only_if_told(tmp_path: Path, cli: Any) -> None:
    tpm = SimulatedTpm(pcrs={4: b"\x04" * 32})
    evidence = Evidence(EvidenceKind.TPM, tpm.evidence(b"n" * 48))
    (tmp_path / "e.json").write_bytes(EvidenceFile(evidence, NOW).to_json_bytes())
    line = ["policy", "init", tmp_path / "e.json", "-o", tmp_path / "p.toml", "--json"]
    refused = cli(*line, "--allow-simulated")
    assert (refused.code, refused.error["code"]) == (3, "policy-init-refused")
    assert cli(*line, "--pin-tpm").code == 0
    policy = Policy.load(tmp_path / "p.toml")
    assert policy.tpm_keys == {tpm.key_sha256}
    assert policy.pcrs == {number: {"04" * 32 if number == 4 else "00" * 32} for number in range(24)}


def test_init_from_real_evidence(testdata: Path, tmp_path: Path, cli: Any) -> None:
    vector = json.loads((testdata / "vectors/evidence/TDX_v4_B0C06F000000_263b491b.json").read_text())
    evidence = Evidence(EvidenceKind.TDX, bytes.fromhex(vector["quote"]), vector["collateral"])
    (tmp_path / "e.json").write_bytes(EvidenceFile(evidence, vector["now"]).to_json_bytes())
    out = tmp_path / "p.toml"
    assert cli("policy", "init", tmp_path / "e.json", "-o", out).code == 0
    assert Policy.load(out).allow_simulated is False
    assert cli("evidence", "verify", tmp_path / "e.json", "--at", "collected", "--policy", out).code == 0


def test_explain_names_what_decides(fleet: Path, policy: Path, cli: Any) -> None:
    good = cli("policy", "explain", policy, fleet / "a.json", "--json")
    assert good.code == 0
    assert {"kinds", "measurements", "tcb_floor", "simulated_roots"} <= {
        each["key"] for each in good.json["deciding"]
    }
    refused = cli("policy", "explain", policy, fleet / "b.json")
    assert refused.code == 3
    assert "policy-measurement: found 2222" in refused.out
    last = refused.out.splitlines()[-1]
    assert last.split() == ["measurements", "add", "22" * 48, "to", "snp"]
    assert "policy-measurement" in refused.err


def test_diff_says_what_changes_for_a_fleet(fleet: Path, policy: Path, tmp_path: Path, cli: Any) -> None:
    other = tmp_path / "new.toml"
    other.write_text(policy.read_text().replace("min_svn = 2", "min_svn = 1"))
    result = cli("policy", "diff", policy, other, "--evidence", fleet)
    assert result.code == 3
    assert "security versions from 1" in result.out
    assert "c.json: policy-svn -> accepted" in result.out
    assert "1 of 3 verdicts change." in result.out
    members = cli("policy", "diff", other, policy, "--evidence", fleet, "--json")
    assert members.error["code"] == "policy-verdicts-change"
    same = cli("policy", "diff", policy, policy, "--evidence", fleet, "--json")
    assert same.code == 0
    assert same.json == {"admits_more": [], "admits_less": [], "evidence": 3, "changed": []}


def test_simulate_is_a_gate(fleet: Path, policy: Path, cli: Any) -> None:
    result = cli("policy", "simulate", policy, "--evidence", fleet, "--json")
    assert result.code == 0
    assert result.json["counts"] == {"accepted": 1, "policy-measurement": 1, "policy-svn": 1}
    gate = cli("policy", "simulate", policy, "--evidence", fleet, "--expect", "accept")
    assert gate.code == 3
    assert "b.json, c.json" in gate.err
    (fleet / "b.json").unlink()
    (fleet / "c.json").unlink()
    assert cli("policy", "simulate", policy, "--evidence", fleet, "--expect", "accept").code == 0
    assert cli("policy", "simulate", policy, "--evidence", fleet, "--expect", "refuse").code == 3


def test_a_file_says_what_each_piece_of_evidence_meets_with(
    fleet: Path, policy: Path, tmp_path: Path, cli: Any
) -> None:
    expected = tmp_path / "expected.json"
    good = {"a.json": "accepted", "b.json": "policy-measurement", "c.json": "refused"}
    line = ["policy", "simulate", policy, "--evidence", fleet, "--expect", expected, "--json"]
    expected.write_text(json.dumps(good))
    assert cli(*line).code == 0
    for change, missed in (
        ({"a.json": "refused"}, "a.json"),
        ({"a.json": "policy-svn"}, "a.json"),
        ({"b.json": "accepted"}, "b.json"),
        ({"b.json": "policy-svn"}, "b.json"),
        ({"c.json": "accepted"}, "c.json"),
        ({"d.json": "accepted"}, "d.json"),
        ({"d.json": "refused"}, "d.json"),
    ):
        expected.write_text(json.dumps(good | change))
        result = cli(*line)
        assert (result.code, result.error["code"]) == (3, "policy-expectation-unmet")
        assert result.json["missed"] == [missed]


def test_evidence_of_which_nothing_is_expected_is_missed(
    fleet: Path, policy: Path, tmp_path: Path, cli: Any
) -> None:
    """Else a file that nobody has thought of would pass the gate."""
    expected = tmp_path / "expected.json"
    expected.write_text(json.dumps({"a.json": "accepted", "b.json": "refused"}))
    result = cli("policy", "simulate", policy, "--evidence", fleet, "--expect", expected)
    assert result.code == 3
    assert "c.json: policy-svn, expected nothing" in result.out


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"a.json": 1}', '{"a.json": []}', '{"a.json": "no-such-code"}', "[" * 9999]
)
def test_an_expectation_that_says_nothing_is_refused(
    fleet: Path, policy: Path, tmp_path: Path, cli: Any, content: str
) -> None:
    (tmp_path / "expected.json").write_text(content)
    line = ["policy", "simulate", policy, "--evidence", fleet, "--expect", tmp_path / "expected.json"]
    result = cli(*line, "--json")
    assert (result.code, result.error["code"]) == (2, "file-unreadable")
    result = cli(*line[:-1], "success", "--json")
    assert (result.code, result.error["code"]) == (2, "option-invalid")


def test_a_report_for_the_ci(fleet: Path, policy: Path, tmp_path: Path, cli: Any) -> None:
    report = tmp_path / "report.xml"
    (fleet / "c.json").rename(fleet / "<c>\x1f.json")
    line = ["policy", "simulate", policy, "--evidence", fleet, "--expect", "accept", "--junit", report]
    assert cli(*line).code == 3  # the report is there all the same
    suite = ET.fromstring(report.read_bytes())
    assert (suite.tag, suite.get("tests"), suite.get("failures")) == ("testsuite", "3", "2")
    cases = {case.get("name"): case for case in suite}
    assert set(cases) == {"a.json", "b.json", "<c>?.json"}
    assert cases["a.json"].find("failure") is None
    failure = cases["b.json"].find("failure")
    assert failure is not None
    assert failure.get("message") == "policy-measurement, expected accepted"


def test_no_policy_can_accept_what_does_not_verify(fleet: Path, policy: Path, cli: Any) -> None:
    path = fleet / "a.json"
    file = EvidenceFile.parse(path.read_bytes())
    quote = file.evidence.quote[:100] + b"\1" + file.evidence.quote[101:]
    path.write_bytes(replace(file, evidence=replace(file.evidence, quote=quote)).to_json_bytes())
    result = cli("policy", "explain", policy, path)
    assert (result.code, "No policy can accept it" in result.out) == (3, True)
    members = cli("policy", "explain", policy, path, "--json").json
    assert members == {"accepted": False, "checks": [], "deciding": [], "code": "evidence-signature"}


def test_a_root_that_is_no_vendors_could_only_be_pinned(fleet: Path, policy: Path, cli: Any) -> None:
    root = next(iter(Policy.load(policy).simulated_roots))
    policy.write_text(policy.read_text().replace(root, "aa" * 32))
    result = cli("policy", "explain", policy, fleet / "a.json", "--json")
    assert (result.code, result.json["code"]) == (3, "evidence-untrusted-root")
    assert result.json["deciding"] == [{"key": "simulated_roots", "value": f"add sha256:{root}"}]
    assert "Only a policy that pins this root" in cli("policy", "explain", policy, fleet / "a.json").out


def test_the_time_of_the_appraisal_counts(fleet: Path, policy: Path, cli: Any) -> None:
    line = ["policy", "simulate", policy, "--evidence", fleet, "--json", "--at"]
    late = cli(*line, str(NOW + 400 * 86400)).json["counts"]
    assert late == {"evidence-expired": 3}


def test_a_folder_without_evidence_is_refused(policy: Path, tmp_path: Path, cli: Any) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "none"):
        result = cli("policy", "simulate", policy, "--evidence", folder, "--json")
        assert (result.code, result.error["code"]) == (2, "file-unreadable")
