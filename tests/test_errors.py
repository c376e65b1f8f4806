from __future__ import annotations

import pytest

from strongroom import errors
from strongroom.errors import EXIT_REFUSED, PolicyRefused, StrongroomError, define

SAMPLE = define("test-sample", "Something is wrong.", status=418, exit_code=EXIT_REFUSED, remedy="Mend it.")


def test_an_error_says_what_was_found_expected_and_to_do() -> None:
    error = PolicyRefused(SAMPLE, "the measurement.", found="aa", expected="bb")
    assert str(error) == "Something is wrong: the measurement (found aa, expected bb) [test-sample]"
    assert error.to_problem() == {
        "type": "urn:strongroom:error:test-sample",
        "title": "Something is wrong.",
        "status": 418,
        "code": "test-sample",
        "remedy": "Mend it.",
        "detail": "the measurement.",
        "found": "aa",
        "expected": "bb",
    }
    assert (error.code, error.status, error.exit_code, error.remedy) == ("test-sample", 418, 3, "Mend it.")


def test_an_error_without_facts_is_its_title() -> None:
    error = StrongroomError(SAMPLE)
    assert str(error) == "Something is wrong [test-sample]"
    assert "detail" not in error.to_problem()


def test_a_code_is_defined_once() -> None:
    with pytest.raises(ValueError, match="defined twice"):
        define("test-sample", "again", status=500, remedy="")
    assert errors.registered()["test-sample"] is SAMPLE
