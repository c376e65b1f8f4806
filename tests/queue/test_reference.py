"""docs/reference/queue.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from strongroom.queue import burial, documents, names, records, scripts
from strongroom.queue.names import Keys
from strongroom.queue.records import Reply, SealedRecord, encode_record, encode_reply


@pytest.fixture(scope="module")
def text() -> str:
    return (Path(__file__).resolve().parents[2] / "docs/reference/queue.md").read_text()


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def first_column(text: str, title: str) -> list[str]:
    rows = re.findall(r"^\| ([^|]+) \|", section(text, title), re.MULTILINE)
    return [name for row in rows[1:] for name in re.findall(r"`([^`]+)`", row)]


def test_every_key_is_listed(text: str) -> None:
    keys = Keys("SERVICE", 9)
    made = [
        keys.requests,
        keys.replies("FRONTEND"),
        keys.marker("FRONTEND", "ID"),
        keys.dead,
    ]
    listed = [key.replace(":SHARD}", ":9}") for key in first_column(text, "Keys")]
    zero = Keys("SERVICE")
    assert listed == [*made, zero.document("KIND", "WORKER"), zero.document_index("KIND")]
    assert f"`{names.GROUP}`" in section(text, "Keys")


def test_every_field_is_listed(text: str) -> None:
    record = encode_record(SealedRecord("i", "k", b"", "r", 0))
    reply = encode_reply(Reply("i", 200, "a/b", b""))
    assert first_column(text, "A record") == [name.decode() for name in record[::2]]
    assert first_column(text, "A reply") == [name.decode() for name in reply[::2]]


def test_every_script_is_listed(text: str) -> None:
    defined = [name for name, value in vars(scripts).items() if isinstance(value, scripts.Script)]
    assert first_column(text, "Scripts") == defined


def test_the_bounds_are_those_of_the_code(text: str) -> None:
    assert records.MAX_BODY == 64 * 1024 * 1024
    assert "64 MiB by default" in text
    assert records.MAX_DEADLINE == 10**15
    assert "at most 10<sup>15</sup>" in text
    assert f"the newest {burial.MAX_DEAD} dead letters" in text
    assert burial.KEPT_BODY == 1024 * 1024
    assert documents.MAX_DOCUMENT == 2 * 1024 * 1024
    assert f"read the {documents.MAX_DOCUMENTS} that expire last" in text
    assert f"0 to {names.MAX_SHARDS - 1}" in text


def test_every_command_is_listed(text: str) -> None:
    """The list is what an access list of a server is made from."""
    source = Path(scripts.__file__).parent
    commands = set()
    for path in source.glob("*.py"):
        if path.name != "scripts.py":
            commands |= set(
                re.findall(r'"(X[A-Z]+|ZREVRANGE|MGET|PING|AUTH|SELECT|CONFIG|EVALSHA)"', path.read_text())
            )
    assert commands >= {"XREADGROUP", "XCLAIM", "XPENDING", "XREAD", "XDEL", "XLEN", "EVALSHA"}
    for command in commands:
        assert f"`{command}" in text, command
