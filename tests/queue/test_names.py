from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import ConfigError
from strongroom.queue.names import GROUP, MAX_SHARDS, Keys, check_name, check_range, is_name


def test_all_keys_of_a_shard_share_one_hash_tag() -> None:
    keys = Keys("pictures", 3)
    tag = "{strongroom:pictures:3}"
    assert keys.requests == f"{tag}:requests"
    assert keys.dead == f"{tag}:dead"
    assert keys.replies("fe-1") == f"{tag}:replies:fe-1"
    assert keys.marker("fe-1", "r1") == f"{tag}:seen:fe-1:r1"
    assert keys.document("evidence", "w0") == f"{tag}:doc:evidence:w0"
    assert keys.document_index("evidence") == f"{tag}:docs:evidence"
    assert GROUP == "workers"


def test_keys_of_different_things_never_meet() -> None:
    keys = Keys("s")
    names = ["requests", "dead", "a", "b", "a.b"]
    made = [keys.requests, keys.dead]
    made += [keys.replies(name) for name in names]
    made += [keys.marker(one, other) for one in names for other in names]
    made += [keys.document(one, other) for one in names for other in names]
    made += [keys.document_index(name) for name in names]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize(
    "name", ["", ".hidden", "-x", "a" * 129, "a b", "a:b", "a{b", "a}b", "a/b", "a\n", "ä", "a\0"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(ConfigError) as caught:
        check_name(name, "worker")
    assert caught.value.code == "queue-name-invalid"
    with pytest.raises(ConfigError):
        Keys(name)


@given(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z"))
def test_names_are_returned_as_they_are(name: str) -> None:
    assert check_name(name, "worker") == name
    assert Keys(name).tag == f"{{strongroom:{name}:0}}"


@given(st.text(max_size=140))
def test_a_name_cannot_leave_its_hash_tag(text: str) -> None:
    if is_name(text):
        assert not set(text) & set("{}:\r\n ")


@pytest.mark.parametrize("shard", [-1, MAX_SHARDS])
def test_a_shard_out_of_range_is_refused(shard: int) -> None:
    with pytest.raises(ConfigError, match="0 to 1023"):
        Keys("s", shard)


def test_a_range_includes_both_ends() -> None:
    assert [check_range(value, "n", 1, 3) for value in (1, 3)] == [1, 3]
    for value in (0, 4):
        with pytest.raises(ConfigError, match="found"):
            check_range(value, "n", 1, 3)
