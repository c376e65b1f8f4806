"""TOML from outside, bounded before it is parsed.

The parser of the standard library takes time in the square of the parts of a dotted key. Our documents have
none: a line with more than a few dots outside double quotes is refused unread. All else takes time by the
number of lines, values and keys, at a few microseconds each: so these are bounded too.
"""

from __future__ import annotations

import tomllib
from typing import Any, Final

MOST_DOTS: Final = 16
"""Dots of one line outside double quotes; comment lines may have any number."""

MOST_PARTS: Final = 8192
"""Line ends, commas, equals signs, opening brackets and braces, and the dots that count, of a document."""


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document of bounded size.

    Raises:
        ValueError: It is not TOML, has too many parts, or a line has too many dots.
        RecursionError: It is nested too deeply.
    """
    parts = sum(text.count(mark) for mark in "\n,=[{")
    if parts > MOST_PARTS:
        raise ValueError("too many lines, values or keys")
    for line in text.split("\n"):
        dots = 0 if line.lstrip().startswith("#") else _dots(line)
        if dots > MOST_DOTS:
            raise ValueError("too many dots in a line")
        parts += dots
    if parts > MOST_PARTS:
        raise ValueError("too many dots")
    return tomllib.loads(text)


def _dots(line: str) -> int:
    return sum(part.count(".") for part in line.split('"')[::2])
