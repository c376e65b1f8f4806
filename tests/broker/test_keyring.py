"""The data keys of a store: who opens them, and what becomes of them while others rotate and leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.broker import admin, rotation
from strongroom.broker.keyring import KeyRing, version_of
from strongroom.broker.log import verify_log
from strongroom.broker.rootkey import FileRootKey
from strongroom.broker.store import Store
from strongroom.broker.wrap import WrappingKey
from strongroom.errors import BrokerError

ONE, TWO, THREE = (FileRootKey(bytes([number]) * 32) for number in (1, 2, 3))
INSERT = "INSERT INTO secrets VALUES (?, ?)"
RING = KeyRing.of({1: bytes(range(32)), 7: bytes(32)})
TEXT = st.text(max_size=40, alphabet=st.characters(exclude_categories=["Cs"]))


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_store(home) -> Iterator[Callable[..., Store]]:
    """`open_store(ONE, TWO)`: the store of this test, with these root keys."""
    with ExitStack() as stack:
        yield lambda *roots, **options: stack.enter_context(home.open(roots=roots, **options))


def roots(store: Store) -> set[tuple[int, str]]:
    with store.read() as db:
        return set(db.execute("SELECT version, root FROM roots").fetchall())


# The ring.


@given(st.binary(max_size=200), TEXT)
def test_what_is_wrapped_unwraps_under_the_newest_key(secret: bytes, context: str) -> None:
    wrapped = RING.wrap(secret, context)
    assert version_of(wrapped) == RING.version == 7
    assert RING.unwrap(wrapped, context) == secret


def test_an_older_key_still_unwraps(refused) -> None:
    wrapped = KeyRing.of({1: bytes(range(32))}).wrap(b"secret", "a")
    assert RING.unwrap(wrapped, "a") == b"secret"
    with refused("secret-unreadable"):
        KeyRing.of({7: bytes(32)}).unwrap(wrapped, "a")
    with refused("secret-unreadable"):
        RING.unwrap(wrapped, "b")


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    wrapped = RING.wrap(b"secret", "a")
    changed = [wrapped[:at] for at in range(len(wrapped))]
    for at in range(8 * len(wrapped)):
        flipped = bytearray(wrapped)
        flipped[at // 8] ^= 1 << at % 8
        changed.append(bytes(flipped))
    for candidate in [*changed, wrapped + b"\0", WrappingKey(bytes(32)).wrap(b"secret", "a")]:
        with pytest.raises(BrokerError) as caught:
            RING.unwrap(candidate, "a")
        assert caught.value.code == "secret-unreadable"


# Root keys of one store.


def test_only_its_root_key_opens_a_store(open_store, refused) -> None:
    open_store(ONE)
    with refused("root-key-wrong"):
        open_store(TWO)
    assert open_store(ONE, TWO).root.root_name == ONE.name


def test_a_data_key_of_another_store_does_not_open(place, open_store, refused) -> None:
    """A root key in an HSM or KMS may guard several stores; none of them opens with another's data key."""
    store = open_store(ONE)
    other = place("other")
    with other.open(roots=[ONE]) as foreign, foreign.read() as db:
        (wrapped,) = db.execute("SELECT wrapped FROM roots").fetchone()
    with store.write() as db:
        db.execute("UPDATE roots SET wrapped = ?", (wrapped,))
    with refused("secret-unreadable"):
        open_store(ONE)


def test_a_new_root_key_is_added_where_an_old_one_opens(open_store, refused) -> None:
    key = open_store(ONE).signing_key.raw()
    assert open_store(TWO, ONE).signing_key.raw() == key
    assert roots(open_store(TWO)) == {(1, ONE.name), (1, TWO.name)}
    assert open_store(ONE).signing_key.raw() == key


def test_a_change_of_the_root_key_ends_with_a_rotation_that_gives_the_old_one_up(open_store, refused) -> None:
    before = open_store(ONE)
    changing = open_store(TWO, ONE)
    done = rotation.rotate_root(changing, drop=changing.root.other_names)
    assert (done.version, done.pending) == (2, ())
    assert roots(changing) == {(2, TWO.name)}
    open_store(TWO)
    with refused("root-key-wrong"):
        open_store(ONE)
    with refused("root-key-wrong"), before.read():
        raise AssertionError
    assert roots(changing) == {(2, TWO.name)}, "who was given up does not come back"


# Rotation.


def test_a_rotation_wraps_everything_anew_and_deletes_the_old_key(rig) -> None:
    store = rig.store
    secret = store.secret("x", lambda: b"a secret")
    before = KeyRing.of(store.root.data_keys())
    assert rotation.rotate_root(store).version == 2
    assert store.root.data_keys().keys() == {2}
    assert store.secret("x", lambda: b"another") == secret
    worker = rig.attester().attest()
    assert worker.fetch("pictures/service-key/current")
    assert worker.fetch("default/model/lite0")
    with store.read() as db:
        rows = (
            db.execute("SELECT wrapped FROM secrets").fetchall()
            + db.execute("SELECT wrapped FROM models").fetchall()
        )
    files = [path.read_bytes() for path in store.epoch_key_files()]
    for wrapped in [*(row[0] for row in rows), *files]:
        assert version_of(wrapped) == 2
        with pytest.raises(BrokerError):
            before.unwrap(wrapped, "secret/x")
    assert len(files) == 1
    entry = next(entry for entry in admin.log_entries(store) if entry["event"] == "root-rotated")
    assert (entry["data_key"], entry["roots"]) == (2, [store.root.root_name])
    verify_log(store)


def test_an_open_store_picks_up_a_rotation(open_store) -> None:
    serving, rotating = open_store(ONE), open_store(ONE)
    secret = serving.secret("x", lambda: b"a secret")
    for version in (2, 3):
        assert rotation.rotate_root(rotating).version == version
        assert serving.secret("x", lambda: b"another") == secret
        assert serving.root.data_keys().keys() == {version}
        assert version_of(serving.root.wrap(b"", "")) == version


def test_more_rows_than_one_batch(open_store) -> None:
    store = open_store(ONE)
    for number in range(2 * rotation.BATCH + 1):
        store.secret(f"n{number}", lambda: b"a secret")
    rotation.rotate_root(store)
    assert store.secret("n0", lambda: b"another") == b"a secret"


def test_a_rotation_goes_on_where_it_was_stopped(rig, monkeypatch) -> None:
    """Stopped after each of its transactions, in turn."""

    class StoppedError(Exception):
        pass

    real = type(rig.store).write
    stops = 0
    while True:
        left = stops

        def write(store: Store) -> Any:
            nonlocal left
            if left == 0:
                raise StoppedError
            left -= 1
            return real(store)

        monkeypatch.setattr(type(rig.store), "write", write)
        try:
            done = rotation.rotate_root(rig.store)
        except StoppedError:
            stops += 1
            monkeypatch.undo()
            assert rig.attester().attest().fetch("default/model/lite0")
            continue
        break
    assert stops >= 4
    assert done == rotation.Rotation(2, ())
    assert rig.store.root.data_keys().keys() == {2}


def test_an_old_key_with_something_left_under_it_is_not_deleted(open_store, refused) -> None:
    store = open_store(ONE)
    old = store.root.wrap(b"late", "secret/late")
    rotation._begin(store, ())
    with store.write() as db:
        db.execute(INSERT, ("late", old))
    with refused("secret-unreadable"):
        rotation.finish(store)
    rotation.rotate_root(store)
    assert store.secret("late", lambda: b"another") == b"late"


def test_an_epoch_whose_key_file_is_gone_does_not_hold_a_rotation_up(rig) -> None:
    (path,) = rig.store.epoch_key_files()
    path.unlink()
    assert rotation.rotate_root(rig.store).pending == ()


# Brokers with root keys of their own, such as a TPM each.


def test_a_broker_with_another_root_key_takes_the_new_data_key_over(open_store) -> None:
    open_store(ONE)
    one, two = open_store(ONE), open_store(TWO, ONE)
    secret = two.secret("x", lambda: b"a secret")
    other = open_store(TWO)
    assert rotation.rotate_root(one) == rotation.Rotation(2, (TWO.name,))
    assert other.secret("x", lambda: b"another") == secret  # reads, and enrols, in its next transactions
    assert rotation.finish(one) == rotation.Rotation(2, ())
    assert roots(one) == {(2, ONE.name), (2, TWO.name)}
    assert open_store(TWO).secret("x", lambda: b"another") == secret


def test_a_reader_opens_a_handed_over_key_too(open_store) -> None:
    open_store(ONE)
    open_store(TWO, ONE)
    one, two = open_store(ONE), open_store(TWO)
    rotation.rotate_root(one)
    with two.read():
        assert two.root.version == 2
    assert (2, TWO.name) not in roots(one)
    with two.write():
        pass
    assert (2, TWO.name) in roots(one)


def test_a_broker_that_never_comes_is_waited_for_and_then_given_up(open_store, refused) -> None:
    open_store(ONE)
    open_store(TWO, ONE).close()
    one = open_store(ONE)
    assert rotation.rotate_root(one).pending == (TWO.name,)
    waited: list[float] = []
    with refused("root-pending"):
        rotation.finish_within(one, 3, sleep=waited.append, clock=lambda: sum(waited))
    assert sum(waited) == 3
    assert (1, ONE.name) in roots(one), "the old data key stays, and with it who has it"
    done = rotation.finish_within(one, 0, drop=[TWO.name])
    assert done.pending == ()
    assert roots(one) == {(2, ONE.name)}
    with refused("root-key-wrong"):
        open_store(TWO)


def test_waiting_ends_when_the_other_broker_comes(open_store) -> None:
    open_store(ONE)
    one, two = open_store(ONE), open_store(TWO, ONE)
    rotation.rotate_root(one)
    done = rotation.finish_within(one, 60, sleep=lambda _: two.secret("y", lambda: b""))
    assert done == rotation.Rotation(2, ())


def test_who_has_none_of_the_keys_cannot_hand_over(open_store, refused) -> None:
    open_store(ONE)
    rotation.rotate_root(open_store(TWO, ONE))
    with refused("root-key-wrong"):
        open_store(THREE)
