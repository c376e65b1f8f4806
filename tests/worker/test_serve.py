from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from strongroom.attestation.keyset import Keyset
from strongroom.attestation.serving import EvidenceList, ServiceAppraisal, ServiceEvidence, Verdict
from strongroom.broker import admin
from strongroom.errors import StrongroomError
from strongroom.queue.connect import connect
from strongroom.queue.producer import ReplyReader, RequestQueue
from strongroom.queue.records import Reply, SealedRecord
from strongroom.queue.valkey import EmbeddedValkey
from strongroom.worker.config import WorkerSettings, parse_settings
from strongroom.worker.errors import WorkerError
from strongroom.worker.logging import Journal
from strongroom.worker.serve import credentials, serve
from strongroom.worker.startup import enrol
from strongroom.worker.stopping import Stopper


@pytest.fixture
def service(rig: Any, double_tar: bytes, picture_tar: bytes) -> Any:
    rig.add_model(double_tar)
    rig.add_model(picture_tar)
    rig.register()
    return rig


@pytest.fixture
def url(service: Any, kit: Any) -> Iterator[str]:
    with kit.broker_server(service.store) as address:
        yield address


@pytest.fixture
def valkey(tmp_path: Any) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "q") as server:
        yield server


@pytest.fixture(autouse=True)
def process_settings() -> Iterator[None]:
    """`serve` owns its process; in a test it is given back as it was."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)
    gc.unfreeze()


def _settings(rig: Any, url: str, queue_url: str, **changes: Any) -> WorkerSettings:
    return parse_settings(
        json.dumps(
            {
                "queue_url": queue_url,
                "service": rig.init_data.service,
                "consumer": "worker-0",
                "broker_url": url,
                "init_data": rig.init_data.to_toml().decode(),
                "tee": "sgx",
                "bundles": [{"path": str(p), "resource": r} for r, p in rig.sealed.items()],
                "metrics": 1,
            }
            | changes
        ).encode()
    )


@dataclass
class FrontEnd:
    """What a front end sees of the worker: documents, and answers to records."""

    queue: RequestQueue
    replies: ReplyReader
    count: int = 0

    async def documents(self) -> dict[str, bytes]:
        async with asyncio.timeout(60):
            while True:
                found = {kind: await self.queue.documents(kind) for kind in ("evidence", "keyset", "policy")}
                if all(found.values()):
                    return {kind: each["worker-0"] for kind, each in found.items()}
                await asyncio.sleep(0.01)

    async def ask(self, body: bytes, deadline: int, key: str = "k") -> Reply:
        self.count += 1
        await self.queue.submit(SealedRecord(f"r{self.count}", key, body, "front", deadline))
        return await asyncio.wait_for(anext(aiter(self.replies)), 30)


def _verdict(rig: Any, documents: dict[str, bytes], nonce: bytes | None = None) -> Verdict:
    appraisal = ServiceAppraisal(rig.client_policy(), int(time.time()))
    appraisal.keyset(documents["keyset"])
    appraisal.release_policy(documents["policy"])
    listed = EvidenceList((ServiceEvidence.parse(documents["evidence"]),))
    return appraisal.evidence(listed.to_json_bytes(), nonce)


def _beside(
    stopper: Stopper, queue_url: str, service: str, work: Callable[[FrontEnd], Awaitable[None]]
) -> tuple[threading.Thread, list[BaseException]]:
    """Run a front end in another thread; when it is done, the worker is told to stop."""
    errors: list[BaseException] = []

    async def run() -> None:
        async with connect(queue_url) as client:
            replies = ReplyReader(client, service, "front")
            try:
                await work(FrontEnd(RequestQueue(client, service, max_length=100), replies))
            finally:
                await replies.aclose()

    def guarded() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            errors.append(error)
        finally:
            stopper.set()

    thread = threading.Thread(target=guarded)
    thread.start()
    return thread, errors


def test_a_whole_worker(service: Any, url: str, valkey: EmbeddedValkey, kit: Any) -> None:
    """Real broker, queue, evidence and models: a client appraises, seals, and reads its answers."""
    settings = _settings(service, url, valkey.url)
    quoter, stopper, lines = service.quoter(), Stopper(), []

    async def client(front: FrontEnd) -> None:
        documents = await front.documents()
        verdict = _verdict(service, documents)
        assert (verdict.workers, verdict.epoch) == (1, 1)
        for config in verdict.keyset.key_configs:
            sealer = kit.Sealer(config)
            sealed = sealer.infer("double", kit.x(1, 2, 3, 4))
            reply = await front.ask(sealed.data, kit.FAR)
            answer = kit.inferred(kit.opened(sealed, reply.body))
            assert answer.outputs[0].array.tolist() == [[2, 4, 6, 8]]
        sealed = sealer.infer("picture", kit.pictures(kit.picture((0, 0, 250))))
        reply = await front.ask(sealed.data, kit.FAR)
        labels = kit.inferred(kit.opened(sealed, reply.body)).parameters["labels"]
        assert labels[0][0]["name"] == "blue"
        fresh = await front.ask(b"n" * 32, kit.FAR, key="evidence")
        assert _verdict(service, {**documents, "evidence": fresh.body}, b"n" * 32).workers == 1
        # A new epoch: the first request to it makes the worker look, and the old one still opens.
        admin.rotate(service.store, "pictures")
        [config] = [c for c in _newest(service) if c.kem == sealer.config.kem]
        newer = kit.Sealer(config).infer("double", kit.x(1, 2, 3, 4))
        await asyncio.sleep(2.1)  # it looks at most every two seconds
        assert kit.opened(newer, (await front.ask(newer.data, kit.FAR)).body).status == 200
        older = sealer.infer("double", kit.x(1, 2, 3, 4))
        assert kit.opened(older, (await front.ask(older.data, kit.FAR)).body).status == 200
        assert _verdict(service, await front.documents()).epoch == 2

    thread, errors = _beside(stopper, valkey.url, settings.service, client)
    enrolled = enrol(settings, quoter)
    began = time.monotonic()
    assert serve(settings, quoter, enrolled, stopper=stopper, journal=Journal(lines.append), began=began) == 0
    thread.join()
    assert errors == []
    events = [json.loads(line) for line in lines]
    assert [line["event"] for line in events[:3]] == ["model", "model", "serving"]
    assert "counters" in [line["event"] for line in events]
    assert events[-1]["event"] == "drained"
    assert events[-1]["answered"] == events[-1]["taken"] == 6
    assert sys.getswitchinterval() == pytest.approx(0.001)


def test_when_a_key_is_dropped_the_queues_file_is_rewritten(
    service: Any, url: str, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no ciphertext under it outlives it on the disk."""
    monkeypatch.setattr("strongroom.worker.duties.LOOK_EVERY", 0.2)
    settings = _settings(service, url, valkey.url)
    quoter, stopper = service.quoter(), Stopper()

    async def rewrites() -> bytes:
        async with connect(valkey.url) as client:
            statistics: bytes = await client.execute("INFO", "commandstats")
        return statistics.partition(b"cmdstat_bgrewriteaof:calls=")[2][:2]

    async def operator(front: FrontEnd) -> None:
        await front.documents()
        assert await rewrites() == b""
        admin.rotate(service.store, "pictures", grace=1)
        async with asyncio.timeout(30):
            while await rewrites() != b"1,":
                await asyncio.sleep(0.05)

    thread, errors = _beside(stopper, valkey.url, settings.service, operator)
    enrolled = enrol(settings, quoter)
    began = time.monotonic()
    assert serve(settings, quoter, enrolled, stopper=stopper, journal=Journal(print), began=began) == 0
    thread.join()
    assert errors == []


def _newest(service: Any) -> Any:
    """The key configurations of the newest epoch, as its keyset will name them."""
    [newest, *_] = admin.epochs(service.store, "pictures")
    return Keyset.parse(newest.keyset).key_configs


def test_a_queue_that_refuses_this_worker_ends_it(service: Any, url: str, valkey: EmbeddedValkey) -> None:
    """Trying again would not help; whoever watches the worker sees its code."""

    async def forbid() -> None:
        async with connect(valkey.url) as client:
            await client.execute("ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all", "-xreadgroup")

    asyncio.run(forbid())
    guest = valkey.url.replace("unix://", "unix://worker:secret@")
    settings = _settings(service, url, guest)
    quoter = service.quoter()
    with pytest.raises(StrongroomError) as refused:
        serve(
            settings,
            quoter,
            enrol(settings, quoter),
            stopper=Stopper(),
            journal=Journal(lambda _: None),
            began=0.0,
        )
    assert refused.value.code == "queue-denied"


def test_keys_for_other_models_end_it_before_it_serves(service: Any, url: str) -> None:
    settings = _settings(service, url, "unix:///nowhere")
    quoter = service.quoter()
    enrolled = enrol(settings, quoter)
    bundle = enrolled.bundles[0]
    newer = dataclasses.replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, version="2"))
    with pytest.raises(WorkerError, match="service-keys-refused"):
        credentials(settings, quoter, dataclasses.replace(enrolled, bundles=(newer,)))
