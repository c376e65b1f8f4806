"""TOML from outside, bounded before it is parsed.

The parser of the standard library takes time in the square of the parts of a dotted key. Our documents have
none: a line with more than a few dots outside double quotes is refused unread.
"""

from __future__ import annotations

import tomllib
from typing import Any, Final

MOST_DOTS: Final = 16
"""Dots of one line outside double quotes; comment lines may have any number."""


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document of bounded size.

    Raises:
        ValueError: It is not TOML, or a line has too many dots.
        RecursionError: It is nested too deeply.
    """
    for line in text.splitlines():
        if not line.lstrip().startswith("#") and _dots(line) > MOST_DOTS:
            raise ValueError("too many dots in a line")
    return tomllib.loads(text)


def _dots(line: str) -> int:
    return sum(part.count(".") for part in line.split('"')[::2])
