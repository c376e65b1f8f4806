"""A worker that is not the approved one gets no key, and the broker's log says why.

The worker is really launched and measured, the broker is a real one with its store. The quotes are SIMULATED.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.initdata import InitData
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.start_plan import FLAGS
from strongroom.broker import admin, messages, onetime
from strongroom.broker.kbs import Challenge, KeyBroker
from strongroom.broker.release import open_service_key
from strongroom.broker.store import Store
from strongroom.crypto import agefile
from strongroom.engines.launcher import SimulatedQuoting
from strongroom.errors import BrokerError, StrongroomError
from strongroom_simulator.state import SimulatorState

# The fixtures' types live in conftest.py, which tests cannot import.
TinyWorker = Any

SERVICE = "pictures"
MODEL = "default/model/lite0"
KEY = f"{SERVICE}/service-key/current"


class Owner:
    """Approves the worker as it is now, and runs the broker."""

    def __init__(self, folder: Path, worker: TinyWorker) -> None:
        self.worker = worker
        self.simulator = SimulatorState.open(folder / "simulator")
        self.store = Store.open(folder / "store")
        self.policy = self.policy_of(worker.measure().sha256)
        admin.register_model(
            self.store,
            resource=MODEL,
            name="lite0",
            version="1",
            manifest_digest="sha256:" + "11" * 32,
            sealed_sha256="22" * 32,
            identity=agefile.generate_identity(),
        )
        admin.register_service(self.store, SERVICE, self.policy, [MODEL], "Example Bank")
        self.broker = KeyBroker(self.store)

    def policy_of(self, measurement: bytes) -> str:
        return render_policy(
            kinds=[EvidenceKind.SGX],
            measurements={EvidenceKind.SGX: [measurement.hex()]},
            allow_simulated=True,
            simulated_roots=[self.simulator.root_sha256],
        )

    def init_data(self, **changes: Any) -> bytes:
        members: dict[str, Any] = {
            "service": SERVICE,
            "broker_key": self.store.signing_key.verifying_key.text,
            "release_policy": Policy.parse(self.policy).digest,
            "models": (f"kbs:///{MODEL}",),
        }
        return InitData(**(members | changes)).to_toml()

    def quote(self, report_data: bytes, init_data: bytes | None = None, **options: Any) -> Evidence:
        """Start the worker as it is now, and let it ask its launcher for a quote."""
        given = self.init_data() if init_data is None else init_data
        measurement = self.worker.measure(**options)
        backend = SimulatedQuoting.of(self.simulator, EvidenceKind.SGX, measurement, given)
        config = {"requests": [report_data.hex()], "out": str(self.worker.out)}
        self.worker.out.unlink(missing_ok=True)
        assert self.worker.launcher(config, backend, **options).start().wait(60) == 0
        (packets,) = json.loads(self.worker.out.read_text())
        return Evidence.parse(b"".join(bytes.fromhex(packet)[1:] for packet in packets))

    def attempt(self, **options: Any) -> tuple[Challenge, onetime.HpkeKey]:
        """Attest with a worker that is started now."""
        challenge, key = self.challenge()
        evidence = self.quote(messages.report_data(challenge.nonce, key.jwk), **options)
        self.answer(challenge, key, evidence)
        return challenge, key

    def challenge(self) -> tuple[Challenge, onetime.HpkeKey]:
        return self.broker.auth(messages.auth_body("sgx")), onetime.HpkeKey()

    def answer(self, challenge: Challenge, key: onetime.HpkeKey, evidence: Evidence) -> None:
        self.broker.attest(challenge.session, messages.attest_body(challenge.nonce, key.jwk, evidence))

    def refused(self, code: str) -> None:
        """The last entry says so, and nothing was ever released."""
        self.broker.close()  # what was counted of strangers is logged now
        *_, last = admin.log_entries(self.store)
        found = list(last["counts"]) if last["event"] == "refusals" else [last["code"]]
        assert code in found
        events = [entry["event"] for entry in admin.log_entries(self.store)]
        assert "released" not in events
        assert "attested" not in events


@pytest.fixture
def owner(tmp_path: Path, tiny: TinyWorker) -> Iterator[Owner]:
    made = Owner(tmp_path / "owner", tiny)
    yield made
    made.store.close()


def test_the_approved_worker_gets_its_key(owner: Owner) -> None:
    challenge, key = owner.attempt()
    document = key.open(owner.broker.resource(challenge.session, None, KEY), KEY)
    (epoch,) = open_service_key(document, owner.store.signing_key.verifying_key, key.recipient, SERVICE)
    assert epoch.epoch == 1
    assert [each["event"] for each in admin.log_entries(owner.store)][-2:] == ["attested", "released"]


def test_one_changed_byte_of_code(owner: Owner) -> None:
    part = owner.worker.root / "part.py"
    part.write_bytes(part.read_bytes().replace(b"good", b"goad"))
    with pytest.raises(StrongroomError, match="policy-measurement"):
        owner.attempt()
    owner.refused("policy-measurement")


def test_another_interpreter_flag(owner: Owner) -> None:
    with pytest.raises(StrongroomError, match="policy-measurement"):
        owner.attempt(flags=(*FLAGS, "-O"))
    owner.refused("policy-measurement")


def test_an_extra_importable_package(owner: Owner) -> None:
    (owner.worker.root / "extra").mkdir()
    (owner.worker.root / "extra" / "__init__.py").write_text("")
    with pytest.raises(StrongroomError, match="policy-measurement"):
        owner.attempt()
    owner.refused("policy-measurement")


def test_a_configuration_that_the_owner_did_not_approve(owner: Owner) -> None:
    """What a worker is told beyond its code stands in its init-data: here another release policy."""
    other = Policy.parse(owner.policy_of(bytes(32))).digest
    with pytest.raises(StrongroomError, match="init-data-policy"):
        owner.attempt(init_data=owner.init_data(release_policy=other))
    owner.refused("init-data-policy")


def test_a_configuration_that_is_not_the_measured_one(owner: Owner) -> None:
    challenge, key = owner.challenge()
    started_with = owner.init_data(models=())
    evidence = owner.quote(messages.report_data(challenge.nonce, key.jwk), started_with)
    with pytest.raises(StrongroomError, match="evidence-init-data"):
        owner.answer(challenge, key, replace(evidence, init_data=owner.init_data()))
    owner.refused("evidence-init-data")


def test_a_replayed_attestation(owner: Owner) -> None:
    first, key = owner.challenge()
    evidence = owner.quote(messages.report_data(first.nonce, key.jwk))
    second, _ = owner.challenge()
    body = messages.attest_body(first.nonce, key.jwk, evidence)
    with pytest.raises(StrongroomError, match="nonce-foreign"):
        owner.broker.attest(second.session, body)
    owner.refused("nonce-foreign")


def test_a_stale_nonce_in_the_quote(owner: Owner) -> None:
    first, key = owner.challenge()
    evidence = owner.quote(messages.report_data(first.nonce, key.jwk))
    second, _ = owner.challenge()
    with pytest.raises(StrongroomError, match="policy-report-data"):
        owner.answer(second, key, evidence)
    owner.refused("policy-report-data")


@pytest.mark.parametrize("tampered", [False, True])
def test_a_session_without_a_verdict_gets_nothing(owner: Owner, tampered: bool) -> None:
    challenge, key = owner.challenge()
    if tampered:
        (owner.worker.root / "part.py").write_text("VALUE = 'evil'\n")
        evidence = owner.quote(messages.report_data(challenge.nonce, key.jwk))
        with pytest.raises(StrongroomError, match="policy-measurement"):
            owner.answer(challenge, key, evidence)
    with pytest.raises(BrokerError, match="session-unknown" if tampered else "token-missing"):
        owner.broker.resource(challenge.session, None, KEY)
