"""The store: private files, one root key, several processes, nothing readable without the root key."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import stat
import threading
from pathlib import Path

import pytest

from strongroom.broker.store import Store
from strongroom.errors import StrongroomError


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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


def test_reopening_gives_the_same_keys(home) -> None:
    with home.open() as first:
        key, secret = first.signing_key.raw(), first.secret("x", lambda: b"made once")
    with home.open() as second:
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


def test_another_root_key_is_refused(home, refused) -> None:
    home.open().close()
    (home.folder / "root.key").write_bytes(os.urandom(32))
    with refused("root-key-wrong"):
        home.open()


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


def test_a_store_of_another_version_is_refused(home, backend: str, refused) -> None:
    home.open().close()
    versions = {"sqlite": "PRAGMA user_version = 99", "postgres": "UPDATE strongroom_schema SET version = 99"}
    home.attack((versions[backend], ()))
    with refused("store-unusable"):
        home.open()


def test_a_store_in_a_place_that_cannot_be_is_refused(tmp_path: Path, refused) -> None:
    (tmp_path / "file").write_text("")
    with refused("store-unusable"):
        Store.open(tmp_path / "file" / "store")


ONE = ("x", b"\1")
INSERT = "INSERT INTO secrets VALUES (?, ?)"


def count(db) -> int:
    (found,) = db.execute("SELECT count(*) FROM secrets").fetchone()
    return int(found)


def test_a_write_that_fails_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.write() as db:
            db.execute(INSERT, ONE)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    with store.read() as db:
        assert db.execute("SELECT count(*) FROM secrets WHERE name = 'x'").fetchone() == (0,)


def test_an_error_of_the_database_is_ours(store: Store, refused) -> None:
    with refused("store-unusable"), store.write() as db:
        db.execute("SELECT * FROM nowhere")
    with refused("store-unusable"), store.write() as db:
        db.execute(INSERT, (None, None))
    with store.write() as db:
        db.execute(INSERT, ONE)


def test_an_error_tells_no_value(store: Store) -> None:
    for _ in range(2):
        with contextlib.suppress(StrongroomError), store.write() as db:
            db.execute(INSERT, ("canary", b"canary"))
    with pytest.raises(StrongroomError) as caught, store.write() as db:
        db.execute(INSERT, ("canary", b"canary"))
    assert "canary" not in str(caught.value)


def test_a_reader_cannot_write_in_postgresql(store: Store, backend: str, refused) -> None:
    if backend == "postgres":
        with refused("store-unusable"), store.read() as db:
            db.execute(INSERT, ONE)


def test_two_stores_in_one_place_see_each_other(home) -> None:
    with home.open() as one, home.open() as two:
        with one.write() as db:
            db.execute(INSERT, ONE)
        with two.read() as db:
            assert db.execute("SELECT wrapped FROM secrets WHERE name = 'x'").fetchone() == (b"\1",)


def test_a_lock_that_is_held_too_long_is_told(home, refused) -> None:
    with home.open() as one, home.open(busy_seconds=0.05) as two:
        with one.write(), refused("store-busy"), two.write():
            raise AssertionError
        with two.write() as db:
            db.execute(INSERT, ONE)


def test_a_reader_keeps_its_state(home) -> None:
    with home.open() as one, home.open() as two:
        with two.read() as reading:
            before = count(reading)
            with one.write() as db:
                db.execute(INSERT, ONE)
            assert count(reading) == before
        with two.read() as reading:
            assert count(reading) == before + 1


def test_a_reader_holds_up_only_the_checkpoint(tmp_path: Path) -> None:
    with Store.open(tmp_path, busy_seconds=0.05) as one, Store.open(tmp_path) as two:
        with two.read() as reading:
            assert count(reading) == 1
            with one.write() as db:
                db.execute(INSERT, ONE)
            assert not one.checkpoint()
        assert one.checkpoint()
        assert (tmp_path / "store.db-wal").stat().st_size == 0


def test_threads_and_stores_share_one_place(home) -> None:
    """Each writer sees what the one before it wrote: none counts the same number."""

    def run(store: Store) -> None:
        for _ in range(15):
            with store.write() as db:
                db.execute(INSERT, (f"n{count(db)}", b""))

    with home.open() as one, home.open() as two:
        threads = [threading.Thread(target=run, args=(store,)) for store in (one, two) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with one.read() as db:
            assert count(db) == 8 * 15 + 1


def test_a_folder_with_the_epochs_of_another_store_is_refused(place, refused) -> None:
    """Else they would be taken for remains, and destroyed."""
    one, two = place("one"), place("two")
    one.open().close()
    two.open().close()
    (one.folder / "store.id").write_bytes((two.folder / "store.id").read_bytes())
    with refused("store-unusable"):
        one.open()


def test_a_new_database_does_not_take_over_a_folder_with_epochs(place, refused) -> None:
    one, two = place("one"), place("two")
    one.open().close()
    (two.folder / "epochs").mkdir(parents=True)
    for name in ("store.id", "root.key"):
        target = two.folder / name
        target.write_bytes((one.folder / name).read_bytes())
        target.chmod(0o600)
    two.folder.chmod(0o700)
    remains = two.folder / "epochs" / "0123.key"
    remains.write_bytes(b"the key of an epoch")
    with refused("store-unusable"):
        two.open()
    assert remains.exists()
    remains.unlink()
    two.open().close()


def test_a_closed_store_stays_closed(home, refused) -> None:
    store = home.open()
    store.close()
    with refused("store-unusable"), store.write():
        raise AssertionError


def _open_in_child(folder: str, url: str, results) -> None:
    with Store.open(Path(folder), url=url) as store:
        results.put(store.signing_key.verifying_key.text)


@pytest.mark.system
def test_processes_that_make_a_store_at_once_agree(home) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    arguments = (str(home.folder), home.url, results)
    children = [context.Process(target=_open_in_child, args=arguments) for _ in range(3)]
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
