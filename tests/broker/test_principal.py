"""Names of those who administer and approve."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.broker.principal import OPERATOR, Principal

GOOD = [
    "mtls:" + "0f" * 32,
    "oidc:https://login.example#alice",
    "oidc:http://127.0.0.1:8080/realms/x#248289761001",
    "oidc:https://login.example/a?b=c#" + "x" * 255,
    "oidc:https://login.example#a#b",
]


@pytest.mark.parametrize("text", GOOD)
def test_a_name_is_kept_as_it_is(text: str) -> None:
    assert Principal.parse(text).text == text
    assert not Principal.parse(text).is_operator


@pytest.mark.parametrize(
    "text",
    [
        "",
        "operator",
        "mtls:" + "0F" * 32,
        "mtls:" + "0f" * 31,
        "mtls:" + "0f" * 32 + "\n",
        "oidc:login.example#alice",
        "oidc:https://#alice",
        "oidc:https://login.example#",
        "oidc:https://login.example",
        "oidc:https://login example#alice",
        "oidc:https://login.example#al ice",
        "oidc:https://login.example#alic\u00e9",
        "oidc:https://login.example#" + "x" * 256,
        "oidc:https://" + "x" * 256 + "#alice",
        'oidc:https://login.example"#alice',
        "alice",
    ],
)
def test_what_is_no_name(text: str, refused) -> None:
    with refused("principal-invalid"):
        Principal.parse(text)


def test_a_key_is_named_by_its_digest() -> None:
    assert Principal.of_key(b"key").text == "mtls:" + hashlib.sha256(b"key").hexdigest()
    assert Principal.parse(Principal.of_key(b"key").text) == Principal.of_key(b"key")


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_two_subjects_have_one_name(issuer: str, subject: str) -> None:
    """A subject may have a number sign, an issuer may not: the first one ends it."""
    try:
        made = Principal.of_subject("https://" + issuer, subject)
    except Exception as error:
        assert getattr(error, "code", "") == "principal-invalid"  # noqa: PT017 -- any other is a failure
        return
    assert made.text.removeprefix("oidc:").partition("#")[::2] == ("https://" + issuer, subject)


def test_only_the_operator_is_the_operator() -> None:
    """Also one of the same text is none: it would have come from elsewhere."""
    assert OPERATOR.is_operator
    assert not Principal("operator").is_operator
