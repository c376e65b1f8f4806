"""The static form of a log: names of its tiles and bundles of its entries (C2SP tlog-tiles).

checkpoint
tile/<L>/<N>[.p/<W>]         up to 256 hashes of level 8 * L, 32 bytes each
tile/entries/<N>[.p/<W>]     up to 256 entries, each behind its length in two bytes
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.codec.checkpoint import HASH_BYTES, MAX_SIZE
from strongroom.codec.errors import LOG_TILE_MALFORMED
from strongroom.errors import CodecError

CHECKPOINT_PATH: Final = "checkpoint"
TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
MAX_ENTRY: Final = 2**16 - 1
"""Bytes of an entry."""

MAX_BUNDLE: Final = TILE_WIDTH * (2 + MAX_ENTRY)
MAX_TILE: Final = TILE_WIDTH * HASH_BYTES
_LENGTH: Final = 2
_MAX_LEVEL: Final = 6
_ENTRIES: Final = "entries"
_NAME: Final = re.compile(
    r"tile/(entries|[0-6])/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile or bundle of a log.

    Attributes:
        level: 0 for leaf hashes and above, None for a bundle of entries.
        number: Which one of the level, from 0.
        width: How many hashes or entries it has; 256 if it is full.
    """

    level: int | None
    number: int
    width: int = TILE_WIDTH

    @property
    def first(self) -> int:
        """Number of its first hash in the level, or of its first entry."""
        return self.number * TILE_WIDTH

    def path(self) -> str:
        """Its name behind the log's prefix."""
        digits = f"{self.number:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        name = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
        level = _ENTRIES if self.level is None else str(self.level)
        return f"tile/{level}/{name}" + ("" if self.width == TILE_WIDTH else f".p/{self.width}")


def parse_path(path: str) -> Tile | None:
    """The tile of a name, or None if it is not one's only name."""
    found = _NAME.fullmatch(path)
    if not found:
        return None
    level = None if found[1] == _ENTRIES else int(found[1])
    number = int(found[2].replace("x", "").replace("/", ""))
    tile = Tile(level, number, int(found[3] or TILE_WIDTH))
    return tile if tile.width <= TILE_WIDTH and tile.path() == path else None


def tiles_of(size: int, *, start: int = 0) -> Iterator[Tile]:
    """The tiles and bundles of a log of `size` entries that a log of `start` entries does not have."""
    for level in (None, *range(_MAX_LEVEL + 1)):
        shift = TILE_HEIGHT * (level or 0)
        hashes, before = size >> shift, start >> shift
        if hashes > before:
            for number in range(before // TILE_WIDTH, -(-hashes // TILE_WIDTH)):
                yield Tile(level, number, min(TILE_WIDTH, hashes - number * TILE_WIDTH))


def join_entries(entries: Iterable[bytes]) -> bytes:
    """A bundle.

    Raises:
        OverflowError: An entry has more than 65,535 bytes.
    """
    return b"".join(len(entry).to_bytes(_LENGTH, "big") + entry for entry in entries)


def split_entries(bundle: bytes, *, count: int) -> list[bytes]:
    """The entries of a bundle, exactly `count`.

    Raises:
        CodecError: `log-tile-malformed`.
    """
    entries = []
    at = 0
    for _ in range(count):
        end = at + _LENGTH + int.from_bytes(bundle[at : at + _LENGTH], "big")
        if at + _LENGTH > len(bundle) or end > len(bundle):
            raise CodecError(LOG_TILE_MALFORMED, "a bundle of entries is cut short")
        entries.append(bundle[at + _LENGTH : end])
        at = end
    if at != len(bundle):
        raise CodecError(LOG_TILE_MALFORMED, "a bundle of entries has a tail")
    return entries


def split_hashes(tile: bytes, *, count: int) -> list[bytes]:
    """The hashes of a tile, exactly `count`.

    Raises:
        CodecError: `log-tile-malformed`.
    """
    if len(tile) != count * HASH_BYTES:
        raise CodecError(
            LOG_TILE_MALFORMED,
            "a tile has another length",
            found=f"{len(tile)} bytes",
            expected=count * HASH_BYTES,
        )
    return [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]


assert MAX_SIZE >> (TILE_HEIGHT * (_MAX_LEVEL + 1)) == 0  # noqa: S101 -- no log needs a higher level
