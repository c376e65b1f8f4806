"""A log in memory that is signed as a broker's is, and may lie; witnesses for it."""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.codec import tiles
from strongroom.codec.checkpoint import Checkpoint
from strongroom.codec.note import Note
from strongroom.codec.tlog import AddCheckpoint
from strongroom.crypto import merkle
from strongroom.crypto.merkle import Frontier, Place, leaf_hash
from strongroom.crypto.notes import NoteSigner, NoteType

LOG = NoteSigner("log.example/one", NoteType.ED25519, b"\x11" * 32)
W1 = NoteSigner("witness.example/w1", NoteType.COSIGNATURE_V1, b"\x01" * 32)
W2 = NoteSigner("witness.example/w2", NoteType.COSIGNATURE_V1, b"\x02" * 32)


class MemoryLog:
    """A log of given entries; two with one signer are a fork."""

    def __init__(self, entries: Sequence[bytes] = (), signer: NoteSigner = LOG) -> None:
        self.signer = signer
        self.entries: list[bytes] = []
        self.nodes: dict[Place, bytes] = {}
        self.frontier = Frontier()
        self.append(*entries)

    def append(self, *entries: bytes) -> None:
        for entry in entries:
            self.entries.append(entry)
            self.nodes.update(self.frontier.add(leaf_hash(entry)))

    def fetch(self, places: Sequence[Place]) -> list[bytes]:
        return [self.nodes[place] for place in places]

    def checkpoint(self, size: int | None = None, signer: NoteSigner | None = None) -> bytes:
        size = len(self.entries) if size is None else size
        text = Checkpoint(self.signer.name, size, merkle.root(size, self.fetch)).text()
        return Note(text, ((signer or self.signer).sign(text),)).render().encode()

    def request(self, old: int, size: int | None = None) -> bytes:
        """What a log asks a witness."""
        size = len(self.entries) if size is None else size
        proof = merkle.consistency_proof(old, size, self.fetch)
        return AddCheckpoint(old, proof, self.checkpoint(size)).render()

    def read(self, path: str, *, limit: int) -> bytes:
        """As a source for auditors."""
        if path == tiles.CHECKPOINT_PATH:
            return self.checkpoint()
        tile = tiles.parse_path(path)
        assert tile is not None
        if tile.level is None:
            return tiles.join_entries(self.entries[tile.first : tile.first + tile.width])
        level = 8 * tile.level
        return b"".join(self.nodes[Place(level, tile.first + at)] for at in range(tile.width))


def entries(count: int, what: str = "entry") -> list[bytes]:
    return [f"{what} {number}".encode() for number in range(count)]
