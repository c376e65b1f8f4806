"""Names and contents of tiles (C2SP tlog-tiles)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.codec import tiles
from strongroom.codec.tiles import TILE_WIDTH, Tile

TILES = st.builds(Tile, st.none() | st.integers(0, 6), st.integers(0, 10**15), st.integers(1, TILE_WIDTH))


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1234067), "tile/0/x001/x234/067"),  # the example of the specification
        (Tile(1, 999, 255), "tile/1/999.p/255"),
        (Tile(1, 1000, 1), "tile/1/x001/000.p/1"),
        (Tile(None, 7, 3), "tile/entries/007.p/3"),
        (Tile(None, 7), "tile/entries/007"),
    ],
)
def test_names(tile: Tile, path: str) -> None:
    assert tile.path() == path
    assert tiles.parse_path(path) == tile


@given(TILES)
def test_names_read_back(tile: Tile) -> None:
    assert tiles.parse_path(tile.path()) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "checkpoint",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/0000",
        "tile/00/000",
        "tile/7/000",
        "tile/0/x000/001",
        "tile/0/x001/x01/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/999",
        "tile/0/000.p",
        "tile/0/\u0660\u0660\u0660",
        "tile/0/000\n",
        "/tile/0/000",
        "tile/0/../000",
        "tile/entry/000",
        "tile/0/" + "x001/" * 6 + "000",
    ],
)
def test_what_names_no_tile(path: str) -> None:
    assert tiles.parse_path(path) is None


def test_mutants_of_a_name() -> None:
    """Whatever reads as a tile is its only name."""
    rng = random.Random(6)
    plain = "tile/0/x001/x234/067.p/12"
    found = 0
    for _ in range(20_000):
        text = list(plain)
        for _ in range(rng.choice([1, 2])):
            text[rng.randrange(len(text))] = rng.choice("0123456789x/.pentris")
        tile = tiles.parse_path("".join(text))
        if tile is not None:
            found += 1
            assert tile.path() == "".join(text)
    assert found > 100


def test_the_example_of_a_tree_of_70000() -> None:
    """C2SP tlog-tiles: 273 full tiles and one of width 112; one full and one of 17; one of width 1."""
    found = list(tiles.tiles_of(70_000))
    by_level = {level: [t.width for t in found if t.level == level] for level in (None, 0, 1, 2, 3)}
    assert by_level[0] == by_level[None] == [256] * 273 + [112]
    assert by_level[1] == [256, 17]
    assert by_level[2] == [1]
    assert by_level[3] == []


def test_a_full_tile_begins_the_level_above() -> None:
    assert list(tiles.tiles_of(256)) == [Tile(None, 0), Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles.tiles_of(0)) == []


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_what_is_new_since_an_older_size(start: int, more: int) -> None:
    """What an older log had, and still has, is not named again."""
    size = start + more
    assert set(tiles.tiles_of(size, start=start)) == set(tiles.tiles_of(size)) - set(tiles.tiles_of(start))


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundles_read_back(entries: list[bytes]) -> None:
    assert tiles.split_entries(tiles.join_entries(entries), count=len(entries)) == entries


def test_an_entry_is_bounded() -> None:
    most = b"x" * tiles.MAX_ENTRY
    assert tiles.split_entries(tiles.join_entries([most]), count=1) == [most]
    with pytest.raises(OverflowError):
        tiles.join_entries([most + b"x"])


@pytest.mark.parametrize(
    ("bundle", "count"),
    [(b"", 1), (b"\x00", 1), (b"\x00\x02a", 1), (b"\x00\x01ab", 1), (b"\x00\x01a", 2), (b"\x00\x01a", 0)],
)
def test_other_bundles_are_refused(bundle: bytes, count: int, refused) -> None:
    with refused("log-tile-malformed"):
        tiles.split_entries(bundle, count=count)


def test_hashes_of_a_tile(refused) -> None:
    assert tiles.split_hashes(b"a" * 32 + b"b" * 32, count=2) == [b"a" * 32, b"b" * 32]
    for data in (b"", b"a" * 32, b"a" * 63, b"a" * 65):
        with refused("log-tile-malformed"):
            tiles.split_hashes(data, count=2)
