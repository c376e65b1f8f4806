"""`strongroom keys` on a broker's store."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.policy_text import render_policy
from strongroom.broker import admin
from strongroom.broker.store import Store
from strongroom.crypto import agefile

POLICY = render_policy(
    kinds=[EvidenceKind.SGX],
    measurements={EvidenceKind.SGX: ["00" * 32]},
    allow_simulated=True,
    simulated_roots=["11" * 32],
)


@pytest.fixture
def services(home: Path) -> Path:
    """A store with the services `default` and `pictures`."""
    with Store.open(home / "broker") as store:
        admin.register_model(
            store,
            resource="default/model/echo",
            name="echo",
            version="1",
            manifest_digest="sha256:" + "1" * 64,
            sealed_sha256=hashlib.sha256(b"").hexdigest(),
            identity=agefile.generate_identity(),
        )
        for service in ("default", "pictures"):
            admin.register_service(store, service, POLICY, ["default/model/echo"], "a test", grace=1000)
    return home


def epochs(cli, *options: object) -> dict[int, float]:
    """Epochs and the seconds from now until which they are honoured."""
    rows = cli("keys", "list", "--json", *options).json["epochs"]
    return {row["epoch"]: row["honoured_until"] - time.time() for row in rows}


def test_a_rotation_begins_an_epoch(cli, services: Path) -> None:
    result = cli("keys", "rotate")
    assert (result.code, result.out, result.err) == (0, "Service default is in epoch 2.\n", "")
    assert list(epochs(cli)) == [2, 1]
    assert list(epochs(cli, "--service", "pictures")) == [1], "the other service is left alone"


def test_older_epochs_are_honoured_for_the_grace(cli, services: Path) -> None:
    cli("keys", "rotate", "--grace", "100")
    found = epochs(cli)
    assert 80 < found[1] <= 100
    assert found[2] > 86400


def test_without_a_grace_the_services_own_holds(cli, services: Path) -> None:
    cli("keys", "rotate")
    assert 980 < epochs(cli)[1] <= 1000


def test_no_grace_deletes_the_older_ones_at_once(cli, services: Path) -> None:
    cli("keys", "rotate", "--grace", "100")
    result = cli("keys", "rotate", "--grace", "0", "--json")
    assert result.json == {"service": "default", "epoch": 3}
    assert list(epochs(cli)) == [3]
    assert len(list((services / "broker" / "epochs").iterdir())) == 2  # one of each service


def test_another_service_by_name(cli, services: Path) -> None:
    assert cli("keys", "rotate", "--service", "pictures").out == "Service pictures is in epoch 2.\n"
    assert list(epochs(cli, "--service", "pictures")) == [2, 1]
    assert list(epochs(cli)) == [1]


def test_the_list_for_people(cli, services: Path) -> None:
    cli("keys", "rotate", "--grace", "100")
    result = cli("keys", "list")
    first, second = result.out.splitlines()
    assert first.startswith("default epoch 2, honoured until ")
    until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(time.time() + 95))
    assert second.startswith(f"default epoch 1, honoured until {until}"[:-1])
    assert second.endswith(" UTC")


def test_the_list_for_machines_has_times(cli, services: Path) -> None:
    [row] = cli("keys", "list", "--json").json["epochs"]
    assert set(row) == {"epoch", "minted", "honoured_until"}
    assert abs(row["minted"] - time.time()) < 60


def test_home_comes_before_the_environment(cli, services: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRONGROOM_HOME", "/nonexistent")
    assert list(epochs(cli, "--home", services)) == [1]


@pytest.mark.parametrize("command", ["rotate", "list"])
def test_an_unknown_service_is_an_error(cli, services: Path, command: str) -> None:
    result = cli("keys", command, "--service", "other", "--json")
    assert result.code > 0
    assert result.out == ""
    assert result.error["code"] == "service-unknown"


def test_a_grace_longer_than_a_keysets_life_is_refused(cli, services: Path) -> None:
    result = cli("keys", "rotate", "--grace", 10**9, "--json")
    assert result.error["code"] == "service-invalid"
    assert list(epochs(cli)) == [1]


def test_every_rotation_is_in_the_log(cli, services: Path) -> None:
    cli("keys", "rotate")
    with Store.open(services / "broker") as store:
        minted = [entry for entry in admin.log_entries(store) if entry["event"] == "epoch-minted"]
    assert [(entry["service"], entry["epoch"]) for entry in minted] == [
        ("default", 1),
        ("pictures", 1),
        ("default", 2),
    ]


# Another store than the one in the state folder.


CONFIG = """
service = "default"
[queue]
url = "unix:///nonexistent/queue.sock"
[broker]
url = "http://127.0.0.1:8471"
key = "ed25519:AAAA"
store = "{store}"
"""


@pytest.fixture
def config(services: Path, tmp_path: Path) -> Path:
    """A configuration whose broker has a store of its own place."""
    (services / "broker").rename(tmp_path / "elsewhere")
    path = tmp_path / "strongroom.toml"
    path.write_text(CONFIG.format(store=tmp_path / "elsewhere"))
    return path


def test_the_store_of_a_configuration(cli, config: Path) -> None:
    assert cli("keys", "rotate", "--config", config, "--json").json == {"service": "default", "epoch": 2}
    assert list(epochs(cli, "--config", config)) == [2, 1]
    assert cli("keys", "list", "--json").error["code"] == "service-unknown"


@pytest.mark.parametrize("command", ["rotate", "list", "rotate-root", "backup", "restore"])
def test_two_stores_at_once_are_none(cli, config: Path, tmp_path: Path, command: str) -> None:
    arguments = {
        "backup": [tmp_path / "b"],
        "restore": [tmp_path / "b", "--share", tmp_path / "s"],
    }.get(command, [])
    result = cli("keys", command, *arguments, "--config", config, "--home", tmp_path, "--json")
    assert (result.code, result.error["code"]) == (2, "option-invalid")


# The root key.


def test_a_rotation_of_the_root(cli, services: Path) -> None:
    result = cli("keys", "rotate-root")
    assert result.code == 0
    assert result.out.startswith("Data key version 2, guarded by file:")
    with Store.open(services / "broker") as store:
        assert store.root.data_keys().keys() == {2}
    shown = cli("keys", "rotate-root", "--json").json
    assert (shown["version"], shown["dropped"]) == (3, [])


def test_a_change_of_the_root_key(cli, config: Path, tmp_path: Path) -> None:
    """From root.key in the folder to another file: the old one is named, to be destroyed."""
    old = tmp_path / "elsewhere" / "root.key"
    new = tmp_path / "new.key"
    new.write_bytes(bytes(range(32)))
    new.chmod(0o600)
    tables = (
        f'[broker.root]\nkind = "file"\npath = "{new}"\n[broker.old_root]\nkind = "file"\npath = "{old}"\n'
    )
    config.write_text(config.read_text() + tables)
    result = cli("keys", "rotate-root", "--config", config)
    assert result.code == 0
    first, second = result.out.splitlines()
    assert second.startswith("file:")
    assert second.endswith("opens nothing in this store any more: destroy it.")
    assert second.split()[0] not in first
    old.unlink()
    config.write_text(config.read_text().partition("[broker.old_root]")[0])
    assert list(epochs(cli, "--config", config)) == [1]


# Backups.


def test_a_backup_and_its_return(cli, services: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.backup"
    made = cli("keys", "backup", file, "--shares", "3", "--threshold", "2", "--json").json
    assert (made["file"], made["threshold"], len(made["shares"])) == (str(file), 2, 3)
    assert file.stat().st_mode & 0o777 == 0o600
    papers = [tmp_path / f"{number}.txt" for number in range(3)]
    for paper, share in zip(papers, made["shares"], strict=True):
        paper.write_text(share + "\n")
    other = tmp_path / "other"
    one = cli("keys", "restore", file, "--share", papers[2], "--home", other, "--json")
    assert one.error["code"] == "shares-missing"
    result = cli("keys", "restore", file, "--share", papers[2], "--share", papers[0], "--home", other)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Restored {file}.")
    with Store.open(other / "broker") as store, Store.open(services / "broker") as before:
        assert admin.signing_key_text(store) == admin.signing_key_text(before)
        assert [service.name for service in admin.services(store)] == ["default", "pictures"]
    again = cli(
        "keys", "restore", file, "--share", papers[2], "--share", papers[0], "--home", other, "--json"
    )
    assert again.error["code"] == "store-not-empty"


def test_the_shares_are_shown_to_people(cli, services: Path, tmp_path: Path) -> None:
    result = cli("keys", "backup", tmp_path / "b")
    assert "Any 3 of these 5 shares open it; fewer tell nothing." in result.out
    assert [f"Share {number} of 5:" in result.out for number in range(1, 7)] == [True] * 5 + [False]
    words = [line for line in result.out.splitlines() if len(line.split()) == 33]
    assert len(words) == 5
    assert not any(word in (tmp_path / "b").read_bytes().decode("latin-1") for word in words)


def test_a_file_that_is_there_is_not_overwritten(cli, services: Path, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    result = cli("keys", "backup", tmp_path / "b", "--json")
    assert (result.code, result.out, json.loads(result.err)["error"]["code"]) == (2, "", "file-exists")
    assert (tmp_path / "b").read_text() == "mine"


def test_files_that_cannot_be_read(cli, services: Path, tmp_path: Path) -> None:
    cli("keys", "backup", tmp_path / "b")
    (tmp_path / "long").write_bytes(bytes(5000))
    for file, share in (
        (tmp_path / "none", tmp_path / "long"),
        (tmp_path / "b", tmp_path / "none"),
        (tmp_path / "b", tmp_path / "long"),
    ):
        result = cli("keys", "restore", file, "--share", share, "--home", tmp_path / "new", "--json")
        assert result.error["code"] == "file-unreadable"
