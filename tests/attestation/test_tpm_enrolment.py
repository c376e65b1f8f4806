"""Messages of the enrolment of a TPM: exact forms, and secrets that are shown nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutants import mutants
from strongroom.attestation.tpm import Credential
from strongroom.attestation.tpm_enrolment import Answer, Challenge, Expected, Identity
from strongroom.errors import EvidenceError

SECRET = bytes(range(32))
MESSAGES: list[Any] = [
    Identity(b"public area", b"certificate"),
    Challenge(Credential(b"id object", b"encrypted secret")),
    Answer(SECRET),
    Expected(SECRET, "aa" * 32, "bb" * 32),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_read_as_it_was_written(message: Any) -> None:
    assert type(message).parse(message.to_json_bytes()) == message


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_another_kind_or_with_more_is_refused(message: Any) -> None:
    value = json.loads(message.to_json_bytes())
    wrong = [{**value, "type": "strongroom-tpm/1"}, {**value, "more": 1}, {**value, "type": None}, [], None]
    wrong += [{name: member for name, member in value.items() if name != each} for each in value]
    for each in wrong:
        with pytest.raises(EvidenceError, match="evidence-malformed"):
            type(message).parse(json.dumps(each).encode())


@pytest.mark.parametrize("message", MESSAGES)
def test_mutants_raise_our_error_only(message: Any, survey: Callable[..., Any]) -> None:
    value = json.loads(message.to_json_bytes())
    found = survey(type(message).parse, mutants(value, lambda each: json.dumps(each).encode(), 400, 5))
    assert set(found.codes) == {"evidence-malformed"}
    for _, accepted in found.accepted:
        assert type(message).parse(accepted.to_json_bytes()) == accepted


@given(st.binary(min_size=32, max_size=32))
def test_only_the_secret_is_accepted(guess: bytes) -> None:
    expected = Expected(SECRET, "aa" * 32, "bb" * 32)
    if guess != SECRET:
        with pytest.raises(EvidenceError, match=r"not of the TPM.*evidence-key"):
            expected.accept(Answer(guess))
    assert expected.accept(Answer(SECRET)) == "aa" * 32


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_secret_has_32_bytes(size: int) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        Answer.parse(Answer(bytes(size)).to_json_bytes())


def test_what_is_kept_is_not_shown() -> None:
    shown = repr(Expected(SECRET, "aa" * 32, "bb" * 32))
    assert repr(SECRET)[2:-1] not in shown
    assert "aa" * 32 in shown
