"""The conformance kit: its size, its form, and that it finds what is wrong."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

from strongroom.attestation import errors as attestation_errors
from strongroom.conformance.case import ACCEPTED, Case
from strongroom.conformance.kit import UNUSABLE, Result, results, run, summary
from strongroom.errors import ErrorCode


def test_every_case_ends_as_it_must(cases: list[Case]) -> None:
    assert [(each.case.name, each.found) for each in results(cases) if not each.passed] == []


def test_it_is_as_large_as_promised(cases: list[Case]) -> None:
    numbers = summary(results(cases))
    assert numbers["refusals"] >= 300
    assert len(numbers["codes"]) >= 60
    assert numbers["failed"] == []
    assert len({case.name for case in cases}) == len(cases)


def test_each_group_has_what_is_accepted_and_what_is_not(cases: list[Case]) -> None:
    accepted = Counter(case.name.partition("/")[0] for case in cases if case.expected == ACCEPTED)
    refused = Counter(case.name.partition("/")[0] for case in cases if case.expected != ACCEPTED)
    assert accepted.keys() == refused.keys()
    assert min(accepted.values()) >= 1


def test_nearly_every_refusal_of_evidence_and_policy_has_a_case(cases: list[Case]) -> None:
    """Those without are reached only by other ways than an appraisal, and have their own tests."""
    codes = {each.code for each in vars(attestation_errors).values() if isinstance(each, ErrorCode)}
    expected = {case.expected for case in cases}
    assert sorted(codes - expected) == sorted(WITHOUT)


WITHOUT = {
    "beacon-malformed",  # within a worker's document: service-evidence-malformed
    "policy-expired",  # claims kept for longer than their collateral lives
    "policy-init-data",  # a caller that knows the init-data's digest beforehand
    "policy-init-refused",  # a command that writes policies
    "policy-tpm-key",  # a second policy; the first has pinned another key
    "policy-unreadable",  # a file
}


def test_a_case_survives_its_json(cases: list[Case]) -> None:
    for case in cases[::20]:
        again = Case.from_json(json.loads(json.dumps(case.to_json())))
        assert again == case
        assert run(again) == case.expected


def test_cases_differ_from_the_accepted_one_of_their_group(cases: list[Case]) -> None:
    """A refusal that expects what is not there would be found."""
    good = {case.name.partition("/")[0]: case for case in cases if case.name.endswith("/accepted")}
    for group, case in good.items():
        wrong = replace(case, expected="evidence-signature")
        assert not Result(wrong, run(wrong)).passed, group
        assert summary(results([wrong]))["failed"] == [case.name]


def test_a_case_of_another_form_is_said_to_be_unusable(cases: list[Case]) -> None:
    for case in (
        replace(cases[0], type="other"),
        replace(cases[0], members={}),
        replace(cases[0], members={**cases[0].members, "at": "now"}),
    ):
        assert run(case) == UNUSABLE
