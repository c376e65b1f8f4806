"""`strongroom admin`: a bank's way from a tenant to an approved model, on the machine and over TLS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.policy_text import render_policy
from strongroom.broker import admin_server
from strongroom.broker.admin_auth import of_certificate
from strongroom.broker.store import Store
from strongroom.config import AdminConfig
from strongroom.models.bundle import describe_files, write_bundle
from strongroom.models.manifest import Manifest, TensorSpec
from tls_files import Authority, Files

POLICY = render_policy(kinds=[EvidenceKind.SGX], measurements={EvidenceKind.SGX: ["00" * 32]})
RESOURCE = "bank/model/credit"


class Bank:
    """A broker with its administration, and certificates of people."""

    def __init__(self, folder: Path, cli: Callable[..., Any], bundle: Path) -> None:
        self.authority = Authority(folder / "tls")
        self.server = self.authority.issue("broker", server=True)
        self.people = {name: self.authority.issue(name) for name in ("alice", "bob", "carol")}
        self.folder, self.cli, self.bundle = folder, cli, bundle
        self.url = ""
        self.policy = folder / "policy.toml"
        self.policy.write_text(POLICY)

    def name(self, person: str) -> str:
        return of_certificate(self.people[person].der).text

    def as_(self, person: str, *arguments: object) -> Any:
        """A command of a person elsewhere."""
        files: Files = self.people[person]
        where = ("--broker", self.url, "--ca", self.authority.file)
        own = ("--certificate", files.certificate, "--key", files.key)
        return self.cli("admin", *where, *own, *arguments)


@pytest.fixture
def bank(cli, home: Path, tmp_path: Path, bundle: Path) -> Iterator[Bank]:
    made = Bank(tmp_path, cli, bundle)
    assert cli("admin", "tenant", "bank", "--administrator", made.name("alice")).code == 0
    config = AdminConfig(
        "127.0.0.1:0", str(made.server.certificate), str(made.server.key), str(made.authority.file)
    )
    with (
        Store.open(home / "broker") as store,
        admin_server.serving(store, config, lambda _: None) as where,
    ):
        made.url = f"https://{where}"
        yield made


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that nobody runs."""
    files = {"model.xml": b"<net/>"}
    spec = (TensorSpec("x", "FP32", (-1, 4)),)
    manifest = Manifest(
        name="credit", version="1", runtime="openvino", files=describe_files(files), inputs=spec, outputs=spec
    )
    path = tmp_path / "credit.model"
    path.write_bytes(write_bundle(manifest, files))
    return path


def test_from_a_tenant_to_an_approved_model(bank: Bank, cli) -> None:
    sealed = bank.folder / "credit.sealed"
    approvers = [part for who in ("bob", "carol") for part in ("--approver", bank.name(who))]
    options = ("--resource", RESOURCE, *approvers, "--approvals", "2")
    result = bank.as_("alice", "seal", bank.bundle, "-o", sealed, *options)
    assert (result.code, result.err) == (0, "")
    assert sealed.read_bytes().startswith(b"age-encryption.org/v1")
    assert bank.as_(
        "alice",
        "service",
        "loans",
        "--tenant",
        "bank",
        "--policy",
        bank.policy,
        "--model",
        RESOURCE,
        "--custodian",
        "Example Bank",
    ).out.startswith("Service loans is in epoch 1. Broker key: ed25519+mldsa65:")
    seen = bank.as_("bob", "statement", RESOURCE, "loans", "--json").json
    assert (seen["needed"], seen["approved"]) == (2, [])
    for who in ("bob", "carol"):
        assert bank.as_(who, "approve", RESOURCE, "loans", "--statement", seen["digest"]).code == 0
    shown = bank.as_("carol", "statement", RESOURCE, "loans").out
    assert "Approved by 2 of 2; 2 needed." in shown
    assert f"digest          {seen['digest']}" in shown
    assert "Approved by 1 of 2" in bank.as_("bob", "withdraw", RESOURCE, "loans").out

    listed = cli("admin", "list").out
    assert "You are operator." in listed
    assert f"  administrator  {bank.name('alice')}" in listed
    assert "  service  loans  epoch 1  bank/model/credit" in listed
    assert "  model  kbs:///bank/model/credit  version 1  2 of 2 approvals" in listed
    assert bank.as_("bob", "list").out == f"You are {bank.name('bob')}.\n"

    assert bank.as_("alice", "rotate", "loans").out == "Service loans is in epoch 2.\n"
    granted = bank.as_("alice", "grant", RESOURCE, "--tenant", "default").out
    assert granted == "bank/model/credit is granted to default.\n"
    assert "granted to default" in cli("admin", "list").out
    assert bank.as_("alice", "grant", RESOURCE, "--tenant", "default", "--withdraw").out == (
        "bank/model/credit is granted to nobody.\n"
    )
    assert bank.as_("alice", "revoke-model", RESOURCE).out == "bank/model/credit is revoked.\n"
    assert bank.as_("alice", "revoke-service", "loans").code == 0
    listed = bank.as_("alice", "list").out
    assert "  service  loans  revoked" in listed
    assert listed.endswith("  revoked\n")


def test_who_may_not_is_refused_with_3(bank: Bank) -> None:
    for arguments in (
        ("tenant", "bank"),
        ("revoke-service", "loans"),
        ("approve", RESOURCE, "loans", "--statement", "sha256:0"),
    ):
        result = bank.as_("carol", *arguments)
        assert result.code == 3
        assert "admin-forbidden" in result.err


def test_a_key_that_the_broker_refuses_leaves_no_sealed_file(bank: Bank) -> None:
    sealed = bank.folder / "credit.sealed"
    result = bank.as_("bob", "seal", bank.bundle, "-o", sealed, "--resource", RESOURCE)
    assert result.code == 3
    assert list(bank.folder.glob("*.sealed*")) == []


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--ca", "x"), "option-invalid"),
        (("--token", "x"), "option-invalid"),
        (("--broker", "https://127.0.0.1:1", "--home", "x"), "option-invalid"),
        (("--broker", "https://127.0.0.1:1", "--token", "/none"), "file-unreadable"),
        (("--broker", "http://127.0.0.1:1"), "admin-request-invalid"),
    ],
)
def test_options_that_do_not_go_together(cli, options: tuple[str, ...], code: str) -> None:
    result = cli("admin", *options, "list", "--json")
    assert (result.code, result.error["code"]) == (2, code)


def test_nobody_there_is_4(cli) -> None:
    result = cli("admin", "--broker", "https://127.0.0.1:1", "list", "--json")
    assert (result.code, result.error["code"]) == (4, "admin-unreachable")


def test_a_token_is_read_from_a_file(bank: Bank, cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """This broker has no issuer: without a certificate it does not even speak."""
    token = bank.folder / "token"
    token.write_text("abc\n")
    monkeypatch.setenv("STRONGROOM_ADMIN", bank.url)
    monkeypatch.setenv("STRONGROOM_ADMIN_CA", str(bank.authority.file))
    monkeypatch.setenv("STRONGROOM_ADMIN_TOKEN", str(token))
    assert cli("admin", "list").code == 4


def test_a_file_that_is_too_large_or_no_text(cli, home: Path, tmp_path: Path) -> None:
    for data in (b"x" * (256 * 1024 + 1), b"\xff"):
        path = tmp_path / "policy.toml"
        path.write_bytes(data)
        result = cli("admin", "service", "s", "--policy", path, "--model", "a/model/b", "--custodian", "c")
        assert (result.code, "file-unreadable" in result.err) == (2, True)


def test_a_secret_goes_to_the_broker_and_is_listed(bank: Bank, cli) -> None:
    source = bank.folder / "password"
    source.write_bytes(b"hunter2")
    options = ("bank/credential/database", "--from", source, "--policy", bank.policy)
    result = bank.as_("alice", "secret", *options)
    assert (result.code, result.out) == (0, "Registered kbs:///bank/credential/database.\n")
    assert "  secret  kbs:///bank/credential/database  version " in cli("admin", "list").out
    arguments = ("--tenant", "bank", "--policy", bank.policy, "--custodian", "Example Bank")
    assert bank.as_("alice", "service", "loans", *arguments, "--secret", "bank/credential/database").code == 0
    assert b"hunter2" not in result.out.encode() + result.err.encode()


def test_a_secret_that_is_too_long_or_not_there(bank: Bank) -> None:
    source = bank.folder / "password"
    source.write_bytes(b"x" * (64 * 1024 + 1))
    assert "admin-request-invalid" in bank.as_("alice", "secret", "bank/credential/x", "--from", source).err
    missing = bank.as_("alice", "secret", "bank/credential/x", "--from", bank.folder / "none")
    assert (missing.code, "file-unreadable" in missing.err) == (2, True)
