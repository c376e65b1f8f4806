"""Auditing: a log that holds is followed, and every lie of whoever serves it is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from log_rig import LOG, W1, MemoryLog, entries
from strongroom.broker import audit
from strongroom.broker.audit import LogForked, State, advance, verify
from strongroom.broker.receipt import Witnesses
from strongroom.codec import checkpoint, note
from strongroom.codec.note import Note
from strongroom.crypto.notes import NoteSigner, NoteType


def followed(source: Any, state: State, **arguments: Any) -> tuple[State, list[bytes]]:
    step = advance(source, state, LOG.key, **arguments)
    found = list(step.entries())
    assert [index for index, _ in found] == list(range(step.first, step.head.size))
    return step.state, [entry for _, entry in found]


class Lying:
    """A source that gives something else for one part."""

    def __init__(self, source: Any, path: str, change: Callable[[bytes], bytes]) -> None:
        self.source, self.path, self.change = source, path, change

    def read(self, path: str, *, limit: int) -> bytes:
        data: bytes = self.source.read(path, limit=limit)
        return self.change(data) if path == self.path else data


@pytest.mark.parametrize("sizes", [(0,), (1, 1, 2), (255, 256, 257), (300, 700), (0, 5, 513)])
def test_a_log_is_followed_from_step_to_step(sizes: tuple[int, ...]) -> None:
    source, state = MemoryLog(), State()
    for size in sizes:
        new = entries(size)[len(source.entries) :]
        source.append(*new)
        state, found = followed(source, state)
        assert found == new
        assert State.parse(state.render(), LOG.key) == state


@pytest.mark.parametrize("size", [0, 1, 256, 1000])
def test_a_whole_log_is_verified(size: int) -> None:
    source = MemoryLog(entries(size))
    assert verify(source, LOG.key).head.size == size


def test_a_log_that_has_grown_from_a_checkpoint_kept() -> None:
    source = MemoryLog(entries(300))
    for size in (0, 1, 255, 256, 300):
        since = checkpoint.parse(note.parse(source.checkpoint(size)).text)
        verify(source, LOG.key, since=since)


def test_a_fork_since_the_last_step_is_shown_with_both_checkpoints() -> None:
    honest = MemoryLog(entries(10))
    state, _ = followed(honest, State())
    other = MemoryLog([*entries(9), b"another", *entries(5)])
    with pytest.raises(LogForked) as caught:
        advance(other, state, LOG.key)
    assert caught.value.code == "log-forked"
    assert caught.value.exit_code == 3
    assert caught.value.evidence == (honest.checkpoint(), other.checkpoint())


def test_another_root_for_the_same_size_is_a_fork() -> None:
    state, _ = followed(MemoryLog(entries(10)), State())
    with pytest.raises(LogForked):
        advance(MemoryLog(entries(10, "other")), state, LOG.key)


def test_a_log_that_became_smaller_is_a_fork() -> None:
    source = MemoryLog(entries(10))
    state, _ = followed(source, State())
    with pytest.raises(LogForked):
        advance(MemoryLog(entries(9)), state, LOG.key)
    since = checkpoint.parse(note.parse(source.checkpoint()).text)
    with pytest.raises(LogForked):
        verify(MemoryLog(entries(9)), LOG.key, since=since)


def test_a_log_that_did_not_grow_from_the_checkpoint_kept_is_a_fork() -> None:
    kept = MemoryLog(entries(10, "other"))
    since = checkpoint.parse(note.parse(kept.checkpoint()).text)
    source = MemoryLog(entries(20))
    with pytest.raises(LogForked) as caught:
        verify(source, LOG.key, since=since, since_note=kept.checkpoint())
    assert caught.value.evidence == (kept.checkpoint(), source.checkpoint())
    with pytest.raises(LogForked):
        verify(source, LOG.key, since=replace(since, size=0))


@pytest.mark.parametrize(
    ("path", "change", "code"),
    [
        ("checkpoint", lambda data: data.replace(b"\n300\n", b"\n299\n"), "signature-invalid"),
        ("checkpoint", lambda data: b"hello", "log-receipt-invalid"),
        ("tile/0/000", lambda data: bytes(32) + data[32:], "log-broken"),
        ("tile/0/000", lambda data: data[:-32], "log-tile-malformed"),
        ("tile/0/001.p/44", lambda data: data[32:] + data[:32], "log-broken"),
        ("tile/1/000.p/1", lambda data: bytes(32), "log-broken"),
        ("tile/entries/000", lambda data: data.replace(b"entry 7", b"entry X", 1), "log-broken"),
        ("tile/entries/000", lambda data: data + b"\x00\x00", "log-tile-malformed"),
        ("tile/entries/001.p/44", lambda data: data[:-1], "log-tile-malformed"),
    ],
)
def test_a_lie_in_one_part_is_seen(path: str, change: Callable[[bytes], bytes], code: str, refused) -> None:
    source = MemoryLog(entries(300))
    with refused(code):
        verify(Lying(source, path, change), LOG.key)


def test_entries_are_checked_one_by_one_by_a_follower(refused) -> None:
    source = Lying(MemoryLog(entries(3)), "tile/entries/000.p/3", lambda data: data.replace(b"2", b"X"))
    found = advance(source, State(), LOG.key).entries()
    assert next(found) == (0, b"entry 0")
    assert next(found) == (1, b"entry 1")
    with refused("log-broken"):
        next(found)


def test_the_log_of_another_key_is_refused(refused) -> None:
    other = NoteSigner(LOG.name, NoteType.ED25519, b"\x31" * 32)
    with refused("note-unsigned"):
        advance(MemoryLog(entries(1), other), State(), LOG.key)


def test_witnesses_are_insisted_on(refused) -> None:
    source = MemoryLog(entries(3))
    with refused("log-unwitnessed"):
        advance(source, State(), LOG.key, Witnesses((W1.key,), 1))

    def cosign(data: bytes) -> bytes:
        signed = note.parse(data)
        return Note(signed.text, (*signed.signatures, W1.sign(signed.text, 5))).render().encode()

    advance(Lying(source, "checkpoint", cosign), State(), LOG.key, Witnesses((W1.key,), 1))


def test_a_state_that_was_changed_is_refused(refused) -> None:
    state, _ = followed(MemoryLog(entries(11)), State())
    other, _ = followed(MemoryLog(entries(11, "other")), State())
    plain = state.render()
    for data in (
        b"",
        b"[]",
        b"{}",
        plain.replace(b"strongroom-log-state/1", b"strongroom-log-state/2"),
        plain.replace(b"\\n11\\n", b"\\n12\\n"),
        State(state.checkpoint, 11, other.hashes).render(),
        State(state.checkpoint, 11, state.hashes[:-1]).render(),
    ):
        with refused("log-state-invalid"):
            State.parse(data, LOG.key)
    with refused("log-state-invalid"):
        State.parse(plain, W1.key)


def test_a_state_is_small() -> None:
    state, _ = followed(MemoryLog(entries(1023)), State())
    assert len(state.render()) < 1500 < audit.MAX_STATE
