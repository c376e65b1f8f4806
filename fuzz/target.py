"""A target: parsers that are fuzzed together, each with the inputs to begin from.

The first byte of an input chooses the parser; the rest is what it reads. A parser may return anything and may
raise `StrongroomError`. Everything else is a crash, of the libraries below too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from fuzz.material import Material
from strongroom.errors import StrongroomError

MAX_INPUT: Final = 64 * 1024
"""Most bytes of an input, with the byte that chooses the parser."""


@dataclass(frozen=True, slots=True)
class Parser:
    """One parser.

    Attributes:
        name: What it reads, in words.
        parse: Reads bytes.
        seeds: Inputs of which most are good.
    """

    name: str
    parse: Callable[[bytes], object]
    seeds: Callable[[Material], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Target:
    """Parsers that are fuzzed in one process.

    Attributes:
        name: Its name on the command line.
        parsers: At most 256, in an order that only grows, so that kept inputs keep their meaning.
    """

    name: str
    parsers: tuple[Parser, ...]

    def __call__(self, data: bytes) -> None:
        """Parse one input; only what is not a `StrongroomError` comes through."""
        if data:
            with contextlib.suppress(StrongroomError):
                self.parsers[data[0] % len(self.parsers)].parse(data[1:])

    def seeds(self, material: Material) -> Iterator[bytes]:
        """All inputs to begin from, each with the byte that chooses its parser, cut to `MAX_INPUT`."""
        for number, parser in enumerate(self.parsers):
            for seed in parser.seeds(material):
                yield bytes([number]) + seed[: MAX_INPUT - 1]


def join(*parts: bytes) -> bytes:
    """Parts as one input: each but the last with its length, 3 bytes, before it."""
    return b"".join(len(part).to_bytes(3) + part for part in parts[:-1]) + parts[-1]


def split(data: bytes, count: int) -> list[bytes]:
    """The parts of an input. There are always `count`; those that are missing are empty."""
    parts = []
    for _ in range(count - 1):
        end = 3 + int.from_bytes(data[:3])
        parts.append(data[3:end])
        data = data[end:]
    return [*parts, data]


def time_of(part: bytes) -> int:
    """A Unix time in a part: at most 6 bytes, big-endian."""
    return int.from_bytes(part[:6])
