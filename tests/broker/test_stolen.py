"""What a stolen database tells: nothing that is secret, neither SQLite's files nor PostgreSQL's."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from strongroom.broker import admin, epochs, rotation
from strongroom.broker.rootkey import FileRootKey
from strongroom.broker.wrap import WrappingKey
from strongroom.errors import BrokerError


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def spellings(secret: bytes) -> set[bytes]:
    """Raw, hexadecimal in both cases, and base64 in both alphabets, at each of the three offsets."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # Without the characters at both ends that depend on the bytes before and after.
        found |= {encode(bytes(offset) + secret)[begin:-4] for offset, begin in ((0, 0), (1, 2), (2, 3))}
    return {spelling for spelling in found if len(spelling) >= 16}


def files_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def stolen(rig: Any) -> bytes:
    """All that lies on the disk of who keeps the database, and a dump; not the folder with the key files."""
    server = rig.place.server
    if server is None:
        return b"".join((rig.folder / name).read_bytes() for name in ("store.db", "store.db-wal"))
    server.execute(rig.place.database, "CHECKPOINT")
    return files_of(server.data) + b"".join(server.dump(rig.place.database).split(b"\n"))


def secrets_of(rig: Any) -> dict[str, bytes]:
    with rig.store.read() as db:
        loaded = [epochs.load(rig.store, db, record) for record in epochs.listed(db, "pictures")]
    keys = [key.private_key.raw() for epoch in loaded for key in epoch.keys]
    found = {f"service key {number}": key for number, key in enumerate(keys)}
    found |= {f"data key {version}": raw for version, raw in rig.store.root.data_keys().items()}
    found["root key"] = (rig.folder / "root.key").read_bytes()
    found["signing key"] = rig.store.signing_key.raw()
    found["own secret"] = rig.store.secret("canary", lambda: b"a canary in the store of the key broker")
    found["identity"] = rig.identity.encode()
    found["identity without its prefix"] = rig.identity.removeprefix("AGE-SECRET-KEY-1").encode()
    return found


def test_it_tells_no_secret(rig: Any) -> None:
    for _ in range(2):
        admin.rotate(rig.store, "pictures", grace=60)
    old = secrets_of(rig)
    rotation.rotate_root(rig.store)
    secrets = {**old, **{f"new {name}": secret for name, secret in secrets_of(rig).items()}}
    assert rig.attester().attest().fetch("pictures/service-key/current")
    data = stolen(rig)
    assert len(secrets) > 20
    for name, secret in secrets.items():
        assert not any(spelling in data for spelling in spellings(secret)), name


def test_the_search_finds_what_is_there(rig: Any) -> None:
    """The same search, for what no one keeps secret and for a secret that was put there in the clear."""
    canary = b"a canary that is kept in the clear, by mistake"
    rows = {
        "clear": canary,
        "hex": canary[::-1].hex().encode(),
        "base64": base64.b64encode(b"x" + canary.upper() + b"yz"),
    }
    with rig.store.write() as db:
        for row in rows.items():
            db.execute("INSERT INTO secrets VALUES (?, ?)", row)
    data = stolen(rig)
    for secret in (canary, canary[::-1], canary.upper(), b"pictures"):
        assert any(spelling in data for spelling in spellings(secret) | {secret})


def test_with_the_root_key_a_stolen_database_still_opens_no_deleted_epoch(rig: Any) -> None:
    """All that was ever in the database, root key and data keys: but not the epoch's own key file."""
    with rig.store.read() as db:
        (wrapped,) = db.execute("SELECT wrapped FROM epochs").fetchone()
    (key_file,) = rig.store.epoch_key_files()
    wrapped_key = key_file.read_bytes()
    old = stolen(rig)
    admin.rotate(rig.store, "pictures", grace=0)
    data = old + stolen(rig)
    assert wrapped in data
    assert wrapped_key not in data + files_of(rig.folder)
    raw_keys = [(rig.folder / "root.key").read_bytes(), *rig.store.root.data_keys().values()]
    for raw in raw_keys:
        with pytest.raises(BrokerError):
            WrappingKey(raw).unwrap(wrapped, "pictures/1")


def test_a_database_stolen_before_a_change_of_the_root_key_opens_with_the_old_one_only(
    place: Any, tmp_path: Path
) -> None:
    """A rotation does not undo a theft; but a later theft of the new root key opens nothing old."""
    one, two = FileRootKey(bytes([1]) * 32), FileRootKey(bytes([2]) * 32)
    where = place("s")
    with where.open(roots=[one]) as store, store.read() as db:
        (identifier,) = db.execute("SELECT id FROM store").fetchone()
        (copy,) = db.execute("SELECT wrapped FROM roots").fetchone()
        data_key = store.root.data_keys()[1]
    with where.open(roots=[two, one]) as store:
        rotation.rotate_root(store, drop=store.root.other_names)
    assert one.unwrap(copy, f"root/{identifier}/1") == data_key
    with pytest.raises(BrokerError):
        two.unwrap(copy, f"root/{identifier}/1")
