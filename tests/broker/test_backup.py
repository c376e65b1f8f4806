"""Backups: all of a store but its epochs, for whoever has enough shares, and for nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mutants import mutants
from strongroom.broker import admin, backup, epochs, shares
from strongroom.broker.kbs import KeyBroker
from strongroom.broker.log import verify_log
from strongroom.broker.release import open_service_key
from strongroom.broker.store import TABLES
from strongroom.errors import StrongroomError


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def made(rig) -> backup.Backup:
    admin.rotate(rig.store, "pictures", grace=100)
    rig.store.secret("x", lambda: b"made once")
    return backup.make(rig.store, threshold=2, count=3)


def restored(rig: Any, place: Any) -> Any:
    """The rig on another store, as after a restart."""
    rig.store.close()
    rig.store = place.open(now=rig.clock)
    rig.reopen()
    return rig.store


def test_a_restored_store_serves_again(rig, made: backup.Backup, place) -> None:
    before = admin.signing_key_text(rig.store)
    target = place("new")
    with target.open(now=rig.clock) as empty:
        backup.restore(empty, made.data, made.shares[1:])
    store = restored(rig, target)
    assert admin.signing_key_text(store) == before
    assert store.secret("x", lambda: b"made twice") == b"made once"
    assert admin.models(store)[0].resource == "default/model/lite0"
    assert admin.epochs(store, "pictures") == []
    rig.broker.maintain()
    worker = rig.attester().attest()
    assert worker.fetch("default/model/lite0")
    (epoch,) = open_service_key(
        worker.fetch("pictures/service-key/current"), rig.broker_key, worker.recipient, "pictures"
    )
    assert epoch.epoch == 2 + backup.EPOCH_STEP + 1, "no number that may have been given since comes again"
    verify_log(store)
    events = [entry["event"] for entry in admin.log_entries(store)]
    assert "backup-made" in events
    assert "store-restored" in events


def test_a_store_moves_from_one_database_to_the_other(rig, made: backup.Backup, tmp_path, postgres) -> None:
    folder = tmp_path / "moved"
    if rig.place.server is None:
        name = postgres.take()
        target = type(rig.place)(folder, postgres, name)
    else:
        target = type(rig.place)(folder)
    with target.open(now=rig.clock) as empty:
        backup.restore(empty, made.data, made.shares[:2])
    with target.open(now=rig.clock) as store:
        assert admin.signing_key_text(store) == admin.signing_key_text(rig.store)
        verify_log(store)
    if target.server is not None:
        target.server.give_back(target.database)


def test_a_backup_has_no_epoch_in_it(rig, made: backup.Backup) -> None:
    with rig.store.read() as db:
        seeds = [epochs.load(rig.store, db, record).keys for record in epochs.listed(db, "pictures")]
        wrapped = [row[0] for row in db.execute("SELECT wrapped FROM epochs")]
    of = json.loads(made.data.split(b"\n", 1)[0])
    key = shares.combine(made.shares, shares.ShareSet(of["set"], of["threshold"], of["shares"]))
    content = backup._open(key, made.data)
    assert set(content["tables"]) == set(TABLES) - {"epochs", "roots", "store"}
    text = json.dumps(content)
    for value in [*wrapped, *(key.private_key.raw() for keys in seeds for key in keys)]:
        assert backup.b64.encode_url(value) not in text


def test_the_file_tells_nothing_without_the_shares(rig, made: backup.Backup, place, refused) -> None:
    for secret in (rig.identity.encode(), rig.store.signing_key.raw(), *rig.store.root.data_keys().values()):
        assert secret not in made.data
        assert secret.hex().encode() not in made.data
        assert backup.b64.encode_url(secret).encode() not in made.data
    with place("new").open(now=rig.clock) as empty:
        with refused("shares-missing"):
            backup.restore(empty, made.data, made.shares[:1])
        other = backup.make(rig.store, threshold=2, count=3)
        with refused("share-invalid"):
            backup.restore(empty, made.data, [made.shares[0], other.shares[1]])
        assert admin.services(empty) == []


def test_a_changed_backup_is_refused_and_changes_nothing(rig, made: backup.Backup, place) -> None:
    codes = set()
    with place("new").open(now=rig.clock) as empty:
        before = admin.signing_key_text(empty)
        step = len(made.data) // 97
        changed = [
            made.data[:at] + bytes([made.data[at] ^ 1]) + made.data[at + 1 :]
            for at in range(0, len(made.data), step)
        ]
        for data in [b"", b"\n", made.data[:100], made.data[:-1], made.data + b"\0", b"x" * 5000, *changed]:
            with pytest.raises(StrongroomError) as caught:
                backup.restore(empty, data, made.shares)
            codes.add(caught.value.code)
        assert admin.services(empty) == []
        assert admin.signing_key_text(empty) == before
    assert codes <= {"backup-invalid", "share-invalid", "shares-missing"}


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_header_that_is_mutated(rig, made: backup.Backup, place) -> None:
    header, rest = made.data.split(b"\n", 1)
    encode = lambda value: json.dumps(value).encode()  # noqa: E731
    outcomes = set()
    with place("new").open(now=rig.clock) as empty:
        for mutant in mutants(json.loads(header), encode, 200, 18):
            if mutant == header:
                continue
            try:
                backup.restore(empty, mutant + b"\n" + rest, made.shares)
            except StrongroomError as error:
                outcomes.add(error.code)
            else:
                pytest.fail(f"accepted: {mutant!r}")
    assert outcomes <= {"backup-invalid", "share-invalid", "shares-missing"}


def test_only_an_empty_store_is_filled(rig, made: backup.Backup, refused) -> None:
    size = len(list(admin.log_entries(rig.store)))
    with refused("store-not-empty"):
        backup.restore(rig.store, made.data, made.shares)
    assert len(list(admin.log_entries(rig.store))) == size
    assert KeyBroker(rig.store, now=rig.clock).policy("pictures") == rig.policy_text


def test_numbers_that_make_no_sense_write_no_entry(rig, refused) -> None:
    size = len(list(admin.log_entries(rig.store)))
    with refused("shares-invalid"):
        backup.make(rig.store, threshold=4, count=3)
    assert len(list(admin.log_entries(rig.store))) == size
