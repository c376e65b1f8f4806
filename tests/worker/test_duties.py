from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from strongroom.attestation.keyset import KeysetModel
from strongroom.attestation.serving import EvidenceList, ServiceAppraisal, ServiceEvidence, Verdict
from strongroom.broker import admin
from strongroom.broker.client import KbsClient
from strongroom.broker.errors import (
    BROKER_REFUSED,
    BROKER_UNREACHABLE,
    SERVICE_FOREIGN,
    SESSION_EXPIRED,
    STORE_BUSY,
)
from strongroom.broker.store import Store
from strongroom.crypto.sign import SigningKey
from strongroom.errors import BrokerError, EvidenceError, StrongroomError, UnreachableError
from strongroom.models.bundle import read_bundle, write_bundle
from strongroom.queue.errors import QUEUE_UNREACHABLE
from strongroom.worker import duties
from strongroom.worker.duties import HURRY_AT_MOST_EVERY, Credentials, Duties, _is_refusal
from strongroom.worker.enroll import Enrolment
from strongroom.worker.errors import KEYS_REFUSED, WorkerError
from strongroom.worker.evidence import Beacons, EvidenceSource
from strongroom.worker.keys import ServiceKeys
from strongroom.worker.logging import Journal
from strongroom.worker.quoter import QUOTE_REFUSED


@dataclass
class World:
    """Duties on a real broker; what they publish ends in a list."""

    rig: Any
    url: str
    duties: Duties
    keys: ServiceKeys
    enrolment: Enrolment
    lines: list[bytes]
    published: list[tuple[str, bytes, float]] = field(default_factory=list)
    skew: float = 0.0
    unreachable: bool = False
    forgotten: int = 0
    something: asyncio.Event = field(default_factory=asyncio.Event)
    refused: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(self, kind: str, document: bytes, life: float) -> None:
        if self.unreachable:
            self.refused.set()
            raise UnreachableError(QUEUE_UNREACHABLE)
        self.published.append((kind, document, life))
        self.something.set()

    async def forget(self) -> None:
        self.forgotten += 1

    def now(self) -> float:
        return time.time() + self.skew

    def latest(self, kind: str) -> bytes:
        return next(document for name, document, _ in reversed(self.published) if name == kind)

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.published]

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.lines]

    def appraise(self, evidence: bytes, nonce: bytes | None = None) -> Verdict:
        """What a client says of what was published."""
        appraisal = ServiceAppraisal(self.rig.client_policy(), int(time.time()))
        appraisal.keyset(self.latest("keyset"))
        appraisal.release_policy(self.latest("policy"))
        listed = EvidenceList((ServiceEvidence.parse(evidence),)).to_json_bytes()
        return appraisal.evidence(listed, nonce)


@pytest.fixture
def service(rig: Any, double_tar: bytes) -> Any:
    rig.add_model(double_tar)
    rig.register()
    return rig


@pytest.fixture
def url(service: Any, kit: Any) -> Iterator[str]:
    with kit.broker_server(service.store) as address:
        yield address


@pytest.fixture
async def world(service: Any, url: str) -> AsyncIterator[World]:
    init_data = service.init_data
    document = init_data.to_toml()
    quoter = service.quoter(document)
    enrolment = Enrolment(KbsClient(url, "sgx", quoter.quote), document)
    [model] = admin.models(service.store)
    keys = ServiceKeys(init_data, {model.name: KeysetModel(model.version, model.manifest)})
    enrolment.attest()
    keys.accept(enrolment.service_keys(), int(time.time()))
    enrolment.close()
    held = Credentials(
        enrolment=enrolment,
        keys=keys,
        beacons=Beacons(init_data.service, enrolment.broker_key),
        source=EvidenceSource(quoter, document, "worker-0", SigningKey.generate().verifying_key.text),
        policy=service.policy.encode(),
        max_age=600,
    )
    lines: list[bytes] = []
    with ThreadPoolExecutor(1) as executor:
        made = World(service, url, None, keys, enrolment, lines)  # type: ignore[arg-type]
        made.duties = Duties(
            held,
            made.publish,
            made.forget,
            executor=executor,
            journal=Journal(lines.append),
            now=made.now,
        )
        yield made


async def test_a_round_publishes_what_a_client_accepts(world: World) -> None:
    assert await world.duties.renew() is True
    assert world.kinds() == ["evidence", "keyset", "policy"]
    assert {life for _, _, life in world.published} == {600}
    verdict = world.appraise(world.latest("evidence"))
    assert (verdict.service, verdict.epoch, verdict.workers, verdict.simulated) == ("pictures", 1, 1, True)


async def test_evidence_over_a_nonce_is_what_a_client_accepts(world: World) -> None:
    await world.duties.renew()
    document = await world.duties.evidence(b"n" * 32)
    assert world.appraise(document, b"n" * 32).workers == 1


async def test_a_nonce_of_the_wrong_size_is_refused(world: World) -> None:
    with pytest.raises(WorkerError, match="nonce-invalid"):
        await world.duties.evidence(b"n" * 31)


async def test_a_rotation_is_followed_with_both_epochs_served(world: World) -> None:
    await world.duties.renew()
    admin.rotate(world.rig.store, "pictures")
    assert await world.duties.renew() is True
    assert world.keys.epochs == (2, 1)
    assert world.appraise(world.latest("evidence")).epoch == 2
    assert "epoch" in world.events()


async def test_without_a_rotation_the_worker_does_not_attest_again(world: World) -> None:
    before = [entry["event"] for entry in admin.log_entries(world.rig.store)]
    await world.duties.renew()
    await world.duties.renew()
    assert [entry["event"] for entry in admin.log_entries(world.rig.store)] == before


async def test_an_old_epoch_is_dropped_when_its_grace_is_over(world: World) -> None:
    admin.rotate(world.rig.store, "pictures", grace=3600)
    await world.duties.renew()
    world.skew = 3601
    assert await world.duties.renew() is True
    assert world.keys.epochs == (2,)
    assert "epoch-dropped" in world.events()


async def test_while_the_broker_is_away_keys_are_kept_and_documents_renewed(world: World) -> None:
    await world.duties.renew()
    world.published.clear()
    world.enrolment._client._connection.port = 9
    assert await world.duties.renew() is False
    assert world.keys.epochs == (1,)
    assert world.kinds() == ["keyset", "policy"]
    assert "beacon" in world.events()
    assert await world.duties.evidence(b"n" * 32)


async def test_a_beacon_of_another_broker_is_not_followed(world: World, kit: Any, tmp_path: Any) -> None:
    with Store.open(tmp_path / "rogue") as store:
        rogue = kit.Rig(tmp_path / "rogue", world.rig.simulator, store)
        rogue.add_model(kit.double_bundle(tmp_path))
        rogue.register()
        admin.rotate(store, "pictures")
        with kit.broker_server(store) as address:
            world.enrolment._client._connection.port = int(address.rpartition(":")[2])
            assert await world.duties.renew() is False
    assert world.keys.epochs == (1,)
    assert world.kinds() == ["keyset", "policy"]
    assert b"signature-invalid" in b"".join(world.lines)


def _register_newer_model(world: World, kit: Any, folder: Any) -> None:
    old = read_bundle(kit.double_bundle(folder))
    newer = msgspec.structs.replace(old.manifest, version="2")
    world.rig.add_model(write_bundle(newer, dict(old.files)))


async def test_an_epoch_for_another_model_than_the_loaded_one_ends_it(
    world: World, kit: Any, tmp_path: Any
) -> None:
    """The owner has registered a new version: the worker must be started anew to load it."""
    await world.duties.renew()
    world.published.clear()
    _register_newer_model(world, kit, tmp_path)
    with pytest.raises(WorkerError, match="service-keys-refused") as refused:
        await asyncio.wait_for(world.duties.run(), 30)
    assert refused.value.exit_code == 3
    assert "rotation" in world.events()
    assert world.published == []


async def test_a_rotation_that_the_broker_refuses_this_worker_ends_it(world: World) -> None:
    await world.duties.renew()
    admin.rotate(world.rig.store, "pictures")
    world.rig.measurement = b"\x07" * 32
    with pytest.raises(BrokerError, match="policy-measurement") as refused:
        await asyncio.wait_for(world.duties.run(), 30)
    assert refused.value.exit_code == 3


async def test_a_refusal_that_a_request_brings_to_light_wakes_it(
    world: World, kit: Any, tmp_path: Any
) -> None:
    running = asyncio.create_task(world.duties.run())
    while "policy" not in world.kinds() or world.duties._renewing is not None:
        await asyncio.sleep(0)
    _register_newer_model(world, kit, tmp_path)
    world.duties._last_round = float("-inf")
    assert await world.duties.hurry() is False
    with pytest.raises(WorkerError, match="service-keys-refused"):
        await asyncio.wait_for(running, 30)


async def test_a_grace_that_a_request_brings_to_light_ends_in_time(world: World) -> None:
    """The next round in its turn would be minutes later."""
    running = asyncio.create_task(world.duties.run())
    while "policy" not in world.kinds() or world.duties._renewing is not None:
        await asyncio.sleep(0)
    admin.rotate(world.rig.store, "pictures", grace=2)
    world.duties._last_round = float("-inf")
    assert await world.duties.hurry() is True
    assert world.keys.epochs == (2, 1)
    async with asyncio.timeout(30):
        while world.keys.epochs != (2,):
            world.something.clear()
            await world.something.wait()
    assert not running.done()
    running.cancel()


async def test_a_rotation_is_seen_without_a_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next round in its turn would be minutes later."""
    monkeypatch.setattr(duties, "LOOK_EVERY", 0.05)
    running = asyncio.create_task(world.duties.run())
    while "policy" not in world.kinds() or world.duties._renewing is not None:
        await asyncio.sleep(0)
    admin.rotate(world.rig.store, "pictures", grace=0)
    async with asyncio.timeout(30):
        while world.keys.epochs != (2,) or not world.forgotten:
            await asyncio.sleep(0.01)
    assert not running.done()
    running.cancel()


async def test_looking_at_a_broker_that_is_away_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duties, "LOOK_EVERY", 0.05)
    running = asyncio.create_task(world.duties.run())
    while "policy" not in world.kinds() or world.duties._renewing is not None:
        await asyncio.sleep(0)
    looks = 0

    def away() -> bytes:
        nonlocal looks
        looks += 1
        raise UnreachableError(QUEUE_UNREACHABLE)

    world.enrolment.beacon = away  # type: ignore[method-assign]
    async with asyncio.timeout(30):
        while looks < 3:
            await asyncio.sleep(0.01)
    assert world.keys.epochs == (1,)
    assert not running.done()
    running.cancel()


async def test_ciphertext_is_forgotten_when_a_key_is_dropped_and_only_then(world: World) -> None:
    await world.duties.renew()
    admin.rotate(world.rig.store, "pictures", grace=3600)
    await world.duties.renew()
    assert (world.keys.epochs, world.forgotten) == ((2, 1), 0)
    world.skew = 3601
    await world.duties.renew()
    assert (world.keys.epochs, world.forgotten) == ((2,), 1)
    await world.duties.renew()
    assert world.forgotten == 1


async def test_a_broker_that_goes_away_during_a_rotation_is_waited_for(world: World) -> None:
    signed = world.enrolment.beacon
    admin.rotate(world.rig.store, "pictures")

    def then_away() -> bytes:
        document = signed()
        world.enrolment._client._connection.port = 9
        world.enrolment.close()
        return document

    world.enrolment.beacon = then_away  # type: ignore[method-assign]
    assert await world.duties.renew() is False
    assert world.keys.epochs == (1,)
    assert "rotation" in world.events()
    assert world.kinds() == ["evidence", "keyset", "policy"]


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (BrokerError(SERVICE_FOREIGN), True),
        (WorkerError(KEYS_REFUSED), True),
        (BrokerError(SESSION_EXPIRED), False),
        (BrokerError(BROKER_REFUSED), False),
        (BrokerError(STORE_BUSY), False),
        (UnreachableError(BROKER_UNREACHABLE), False),
        (EvidenceError(QUOTE_REFUSED), False),
    ],
)
def test_only_what_trying_again_does_not_mend_is_a_refusal(error: StrongroomError, final: bool) -> None:
    assert _is_refusal(error) is final


async def test_an_old_epoch_ends_when_the_broker_drops_it_once_a_newer_one_is_known(world: World) -> None:
    [alone] = world.keys.ends
    admin.rotate(world.rig.store, "pictures", grace=3600)
    await world.duties.renew()
    assert world.keys.ends[1] <= time.time() + 3600 < alone


async def test_without_any_key_it_ends(world: World) -> None:
    world.enrolment._client._connection.port = 9
    world.skew = 40 * 86400
    with pytest.raises(WorkerError, match="no epoch is honoured"):
        await asyncio.wait_for(world.duties.run(), 30)
    with pytest.raises(WorkerError, match="no epoch is honoured"):
        await world.duties.evidence(b"n" * 32)


async def test_a_queue_that_is_away_makes_the_round_incomplete(world: World) -> None:
    world.unreachable = True
    assert await world.duties.renew() is False
    assert "publish" in world.events()


async def test_a_launcher_that_does_not_quote_makes_the_round_incomplete(world: World) -> None:
    world.rig.measurement = b"too short"
    assert await world.duties.renew() is False
    assert world.kinds() == ["keyset", "policy"]
    assert "evidence" in world.events()


async def test_rounds_at_the_same_time_are_one(world: World) -> None:
    assert await asyncio.gather(*[world.duties.renew() for _ in range(5)]) == [True] * 5
    assert world.kinds() == ["evidence", "keyset", "policy"]


async def test_a_request_for_an_unknown_key_makes_it_look_for_newer_ones(world: World) -> None:
    admin.rotate(world.rig.store, "pictures")
    assert await world.duties.hurry() is True
    assert world.keys.newest == 2


async def test_requests_for_unknown_keys_cannot_make_it_hurry_all_the_time(world: World) -> None:
    await world.duties.renew()
    world.published.clear()
    assert [await world.duties.hurry() for _ in range(20)] == [False] * 20
    assert world.published == []
    assert HURRY_AT_MOST_EVERY >= 1


async def test_it_renews_for_ever(world: World) -> None:
    world.duties._max_age = 0.4
    running = asyncio.create_task(world.duties.run())
    while world.kinds().count("evidence") < 3:
        world.something.clear()
        await asyncio.wait_for(world.something.wait(), 30)
    running.cancel()
    nonces = {
        ServiceEvidence.parse(document).nonce for kind, document, _ in world.published if kind == "evidence"
    }
    assert len(nonces) >= 3


async def test_after_a_failure_it_tries_again_soon(world: World) -> None:
    world.unreachable = True
    running = asyncio.create_task(world.duties.run())
    await asyncio.wait_for(world.refused.wait(), 30)
    world.unreachable = False
    await asyncio.wait_for(world.something.wait(), 30)
    running.cancel()
    assert world.kinds()[0] == "evidence"


async def test_the_next_round_is_no_later_than_the_end_of_an_epoch(world: World) -> None:
    assert world.duties._next_round() == 150
    world.skew = min(world.keys.ends) - time.time() - 20
    assert 0 < world.duties._next_round() <= 20
