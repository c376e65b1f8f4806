from __future__ import annotations

import time
from typing import Any

import pytest

from strongroom.attestation.beacon import Beacon, SignedBeacon
from strongroom.attestation.serving import ServiceEvidence, serve_report_data
from strongroom.attestation.verify import verify_evidence
from strongroom.crypto.sign import SigningKey
from strongroom.errors import StrongroomError
from strongroom.worker.evidence import Beacons, EvidenceSource

BROKER = SigningKey.generate()
RECEIPT = SigningKey.generate().verifying_key.text
KEYSET = "sha384:" + "a" * 96


def _beacon(
    *,
    service: str = "pictures",
    epoch: int = 1,
    at: int = 1000,
    key: SigningKey = BROKER,
    nonce: bytes = b"n" * 32,
) -> SignedBeacon:
    payload = Beacon(service, epoch, at, b"n" * 32).payload()
    return SignedBeacon(payload, key.sign("strongroom-beacon/1", payload))


@pytest.fixture
def beacons() -> Beacons:
    return Beacons("pictures", BROKER.verifying_key)


def _refused(beacons: Beacons, document: bytes) -> str:
    with pytest.raises(StrongroomError) as refused:
        beacons.accept(document)
    return refused.value.code


def test_a_beacon_of_the_broker_is_taken(beacons: Beacons) -> None:
    signed, beacon = beacons.accept(_beacon(epoch=3).to_json_bytes())
    assert beacon.epoch == 3
    assert signed.evidence_nonce == beacon.evidence_nonce


def test_time_and_epoch_may_stand_still_or_go_on(beacons: Beacons) -> None:
    for epoch, at in ((1, 1000), (1, 1000), (1, 1001), (2, 1001)):
        assert beacons.accept(_beacon(epoch=epoch, at=at).to_json_bytes())[1].time == at


def test_a_beacon_of_another_broker_is_refused(beacons: Beacons) -> None:
    assert _refused(beacons, _beacon(key=SigningKey.generate()).to_json_bytes()) == "signature-invalid"


def test_a_beacon_of_another_service_is_refused(beacons: Beacons) -> None:
    assert _refused(beacons, _beacon(service="texts").to_json_bytes()) == "beacon-refused"


def test_an_older_beacon_is_refused(beacons: Beacons) -> None:
    beacons.accept(_beacon(at=1000).to_json_bytes())
    assert _refused(beacons, _beacon(at=999).to_json_bytes()) == "beacon-refused"


def test_a_beacon_of_an_older_epoch_is_refused(beacons: Beacons) -> None:
    beacons.accept(_beacon(epoch=2).to_json_bytes())
    assert _refused(beacons, _beacon(epoch=1, at=2000).to_json_bytes()) == "beacon-refused"


def test_a_refused_beacon_leaves_no_trace(beacons: Beacons) -> None:
    beacons.accept(_beacon(at=1000).to_json_bytes())
    _refused(beacons, _beacon(service="texts", at=5000).to_json_bytes())
    assert beacons.accept(_beacon(at=1001).to_json_bytes())[1].time == 1001


@pytest.mark.parametrize("document", [b"", b"{}", b"nonsense", b"\xff"])
def test_what_is_no_beacon_is_refused(beacons: Beacons, document: bytes) -> None:
    assert _refused(beacons, document) == "beacon-malformed"


@pytest.fixture
def source(rig: Any) -> EvidenceSource:
    return EvidenceSource(rig.quoter(b"init"), b"init", "worker-0", RECEIPT)


def _check(rig: Any, document: ServiceEvidence, nonce: bytes) -> None:
    """What a client checks of it."""
    served = ServiceEvidence.parse(document.to_json_bytes())
    assert (served.worker, served.keyset, served.receipt_key) == ("worker-0", KEYSET, RECEIPT)
    assert served.nonce == nonce
    claims = verify_evidence(served.evidence, rig.roots, int(time.time()))
    assert claims.report_data == serve_report_data(KEYSET, nonce, b"init", RECEIPT)
    assert claims.measurement == rig.measurement.hex()


def test_evidence_over_a_beacon(rig: Any, source: EvidenceSource) -> None:
    beacon = _beacon()
    document = source.over_beacon(beacon, KEYSET)
    assert document.beacon == beacon
    _check(rig, document, beacon.evidence_nonce)


def test_evidence_over_a_nonce(rig: Any, source: EvidenceSource) -> None:
    beacon = _beacon()
    document = source.over_nonce(b"x" * 32, beacon, KEYSET)
    assert document.beacon == beacon
    _check(rig, document, b"x" * 32)


@pytest.mark.parametrize("nonce", [b"", b"x" * 31, b"x" * 33])
def test_a_nonce_has_32_bytes(source: EvidenceSource, nonce: bytes) -> None:
    with pytest.raises(StrongroomError) as refused:
        source.over_nonce(nonce, None, KEYSET)
    assert refused.value.code == "nonce-invalid"
