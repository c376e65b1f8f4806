"""Rules 4 and 5: what a worker's evidence must bind, and how fresh it must be. Each rule refuses alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.serving import serve_report_data
from strongroom.attestation.workers import CLOCK_SKEW
from strongroom.crypto.sign import SigningKey
from strongroom_simulator.pki import Pki

CodeOf = Callable[..., str | None]
ROGUE = SigningKey.from_raw(b"\x09" * 64)
OTHER_KEY = ROGUE.verifying_key.text
OTHER_KEYSET = "sha384:" + "00" * 48


def code(service: Any, worker: Any, code_of: CodeOf) -> str | None:
    """Code of the refusal of one worker, for a client that sent its own nonce."""
    return code_of(service.verdict, worker, nonce=service.nonce)


def rebound(service: Any, keyset: str, nonce: bytes, init_data: bytes, receipt_key: str) -> Any:
    """A document that claims what the client wants to see, over a quote that binds something else."""
    evidence = service.quote(serve_report_data(keyset, nonce, init_data, receipt_key), service.init_data())
    return replace(service.worker(), evidence=evidence)


def test_a_good_worker_passes(service: Any, code_of: CodeOf) -> None:
    assert code(service, service.worker(), code_of) is None


def test_a_worker_of_another_keyset_is_refused(service: Any, code_of: CodeOf) -> None:
    worker = replace(service.worker(), keyset=OTHER_KEYSET)
    assert code(service, worker, code_of) == "service-keyset-digest"


@pytest.mark.parametrize("part", ["keyset", "nonce", "init-data", "receipt key"])
def test_a_quote_that_binds_something_else_is_refused(part: str, service: Any, code_of: CodeOf) -> None:
    bound = {
        "keyset": service.keyset().digest(),
        "nonce": service.nonce,
        "init-data": service.init_data(),
        "receipt key": service.receipt_key,
    }
    assert code(service, rebound(service, *bound.values()), code_of) is None
    other = {
        "keyset": OTHER_KEYSET,
        "nonce": bytes(32),
        "init-data": service.init_data(models=("kbs:///a/b/c",)),
        "receipt key": OTHER_KEY,
    }
    worker = rebound(service, *(bound | {part: other[part]}).values())
    assert code(service, worker, code_of) == "policy-report-data"


def test_another_receipt_key_beside_the_evidence_is_refused(service: Any, code_of: CodeOf) -> None:
    worker = replace(service.worker(), receipt_key=OTHER_KEY)
    assert code(service, worker, code_of) == "policy-report-data"


def test_evidence_for_the_broker_is_not_evidence_for_clients(service: Any, code_of: CodeOf) -> None:
    evidence = service.quote(b"\x55" * 48 + bytes(16), service.init_data())
    assert code(service, replace(service.worker(), evidence=evidence), code_of) == "policy-report-data"


# Init-data


def test_evidence_without_init_data_is_refused(service: Any, code_of: CodeOf) -> None:
    worker = service.worker()
    bare = replace(worker, evidence=replace(worker.evidence, init_data=None))
    assert code(service, bare, code_of) == "service-no-init-data"


def test_init_data_that_the_quote_does_not_carry_is_refused(service: Any, code_of: CodeOf) -> None:
    """The attacker shows good init-data beside a worker that was started with other init-data."""
    shown, real = service.init_data(), service.init_data(broker_key=OTHER_KEY)
    worker = service.worker(init_data=shown)
    bound = serve_report_data(worker.keyset, worker.nonce, shown, worker.receipt_key)
    forged = replace(service.quote(bound, real), init_data=shown)
    assert code(service, replace(worker, evidence=forged), code_of) == "evidence-init-data"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"models": ("kbs:///default/model/lite0",)}, None),
        ({"service": "other"}, "service-init-data-service"),
        ({"broker_key": OTHER_KEY}, "service-init-data-broker"),
        ({"release_policy": "sha256:" + "00" * 32}, "service-init-data-policy"),
    ],
    ids=repr,
)
def test_init_data_that_names_something_else_is_refused(
    change: dict[str, Any], expected: str | None, service: Any, code_of: CodeOf
) -> None:
    worker = service.worker(init_data=service.init_data(**change))
    assert code(service, worker, code_of) == expected


def test_init_data_that_cannot_be_read_is_refused(service: Any, code_of: CodeOf) -> None:
    assert code(service, service.worker(init_data=b"junk"), code_of) == "init-data-malformed"


# The client's own policy


@pytest.mark.parametrize(
    ("quote", "expected"),
    [
        ({"kind": EvidenceKind.TDX, "measurement": b"\x11" * 48}, "policy-kind"),
        ({"measurement": b"\x12" * 32}, "policy-measurement"),
        ({"status": "OutOfDate"}, "policy-tcb-status"),
        ({"status": "Revoked"}, "evidence-revoked"),
    ],
    ids=repr,
)
def test_a_worker_that_the_policy_does_not_accept_is_refused(
    quote: dict[str, Any], expected: str, service: Any, code_of: CodeOf
) -> None:
    assert code(service, service.worker(**quote), code_of) == expected


def test_an_advisory_that_the_policy_rejects_is_refused(service: Any, code_of: CodeOf) -> None:
    policy = {"rejected_advisories": ["SA-1"]}
    strict = replace(service, client=policy, release=policy)
    assert code(strict, strict.worker(advisories=["SA-2"]), code_of) is None
    assert code(strict, strict.worker(advisories=["SA-1"]), code_of) == "policy-advisory"


def test_a_worker_of_another_simulator_is_refused(service: Any, code_of: CodeOf) -> None:
    """A root that the service sends along is never trusted by itself."""
    worker = service.worker(pki=Pki.create(service.now, os.urandom))
    assert code(service, worker, code_of) == "evidence-untrusted-root"


def test_simulated_workers_are_refused_by_a_policy_that_wants_hardware(service: Any, code_of: CodeOf) -> None:
    strict = replace(service, client={"allow_simulated": False}, release={"allow_simulated": False})
    assert code(strict, strict.worker(), code_of) == "policy-simulated"


# Freshness: the client's own nonce


def test_evidence_over_another_nonce_is_refused(service: Any, code_of: CodeOf) -> None:
    assert code(service, service.worker(nonce=bytes(32)), code_of) == "service-nonce"


def test_a_beacon_does_not_stand_in_for_the_nonce(service: Any, code_of: CodeOf) -> None:
    assert code(service, service.worker(beacon=service.beacon()), code_of) == "service-nonce"


# Freshness: the broker's beacon


def beacon_code(service: Any, beacon: Any, code_of: CodeOf, **kwargs: Any) -> str | None:
    return code_of(service.verdict, service.worker(beacon=beacon, **kwargs))


def test_evidence_over_a_fresh_beacon_passes(service: Any, code_of: CodeOf) -> None:
    assert beacon_code(service, service.beacon(), code_of) is None


def test_evidence_without_a_beacon_is_refused(service: Any, code_of: CodeOf) -> None:
    bare = replace(service.worker(), beacon=None)
    assert code_of(service.verdict, bare) == "service-no-beacon"
    assert code(service, bare, code_of) == "service-no-beacon", "a nonce shows no epoch"


def test_the_nonce_of_somebody_else_does_not_stand_in_for_the_beacons(service: Any, code_of: CodeOf) -> None:
    assert code_of(service.verdict, service.worker()) == "service-nonce"


def test_a_fresh_beacon_beside_old_evidence_is_refused(service: Any, code_of: CodeOf) -> None:
    assert beacon_code(service, service.beacon(), code_of, nonce=bytes(32)) == "service-nonce"


def test_a_beacon_of_another_broker_is_refused(service: Any, code_of: CodeOf) -> None:
    assert beacon_code(service, service.beacon(ROGUE), code_of) == "service-beacon-signature"


def test_a_beacon_of_another_service_is_refused(service: Any, code_of: CodeOf) -> None:
    assert beacon_code(service, service.beacon(service="other"), code_of) == "service-beacon-service"


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (600, None),
        (601, "service-beacon-stale"),
        (-CLOCK_SKEW, None),
        (-CLOCK_SKEW - 1, "service-beacon-future"),
    ],
)
def test_age_of_the_beacon(age: int, expected: str | None, service: Any, code_of: CodeOf) -> None:
    beacon = service.beacon(time=service.now - age)
    assert beacon_code(service, beacon, code_of) == expected
    assert code(service, service.worker(beacon=beacon, nonce=service.nonce), code_of) == expected


def test_the_policy_says_how_old_a_beacon_may_be(service: Any, code_of: CodeOf) -> None:
    patient = replace(service, client={"max_evidence_age": 3600})
    assert beacon_code(patient, patient.beacon(time=patient.now - 3600), code_of) is None
    hasty = replace(service, client={"max_evidence_age": 5})
    assert beacon_code(hasty, hasty.beacon(time=hasty.now - 6), code_of) == "service-beacon-stale"
