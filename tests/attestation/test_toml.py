from __future__ import annotations

import time

import pytest

from strongroom.attestation import initdata
from strongroom.attestation._toml import MOST_DOTS, MOST_PARTS, parse_toml
from strongroom.attestation.policy import Policy
from strongroom.errors import ConfigError, EvidenceError

HOSTILE = "a" + ".a" * 30_000 + " = 1\n"


def test_dots_in_strings_and_comments_are_not_counted() -> None:
    assert parse_toml("# " + "." * 100 + '\nkey = "' + "." * 100 + '"\n') == {"key": "." * 100}


def test_a_few_dotted_parts_are_read() -> None:
    assert parse_toml("a.b.c = 1") == {"a": {"b": {"c": 1}}}


@pytest.mark.parametrize(
    "line", ["a" + ".a" * (MOST_DOTS + 1) + " = 1", "x = {a" + ".a" * (MOST_DOTS + 1) + " = 1}"]
)
def test_a_long_dotted_key_is_refused_unread(line: str) -> None:
    with pytest.raises(ValueError, match="dots"):
        parse_toml(line)


@pytest.mark.parametrize("mark", ["\n", ",", "=", "[", "{"])
def test_a_document_of_many_parts_is_refused_unread(mark: str) -> None:
    most = "# " + mark * (MOST_PARTS - 1) + "\n"
    assert parse_toml(most) == {}
    with pytest.raises(ValueError, match="too many lines"):
        parse_toml("# " + mark * MOST_PARTS + "\n")


def test_dots_are_parts_too() -> None:
    dotted = "".join(f"a.b.c.k{number} = 1\n" for number in range(MOST_PARTS // 5))
    assert len(parse_toml(dotted)["a"]["b"]["c"]) == MOST_PARTS // 5
    with pytest.raises(ValueError, match="too many dots"):
        parse_toml(dotted + "a.b.c.more = 1\n")


@pytest.mark.parametrize(
    "text",
    [
        "\n" * 65_000,
        "a = [" + "1," * 32_000 + "]",
        "a = [" + "\n" * 65_000 + "]",
        "[[a]]\nb=1\n" * 6_500,
        "[a.b.c.d]\n" + "".join(f"c.d.e.f.g.h.i.k.l.m.n.o.p{number}=1\n" for number in range(2_000)),
    ],
)
def test_what_cost_more_than_50_ms_is_refused(text: str) -> None:
    """Each of these is below 64 KiB, is TOML, and took 50 to 90 ms to read."""
    assert len(text) < 64 * 1024
    with pytest.raises(ValueError, match="too many"):
        parse_toml(text)


def test_a_hostile_document_costs_no_time() -> None:
    started = time.process_time()
    with pytest.raises(EvidenceError):
        initdata.parse(HOSTILE.encode())
    with pytest.raises(ConfigError):
        Policy.parse(HOSTILE)
    assert time.process_time() - started < 1, "reading took seconds before keys were bounded"
