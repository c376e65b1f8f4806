"""A witness cosigns what has only grown, and nothing else, also after a kill."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from log_rig import LOG, W1, MemoryLog, entries
from mutants import mutate_bytes
from strongroom.broker import witness as module
from strongroom.broker.witness import Fork, SizeConflict, Witness
from strongroom.codec import note
from strongroom.codec.note import Note
from strongroom.codec.tlog import AddCheckpoint
from strongroom.crypto.notes import NoteSigner, NoteType
from strongroom.errors import StrongroomError

Open = Callable[..., Witness]


@pytest.fixture
def start(tmp_path: Path, clock) -> Iterator[Open]:
    made: list[Witness] = []

    def build(name: str = "witness") -> Witness:
        made.append(Witness.open(tmp_path / name, W1, [LOG.key], now=clock))
        return made[-1]

    yield build
    for each in made:
        each.close()


def size_of(caught: pytest.ExceptionInfo[SizeConflict]) -> int:
    return caught.value.size


def test_a_log_that_grows_is_cosigned(start: Open, clock) -> None:
    witness, log = start(), MemoryLog()
    old = 0
    for count in (0, 1, 3, 0, 300):
        log.append(*entries(count, str(count)))
        clock.turn(7)
        lines = witness.add_checkpoint(log.request(old))
        text = note.parse(log.checkpoint()).text
        assert W1.key.check(Note(text, note.parse_signatures(lines))) == int(clock())
        old = len(log.entries)


def test_another_old_size_is_told_the_last_one(start: Open) -> None:
    witness, log = start(), MemoryLog(entries(9))
    witness.add_checkpoint(log.request(0, 5))
    for old in (0, 4, 6, 9):
        with pytest.raises(SizeConflict) as caught:
            witness.add_checkpoint(log.request(old))
        assert size_of(caught) == 5
    witness.add_checkpoint(log.request(5))


def test_an_older_checkpoint_is_not_signed_again(start: Open) -> None:
    witness, log = start(), MemoryLog(entries(9))
    witness.add_checkpoint(log.request(0))
    for size in (0, 3, 8):
        with pytest.raises(SizeConflict) as caught:
            witness.add_checkpoint(log.request(0, size))
        assert size_of(caught) == 9


def test_the_same_checkpoint_is_signed_again(start: Open, clock) -> None:
    witness, log = start(), MemoryLog(entries(3))
    first = witness.add_checkpoint(log.request(0))
    clock.turn(1)
    assert witness.add_checkpoint(log.request(3)) != first


def test_two_roots_of_one_size_are_a_fork_with_its_evidence(start: Open) -> None:
    witness, log, other = start(), MemoryLog(entries(5)), MemoryLog(entries(5, "other"))
    witness.add_checkpoint(log.request(0))
    with pytest.raises(Fork) as caught:
        witness.add_checkpoint(other.request(5))
    assert caught.value.code == "witness-fork"
    assert caught.value.evidence == (log.checkpoint(), other.checkpoint())
    assert witness.evidence() == [(log.checkpoint(), other.checkpoint())]
    for signed in caught.value.evidence:  # both are signed by the log, which is what makes it evidence
        assert LOG.key.check(note.parse(signed)) == 0
    witness.add_checkpoint(log.request(5))  # and it goes on with the true one


def test_a_fork_that_has_grown_is_refused_and_kept(start: Open, refused) -> None:
    witness, log = start(), MemoryLog(entries(5))
    other = MemoryLog([*entries(4), b"another", *entries(3)])
    witness.add_checkpoint(log.request(0))
    with refused("witness-proof"):
        witness.add_checkpoint(other.request(5))
    assert witness.evidence() == [(log.checkpoint(), other.checkpoint())]


def test_a_proof_that_does_not_hold_is_refused(start: Open, refused) -> None:
    witness, log = start(), MemoryLog(entries(9))
    witness.add_checkpoint(log.request(0, 5))
    for hashes in ((), (bytes(32),), (bytes(32),) * 63):
        with refused("witness-proof"):
            witness.add_checkpoint(AddCheckpoint(5, hashes, log.checkpoint()).render())
    with refused("witness-proof"):
        start("another").add_checkpoint(AddCheckpoint(0, (bytes(32),), log.checkpoint()).render())


def test_an_unknown_log_is_refused(start: Open, refused) -> None:
    log = MemoryLog(entries(1), NoteSigner("log.example/two", NoteType.ED25519, b"\x12" * 32))
    with refused("witness-origin-unknown"):
        start().add_checkpoint(log.request(0))


def test_a_checkpoint_that_the_log_did_not_sign_is_refused(start: Open, refused) -> None:
    log = MemoryLog(entries(1))
    forger = NoteSigner(LOG.name, NoteType.ED25519, b"\x13" * 32)
    with refused("witness-log-signature"):
        start().add_checkpoint(AddCheckpoint(0, (), log.checkpoint(signer=forger)).render())
    changed = log.checkpoint().replace(b"\n1\n", b"\n2\n", 1)
    with refused("witness-log-signature"):
        start().add_checkpoint(AddCheckpoint(0, (), changed).render())


def test_an_old_size_above_the_new_one_is_refused(start: Open, refused) -> None:
    log = MemoryLog(entries(3))
    with refused("witness-old-size"):
        start().add_checkpoint(AddCheckpoint(4, (), log.checkpoint()).render())


def test_evidence_is_bounded(start: Open, refused) -> None:
    witness = start()
    witness.add_checkpoint(MemoryLog(entries(3)).request(0))
    for number in range(module.MAX_EVIDENCE + 5):
        with refused("witness-fork"):
            witness.add_checkpoint(MemoryLog(entries(3, str(number))).request(3))
    assert len(witness.evidence()) == module.MAX_EVIDENCE


def test_another_process_goes_on_from_the_same_state(start: Open) -> None:
    log = MemoryLog(entries(9))
    start().add_checkpoint(log.request(0, 5))
    again = start()
    with pytest.raises(SizeConflict) as caught:
        again.add_checkpoint(log.request(0))
    assert size_of(caught) == 5
    again.add_checkpoint(log.request(5))


def test_the_state_is_on_disk_before_the_cosignature_is_made(
    start: Open, tmp_path: Path, monkeypatch
) -> None:
    log, seen = MemoryLog(entries(4)), []
    real = NoteSigner.sign

    def watching(self: NoteSigner, *arguments: object) -> object:
        if self.type is NoteType.COSIGNATURE_V1:
            with closing(sqlite3.connect(tmp_path / "witness" / "witness.db")) as db:
                seen.append(db.execute("SELECT size FROM logs").fetchone())
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(NoteSigner, "sign", watching)
    start().add_checkpoint(log.request(0))
    assert seen == [(4,)]


def test_a_witness_whose_state_cannot_be_written_signs_nothing(start: Open, tmp_path: Path, refused) -> None:
    witness, log = start(), MemoryLog(entries(4))
    with closing(sqlite3.connect(tmp_path / "witness" / "witness.db")) as db:
        db.execute("DROP TABLE logs")
    with refused("witness-state-unusable"):
        witness.add_checkpoint(log.request(0))


def test_a_state_that_is_no_database_is_refused(tmp_path: Path, clock, refused) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "witness.db").write_bytes(b"x" * 5000)
    with refused("witness-state-unusable"):
        Witness.open(tmp_path / "w", W1, [], now=clock)


def test_the_state_is_its_owners(start: Open, tmp_path: Path) -> None:
    start()
    assert stat.S_IMODE((tmp_path / "witness").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "witness" / "witness.db").stat().st_mode) == 0o600


def test_a_log_key_is_no_witness_key(tmp_path: Path, clock) -> None:
    with pytest.raises(ValueError, match="cosignatures"):
        Witness.open(tmp_path / "w", LOG, [], now=clock)


def test_many_at_once_never_sign_a_step_back(start: Open) -> None:
    """The race of C2SP tlog-witness: an older state must not be recorded over a newer one."""
    witnesses = [start(), start()]
    log = MemoryLog(entries(60))
    last, guard = [0], threading.Lock()

    def ask(number: int) -> None:
        for size in range(1, 61):
            with guard:
                old = last[0]
            if size >= old:
                try:
                    witnesses[number % 2].add_checkpoint(log.request(old, size))
                    reached = size
                except SizeConflict as conflict:
                    reached = conflict.size
                with guard:
                    last[0] = max(last[0], reached)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    with pytest.raises(SizeConflict) as caught:
        witnesses[0].add_checkpoint(log.request(0, 1))
    assert size_of(caught) == 60


def test_mutants_of_a_request(start: Open, survey) -> None:
    """Whatever is changed behind the log's own signature is not cosigned as something else."""
    witness, log = start(), MemoryLog(entries(9))
    witness.add_checkpoint(log.request(0, 5))
    plain, rng = log.request(5), random.Random(11)
    text = note.parse(log.checkpoint()).text

    def ask(data: bytes) -> None:
        W1.key.check(Note(text, note.parse_signatures(witness.add_checkpoint(data))))

    outcomes = survey(ask, (mutate_bytes(rng, plain) for _ in range(2_000)))
    assert outcomes["ok"] < 200  # only what comes after the signature, or one more line of signatures
    assert set(outcomes) - {"ok"} <= {
        "add-checkpoint-malformed",
        "base64-invalid",
        "value-too-large",
        "note-malformed",
        "checkpoint-malformed",
        "witness-origin-unknown",
        "witness-log-signature",
        "witness-conflict",
        "witness-proof",
        "witness-old-size",
    }


PROGRAM = """
import sys, time
from pathlib import Path
from log_rig import LOG, W1, MemoryLog, entries
from strongroom.broker.witness import SizeConflict, Witness

witness = Witness.open(Path(sys.argv[1]), W1, [LOG.key], now=time.time)
log = MemoryLog(entries(5000))
try:
    old = 0
    witness.add_checkpoint(log.request(0, 0))
except SizeConflict as conflict:
    old = conflict.size
while old < 5000:
    line = witness.add_checkpoint(log.request(old, old + 1))
    old += 1
    sys.stdout.write(f"{old} {line.decode()}")
    sys.stdout.flush()
"""


def test_a_killed_witness_never_signs_an_older_or_another_state(start: Open, tmp_path: Path) -> None:
    """It is killed at moments of chance; each time, all that left it is in its state."""
    rng = random.Random(12)
    log = MemoryLog(entries(5000))
    signed = 0
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "witness")],
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(rng.randrange(1, 40)):
            line = process.stdout.readline()
            size = int(line.split()[0])
            assert size == signed + 1, "it went on from what it had signed last, or from behind it"
            signed = size
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].splitlines(keepends=True)
        sizes = [int(line.split()[0]) for line in rest if line.endswith("\n") and line[0].isdigit()]
        signed = max([signed, *sizes])
        with pytest.raises(SizeConflict) as caught:
            start().add_checkpoint(log.request(0, 1))
        assert size_of(caught) in {signed, signed + 1}, "the one whose answer the kill swallowed"
        signed = size_of(caught)
    with pytest.raises(StrongroomError):
        start().add_checkpoint(MemoryLog(entries(signed, "other")).request(signed))
