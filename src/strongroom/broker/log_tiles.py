"""The store's log as the static files of C2SP tlog-tiles: what the broker serves and what is exported."""

from __future__ import annotations

from pathlib import Path

from strongroom.broker import log
from strongroom.broker.files import write_whole
from strongroom.broker.log_errors import LOG_ENTRY_UNKNOWN
from strongroom.broker.store import Store
from strongroom.codec import checkpoint, note, tiles
from strongroom.codec.tiles import CHECKPOINT_PATH, TILE_HEIGHT, Tile
from strongroom.errors import BrokerError


def read(store: Store, path: str) -> bytes:
    """A part of the log by its name.

    Raises:
        BrokerError: `log-entry-unknown`, there is no such part, or not yet; a code of the store.
    """
    if path == CHECKPOINT_PATH:
        return log.published(store)
    tile = tiles.parse_path(path)
    if tile is None:
        raise BrokerError(LOG_ENTRY_UNKNOWN, expected="checkpoint, tile/L/N or tile/entries/N")
    with store.read() as db:
        if tile.level is None:
            parts = [entry for _, entry, _ in log.entries(db, first=tile.first, count=tile.width)]
        else:
            parts = log.hashes(db, TILE_HEIGHT * tile.level, tile.first, tile.width)
    if len(parts) != tile.width:
        raise BrokerError(LOG_ENTRY_UNKNOWN, path, found=len(parts), expected=tile.width)
    return tiles.join_entries(parts) if tile.level is None else b"".join(parts)


def export(store: Store, folder: Path) -> int:
    """Write the log into a folder, from which any web server can serve it; later calls add what is new.

    The checkpoint is written last, so that whoever reads meanwhile finds all that it speaks of.

    Returns:
        The number of entries.

    Raises:
        BrokerError: A code of the store.
        OSError: The folder cannot be written.
    """
    newest = read(store, CHECKPOINT_PATH)
    size = checkpoint.parse(note.parse(newest).text).size
    for tile in tiles.tiles_of(size):
        target = folder / tile.path()
        if not target.exists():
            write_whole(target, read(store, tile.path()))
            _drop_partial(folder, tile)
    write_whole(folder / CHECKPOINT_PATH, newest)
    return size


def _drop_partial(folder: Path, tile: Tile) -> None:
    """Remove the partial tiles that a full one replaces."""
    if tile.width == tiles.TILE_WIDTH:
        partial = folder / f"{tile.path()}.p"
        for path in partial.glob("*"):
            path.unlink()
        if partial.is_dir():
            partial.rmdir()
