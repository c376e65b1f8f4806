"""Signed reference values at the broker: taken forward only, used and logged at each decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.attestation.evidence import DCAP_KINDS, EvidenceKind
from strongroom.attestation.policy import Policy
from strongroom.attestation.reference_checks import ReferenceDemand
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.broker import admin, published
from strongroom.broker.publishing import publish
from strongroom.crypto.sign import SigningKey
from strongroom.errors import PolicyRefused

PUBLISHER = SigningKey.from_raw(b"\x07" * 64)
OTHER = SigningKey.from_raw(b"\x08" * 64)
KEY = PUBLISHER.verifying_key.text
SGX = EvidenceKind.SGX
NEW = b"\x99" * 32
DEMAND = ReferenceDemand(KEY, "pictures", 2)
SERVICE_KEY = "pictures/service-key/current"
MODEL = "default/model/lite0"


def values(rig: Any, **changes: Any) -> ReferenceValues:
    now = int(rig.clock())
    labels = {SGX: {NEW.hex(): "pictures 1.5"}}
    return replace(ReferenceValues("Example Models", "pictures", 2, now, now, now + 1000, labels), **changes)


def file(rig: Any, signer: SigningKey = PUBLISHER, **changes: Any) -> bytes:
    return values(rig, **changes).sign(signer).to_json_bytes()


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    """Both keep it alike."""
    backend: str = request.param
    return backend


@pytest.fixture
def demanding(rig: Any) -> Any:
    """A broker whose service's policy names the publisher."""
    rig.change_service(rig.policy(reference_values=DEMAND))
    return rig


def events(rig: Any) -> list[dict[str, Any]]:
    return list(admin.log_entries(rig.store))


# Taking them


def test_a_file_is_taken_and_its_digest_logged(demanding: Any) -> None:
    taken = publish(demanding.store, file(demanding))
    entry = demanding.last_entry()
    assert entry["event"] == "values-published"
    assert entry["reference_values"] == [taken.digest]
    assert entry["by"] == "operator"
    assert (entry["publisher"], entry["series"], entry["version"]) == (KEY, "pictures", 2)
    with demanding.store.read() as db:
        ((key, kept),) = published.find(db).items()
    assert key == (KEY, "pictures")
    assert (kept.version, kept.signed.verify(PUBLISHER.verifying_key)) == (2, taken)


def test_taking_it_again_changes_nothing(demanding: Any) -> None:
    publish(demanding.store, file(demanding))
    before = len(events(demanding))
    publish(demanding.store, file(demanding))  # signed anew: no two signatures are alike
    assert len(events(demanding)) == before


@pytest.mark.parametrize(
    ("changes", "signer", "code"),
    [
        ({"version": 1}, PUBLISHER, "reference-values-older"),
        ({"name": "other"}, PUBLISHER, "reference-values-foreign"),
        ({}, OTHER, "reference-values-signature"),
    ],
    ids=["older than a policy accepts", "another series", "another publisher"],
)
def test_a_file_that_no_policy_takes_is_refused(
    demanding: Any, refused: Callable[[str], Any], changes: dict[str, Any], signer: SigningKey, code: str
) -> None:
    with refused(code):
        publish(demanding.store, file(demanding, signer, **changes))
    with demanding.store.read() as db:
        assert published.find(db) == {}


def test_a_store_whose_policies_name_nobody_takes_none(rig: Any, refused: Callable[[str], Any]) -> None:
    with refused("reference-values-foreign"):
        publish(rig.store, file(rig))


def test_what_is_no_file_is_refused(demanding: Any, refused: Callable[[str], Any]) -> None:
    with refused("reference-values-malformed"):
        publish(demanding.store, b"{}")


def test_a_publication_is_never_rolled_back(demanding: Any, refused: Callable[[str], Any]) -> None:
    publish(demanding.store, file(demanding, version=5))
    for version in (2, 4, 5):  # 5 with other content is another publication under the same number
        with refused("reference-values-older"):
            publish(demanding.store, file(demanding, version=version, publisher="Somebody"))
    publish(demanding.store, file(demanding, version=6))
    with demanding.store.read() as db:
        assert published.find(db)[KEY, "pictures"].version == 6


def test_a_models_policy_can_name_the_publisher(rig: Any) -> None:
    rig.register_model(policy_text=rig.policy(reference_values=DEMAND), version="2")
    assert publish(rig.store, file(rig)).version == 2


def test_the_right_demand_is_found_among_several(rig: Any) -> None:
    stricter = ReferenceDemand(KEY, "pictures", 9)
    foreign = ReferenceDemand(OTHER.verifying_key.text, "pictures", 1)
    rig.register_model(policy_text=rig.policy(reference_values=stricter), version="2")
    rig.change_service(rig.policy(reference_values=foreign))
    assert publish(rig.store, file(rig, OTHER)).version == 2
    assert publish(rig.store, file(rig, version=9)).version == 9


# Using them


def test_a_published_worker_gets_its_keys_and_the_log_says_by_what(demanding: Any) -> None:
    attester = demanding.attester(SGX, measurement=NEW)
    with pytest.raises(PolicyRefused, match=r"policy of the service.*policy-measurement"):
        attester.attest()
    assert "reference_values" not in demanding.last_entry()
    digest = publish(demanding.store, file(demanding)).digest
    attester.attest()
    assert demanding.last_entry()["reference_values"] == [digest]
    attester.fetch(SERVICE_KEY)
    released = demanding.last_entry()
    assert (released["event"], released["reference_values"]) == ("released", [digest])
    assert released["policy"] == Policy.parse(demanding.policy_text).digest


def test_the_release_policy_that_is_pinned_stays_the_same(demanding: Any) -> None:
    """A worker that was started before the publication names the same policy as one that came after."""
    started = demanding.init_data()
    publish(demanding.store, file(demanding))
    assert demanding.init_data() == started
    assert demanding.broker.policy("pictures") == demanding.policy_text


def test_listed_code_needs_no_publication(demanding: Any) -> None:
    publish(demanding.store, file(demanding))
    demanding.attester(SGX).attest().fetch(SERVICE_KEY)
    demanding.clock.turn(2000)  # after it has expired
    demanding.attester(SGX).attest().fetch(SERVICE_KEY)


def test_an_expired_publication_gives_no_key_to_who_has_attested(demanding: Any) -> None:
    publish(demanding.store, file(demanding, expires=int(demanding.clock()) + 10))
    attester = demanding.attester(SGX, measurement=NEW).attest()
    attester.fetch(SERVICE_KEY)
    demanding.clock.turn(10)
    with pytest.raises(PolicyRefused, match=r"policy of the service.*policy-values-expired"):
        attester.fetch(SERVICE_KEY)


def test_code_that_a_newer_publication_leaves_out_gets_no_more_keys(demanding: Any) -> None:
    publish(demanding.store, file(demanding))
    attester = demanding.attester(SGX, measurement=NEW).attest()
    publish(demanding.store, file(demanding, version=3, measurements={SGX: {"98" * 32: "pictures 1.6"}}))
    with pytest.raises(PolicyRefused, match="policy-measurement"):
        attester.fetch(SERVICE_KEY)


def test_a_policy_that_asks_for_a_newer_version_takes_none(demanding: Any) -> None:
    publish(demanding.store, file(demanding))
    demanding.change_service(demanding.policy(reference_values=replace(DEMAND, min_version=3)))
    with pytest.raises(PolicyRefused, match="policy-measurement"):
        demanding.attester(SGX, measurement=NEW).attest()
    demanding.attester(SGX).attest()


def test_both_owners_must_know_the_publisher(demanding: Any) -> None:
    """The service's policy takes the published code; the model's lists the old release only."""
    demanding.register_model(policy_text=demanding.policy(), version="2")
    digest = publish(demanding.store, file(demanding)).digest
    attester = demanding.attester(SGX, measurement=NEW).attest()
    attester.fetch(SERVICE_KEY)
    with pytest.raises(PolicyRefused, match=r"policy of the model.*policy-measurement"):
        attester.fetch(MODEL)
    demanding.register_model(policy_text=demanding.policy(reference_values=DEMAND), version="3")
    attester.fetch(MODEL)
    assert demanding.last_entry()["reference_values"] == [digest]


def test_the_models_owner_may_know_it_alone_and_that_is_not_enough(rig: Any) -> None:
    rig.register_model(policy_text=rig.policy(reference_values=DEMAND), version="2")
    publish(rig.store, file(rig))
    with pytest.raises(PolicyRefused, match=r"policy of the service.*policy-measurement"):
        rig.attester(SGX, measurement=NEW).attest()


def test_a_file_that_was_changed_in_the_store_gives_no_key(demanding: Any) -> None:
    """Who writes the database, but has not the publisher's key."""
    publish(demanding.store, file(demanding))
    forged = file(demanding, OTHER)
    demanding.place.attack(("UPDATE reference_values SET document = ?", (forged,)))
    for kind in DCAP_KINDS:
        with pytest.raises(PolicyRefused, match="reference-values-signature"):
            demanding.attester(kind).attest()
