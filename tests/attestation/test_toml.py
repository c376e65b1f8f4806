from __future__ import annotations

import time

import pytest

from strongroom.attestation import initdata
from strongroom.attestation._toml import MOST_DOTS, parse_toml
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


def test_a_hostile_document_costs_no_time() -> None:
    started = time.process_time()
    with pytest.raises(EvidenceError):
        initdata.parse(HOSTILE.encode())
    with pytest.raises(ConfigError):
        Policy.parse(HOSTILE)
    assert time.process_time() - started < 1, "reading took seconds before keys were bounded"
