"""The reader of /etc/ld.so.cache: this machine's, built ones, and broken ones."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.attestation import _ldcache
from strongroom.attestation.measurement_errors import MeasurementError

HEADER = 48
ENTRY = 24


def build(entries: Sequence[tuple[str, str]], *, count: int | None = None) -> bytes:
    strings = bytearray()
    base = HEADER + ENTRY * len(entries)
    rows = bytearray()
    for name, path in entries:
        places = []
        for text in (name, path):
            places.append(base + len(strings))
            strings += text.encode() + b"\0"
        rows += struct.pack("<iIIIQ", 0x0303, *places, 0, 0)
    header = b"glibc-ld.so.cache1.1" + struct.pack("<IIB", count or len(entries), len(strings), 2)
    return header.ljust(HEADER, b"\0") + bytes(rows) + bytes(strings)


def refused(data: bytes) -> str:
    with pytest.raises(MeasurementError) as caught:
        _ldcache.parse(data)
    assert caught.value.code == "ld-cache-malformed"
    return caught.value.detail


def test_keeps_the_order_of_candidates() -> None:
    data = build([("libz.so.1", "/b/libz.so.1"), ("libm.so.6", "/m"), ("libz.so.1", "/a/libz.so.1")])
    assert _ldcache.parse(data) == {"libz.so.1": ("/b/libz.so.1", "/a/libz.so.1"), "libm.so.6": ("/m",)}


def test_empty_cache() -> None:
    assert _ldcache.parse(_ldcache.EMPTY) == {}
    assert _ldcache.parse(build([])) == {}


def test_agrees_with_ldconfig() -> None:
    cache, ldconfig = Path("/etc/ld.so.cache"), shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if ldconfig is None or not cache.exists():
        pytest.skip("no ldconfig or no cache on this machine")
    shown = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=True, env={}).stdout
    lines = [line.strip() for line in shown.splitlines() if " => " in line]
    expected = [(line.partition(" ")[0], line.partition(" => ")[2]) for line in lines]
    found = _ldcache.parse(cache.read_bytes())
    assert [(name, path) for name, paths in found.items() for path in paths] == sorted(
        expected, key=lambda pair: list(found).index(pair[0])
    )


def test_refuses_other_formats() -> None:
    assert refused(b"") == "header"
    assert refused(b"ld.so-1.7.0" + bytes(100)) == "header"
    assert refused(_ldcache.EMPTY[:-1]) == "header"


def test_refuses_more_than_the_bound() -> None:
    assert refused(_ldcache.EMPTY + bytes(_ldcache.MAX_CACHE)) == "size"


def test_refuses_more_entries_than_fit() -> None:
    assert refused(build([("a", "b")], count=2**32 - 1)) == "number of entries"
    assert refused(build([], count=1)) == "number of entries"


@pytest.mark.parametrize("place", [10**6, 2**32 - 1])
def test_refuses_a_string_outside_the_file(place: int) -> None:
    data = bytearray(build([("a", "b")]))
    struct.pack_into("<I", data, HEADER + 4, place)
    assert refused(bytes(data)) == "string"


def test_refuses_a_string_without_end_or_not_text() -> None:
    assert refused(build([("a", "b")])[:-1]) == "string"
    assert refused(build([("a", "x" * 4096)])) == "string"
    assert refused(build([("a", "zz")]).replace(b"zz", b"\xff\xff")) == "string"


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@given(st.lists(st.tuples(names, names), max_size=8))
def test_reads_back_whatever_is_written(entries: list[tuple[str, str]]) -> None:
    found = _ldcache.parse(build(entries))
    assert {name: tuple(p for n, p in entries if n == name) for name, _ in entries} == found


def test_20000_mutants_give_only_our_error() -> None:
    rng = random.Random(11)
    plain = build([(f"lib{n}.so", f"/usr/lib/lib{n}.so") for n in range(5)])
    outcomes = {"parsed": 0}
    for _ in range(20_000):
        data = bytearray(plain)
        for _ in range(rng.choice([1, 2, 3])):
            at = rng.randrange(20, len(data))
            if rng.random() < 0.5:
                data[at] = rng.randrange(256)
            else:
                struct.pack_into("<I", data, min(at, len(data) - 4), rng.choice([0, 1, 2**31, 2**32 - 1]))
        if rng.random() < 0.2:
            del data[rng.randrange(HEADER, len(data)) :]
        try:
            _ldcache.parse(bytes(data))
            outcomes["parsed"] += 1
        except MeasurementError as error:
            outcomes[error.detail] = outcomes.get(error.detail, 0) + 1
    assert sum(outcomes.values()) == 20_000
    assert outcomes.keys() == {"parsed", "number of entries", "string"}
