"""Entries: what everybody reads, what is committed to, what an opening proves."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.broker import log_entry
from strongroom.broker.log_entry import PUBLIC, Event, Opening
from strongroom.codec import jcs
from strongroom.crypto.notes import NoteSigner, NoteType
from strongroom.crypto.sign import PREFIX, SigningKey

SALT = bytes(range(32))
SECRET = b"\x05" * 32
FACTS = {"kind": "sgx", "service": "pictures", "resource": "default/model/lite0", "code": "x"}
values = st.text(max_size=20) | st.integers(-(2**53) + 1, 2**53 - 1) | st.booleans() | st.none()
names = st.sampled_from([*sorted(PUBLIC), "service", "recipient", "policy", "anything"])


def make(**changes: Any) -> tuple[bytes, Opening | None]:
    given_: dict[str, Any] = {
        "event": Event.RELEASED,
        "time": 1000,
        "facts": FACTS,
        "salt": SALT,
        "index": 7,
        "secret": SECRET,
    }
    return log_entry.make(**{**given_, **changes})


def test_an_entry_shows_what_is_public_and_commits_to_the_rest() -> None:
    entry, opening = make()
    assert opening == Opening(SALT, {"service": "pictures", "resource": "default/model/lite0"})
    members = json.loads(entry)
    commitment = hashlib.sha256(
        b"strongroom-log-commitment/1\0" + SALT + b'{"resource":"default/model/lite0","service":"pictures"}'
    ).hexdigest()
    assert members == {
        "type": "strongroom-log/2",
        "time": 1000,
        "event": "released",
        "kind": "sgx",
        "code": "x",
        "commitment": commitment,
        "tags": members["tags"],
    }
    assert jcs.canonical(members) == entry
    assert log_entry.opened(entry, opening) == {
        "type": "strongroom-log/2",
        "time": 1000,
        "event": "released",
        **FACTS,
    }


def test_an_entry_with_public_facts_alone_has_nothing_to_open() -> None:
    entry, opening = make(facts={"counts": {"a": 1}})
    assert opening is None
    assert json.loads(entry).keys() == {"type", "time", "event", "counts"}
    assert log_entry.opened(entry, None)["counts"] == {"a": 1}


@given(st.dictionaries(names, values, max_size=6), st.binary(min_size=32, max_size=32))
def test_what_is_made_opens(facts: dict[str, Any], salt: bytes) -> None:
    entry, opening = make(facts={key: value for key, value in facts.items() if key != "service"}, salt=salt)
    opened = log_entry.opened(entry, opening)
    assert {key: opened[key] for key in facts if key != "service"} == {
        key: value for key, value in facts.items() if key != "service"
    }


def test_two_salts_give_two_commitments() -> None:
    """The same event twice looks like two events; who has no salt cannot try names."""
    first, second = (json.loads(make(salt=salt)[0])["commitment"] for salt in (SALT, bytes(32)))
    assert first != second


@pytest.mark.parametrize(
    "opening",
    [
        None,
        Opening(bytes(32), {"service": "pictures", "resource": "default/model/lite0"}),
        Opening(SALT, {"service": "sounds", "resource": "default/model/lite0"}),
        Opening(SALT, {"service": "pictures"}),
        Opening(SALT, {"service": "pictures", "resource": "default/model/lite0", "more": 1}),
    ],
)
def test_another_opening_is_refused(opening: Opening | None, refused) -> None:
    entry, _ = make()
    with refused("log-receipt-invalid"):
        log_entry.opened(entry, opening)


def test_an_opening_of_what_needs_none_is_refused(refused) -> None:
    entry, _ = make(facts={})
    with refused("log-receipt-invalid"):
        log_entry.opened(entry, Opening(SALT, {}))


def test_a_fact_stands_in_one_place_only(refused) -> None:
    """Else an opening could say something else than the entry."""
    opening = Opening(SALT, {"kind": "tdx"})
    entry = jcs.canonical(
        {
            "type": "strongroom-log/2",
            "time": 1,
            "event": "released",
            "kind": "sgx",
            "commitment": opening.commitment(),
        }
    )
    with refused("log-receipt-invalid"):
        log_entry.opened(entry, opening)


@pytest.mark.parametrize(
    "members",
    [
        [],
        {},
        {"type": "strongroom-log/1", "time": 1, "event": "released"},
        {"type": "strongroom-log/2", "time": 1},
        {"type": "strongroom-log/2", "event": "released"},
        {"type": "strongroom-log/2", "time": True, "event": "released"},
        {"type": "strongroom-log/2", "time": 1, "event": 5},
    ],
    ids=repr,
)
def test_other_entries_are_refused(members: object, refused) -> None:
    with refused("log-receipt-invalid"):
        log_entry.read(json.dumps(members).encode())


def test_an_entry_is_bounded_json(refused) -> None:
    for data in (b"", b"{", b'{"a":1,"a":1}', b'"' + b"a" * 65_536 + b'"'):
        with refused("log-receipt-invalid"):
            log_entry.read(data)


@pytest.mark.parametrize(
    "members",
    [
        None,
        [],
        {},
        {"salt": "AA", "facts": {}},
        {"salt": "A" * 43, "facts": []},
        {"salt": "A" * 43},
        {"salt": 5, "facts": {}},
        {"salt": "A" * 44, "facts": {}},
        {"salt": "A" * 43, "facts": {}, "more": 1},
    ],
    ids=repr,
)
def test_other_openings_are_refused(members: object, refused) -> None:
    with refused("log-receipt-invalid"):
        Opening.read(members)


def test_openings_read_back() -> None:
    _, opening = make()
    assert opening is not None
    assert Opening.read(json.loads(json.dumps(opening.members()))) == opening


def test_a_tag_for_each_subject(refused) -> None:
    facts = {"service": "s", "resource": "kbs:///a/model/b", "models": ["c/model/d", "e/model/f"]}
    tags = json.loads(make(facts=facts)[0])["tags"]
    subjects = ["service/s", "resource/a/model/b", "resource/c/model/d", "resource/e/model/f"]
    assert tags == [log_entry.tag(log_entry.audit_key(SECRET, subject), 7) for subject in subjects]
    assert len(set(tags)) == 4


def test_a_tag_is_of_one_place_in_the_log() -> None:
    key = log_entry.audit_key(SECRET, log_entry.service_subject("pictures"))
    assert log_entry.tag(key, 7) in json.loads(make()[0])["tags"]
    assert log_entry.tag(key, 8) not in json.loads(make()[0])["tags"]
    assert log_entry.tag(key, 8) in json.loads(make(index=8)[0])["tags"]


def test_an_audit_key_is_of_one_broker_and_one_subject() -> None:
    keys = {
        log_entry.audit_key(secret, subject)
        for secret in (SECRET, bytes(32))
        for subject in ("service/a", "service/b", "resource/a")
    }
    assert len(keys) == 6
    assert all(len(key) == 32 for key in keys)


def test_a_broker_has_one_log() -> None:
    key = SigningKey.from_raw(SECRET * 2).verifying_key
    log = log_entry.log_key(key)
    assert (log.name, log.public) == ("strongroom-log/" + key.text.removeprefix(PREFIX), key.digest)
    assert log.type is NoteType.HYBRID


def test_a_derived_key_signs_for_those_who_know_ed25519_only() -> None:
    key = SigningKey.from_raw(SECRET * 2)
    own, other = log_entry.note_signer(key), log_entry.note_signer(SigningKey.from_raw(SECRET + bytes(32)))
    assert own.key.name == log_entry.log_key(key.verifying_key).name
    assert own.key.text == log_entry.note_signer(key).key.text
    assert own.key.public not in {other.key.public, NoteSigner("x", NoteType.ED25519, SECRET).key.public}


def test_mutants_raise_our_errors_only(
    mutants: Callable[..., Any], survey: Callable[..., Any], json_bytes
) -> None:
    entry, opening = make()
    assert opening is not None
    inputs = list(mutants(json.loads(entry), json_bytes, 10_000, seed=3))
    random.Random(3).shuffle(inputs)
    outcomes = survey(lambda data: log_entry.opened(data, opening), inputs)
    assert set(outcomes) <= {"ok", "log-receipt-invalid"}
    assert outcomes["log-receipt-invalid"] > 5_000
