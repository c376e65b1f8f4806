"""Problem details of a service: whatever it answers becomes an error of ours."""

from __future__ import annotations

import pytest

from strongroom.client._problem import error_of, is_unknown_key


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"code":1}', b'{"code":"\xff"}', b'{"more":' + b"[" * 50_000, b'"' * 70_000],
    ids=["empty", "list", "types", "not-utf-8", "deep", "too-long"],
)
def test_a_body_that_is_no_problem_is_an_answer_that_is_not_valid(body: bytes) -> None:
    assert error_of(500, body).code == "service-answer-invalid"
    assert not is_unknown_key(body)


def test_a_problem_with_a_known_code_is_that_error() -> None:
    error = error_of(400, b'{"code":"service-answer-invalid","detail":"why\\u0007"}', sealed=True)
    assert (error.code, error.detail, error.sealed) == ("service-answer-invalid", "why?", True)
