"""`strongroom tpm`: a software TPM of a maker of our own is enrolled, and nobody else can answer for it."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from soft_tpm import NEEDS_TPM, SoftTpm, manufacture, need_bindings
from strongroom.attestation.evidence_file import EvidenceFile

need_bindings()
pytestmark = NEEDS_TPM


class Machine:
    """A TPM with the certificate of its maker, whose chain is in `chain`."""

    def __init__(self, folder: Path) -> None:
        state, authority = folder / "state", folder / "authority"
        state.mkdir()
        authority.mkdir()
        manufacture(state, authority)
        self.chain = folder / "chain.pem"
        issuer, root = authority / "issuercert.pem", authority / "swtpm-localca-rootca-cert.pem"
        self.chain.write_bytes(issuer.read_bytes() + root.read_bytes())
        certificate = x509.load_pem_x509_certificate(root.read_bytes())
        self.root = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
        self.tpm = SoftTpm(state)

    @property
    def tcti(self) -> tuple[str, str]:
        return "--tcti", self.tpm.tcti


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("machine"))
    yield made
    made.tpm.stop()


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("other"))
    yield made
    made.tpm.stop()


def identify(cli: Any, machine: Machine, path: Path) -> Path:
    result = cli("tpm", "identify", *machine.tcti, "-o", path)
    assert result.code == 0, result.err
    return path


def test_a_tpm_is_enrolled_and_its_evidence_has_the_pinned_key(
    cli: Any, machine: Machine, tmp_path: Path
) -> None:
    identity = identify(cli, machine, tmp_path / "machine.json")
    asked, kept = tmp_path / "challenge.json", tmp_path / "kept.json"
    options = ("--chain", machine.chain, "-o", asked, "--keep", kept)
    result = cli("tpm", "challenge", identity, *options)
    assert result.code == 0, result.err
    assert f"root is sha256:{machine.root}" in result.out
    assert kept.stat().st_mode & 0o777 == 0o600
    answered = tmp_path / "answer.json"
    assert cli("tpm", "answer", asked, *machine.tcti, "-o", answered).code == 0
    accepted = cli("tpm", "accept", answered, "--kept", kept)
    assert accepted.code == 0, accepted.err
    found = cli("tpm", "accept", answered, "--kept", kept, "--json").json
    assert f'tpm_keys = ["{found["tpm_key"]}"]' in accepted.out
    evidence = tmp_path / "e.json"
    assert cli("evidence", "collect", "--kind", "tpm", *machine.tcti, "-o", evidence).code == 0
    quote = json.loads(EvidenceFile.parse(evidence.read_bytes()).evidence.quote)
    assert hashlib.sha256(b64decode(quote["ak_public"])).hexdigest() == found["tpm_key"]


def test_another_tpm_cannot_answer(cli: Any, machine: Machine, other: Machine, tmp_path: Path) -> None:
    identity = identify(cli, machine, tmp_path / "machine.json")
    asked, kept = tmp_path / "challenge.json", tmp_path / "kept.json"
    assert cli("tpm", "challenge", identity, "--chain", machine.chain, "-o", asked, "--keep", kept).code == 0
    result = cli("tpm", "answer", asked, *other.tcti, "-o", tmp_path / "answer.json", "--json")
    assert (result.code, result.error["code"]) == (1, "collector-failed")
    guess = {"type": "strongroom-tpm-answer/1", "secret": "A" * 43}
    (tmp_path / "answer.json").write_text(json.dumps(guess))
    refused = cli("tpm", "accept", tmp_path / "answer.json", "--kept", kept, "--json")
    assert (refused.code, refused.error["code"]) == (3, "evidence-key")


def test_the_key_of_another_machine_cannot_be_slipped_in(
    cli: Any, machine: Machine, other: Machine, tmp_path: Path
) -> None:
    """The challenge binds the name of the key: with another key in its place the TPM does not decrypt it."""
    honest = json.loads(identify(cli, machine, tmp_path / "machine.json").read_bytes())
    foreign = json.loads(identify(cli, other, tmp_path / "other.json").read_bytes())
    mixed, asked = tmp_path / "mixed.json", tmp_path / "challenge.json"
    mixed.write_text(json.dumps(honest | {"ak": foreign["ak"]}))
    options = ("--chain", machine.chain, "-o", asked, "--keep", tmp_path / "kept.json")
    assert cli("tpm", "challenge", mixed, *options).code == 0
    result = cli("tpm", "answer", asked, *machine.tcti, "-o", tmp_path / "answer.json", "--json")
    assert (result.code, result.error["code"]) == (1, "collector-failed")


def test_a_maker_that_is_not_trusted_gets_no_challenge(
    cli: Any, machine: Machine, other: Machine, tmp_path: Path
) -> None:
    identity = identify(cli, machine, tmp_path / "machine.json")
    files = ("-o", tmp_path / "challenge.json", "--keep", tmp_path / "kept.json")
    for options, code in (
        (("--chain", machine.chain, "--root", other.root), "evidence-untrusted-root"),
        (("--chain", other.chain), "evidence-chain"),
    ):
        result = cli("tpm", "challenge", identity, *options, *files, "--json")
        assert (result.code, result.error["code"]) == (3, code)
    assert not (tmp_path / "kept.json").exists()
    assert (
        cli("tpm", "challenge", identity, "--chain", machine.chain, "--root", machine.root, *files).code == 0
    )


def test_what_is_kept_is_never_overwritten(cli: Any, machine: Machine, tmp_path: Path) -> None:
    identity = identify(cli, machine, tmp_path / "machine.json")
    (tmp_path / "kept.json").write_text("of another machine")
    options = ("--chain", machine.chain, "-o", tmp_path / "challenge.json", "--keep", tmp_path / "kept.json")
    result = cli("tpm", "challenge", identity, *options, "--json")
    assert (result.code, result.error["code"]) == (2, "file-exists")
    assert (tmp_path / "kept.json").read_text() == "of another machine"


def test_a_tpm_without_a_certificate_is_named(cli: Any, tmp_path: Path) -> None:
    plain = SoftTpm(tmp_path)
    try:
        result = cli("tpm", "identify", "--tcti", plain.tcti, "-o", tmp_path / "machine.json", "--json")
    finally:
        plain.stop()
    assert (result.code, result.error["code"]) == (4, "collector-absent")
    assert "no NV index 0x1c00002" in result.err


def test_files_that_are_something_else(cli: Any, machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"type": "something-else"}')
    path.chmod(0o600)
    options = ("--chain", machine.chain, "-o", tmp_path / "c", "--keep", tmp_path / "k", "--json")
    assert cli("tpm", "challenge", path, *options).error["code"] == "evidence-malformed"
    answer = cli("tpm", "answer", path, *machine.tcti, "-o", tmp_path / "a", "--json")
    assert answer.error["code"] == "evidence-malformed"
    assert cli("tpm", "accept", path, "--kept", path, "--json").error["code"] == "evidence-malformed"
    path.chmod(0o644)
    assert cli("tpm", "accept", path, "--kept", path, "--json").error["code"] == "key-file-exposed"
    wrong = cli(
        "tpm", "challenge", path, "--chain", path, "-o", tmp_path / "c", "--keep", tmp_path / "k", "--json"
    )
    assert (wrong.code, wrong.error["code"]) == (2, "file-unreadable")
