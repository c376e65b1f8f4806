"""The verdict: what it says, what it warns of, and how long it holds."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import pytest

from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.serving import EvidenceList, ServiceAppraisal, Verdict
from strongroom.attestation.workers import TrustedWorker
from strongroom.crypto.sign import SigningKey
from strongroom.errors import PolicyRefused
from strongroom_simulator.pki import Pki

SGX = EvidenceKind.SGX


def claims(**changes: Any) -> Claims:
    good = Claims(
        kind=SGX,
        anchor=Anchor.INTEL,
        root_sha256="00" * 32,
        measurement="11" * 32,
        signer="22" * 32,
        report_data=bytes(64),
        init_data_digest=bytes(48),
        tcb_status="UpToDate",
        advisories=(),
        debug=False,
        product_id=0,
        svn=0,
        expires=2**40,
        fmspc="00" * 6,
    )
    return replace(good, **changes)


def worker(
    receipt_key: str = "a", fresh_until: int = 2**40, epoch: int = 3, witnesses: int = 0, **changes: Any
) -> TrustedWorker:
    return TrustedWorker(claims(**changes), receipt_key, fresh_until, epoch, witnesses)


def test_a_verdict_on_simulated_workers_says_so_first(service: Any) -> None:
    verdict = service.verdict(service.worker(), nonce=service.nonce)
    assert verdict.simulated
    assert verdict.label == "SIMULATED"
    assert str(verdict) == "SIMULATED: service lite, epoch 3, 1 worker"
    assert verdict.warnings == (
        "SIMULATED evidence: not protection",
        "key custodian unattested: Example Hospital",
        "release log: no witness",
    )


def test_a_verdict_on_hardware_does_not(service: Any) -> None:
    verdict = Verdict.of(service.keyset(), claims(), [worker(witnesses=1)], [])
    assert (verdict.simulated, verdict.label, verdict.warnings) == (False, "ATTESTED", ())
    assert verdict.anchors == (Anchor.INTEL,)


def test_one_worker_that_asks_for_no_witness_is_said(service: Any) -> None:
    for counts, warned in (((1, 2), False), ((1, 0), True), ((0,), True)):
        workers = [worker(str(at), witnesses=count) for at, count in enumerate(counts)]
        verdict = Verdict.of(service.keyset(), claims(), workers, [])
        assert ("release log: no witness" in verdict.warnings) is warned


def test_one_simulated_part_makes_the_whole_simulated(service: Any) -> None:
    fake = {"anchor": Anchor.SIMULATED}
    mixed = Verdict.of(service.keyset(), claims(), [worker(), worker(**fake)], [])
    custodian = Verdict.of(service.keyset(), claims(**fake), [worker()], [])
    for verdict in (mixed, custodian):
        assert verdict.label == "SIMULATED"
        assert verdict.anchors == (Anchor.INTEL, Anchor.SIMULATED)
        assert verdict.warnings[0] == "SIMULATED evidence: not protection"


def test_it_sums_up_the_workers(service: Any) -> None:
    workers = [
        worker("b", measurement="12" * 32, tcb_status="OutOfDate", advisories=("SA-2", "SA-1")),
        worker("a", advisories=("SA-2", "SA-3")),
        worker("a"),
    ]
    verdict = Verdict.of(service.keyset(), None, workers, [])
    assert verdict.measurements == ("11" * 32, "12" * 32)
    assert verdict.tcb_statuses == ("OutOfDate", "UpToDate")
    assert verdict.advisories == ("SA-1", "SA-2", "SA-3")
    assert (verdict.workers, verdict.receipt_keys) == (2, ("a", "b"))
    assert str(verdict).endswith("2 workers")


def test_a_worker_that_does_not_pass_is_not_counted_but_named(service: Any) -> None:
    other = service.worker(worker="worker-1", pki=Pki.create(service.now, os.urandom))
    verdict = service.verdict(other, service.worker(), nonce=service.nonce)
    assert verdict.workers == 1
    assert verdict.warnings[-1].startswith("worker worker-1 not counted: The evidence ends in a root")


def test_a_document_sent_twice_is_one_worker(service: Any) -> None:
    document = service.worker()
    second = replace(service, receipt_key=SigningKey.from_raw(b"\x03" * 64).verifying_key.text).worker()
    assert service.verdict(document, document, nonce=service.nonce).workers == 1
    assert service.verdict(document, second, nonce=service.nonce).workers == 2


def test_a_keyset_older_than_the_brokers_epoch_is_warned_of(service: Any) -> None:
    current = service.verdict(service.worker(beacon=service.beacon()))
    rotated = service.verdict(service.worker(beacon=service.beacon(epoch=4)))
    assert not any("epoch" in warning for warning in current.warnings)
    assert rotated.warnings[-1] == "keyset of epoch 3, but the broker is at epoch 4"


def test_it_holds_as_long_as_the_shortest_part(service: Any) -> None:
    now = service.now
    keyset = service.keyset(not_after=now + 1000)

    def until(*workers: TrustedWorker, custodian: Claims | None = None) -> int:
        return Verdict.of(keyset, custodian, workers, []).valid_until - now

    assert until(worker()) == 1000
    assert until(worker(fresh_until=now + 600)) == 600
    assert until(worker(fresh_until=now + 600, expires=now + 500)) == 500
    assert until(worker(fresh_until=now + 600), worker(fresh_until=now + 700)) == 700
    assert until(worker(), custodian=claims(expires=now + 400)) == 400


def test_validity_of_real_appraisals(service: Any) -> None:
    now = service.now
    assert service.verdict(service.worker(), nonce=service.nonce).valid_until == now - 10 + 600
    over_beacon = service.verdict(service.worker(beacon=service.beacon(time=now - 100)))
    assert over_beacon.valid_until == now + 500


def test_a_verdict_is_not_valid_beyond_itself(service: Any) -> None:
    """What an expired verdict stood on is refused when it is appraised again."""
    document = EvidenceList((service.worker(beacon=service.beacon()),)).to_json_bytes()
    verdict = service.appraisal().evidence(document)
    later = ServiceAppraisal(service.client_policy(), verdict.valid_until + 1)
    later.keyset(service.signed(service.keyset()).to_json_bytes())
    later.release_policy(service.release_policy())
    with pytest.raises(PolicyRefused) as caught:
        later.evidence(document)
    assert caught.value.code == "service-beacon-stale"


def test_json_form(service: Any) -> None:
    verdict = service.verdict(service.worker(), nonce=service.nonce)
    value = json.loads(json.dumps(verdict.to_json()))
    keyset = service.keyset()
    assert value == {
        "verdict": "SIMULATED",
        "service": "lite",
        "epoch": 3,
        "simulated": True,
        "anchors": ["simulated"],
        "measurements": ["11" * 32],
        "tcb_statuses": ["UpToDate"],
        "advisories": [],
        "keyset": keyset.digest(),
        "suites": ["MLKEM768-X25519/HKDF-SHA256/AES-256-GCM", "X25519-HKDF-SHA256/HKDF-SHA256/AES-256-GCM"],
        "signature_suite": "MLDSA65-Ed25519-SHA512",
        "models": {"lite0": {"version": "1.0", "manifest": "sha256:" + "cd" * 32}},
        "release_policy": keyset.release_policy,
        "broker_key": service.signer.verifying_key.text,
        "key_custodian": "Example Hospital",
        "custodian_attested": False,
        "key_release": "post-quantum",
        "workers": 1,
        "receipt_keys": [service.receipt_key],
        "warnings": list(verdict.warnings),
        "valid_until": service.now - 10 + 600,
    }


def test_what_is_classical_is_warned_of(service: Any) -> None:
    """A policy that allows it does not make it go without saying."""
    keyset = service.keyset(keys=service.classical_keys, key_release="classical")
    verdict = Verdict.of(keyset, claims(), [worker()], [])
    assert verdict.warnings == ("requests: classical", "key release: classical", "release log: no witness")
    assert verdict.key_release == verdict.to_json()["key_release"] == "classical"


def test_what_is_post_quantum_is_not(service: Any) -> None:
    verdict = Verdict.of(service.keyset(), claims(), [worker(witnesses=1)], [])
    assert verdict.warnings == ()
    assert verdict.key_release == verdict.to_json()["key_release"] == "post-quantum"
