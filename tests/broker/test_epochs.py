"""Epochs: minted, honoured for a grace period, then gone, with nothing of them left in any file."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation.keyset import Keyset
from strongroom.broker import admin, epochs, registry
from strongroom.broker.keyring import KeyRing
from strongroom.broker.release_forms import MAX_EPOCHS
from strongroom.broker.store import Store
from strongroom.broker.wrap import WrappingKey
from strongroom.crypto.hpke import Aead, Kem
from strongroom.errors import BrokerError


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def listed(rig: Any) -> list[int]:
    return [record.epoch for record in admin.epochs(rig.store, "pictures")]


def load(rig: Any, number: int) -> Any:
    with rig.store.read() as db:
        (record,) = [r for r in epochs.listed(db, "pictures") if r.epoch == number]
        return epochs.load(rig.store, db, record)


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def spellings(secret: bytes) -> list[bytes]:
    return [
        secret,
        base64.urlsafe_b64encode(secret).rstrip(b"="),
        base64.b64encode(secret),
        secret.hex().encode(),
    ]


def test_the_first_registration_mints_epoch_one(rig) -> None:
    (record,) = admin.epochs(rig.store, "pictures")
    now = int(rig.clock())
    keyset = Keyset.parse(record.keyset)
    assert (record.epoch, keyset.epoch, keyset.service) == (1, 1, "pictures")
    assert (keyset.not_before, keyset.not_after) == (now - epochs.CLOCK_SKEW, now + admin.DEFAULT_LIFETIME)
    assert (record.minted, record.honoured_until) == (now, keyset.not_after)
    assert keyset.key_custodian == "Example Bank"
    assert keyset.suites[0] == "MLKEM768-X25519/HKDF-SHA256/AES-256-GCM"


def test_each_epoch_has_a_hybrid_and_a_classical_key_under_identifiers_of_its_own(rig) -> None:
    admin.rotate(rig.store, "pictures")
    for number in (1, 2):
        keys = load(rig, number).keys
        assert [(key.config.key_id, key.config.kem) for key in keys] == [
            (2 * number, Kem.MLKEM768_X25519),
            (2 * number + 1, Kem.X25519_HKDF_SHA256),
        ]
        assert {key.config.suites[0] for key in keys} == {(1, Aead.AES_256_GCM)}


def test_identifiers_wrap_around(rig) -> None:
    with rig.store.write() as db:
        record = registry.service(db, "pictures")
        db.execute("UPDATE services SET last_epoch = 127")
    assert record.last_epoch == 1
    assert admin.rotate(rig.store, "pictures") == 128
    assert [key.config.key_id for key in load(rig, 128).keys] == [0, 1]


def test_every_epoch_has_keys_of_its_own(rig) -> None:
    admin.rotate(rig.store, "pictures")
    raw = [key.private_key.raw() for number in (1, 2) for key in load(rig, number).keys]
    assert len(set(raw)) == 4


def test_the_broker_signs_the_keyset(rig) -> None:
    epoch = load(rig, 1)
    assert epoch.signed.verify(rig.broker_key) == epoch.keyset


def test_rotation_honours_the_old_epoch_for_its_grace_only(rig) -> None:
    assert admin.rotate(rig.store, "pictures", grace=100) == 2
    now = int(rig.clock())
    with rig.store.read() as db:
        assert [record.epoch for record in epochs.honoured(db, "pictures", now + 99)] == [2, 1]
        assert [record.epoch for record in epochs.honoured(db, "pictures", now + 100)] == [2]
    assert epochs.delete_expired(rig.store, now + 99) == []
    assert epochs.delete_expired(rig.store, now + 100) == [("pictures", 1)]
    assert listed(rig) == [2]


def test_rotation_without_grace_deletes_at_once(rig) -> None:
    assert admin.rotate(rig.store, "pictures", grace=0) == 2
    assert listed(rig) == [2]


def test_a_later_rotation_never_prolongs_an_older_epoch(rig) -> None:
    admin.rotate(rig.store, "pictures", grace=50)
    rig.clock.turn(10)
    admin.rotate(rig.store, "pictures", grace=3600)
    first, second = admin.epochs(rig.store, "pictures")[::-1][:2]
    assert first.honoured_until == int(rig.clock()) + 40
    assert second.honoured_until == int(rig.clock()) + 3600


def test_a_grace_that_is_left_out_is_the_services_own(rig) -> None:
    admin.rotate(rig.store, "pictures")
    assert admin.epochs(rig.store, "pictures")[1].honoured_until == int(rig.clock()) + admin.DEFAULT_GRACE


def test_epochs_count_on_after_deletion(rig) -> None:
    for expected in (2, 3, 4):
        assert admin.rotate(rig.store, "pictures", grace=0) == expected
    assert listed(rig) == [4]


def test_the_number_of_honoured_epochs_is_bounded(rig, refused) -> None:
    for _ in range(MAX_EPOCHS - 1):
        admin.rotate(rig.store, "pictures", grace=1000)
    with refused("epochs-full"):
        admin.rotate(rig.store, "pictures", grace=1000)
    assert listed(rig) == list(range(MAX_EPOCHS, 0, -1))
    assert (
        admin.rotate(rig.store, "pictures", grace=0) == MAX_EPOCHS + 1
    )  # a compromise must not have to wait
    assert listed(rig) == [MAX_EPOCHS + 1]


def test_a_service_is_rotated_when_a_quarter_of_its_epoch_is_left(rig) -> None:
    due = int(rig.clock()) + admin.DEFAULT_LIFETIME * 3 // 4
    assert epochs.rotate_due(rig.store, due) == []
    assert epochs.rotate_due(rig.store, due + 1) == [("pictures", 2)]
    assert epochs.rotate_due(rig.store, due + 1) == []


def test_a_service_that_cannot_rotate_keeps_no_other_from_it(rig, caplog) -> None:
    admin.register_service(rig.store, "albums", rig.policy_text, ["default/model/lite0"], "Example Bank")
    with rig.store.write() as db:
        db.execute("UPDATE services SET policy = 'broken' WHERE name = 'albums'")
    due = int(rig.clock()) + admin.DEFAULT_LIFETIME
    assert epochs.rotate_due(rig.store, due) == [("pictures", 2)]
    assert "service albums gets no new epoch" in caplog.text


def test_a_service_that_has_lost_all_epochs_gets_a_new_one(rig) -> None:
    later = int(rig.clock()) + 2 * admin.DEFAULT_LIFETIME
    assert epochs.rotate_due(rig.store, later) == [("pictures", 2)]
    assert epochs.delete_expired(rig.store, later) == [("pictures", 1)]
    assert listed(rig) == [2]


def test_minting_and_deleting_are_logged(rig) -> None:
    admin.rotate(rig.store, "pictures", grace=0)
    minted, deleted = list(admin.log_entries(rig.store))[-2:]
    assert (minted["event"], minted["epoch"], minted["grace"]) == ("epoch-minted", 2, 0)
    assert minted["keyset"] == load(rig, 2).keyset.digest()
    assert (deleted["event"], deleted["service"], deleted["epoch"]) == ("epoch-deleted", "pictures", 1)


# What the files tell. With PostgreSQL: test_stolen.py.


@pytest.mark.parametrize("backend", ["sqlite"])
def test_no_file_ever_holds_a_private_key_and_a_deleted_epoch_leaves_nothing(rig) -> None:
    folder = rig.folder
    epoch = load(rig, 1)
    secrets = [key.private_key.raw() for key in epoch.keys]
    (key_file,) = (folder / "epochs").iterdir()
    wrapped_key = key_file.read_bytes()
    with rig.store.read() as db:
        (wrapped_secrets,) = db.execute("SELECT wrapped FROM epochs").fetchone()
    before = all_bytes(folder)
    for secret in secrets:
        assert not any(spelling in before for spelling in spellings(secret))
    assert wrapped_key in before  # the search finds what is there
    assert wrapped_secrets in before

    admin.rotate(rig.store, "pictures", grace=60)
    rig.clock.turn(60)
    assert epochs.delete_expired(rig.store, int(rig.clock())) == [("pictures", 1)]

    after = all_bytes(folder)
    for secret in secrets:
        assert not any(spelling in after for spelling in spellings(secret))
    assert wrapped_secrets not in after
    assert wrapped_key not in after
    for at in range(0, len(wrapped_secrets) - 16, 16):  # not even parts of it, in free pages
        assert wrapped_secrets[at : at + 16] not in after
    assert (folder / "store.db-wal").stat().st_size == 0
    assert not key_file.exists()
    assert len(list((folder / "epochs").iterdir())) == 1


@pytest.mark.parametrize("backend", ["sqlite"])
def test_an_old_copy_of_the_database_and_the_root_key_do_not_open_a_deleted_epoch(
    rig, tmp_path: Path
) -> None:
    """What a backup without epochs/ holds, and a root key stolen later."""
    rig.store.checkpoint()
    backup = (rig.folder / "store.db").read_bytes()
    secrets = [key.private_key.raw() for key in load(rig, 1).keys]
    with rig.store.read() as db:
        (wrapped,) = db.execute("SELECT wrapped FROM epochs").fetchone()
    admin.rotate(rig.store, "pictures", grace=0)
    ring = KeyRing.of(rig.store.root.data_keys())
    assert wrapped in backup
    for secret in secrets:
        assert secret not in backup
    for raw in (*rig.store.root.data_keys().values(), (rig.folder / "root.key").read_bytes()):
        with pytest.raises(BrokerError) as caught:
            WrappingKey(raw).unwrap(wrapped, "pictures/1")
        assert caught.value.code == "secret-unreadable"
    with pytest.raises(BrokerError):
        ring.unwrap(wrapped, "pictures/1")


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_stolen_store_without_the_root_key_opens_nothing(rig, tmp_path: Path, refused) -> None:
    stolen = tmp_path / "stolen"
    (stolen / "epochs").mkdir(parents=True, mode=0o700)
    stolen.chmod(0o700)
    rig.store.checkpoint()
    for path in rig.folder.rglob("*"):
        if path.is_file() and path.name != "root.key":
            target = stolen / path.relative_to(rig.folder)
            target.write_bytes(path.read_bytes())
            target.chmod(0o600)
    data = all_bytes(stolen)
    for secret in (
        rig.store.signing_key.raw(),
        rig.identity.encode(),
        *(key.private_key.raw() for key in load(rig, 1).keys),
    ):
        assert not any(spelling in data for spelling in spellings(secret))
    assert not re.search(rb"AGE-SECRET-KEY", data, re.IGNORECASE)
    with refused("store-unusable"):
        Store.open(stolen)
    (stolen / "root.key").write_bytes(os.urandom(32))
    (stolen / "root.key").chmod(0o600)
    with refused("root-key-wrong"):
        Store.open(stolen)


def test_a_key_file_of_another_epoch_does_not_open_this_one(rig, refused) -> None:
    admin.rotate(rig.store, "pictures")
    new, old = admin.epochs(rig.store, "pictures")
    path, other = (rig.store.epoch_key_path(record.key_file) for record in (new, old))
    path.write_bytes(other.read_bytes())
    with refused("secret-unreadable"):
        load(rig, 2)


def test_wrapped_secrets_cannot_change_places(rig, refused) -> None:
    admin.rotate(rig.store, "pictures")
    with rig.store.write() as db:
        db.execute("UPDATE epochs SET wrapped = (SELECT wrapped FROM epochs WHERE epoch = 1) WHERE epoch = 2")
    with refused("secret-unreadable"):
        load(rig, 2)


def test_a_key_file_that_others_can_read_is_refused(rig, refused) -> None:
    (path,) = (rig.folder / "epochs").iterdir()
    path.chmod(0o644)
    with refused("key-file-exposed"):
        load(rig, 1)


def test_an_epoch_that_is_gone_is_told(rig, refused) -> None:
    (record,) = admin.epochs(rig.store, "pictures")
    admin.rotate(rig.store, "pictures", grace=0)
    with rig.store.read() as db, refused("secret-unreadable"):
        epochs.load(rig.store, db, record)


def test_key_files_without_an_epoch_are_swept(rig) -> None:
    """A process that was killed between the file and the row."""
    folder = rig.folder / "epochs"
    (folder / "0123.key").write_bytes(b"left behind")
    (folder / ".4567.key.tmp").write_bytes(b"half written")
    assert epochs.delete_expired(rig.store, int(rig.clock())) == []
    assert len(list(folder.iterdir())) == 1
    assert load(rig, 1).epoch == 1


def test_a_rotation_that_fails_changes_nothing(rig, refused) -> None:
    before = listed(rig)
    folder = rig.folder / "epochs"
    (path,) = folder.iterdir()
    folder.rename(rig.folder / "away")
    with refused("store-unusable"):
        admin.rotate(rig.store, "pictures")
    (rig.folder / "away").rename(folder)
    assert listed(rig) == before
    assert path.exists()
    assert rig.last_entry()["event"] == "epoch-minted"
    assert rig.last_entry()["epoch"] == 1
