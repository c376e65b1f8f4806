"""Auditing a log that others run: all of it at once, or what is new since the last time.

    step = advance(source, State(), key)          # State.parse(...) goes on from an earlier one
    for index, entry in step.entries(): ...
    keep(step.state.render())

An auditor holds the log's key and the last state that it checked. It takes a newer checkpoint only if the
entries that it has seen, followed by the new ones, make exactly the tree that was signed; else the log has
forked, and the two signed checkpoints show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Self

from strongroom.broker.errors import LOG_BROKEN
from strongroom.broker.log_errors import LOG_FORKED, LOG_STATE
from strongroom.broker.log_source import LogSource
from strongroom.broker.receipt import NO_WITNESSES, Witnesses, check_checkpoint
from strongroom.codec import b64, jcs, tiles
from strongroom.codec.checkpoint import Checkpoint
from strongroom.codec.note import MAX_NOTE
from strongroom.codec.tiles import CHECKPOINT_PATH, MAX_BUNDLE, MAX_TILE, TILE_HEIGHT, TILE_WIDTH, Tile
from strongroom.crypto.merkle import HASH_BYTES, Frontier, Node, leaf_hash
from strongroom.crypto.notes import NoteKey
from strongroom.errors import BrokerError, CodecError, CryptoError

STATE_TYPE: Final = "strongroom-log-state/1"
MAX_STATE: Final = 2 * MAX_NOTE


class LogForked(BrokerError):  # noqa: N818 -- a finding, not a fault
    """The log contradicts what it showed before.

    Attributes:
        evidence: The checkpoint of before and the one of now, each signed by the log.
    """

    def __init__(self, detail: str, before: bytes, now: bytes) -> None:
        super().__init__(LOG_FORKED, detail)
        self.evidence = (before, now)


@dataclass(frozen=True, slots=True)
class State:
    """What an auditor keeps of a log.

    Attributes:
        checkpoint: The last signed checkpoint that was checked; empty before the first.
        size: Its number of entries.
        hashes: The frontier of its tree, to go on from.
    """

    checkpoint: bytes = b""
    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def render(self) -> bytes:
        """As a JSON file."""
        return jcs.canonical(
            {
                "type": STATE_TYPE,
                "checkpoint": self.checkpoint.decode(),
                "frontier": [b64.encode_std(each) for each in self.hashes],
            }
        )

    @classmethod
    def parse(cls, data: bytes, key: NoteKey) -> Self:
        """Read what `render` wrote.

        Args:
            data: The file.
            key: The log's key; a state of another log is refused.

        Raises:
            BrokerError: `log-state-invalid`.
        """
        try:
            members = jcs.parse(data, limit=MAX_STATE, what="state")
            note = members["checkpoint"].encode()
            hashes = tuple(
                b64.decode_std(each, limit=HASH_BYTES, what="hash") for each in members["frontier"]
            )
            head = check_checkpoint(note, key)
            root = Frontier(head.size, hashes).root()
        except (BrokerError, CodecError, CryptoError) as error:
            raise BrokerError(LOG_STATE, error.code) from error
        except (KeyError, TypeError, AttributeError):
            raise BrokerError(LOG_STATE, "another form", expected=STATE_TYPE) from None
        if members.get("type") != STATE_TYPE or root != head.root:
            raise BrokerError(LOG_STATE, "its hashes are not those of its checkpoint")
        return cls(note, head.size, hashes)


@dataclass(frozen=True, slots=True)
class Step:
    """A newer state of a log that has been checked.

    Attributes:
        state: The state to keep once the entries have been read.
        head: Its checkpoint.
        first: Number of the first entry that is new.
    """

    state: State
    head: Checkpoint
    first: int
    _source: LogSource = field(repr=False)
    _leaves: list[bytes] = field(repr=False)

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of each new entry, in order; each is the one that the tree has there.

        Raises:
            BrokerError: `log-broken`: another entry is served.
            CodecError: `log-tile-malformed`.
            UnreachableError: `log-unreachable`.
        """
        for tile in _row(None, self.first, self.head.size):
            bundle = self._source.read(tile.path(), limit=MAX_BUNDLE)
            for index, entry in enumerate(tiles.split_entries(bundle, count=tile.width), tile.first):
                if index >= self.first:
                    if leaf_hash(entry) != self._leaves[index - self.first]:
                        raise BrokerError(LOG_BROKEN, f"entry {index} is not the one in the tree")
                    yield index, entry


def advance(source: LogSource, state: State, key: NoteKey, witnesses: Witnesses = NO_WITNESSES) -> Step:
    """Go on from a state to what the log shows now.

    Raises:
        LogForked: `log-forked`, with the evidence.
        BrokerError: `log-broken`, the tree is not the one that was signed; `log-unwitnessed`;
            `log-receipt-invalid`, the checkpoint is malformed or of another log.
        CryptoError: `note-unsigned` or `signature-invalid`.
        CodecError: `log-tile-malformed`.
        UnreachableError: `log-unreachable`.
    """
    note = source.read(CHECKPOINT_PATH, limit=MAX_NOTE)
    head = check_checkpoint(note, key, witnesses)
    if head.size < state.size:
        raise LogForked("it has become smaller", state.checkpoint, note)
    frontier = Frontier(state.size, state.hashes)
    leaves = list(_hashes(source, 0, state.size, head.size))
    for leaf in leaves:
        frontier.add(leaf)
    if frontier.root() != head.root:
        if state.size:
            raise LogForked("its new entries do not follow those of before", state.checkpoint, note)
        raise BrokerError(LOG_BROKEN, "its hashes do not make the root that was signed")
    return Step(State(note, head.size, frontier.hashes), head, state.size, source, leaves)


def verify(
    source: LogSource,
    key: NoteKey,
    witnesses: Witnesses = NO_WITNESSES,
    *,
    since: Checkpoint | None = None,
    since_note: bytes = b"",
) -> Step:
    """Check a whole log: signatures, every entry, every tile.

    Args:
        source: The log.
        key: Its key.
        witnesses: Who must have cosigned it.
        since: A checkpoint that was kept earlier; the log must have grown from it.
        since_note: The note of that checkpoint, for the evidence.

    Raises:
        LogForked: `log-forked`.
        BrokerError, CryptoError, CodecError, UnreachableError: As `advance` and `Step.entries`.
    """
    step = advance(source, State(), key, witnesses)
    if since is not None and step.head.size < since.size:
        raise LogForked("it has become smaller", since_note, step.state.checkpoint)
    frontier = Frontier()
    upper: dict[int, list[bytes]] = {}
    roots = {0: frontier.root()}
    for _, entry in step.entries():
        _collect(upper, frontier.add(leaf_hash(entry)))
        if since is not None and frontier.size == since.size:
            roots[frontier.size] = frontier.root()
    for level, expected in upper.items():
        if list(_hashes(source, level, 0, len(expected))) != expected:
            raise BrokerError(LOG_BROKEN, f"the tiles of level {level} are not those of the entries")
    if since is not None and roots[since.size] != since.root:
        raise LogForked("it did not grow from the checkpoint kept", since_note, step.state.checkpoint)
    return step


def _collect(upper: dict[int, list[bytes]], nodes: list[Node]) -> None:
    """Keep the hashes that stand in tiles above level 0, by level of the tile."""
    for node in nodes:
        level, rest = divmod(node.place.level, TILE_HEIGHT)
        if level and not rest:
            upper.setdefault(level, []).append(node.hash)


def _hashes(source: LogSource, level: int, start: int, end: int) -> Iterator[bytes]:
    """The hashes of a level of tiles from number `start` to `end`."""
    for tile in _row(level, start, end):
        hashes = tiles.split_hashes(source.read(tile.path(), limit=MAX_TILE), count=tile.width)
        yield from hashes[max(0, start - tile.first) :]


def _row(level: int | None, start: int, end: int) -> Iterator[Tile]:
    """The tiles of a level in a log of `end` hashes there that have one from number `start`."""
    for number in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
        if (number + 1) * TILE_WIDTH > start:
            yield Tile(level, number, min(TILE_WIDTH, end - number * TILE_WIDTH))
