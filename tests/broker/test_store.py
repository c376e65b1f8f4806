"""The store: private files, one root key, several processes, nothing readable without the root key."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from strongroom.broker import store as store_module
from strongroom.broker.store import Store


def test_a_new_store_is_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with Store.open(tmp_path / "s") as store, store.write():
            modes = {
                path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode)
                for path in tmp_path.rglob("*")
            }
    finally:
        os.umask(old)
    assert modes.pop("s/epochs") == 0o700
    assert modes.keys() >= {"s/root.key", "s/store.db", "s/store.db-wal", "s/lock"}
    assert {mode for name, mode in modes.items() if name != "s"} == {0o600}


def test_the_folder_itself_is_made_private(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        Store.open(tmp_path / "a" / "s").close()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a" / "s").stat().st_mode) == 0o700


def test_reopening_gives_the_same_keys(tmp_path: Path) -> None:
    with Store.open(tmp_path) as first:
        key, secret = first.signing_key.raw(), first.secret("x", lambda: b"made once")
    with Store.open(tmp_path) as second:
        assert second.signing_key.raw() == key
        assert second.secret("x", lambda: b"made twice") == secret == b"made once"


@pytest.mark.parametrize("name", ["root.key", "store.db"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_exposed_files_are_refused(tmp_path: Path, refused, name: str, mode: int) -> None:
    Store.open(tmp_path).close()
    (tmp_path / name).chmod(mode)
    with refused("key-file-exposed"):
        Store.open(tmp_path)


def test_a_folder_that_others_may_change_is_refused(tmp_path: Path, refused) -> None:
    Store.open(tmp_path).close()
    tmp_path.chmod(0o770)
    with refused("key-file-exposed"):
        Store.open(tmp_path)


def test_another_root_key_is_refused(tmp_path: Path, refused) -> None:
    Store.open(tmp_path).close()
    (tmp_path / "root.key").write_bytes(os.urandom(32))
    with refused("root-key-wrong"):
        Store.open(tmp_path)


def test_a_database_without_its_root_key_is_not_given_a_new_one(tmp_path: Path, refused) -> None:
    Store.open(tmp_path).close()
    (tmp_path / "root.key").unlink()
    with refused("store-unusable"):
        Store.open(tmp_path)
    assert not (tmp_path / "root.key").exists()


def test_a_root_key_cut_short_is_refused(tmp_path: Path, refused) -> None:
    Store.open(tmp_path).close()
    (tmp_path / "root.key").write_bytes(bytes(31))
    with refused("store-unusable"):
        Store.open(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path, refused) -> None:
    Store.open(tmp_path).close()
    for name in ("store.db-wal", "store.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "store.db").write_bytes(b"no database" * 1000)
    with refused("store-unusable"):
        Store.open(tmp_path)


def test_a_store_of_another_version_is_refused(tmp_path: Path, refused) -> None:
    Store.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "store.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with refused("store-unusable"):
        Store.open(tmp_path)


def test_a_store_in_a_place_that_cannot_be_is_refused(tmp_path: Path, refused) -> None:
    (tmp_path / "file").write_text("")
    with refused("store-unusable"):
        Store.open(tmp_path / "file" / "store")


def test_a_write_that_fails_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.write() as db:
            db.execute("INSERT INTO secrets VALUES ('x', x'00')")
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    with store.read() as db:
        assert db.execute("SELECT count(*) FROM secrets WHERE name = 'x'").fetchone() == (0,)


def test_an_error_of_the_database_is_ours(store: Store, refused) -> None:
    with refused("store-unusable"), store.write() as db:
        db.execute("SELECT * FROM nowhere")
    with refused("store-unusable"), store.write() as db:
        db.execute("INSERT INTO secrets VALUES (NULL, NULL)")


def test_two_stores_on_one_folder_see_each_other(tmp_path: Path) -> None:
    with Store.open(tmp_path) as one, Store.open(tmp_path) as two:
        with one.write() as db:
            db.execute("INSERT INTO secrets VALUES ('x', x'01')")
        with two.read() as db:
            assert db.execute("SELECT wrapped FROM secrets WHERE name = 'x'").fetchone() == (b"\1",)


def test_a_lock_that_is_held_too_long_is_told(tmp_path: Path, refused, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "_BUSY_SECONDS", 0.05)
    with Store.open(tmp_path) as one, Store.open(tmp_path) as two:  # noqa: SIM117 -- closed after the refusal
        with one.write(), refused("store-busy"), two.write():
            raise AssertionError
    with Store.open(tmp_path) as free, free.write() as db:
        assert db.in_transaction


def test_a_reader_keeps_its_state_and_holds_up_only_the_checkpoint(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "_BUSY_SECONDS", 0.05)
    with Store.open(tmp_path) as one, Store.open(tmp_path) as two:
        with two.read() as reading:
            before = reading.execute("SELECT count(*) FROM secrets").fetchone()
            with one.write() as db:
                db.execute("INSERT INTO secrets VALUES ('x', x'01')")
            assert reading.execute("SELECT count(*) FROM secrets").fetchone() == before
            assert not one.checkpoint()
        assert one.checkpoint()
        assert (tmp_path / "store.db-wal").stat().st_size == 0


def test_threads_share_one_store(store: Store) -> None:
    def count() -> None:
        for _ in range(25):
            with store.write() as db:
                (value,) = db.execute("SELECT count(*) FROM secrets").fetchone()
                db.execute("INSERT INTO secrets VALUES (?, x'00')", (f"n{value}",))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as db:
        assert db.execute("SELECT count(*) FROM secrets").fetchone() == (8 * 25 + 1,)


def _open_in_child(folder: str, results) -> None:
    with Store.open(Path(folder)) as store:
        results.put(store.signing_key.verifying_key.text)


@pytest.mark.system
def test_processes_that_make_a_store_at_once_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    children = [context.Process(target=_open_in_child, args=(str(tmp_path / "s"), results)) for _ in range(3)]
    for child in children:
        child.start()
    keys = {results.get(timeout=60) for _ in children}
    for child in children:
        child.join(timeout=60)
        assert child.exitcode == 0
    assert len(keys) == 1


def test_the_database_tells_no_key(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        signing, other = (
            store.signing_key.raw(),
            store.secret("x", lambda: b"plain secret of 32 bytes length!"),
        )
        store.checkpoint()
        files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        root = (tmp_path / "root.key").read_bytes()
    assert signing not in files
    assert other not in files
    assert files.count(root) == 1
