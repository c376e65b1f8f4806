"""`strongroom keys` on a broker's store."""

from __future__ import annotations

import hashlib
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
