"""A front end over a queue in memory, whose worker is the service simulator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import httpx
import pytest

from service_simulator import ServiceSimulator
from strongroom.attestation.keyset import KEYSET_TYPE, SignedKeyset
from strongroom.attestation.policy import Policy
from strongroom.frontend.app import FrontendApp
from strongroom.frontend.documents import Documents
from strongroom.frontend.exchange import Exchange
from strongroom.frontend.gateway import SealedGateway
from strongroom.frontend.intake import Intake
from strongroom.frontend.metrics import FrontendMetrics
from strongroom.frontend.plain import PlainGateway
from strongroom.queue.records import Reply, SealedRecord
from strongroom_simulator.state import SimulatorState

MAX_BODY = 1 << 20


@dataclass
class MemoryQueue:
    """The queue, and the workers behind it."""

    simulator: ServiceSimulator
    records: list[SealedRecord] = field(default_factory=list)
    replies: asyncio.Queue[Reply | Exception] = field(default_factory=asyncio.Queue)
    held: bool = False
    fail: Exception | None = None
    change: Callable[[str, Mapping[str, bytes]], Mapping[str, bytes]] = lambda kind, found: found

    async def submit(self, record: SealedRecord) -> None:
        if self.fail is not None:
            raise self.fail
        self.records.append(record)
        if not self.held:
            await self.replies.put(self.answer(record))

    def answer(self, record: SealedRecord) -> Reply:
        if record.key == "evidence":
            return Reply(
                record.id, 200, "application/json", self.simulator.evidence(record.body).to_json_bytes()
            )
        request = httpx.Request(
            "POST",
            "http://service/.well-known/ohttp-gateway",
            content=record.body,
            headers={"content-type": "message/ohttp-req"},
        )
        response = self.simulator.answer(request)
        kind = response.headers.get("content-type", "application/problem+json")
        return Reply(record.id, response.status_code, kind, response.content)

    async def documents(self, kind: str) -> Mapping[str, bytes]:
        payload = self.simulator.keyset().payload()
        signed = SignedKeyset(payload, self.simulator.broker.sign(KEYSET_TYPE, payload))
        found = {
            "keyset": {"w": signed.to_json_bytes()},
            "policy": {"w": self.simulator.release_policy.encode()},
            "evidence": {"w": self.simulator.evidence(None).to_json_bytes()},
        }[kind]
        return self.change(kind, found)

    async def depth(self) -> int:
        return len(self.records)

    async def incoming(self) -> AsyncIterator[Reply]:
        while True:
            reply = await self.replies.get()
            if isinstance(reply, Exception):
                raise reply
            yield reply


@dataclass
class Frontend:
    """The application and what stands around it."""

    app: FrontendApp
    queue: MemoryQueue
    exchange: Exchange
    simulator: ServiceSimulator
    http: httpx.AsyncClient
    metrics: FrontendMetrics
    intake: Intake


async def make(
    simulator: ServiceSimulator, policy: Policy | None, *, max_pending: int = 8
) -> AsyncIterator[Frontend]:
    queue = MemoryQueue(simulator)
    exchange = Exchange(queue, queue.incoming(), "frontend-test", max_pending=max_pending)
    metrics = FrontendMetrics()
    intake = Intake(max_body=MAX_BODY, timeout=0.3, budget=MAX_BODY * 3 // 2)
    documents = Documents(queue, max_age=-1)
    app = FrontendApp(
        exchange,
        documents,
        metrics,
        SealedGateway(exchange, metrics, intake, timeout=5),
        PlainGateway(exchange, documents, metrics, policy, intake, timeout=5),
        depth=queue.depth,
    )
    transport = httpx.ASGITransport(app=app)
    async with exchange.running(), httpx.AsyncClient(transport=transport, base_url="http://front") as http:
        yield Frontend(app, queue, exchange, simulator, http, metrics, intake)


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> SimulatorState:
    return SimulatorState.open(tmp_path_factory.mktemp("simulator") / "state")


@pytest.fixture
async def frontend(state: SimulatorState) -> AsyncIterator[Frontend]:
    simulator = ServiceSimulator(state)
    async for each in make(simulator, simulator.policy):
        yield each


@pytest.fixture
async def sealed_only(state: SimulatorState) -> AsyncIterator[Frontend]:
    async for each in make(ServiceSimulator(state), None):
        yield each


def code(response: httpx.Response) -> str:
    """The stable code of a problem."""
    assert response.headers["content-type"] == "application/problem+json"
    return str(json.loads(response.content)["code"])
