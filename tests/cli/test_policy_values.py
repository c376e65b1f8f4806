"""Signed reference values on the command line: made, shown, taken by policies, and refused."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.evidence_file import EvidenceFile
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.reference_checks import ReferenceDemand
from strongroom.broker import admin
from strongroom.broker.store import Store
from strongroom.crypto import agefile
from strongroom_simulator.snp import TCB, Guest, SnpPlatform

NOW = 1_800_000_000
WHEN = "2027-01-15T08:00:00Z"
DAY = 86400
PLATFORM = SnpPlatform.create(NOW, bytes(range(64)), rsa_bits=2048)
OLD, NEW = b"\x11" * 48, b"\x22" * 48


class Bench:
    """A publisher, and a policy that lists the old release and names him for others."""

    def __init__(self, folder: Path, cli: Any) -> None:
        self.folder = folder
        self.cli = cli
        self.key_file = folder / "publisher.key"
        result = cli("policy", "keygen", "--out", self.key_file)
        assert result.code == 0, result.err
        self.key = result.out.strip()

    def evidence(self, name: str, measurement: bytes) -> Path:
        collateral = PLATFORM.collateral(crl=PLATFORM.revocation_list(NOW))
        evidence = Evidence(EvidenceKind.SNP, PLATFORM.report(Guest(measurement, bytes(64))), collateral)
        path = self.folder / "fleet" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(EvidenceFile(evidence, NOW).to_json_bytes())
        return path

    def policy(self, **changes: Any) -> Path:
        members: dict[str, Any] = {
            "kinds": [EvidenceKind.SNP],
            "measurements": {EvidenceKind.SNP: [OLD.hex()]},
            "tcb_floor": {"Milan": dict(TCB)},
            "allow_simulated": True,
            "simulated_roots": [PLATFORM.root_sha256],
            "reference_values": ReferenceDemand(self.key, "pictures", 2),
        }
        path = self.folder / "policy.toml"
        path.write_text(render_policy(**(members | changes)))
        return path

    def sign(self, *options: object, version: int = 2, name: str = "pictures") -> Any:
        path = self.folder / "values.json"
        line = ["policy", "sign-values", "--key", self.key_file, "--publisher", "Example Models"]
        line += ["--name", name, "--version", str(version), "--not-before", WHEN, "-o", path]
        return self.cli(*line, "--measurement", f"snp={NEW.hex()},pictures 1.5", *options)

    def values(self, **changes: Any) -> Path:
        assert self.sign(**changes).code == 0
        return self.folder / "values.json"


@pytest.fixture
def bench(tmp_path: Path, cli: Any) -> Bench:
    return Bench(tmp_path, cli)


def test_the_private_key_is_for_its_owner_only_and_never_replaced(bench: Bench, cli: Any) -> None:
    assert bench.key.startswith("ed25519+mldsa65:")
    assert stat.S_IMODE(bench.key_file.stat().st_mode) == 0o600
    before = bench.key_file.read_bytes()
    result = cli("policy", "keygen", "--out", bench.key_file, "--json")
    assert (result.code, result.error["code"]) == (2, "file-exists")
    assert bench.key_file.read_bytes() == before
    assert cli("policy", "keygen", "--out", bench.folder / "two.key", "--json").json["key"] != bench.key


def test_an_exposed_key_signs_nothing(bench: Bench) -> None:
    bench.key_file.chmod(0o644)
    result = bench.sign("--json")
    assert result.error["code"] == "key-file-exposed"
    assert not (bench.folder / "values.json").exists()


def test_what_is_signed_is_shown(bench: Bench, cli: Any) -> None:
    signed = bench.sign("--days", "30")
    assert f"key           {bench.key}, for [reference_values] of policies" in signed.out
    path = bench.folder / "values.json"
    shown = cli("policy", "values", path, "--key", bench.key)
    assert shown.code == 0
    assert "version 2 of pictures, as Example Models says" in shown.out
    assert "counts        2027-01-15 08:00:00 UTC to 2027-02-14 08:00:00 UTC" in shown.out
    assert f"{NEW.hex()}  pictures 1.5" in shown.out
    members = cli("policy", "values", path, "--json").json
    assert members["verified"] is False
    assert members["measurements"] == {"snp": {NEW.hex(): "pictures 1.5"}}
    assert (members["not_before"], members["expires"]) == (NOW, NOW + 30 * DAY)
    assert "signature     not checked; give --key" in cli("policy", "values", path).out


def test_another_key_has_not_signed_them(bench: Bench, cli: Any) -> None:
    other = cli("policy", "keygen", "--out", bench.folder / "two.key").out.strip()
    result = cli("policy", "values", bench.values(), "--key", other, "--json")
    assert (result.code != 0, result.error["code"]) == (True, "signature-invalid")


def test_a_label_may_be_left_out_and_a_td_has_colons(bench: Bench, cli: Any) -> None:
    guest = ":".join(["33" * 48] * 5)
    assert bench.sign("--measurement", f"tdx={guest}").code == 0
    members = cli("policy", "values", bench.folder / "values.json", "--json").json
    assert members["measurements"]["tdx"] == {guest: "pictures 2"}


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ("snp", "option-invalid"),
        (f"sev={NEW.hex()}", "option-invalid"),
        ("snp=12", "reference-values-malformed"),
        (f"snp={NEW.hex()},two\nlines", "reference-values-malformed"),
    ],
)
def test_a_measurement_that_is_none_is_not_signed(bench: Bench, option: str, code: str) -> None:
    assert bench.sign("--measurement", option, "--json").error["code"] == code
    assert not (bench.folder / "values.json").exists()


def test_evidence_of_a_published_release_passes(bench: Bench, cli: Any) -> None:
    path, policy = bench.evidence("new.json", NEW), bench.policy()
    line = ["evidence", "verify", path, "--at", "collected", "--policy", policy]
    refused = cli(*line, "--json")
    assert (refused.code, refused.error["code"]) == (3, "policy-measurement")
    result = cli(*line, "--values", bench.values())
    assert result.code == 0, result.err
    assert "published     version 2 of pictures, sha256:" in result.out
    members = cli(*line, "--values", bench.values(), "--json").json
    assert members["reference_values"].startswith("sha256:")


@pytest.mark.parametrize(
    ("changes", "days", "code"),
    [
        ({"version": 1}, 0, "reference-values-older"),
        ({"name": "other"}, 0, "reference-values-foreign"),
        ({}, 91, "policy-values-expired"),
        ({}, -1, "policy-values-expired"),
    ],
    ids=["rolled back", "another series", "expired", "too early"],
)
def test_values_that_do_not_count_are_refused(
    bench: Bench, cli: Any, changes: dict[str, Any], days: int, code: str
) -> None:
    path, policy = bench.evidence("new.json", NEW), bench.policy(require_revocation=False)
    file = EvidenceFile.parse(path.read_bytes())
    without = Evidence(file.evidence.kind, file.evidence.quote, PLATFORM.collateral())
    path.write_bytes(EvidenceFile(without, NOW).to_json_bytes())
    line = ["--policy", policy, "--values", bench.values(**changes), "--at", str(NOW + days * DAY), "--json"]
    result = cli("evidence", "verify", path, *line)
    assert (result.code, result.error["code"]) == (3, code)


def test_a_policy_that_names_nobody_takes_no_values(bench: Bench, cli: Any) -> None:
    path, policy = bench.evidence("new.json", NEW), bench.policy(reference_values=None)
    line = ["--policy", policy, "--values", bench.values(), "--at", "collected", "--json"]
    assert cli("evidence", "verify", path, *line).error["code"] == "reference-values-foreign"


def test_they_decide_and_explain_says_so(bench: Bench, cli: Any) -> None:
    path, policy = bench.evidence("new.json", NEW), bench.policy()
    found = cli("policy", "explain", policy, path, "--values", bench.values(), "--json").json
    named = {each["key"]: each["value"] for each in found["deciding"]}
    assert named["reference_values"] == f"{NEW.hex()} (pictures 1.5) in pictures, version 2"


def test_a_fleet_is_rehearsed_with_them(bench: Bench, cli: Any) -> None:
    bench.evidence("new.json", NEW)
    bench.evidence("old.json", OLD)
    policy, fleet = bench.policy(), bench.folder / "fleet"
    gate = ["policy", "simulate", policy, "--evidence", fleet, "--expect", "accept", "--json"]
    assert json.loads(cli(*gate).out)["missed"] == ["new.json"]
    assert cli(*gate, "--values", bench.values()).code == 0


def test_two_policies_are_compared_with_them(bench: Bench, cli: Any) -> None:
    bench.evidence("new.json", NEW)
    fleet, values = bench.folder / "fleet", bench.values()
    before = bench.folder / "before.toml"
    before.write_text(bench.policy(reference_values=None).read_text())
    line = ["policy", "diff", before, bench.policy(), "--evidence", fleet]
    result = cli(*line, "--values", values)
    assert result.code == 3
    assert f"code that {bench.key} publishes as pictures, from version 2" in result.out
    assert "new.json: policy-measurement -> accepted" in result.out
    without = cli(*line, "--json")  # what changes is what the publisher says, and he is not asked
    assert (without.code, without.json["changed"]) == (0, [])


def test_the_brokers_store_takes_them_forward_only(bench: Bench, cli: Any, home: Path) -> None:
    path = bench.values()
    line = ["policy", "publish", path]
    refused = cli(*line, "--json")
    assert (refused.code, refused.error["code"]) == (3, "reference-values-foreign")
    with Store.open(home / "broker") as store:
        admin.register_model(
            store,
            resource="default/model/lite0",
            name="lite0",
            version="1",
            manifest_digest="sha256:" + "11" * 32,
            sealed_sha256="22" * 32,
            identity=agefile.generate_identity(),
            policy_text=bench.policy().read_text(),
        )
    assert "The broker takes version 2 of pictures, sha256:" in cli(*line).out
    assert cli("policy", "publish", bench.values(version=4), "--json").json["version"] == 4
    rolled_back = cli("policy", "publish", bench.values(version=3), "--json")
    assert (rolled_back.code, rolled_back.error["code"]) == (3, "reference-values-older")
    assert (rolled_back.error["found"], rolled_back.error["expected"]) == ("version 3", "at least 5")
