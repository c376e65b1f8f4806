"""Names of resources: three plain segments and nothing else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.broker.resource import Resource

SEGMENT = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", fullmatch=True).filter(
    lambda s: s not in {".", ".."} and s.isascii()
)


@given(SEGMENT, SEGMENT, SEGMENT)
def test_paths_and_uris_read_back(repository: str, kind: str, tag: str) -> None:
    resource = Resource(repository, kind, tag)
    assert Resource.parse(resource.path) == resource
    assert Resource.parse(resource.uri) == resource
    assert resource.uri == f"kbs:///{repository}/{kind}/{tag}"


def test_a_service_key_is_named_after_its_service() -> None:
    assert Resource.service_key("pictures").path == "pictures/service-key/current"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a/b",
        "a/b/c/d",
        "/a/b/c",
        "a/b/c/",
        "a//c",
        "../b/c",
        "a/../c",
        "a/b/..",
        "a/./c",
        "a/b/c?x=1",
        "a/b/c#x",
        "a/b/c\n",
        "a/b/c d",
        "a/b/%2e%2e",
        "a\\b/c/d",
        "a/b/\u0661",
        "a/b/\u00e9",
        "a/b/\x00",
        "kbs://a/b/c",
        "kbs:////b/c",
        "KBS:///a/b/c",
        "a/b/" + "c" * 65,
        "kbs:///kbs:///a/b/c",
    ],
)
def test_anything_else_is_refused(refused, text: str) -> None:
    with refused("resource-path-invalid"):
        Resource.parse(text)


def test_a_long_path_is_refused_unread(refused) -> None:
    with refused("resource-path-invalid"):
        Resource.parse("a/" * 1_000_000)


def test_mutants_are_names_or_refused(survey) -> None:
    rng = random.Random(1)
    pieces = [
        "a",
        "..",
        ".",
        "/",
        "//",
        "kbs:///",
        "%2e",
        "\x00",
        "é",
        " ",
        "c" * 64,
        "model",
        "service-key",
        "\ud800",
    ]
    texts = ["".join(rng.choices(pieces, k=rng.randrange(8))) for _ in range(10_000)]
    good = list("default/model/lite0")
    for _ in range(10_000):
        changed = good.copy()
        changed[rng.randrange(len(good))] = rng.choice(["/", ".", "", "x", "\n", "é", "%", "_"])
        texts.append("".join(changed))
    outcomes = survey(Resource.parse, texts)
    assert sum(outcomes.values()) == 20_000
    assert outcomes.keys() == {"ok", "resource-path-invalid"}
    accepted = [text for text in texts if _accepts(text)]
    assert all(Resource.parse(text).path == text.removeprefix("kbs:///") for text in accepted)
    assert all("/../" not in f"/{text}/" for text in accepted)


def _accepts(text: str) -> bool:
    try:
        Resource.parse(text)
    except Exception:  # the survey has seen that it is ours
        return False
    return True
