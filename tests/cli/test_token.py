"""`strongroom evidence token`: the verdict on archived evidence, for others to check."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jws
from joserfc.jwk import ECKey

from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.evidence_file import EvidenceFile
from strongroom.attestation.policy import Policy
from strongroom_simulator.nitro import NitroPlatform

NOW = 1_800_000_000


class Bench:
    """Real evidence of a TD, a policy that accepts it, and an issuer's key."""

    def __init__(self, folder: Path, testdata: Path, cli: Any) -> None:
        self.cli = cli
        vector = json.loads((testdata / "vectors/evidence/TDX_v4_B0C06F000000_263b491b.json").read_text())
        self.now = vector["now"]
        self.evidence = Evidence(EvidenceKind.TDX, bytes.fromhex(vector["quote"]), vector["collateral"])
        self.file = folder / "e.json"
        self.write(self.evidence)
        self.policy = folder / "p.toml"
        assert cli("policy", "init", self.file, "-o", self.policy).code == 0
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.key_file = folder / "key.pem"
        self.key_file.write_bytes(self.pem())
        self.key_file.chmod(0o600)

    def write(self, evidence: Evidence) -> None:
        self.file.write_bytes(EvidenceFile(evidence, self.now).to_json_bytes())

    def pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def token(self, *options: object) -> Any:
        line = ["evidence", "token", self.file, "--policy", self.policy, "--key", self.key_file]
        return self.cli(*line, "--at", "collected", *options)

    def read(self, token: str) -> dict[str, Any]:
        """What another library reads, by the public key only."""
        public = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        members: dict[str, Any] = json.loads(
            jws.deserialize_compact(token, ECKey.import_key(public), algorithms=["ES256"]).payload
        )
        return members


@pytest.fixture
def bench(tmp_path: Path, testdata: Path, cli: Any) -> Bench:
    return Bench(tmp_path, testdata, cli)


def test_the_verdict_can_be_handed_on(bench: Bench) -> None:
    before = int(time.time())
    result = bench.token("--issuer", "auditor.example", "--seconds", "60")
    assert result.code == 0, result.err
    members = bench.read(result.out.strip())
    assert members["iss"] == "auditor.example"
    assert before <= members["iat"] <= int(time.time())
    assert members["exp"] == members["iat"] + 60
    assert members["strongroom.appraised-at"] == bench.now
    cpu = members["submods"]["cpu0"]
    assert cpu["ear.status"] == "affirming"
    assert cpu["ear.appraisal-policy-id"] == Policy.load(bench.policy).digest
    shown = cpu["ear.veraison.annotated-evidence"]
    assert shown["tdx"]["body"]["mr_td"] in bench.policy.read_text()
    assert shown["runtime_data_claims"] == {}  # nobody finds a key in it to release anything to


def test_for_machines(bench: Bench) -> None:
    members = bench.token("--json").json
    assert (members["status"], members["simulated"]) == ("affirming", False)
    assert members["appraised_at"] == bench.now
    assert bench.read(members["token"])["exp"] == members["expires"]


def test_two_tokens_are_never_one(bench: Bench) -> None:
    first, second = (bench.read(bench.token().out.strip())["jti"] for _ in range(2))
    assert first != second


def test_what_is_refused_gets_no_token(bench: Bench) -> None:
    bench.policy.write_text(bench.policy.read_text().replace('"UpToDate"', '"OutOfDate"'))
    result = bench.token("--json")
    assert (result.code, result.out, result.error["code"]) == (3, "", "policy-tcb-status")
    bench.write(Evidence(EvidenceKind.TDX, bench.evidence.quote[:-1], bench.evidence.collateral))
    assert bench.token("--json").code == 3
    late = bench.token("--at", "2050-01-01T00:00:00Z", "--json")
    assert (late.code, late.out) == (3, "")


def test_simulated_evidence_is_contraindicated_whatever_the_policy_says(bench: Bench) -> None:
    platform = NitroPlatform.create(bench.now)
    payload = platform.payload({number: bytes([number + 1]) * 48 for number in range(3)}, None, bench.now)
    bench.write(Evidence(EvidenceKind.NITRO, platform.document(payload)))
    line = ["policy", "init", bench.file, "-o", bench.policy, "--allow-simulated"]
    assert bench.cli(*line).code == 0
    members = bench.token("--json").json
    assert (members["status"], members["simulated"]) == ("contraindicated", True)


def test_a_key_that_others_can_read_signs_nothing(bench: Bench) -> None:
    bench.key_file.chmod(0o640)
    result = bench.token("--json")
    assert (result.out, result.error["code"]) == ("", "key-file-exposed")


def test_a_key_that_is_none_signs_nothing(bench: Bench) -> None:
    bench.key_file.write_bytes(b"no key")
    result = bench.token("--json")
    assert (result.code, result.out, result.error["code"]) == (2, "", "token-key-unusable")
