"""No key leaves before the witnesses have cosigned its entry; many releases share one round."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from log_rig import W1, W2
from strongroom.broker import admin, log, log_entry
from strongroom.broker.envelope import Terms
from strongroom.broker.kbs import KeyBroker
from strongroom.broker.log_entry import Event
from strongroom.broker.log_errors import WITNESS_STATE
from strongroom.broker.receipt import Witnesses, check_checkpoint
from strongroom.broker.release import open_model_key
from strongroom.broker.witness import Witness
from strongroom.broker.witness_client import WitnessClient
from strongroom.broker.witness_server import create_app
from strongroom.broker.witnessing import Witnessing
from strongroom.codec import note
from strongroom.codec.checkpoint import parse
from strongroom.crypto.notes import NoteSigner
from strongroom.errors import BrokerError, StrongroomError

MODEL = "default/model/lite0"
NOBODY = "http://127.0.0.1:9"


class Place:
    """A witness that is served, counts what it is asked, and can be held or broken."""

    def __init__(self, folder: Path, signer: NoteSigner, rig: Any, serve: Callable[[Any], str]) -> None:
        self.signer = signer
        self.witness = Witness.open(folder, signer, [log_entry.log_key(rig.broker_key)], now=rig.clock)
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.failing = False
        self.url = serve(create_app(self))  # type: ignore[arg-type]

    def add_checkpoint(self, body: bytes) -> bytes:
        self.asked += 1
        self.waiting.set()
        self.gate.wait(30)
        if self.failing:
            raise BrokerError(WITNESS_STATE)
        return self.witness.add_checkpoint(body)

    def client(self, url: str | None = None) -> WitnessClient:
        return WitnessClient(self.signer.key, url or self.url, timeout=20)


@pytest.fixture
def places(rig, tmp_path: Path, serve) -> Iterator[list[Place]]:
    made = [Place(tmp_path / f"w{number}", signer, rig, serve) for number, signer in enumerate((W1, W2))]
    yield made
    for place in made:
        place.gate.set()


@pytest.fixture
def witnessed(rig, places: list[Place]) -> Iterator[Callable[..., Witnessing]]:
    """`witnessed(clients, threshold)`: the rig's broker asks these; the first witness by default."""
    made: list[Witnessing] = []

    def build(clients: list[WitnessClient] | None = None, threshold: int = 1) -> Witnessing:
        made.append(Witnessing(rig.store, clients or [places[0].client()], threshold))
        rig.broker = KeyBroker(rig.store, now=rig.clock, witnessing=made[-1])
        return made[-1]

    yield build
    for place in places:
        place.gate.set()
    for each in made:
        each.close()


def terms(*signers: NoteSigner) -> Terms:
    return Terms("pictures", Witnesses(tuple(each.key for each in signers), len(signers)))


def taken(rig: Any, worker: Any, *signers: NoteSigner) -> None:
    """What a worker does whose init-data names these witnesses."""
    envelope = worker.fetch(MODEL)
    open_model_key(envelope, rig.broker_key, worker.recipient, MODEL, terms=terms(*signers))


def append(rig: Any) -> int:
    with rig.store.write() as db:
        return log.append(rig.store, db, time=1, event=Event.RELEASED, facts={"service": "pictures"})


def test_a_worker_gets_a_key_under_a_cosigned_checkpoint(rig, witnessed, places) -> None:
    witnessed()
    worker = rig.attester().attest()
    for _ in range(3):
        taken(rig, worker, W1)


def test_both_of_two_witnesses(rig, witnessed, places) -> None:
    witnessed([place.client() for place in places], 2)
    taken(rig, rig.attester().attest(), W1, W2)


def test_without_a_witness_a_worker_that_asks_for_one_takes_no_key(rig, refused) -> None:
    with refused("log-unwitnessed"):
        taken(rig, rig.attester().attest(), W1)


def test_nothing_leaves_while_no_witness_can_be_reached(rig, witnessed, places, refused) -> None:
    witnessed([places[0].client(NOBODY)])
    worker = rig.attester().attest()
    with refused("witness-missing"):
        worker.fetch(MODEL)
    released, withheld = list(admin.log_entries(rig.store))[-2:]
    assert (released["event"], withheld["event"]) == ("released", "withheld")
    assert (withheld["code"], withheld["release"]) == ("witness-missing", released["index"])
    assert (withheld["resource"], withheld["recipient"]) == (MODEL, worker.recipient)
    log.verify_log(rig.store)


def test_it_goes_on_when_the_witness_is_back(rig, witnessed, places, refused) -> None:
    witnessed()
    worker = rig.attester().attest()
    places[0].failing = True
    with refused("witness-missing"):
        worker.fetch(MODEL)
    places[0].failing = False
    taken(rig, worker, W1)


def test_one_of_two_is_enough_where_one_is_asked_for(rig, witnessed, places) -> None:
    witnessed([places[0].client(NOBODY), places[1].client()], 1)
    taken(rig, rig.attester().attest(), W2)


def test_one_of_two_is_not_enough_where_both_are_asked_for(rig, witnessed, places, refused) -> None:
    witnessed([places[0].client(NOBODY), places[1].client()], 2)
    with refused("witness-missing"):
        rig.attester().attest().fetch(MODEL)


def test_an_answer_of_another_witness_does_not_count(rig, witnessed, places, refused) -> None:
    witnessed([WitnessClient(W2.key, places[0].url, timeout=20)])
    with refused("witness-missing"):
        rig.attester().attest().fetch(MODEL)


def test_a_witness_that_does_not_know_this_log(rig, witnessed, new_rig, tmp_path, serve, refused) -> None:
    elsewhere = Place(tmp_path / "elsewhere", W1, new_rig("other"), serve)
    witnessed([elsewhere.client()])
    with refused("witness-missing"):
        rig.attester().attest().fetch(MODEL)


def test_a_store_that_was_put_back_releases_nothing(rig, witnessed, places, refused) -> None:
    """The witness has seen more than the store holds: an older copy of it must not go on."""
    witnessed()
    with rig.store.read() as db:
        tables = ("log", "log_nodes", "log_head")
        saved = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    worker = rig.attester().attest()
    for _ in range(5):
        taken(rig, worker, W1)
    with rig.store.write() as db:
        for table, rows in saved.items():
            db.execute(f"DELETE FROM {table}")
            marks = ", ".join("?" * len(rows[0]))
            for row in rows:
                db.execute(f"INSERT INTO {table} VALUES ({marks})", row)
    witnessed()  # the server was restarted on the old copy
    with refused("witness-ahead"):
        rig.attester().attest().fetch(MODEL)


def test_a_store_that_was_put_back_and_has_grown_again_releases_nothing(
    rig, witnessed, places, refused
) -> None:
    witnessed()
    with rig.store.read() as db:
        tables = ("log", "log_nodes", "log_head")
        saved = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    worker = rig.attester().attest()
    taken(rig, worker, W1)
    with rig.store.write() as db:
        for table, rows in saved.items():
            db.execute(f"DELETE FROM {table}")
            marks = ", ".join("?" * len(rows[0]))
            for row in rows:
                db.execute(f"INSERT INTO {table} VALUES ({marks})", row)
    for _ in range(10):
        append(rig)
    witnessed()
    with refused("witness-missing"):
        rig.attester().attest().fetch(MODEL)
    assert len(places[0].witness.evidence()) == 1  # both checkpoints, signed by this broker


def test_one_round_serves_all_that_wait(rig, witnessed, places) -> None:
    witnessing = witnessed()
    first = append(rig)
    places[0].gate.clear()
    with ThreadPoolExecutor(21) as pool:
        running = [pool.submit(witnessing.receipt, first)]
        assert places[0].waiting.wait(30)
        rest = [append(rig) for _ in range(20)]
        running += [pool.submit(witnessing.receipt, index) for index in rest]
        while witnessing._next is None:  # until one of them begins to collect the others
            pass
        places[0].gate.set()
        receipts = [each.result(30) for each in running]
    key = log_entry.log_key(rig.broker_key)
    for index, receipt in zip([first, *rest], receipts, strict=True):
        assert receipt.proof.index == index
        receipt.check(key, Witnesses((W1.key,), 1))
    # The first asks twice, because it learns the size; those that wait are served by one or two more rounds.
    assert places[0].asked <= 5


def test_no_transaction_is_open_while_a_witness_is_asked(rig, witnessed, places) -> None:
    witnessing = witnessed()
    index = append(rig)
    places[0].gate.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(witnessing.receipt, index)
        assert places[0].waiting.wait(30)
        later = append(rig)  # the store is free to read and write
        with rig.store.read() as db:
            assert log.size(db) == later + 1
        places[0].gate.set()
        assert running.result(30).proof.index == index


def test_a_round_that_fails_fails_all_that_wait_for_it(rig, witnessed, places) -> None:
    witnessing = witnessed()
    places[0].failing = True
    indices = [append(rig) for _ in range(8)]

    def code(index: int) -> str:
        try:
            witnessing.receipt(index)
        except StrongroomError as error:
            return error.code
        return "ok"

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(code, indices)) == {"witness-missing"}


def test_an_entry_that_is_covered_asks_nobody(rig, witnessed, places) -> None:
    witnessing = witnessed()
    index = append(rig)
    witnessing.receipt(index)
    asked = places[0].asked
    witnessing.receipt(index)
    witnessing.receipt(0)
    assert places[0].asked == asked


def test_another_broker_of_the_same_store_may_be_faster(rig, witnessed, places) -> None:
    """Its witness names a size that this broker has not asked for, but that the store holds."""
    one = witnessed()
    other = witnessed()
    for _ in range(3):
        for each in (one, other):
            index = append(rig)
            assert each.receipt(index).proof.index == index


def test_what_is_cosigned_is_published(rig, witnessed, places) -> None:
    witnessed()
    taken(rig, rig.attester().attest(), W1)
    rig.register_model(resource="default/model/other", name="other", sealed_sha256="33" * 32)
    published = rig.broker.log_part("checkpoint")
    with rig.store.read() as db:
        size = log.size(db)
    assert parse(note.parse(published).text).size == size - 1  # the registration is not cosigned yet
    rig.broker.maintain()
    published = rig.broker.log_part("checkpoint")
    key = log_entry.log_key(rig.broker_key)
    assert check_checkpoint(published, key, Witnesses((W1.key,), 1)).size == size


def test_maintenance_says_that_a_witness_is_missing_after_all_else(rig, witnessed, places, refused) -> None:
    witnessed([places[0].client(NOBODY)])
    rig.clock.turn(admin.DEFAULT_LIFETIME)
    with refused("witness-missing"):
        rig.broker.maintain()
    assert [record.epoch for record in admin.epochs(rig.store, "pictures")] == [2]


def test_a_broker_without_witnesses_shows_no_old_checkpoint(rig, witnessed, places) -> None:
    witnessed()
    taken(rig, rig.attester().attest(), W1)
    append(rig)
    rig.broker = KeyBroker(rig.store, now=rig.clock)
    published = rig.broker.log_part("checkpoint")
    assert published == log.newest(rig.store)


@pytest.mark.parametrize("threshold", [0, 2])
def test_a_threshold_can_be_reached(rig, places, threshold: int) -> None:
    with closing(places[0].client()) as client, pytest.raises(ValueError, match="threshold"):
        Witnessing(rig.store, [client], threshold)


def test_the_entry_of_a_release_says_nothing_to_the_witness(rig, witnessed, places) -> None:
    """A witness sees origin, size and root, never an entry."""
    seen: list[bytes] = []
    real = places[0].witness.add_checkpoint
    places[0].witness.add_checkpoint = lambda body: (seen.append(body), real(body))[1]  # type: ignore[method-assign]
    witnessed()
    taken(rig, rig.attester().attest(), W1)
    with rig.store.read() as db:
        for _, entry, opening in log.entries(db):
            for body in seen:
                assert json.loads(entry).get("commitment", "-").encode() not in body
                assert opening is None or opening.salt.hex().encode() not in body
