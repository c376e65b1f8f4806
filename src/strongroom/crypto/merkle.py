"""Merkle trees of append-only logs (RFC 6962, section 2.1; RFC 9162, section 2.1).

A node is named by level and place: level 0 holds the leaves' hashes, and node (l, p) covers the leaves from
p * 2^l to (p + 1) * 2^l. Only nodes whose leaves are all there are ever stored, and they never change. The
root of any size, and each proof, is made of a few of them.

    frontier = Frontier()
    for entry in entries:
        store(frontier.add(leaf_hash(entry)))
    root = frontier.root()
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from strongroom.crypto.errors import MERKLE_PROOF_INVALID
from strongroom.errors import CryptoError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


class Place(NamedTuple):
    """The name of a stored node: its level above the leaves, and its number in the level, from 0."""

    level: int
    number: int


class Node(NamedTuple):
    """A stored node."""

    place: Place
    hash: bytes


Fetch = Callable[[Sequence[Place]], Sequence[bytes]]
"""Gives the hashes of stored nodes, in the order asked for."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two neighbours."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: the roots of its largest full subtrees, from the left.

    Args:
        size: Number of leaves.
        hashes: As many as `size` has bits set.

    Raises:
        CryptoError: `merkle-proof-invalid`, another number of hashes.
    """

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self._hashes = list(hashes)
        self.size = size
        if len(self._hashes) != size.bit_count():
            raise CryptoError(MERKLE_PROOF_INVALID, "another number of hashes than the size asks for")

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The roots of the largest full subtrees, from the left."""
        return tuple(self._hashes)

    def add(self, leaf: bytes) -> list[Node]:
        """Append a leaf's hash; returns the nodes that are complete with it, the leaf first."""
        place, number = Place(0, self.size), self.size
        nodes = [Node(place, leaf)]
        while number & 1:
            leaf = node_hash(self._hashes.pop(), leaf)
            number >>= 1
            place = Place(place.level + 1, number)
            nodes.append(Node(place, leaf))
        self._hashes.append(leaf)
        self.size += 1
        return nodes

    def root(self) -> bytes:
        """The root of the whole tree."""
        return _fold(self._hashes)


def root(size: int, fetch: Fetch) -> bytes:
    """The root of the tree of the first `size` leaves."""
    return _fold(fetch(_cover(0, size)))


def inclusion_proof(index: int, size: int, fetch: Fetch) -> tuple[bytes, ...]:
    """The path of a leaf in the tree of the first `size` leaves (RFC 6962, section 2.1.1).

    Raises:
        ValueError: There is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError("no such leaf")
    return _read(_path(index, 0, size), fetch)


def consistency_proof(old: int, size: int, fetch: Fetch) -> tuple[bytes, ...]:
    """The proof that the first `size` leaves begin with the first `old` ones (RFC 6962, section 2.1.2).

    Raises:
        ValueError: `old` is larger than `size`.
    """
    if not 0 <= old <= size:
        raise ValueError("the old size is larger")
    return () if old in {0, size} else _read(_subproof(old, 0, size, complete=True), fetch)


def verify_inclusion(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes) -> None:
    """Check that a leaf stands at `index` of the tree (RFC 9162, section 2.1.3.2).

    Raises:
        CryptoError: `merkle-proof-invalid`.
    """
    if not 0 <= index < size:
        raise CryptoError(
            MERKLE_PROOF_INVALID, "there is no such entry", found=index, expected=f"below {size}"
        )
    place, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise CryptoError(MERKLE_PROOF_INVALID, "the path is too long")
        if place & 1 or place == last:
            found = node_hash(step, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise CryptoError(MERKLE_PROOF_INVALID, "the path is too short")
    if found != root_hash:
        raise CryptoError(MERKLE_PROOF_INVALID, "the path leads to another root")


def verify_consistency(
    *, old: int, old_root: bytes, size: int, root_hash: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree of `size` leaves begins with that of `old` (RFC 9162, section 2.1.4.2).

    Raises:
        CryptoError: `merkle-proof-invalid`.
    """
    if old > size:
        raise CryptoError(
            MERKLE_PROOF_INVALID, "the log has become smaller", found=size, expected=f"at least {old}"
        )
    if old == size and old_root != root_hash:
        raise CryptoError(MERKLE_PROOF_INVALID, "one size with two roots")
    if old == 0 and old_root != EMPTY_ROOT:
        raise CryptoError(MERKLE_PROOF_INVALID, "an empty tree with another root")
    if old in {0, size}:
        if proof:
            raise CryptoError(MERKLE_PROOF_INVALID, "the path is too long")
        return
    if old & (old - 1) == 0:
        proof = [old_root, *proof]
    if not proof:
        raise CryptoError(MERKLE_PROOF_INVALID, "the path is too short")
    _check_consistency(old - 1, size - 1, proof, old_root, root_hash)


def _check_consistency(
    place: int, last: int, proof: Sequence[bytes], old_root: bytes, root_hash: bytes
) -> None:
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = proof[0]
    for step in proof[1:]:
        if last == 0:
            raise CryptoError(MERKLE_PROOF_INVALID, "the path is too long")
        if place & 1 or place == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, step)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise CryptoError(MERKLE_PROOF_INVALID, "the path is too short")
    if before != old_root:
        raise CryptoError(MERKLE_PROOF_INVALID, "the path leads to another root of the older tree")
    if after != root_hash:
        raise CryptoError(MERKLE_PROOF_INVALID, "the path leads to another root")


def _cover(start: int, end: int) -> list[Place]:
    """The largest full subtrees that make up the leaves from `start` to `end`, from the left.

    `start` is a multiple of the largest power of two that is not above `end - start`.
    """
    places = []
    while start < end:
        level = (end - start).bit_length() - 1
        places.append(Place(level, start >> level))
        start += 1 << level
    return places


def _split(start: int, end: int) -> int:
    """Where a tree of more than one leaf divides: the largest power of two below its number of leaves."""
    return start + (1 << ((end - start - 1).bit_length() - 1))


def _path(index: int, start: int, end: int) -> list[list[Place]]:
    """Subtrees beside the way from a leaf up to the root of the leaves from `start` to `end`."""
    beside = []
    while end - start > 1:
        middle = _split(start, end)
        if index < middle:
            beside.append(_cover(middle, end))
            end = middle
        else:
            beside.append(_cover(start, middle))
            start = middle
    return beside[::-1]


def _subproof(old: int, start: int, end: int, *, complete: bool) -> list[list[Place]]:
    beside = []
    while old != end:
        middle = _split(start, end)
        if old <= middle:
            beside.append(_cover(middle, end))
            end = middle
        else:
            beside.append(_cover(start, middle))
            start, complete = middle, False
    if not complete:
        beside.append(_cover(start, end))
    return beside[::-1]


def _read(subtrees: list[list[Place]], fetch: Fetch) -> tuple[bytes, ...]:
    """The roots of subtrees, with one fetch for all their nodes."""
    hashes = iter(fetch([place for cover in subtrees for place in cover]))
    return tuple(_fold([next(hashes) for _ in cover]) for cover in subtrees)


def _fold(hashes: Sequence[bytes]) -> bytes:
    """The root over full subtrees, from the left."""
    if not hashes:
        return EMPTY_ROOT
    found = hashes[-1]
    for left in reversed(hashes[:-1]):
        found = node_hash(left, found)
    return found
