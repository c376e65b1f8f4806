from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from strongroom.attestation.evidence import Evidence
from strongroom.broker.errors import BROKER_UNREACHABLE, RELEASE_UNSIGNED, SESSIONS_FULL
from strongroom.errors import BrokerError, StrongroomError, UnreachableError
from strongroom.worker.config import WorkerSettings, parse_settings
from strongroom.worker.logging import Journal
from strongroom.worker.startup import LONGEST_PAUSE, Enrolled, enrol, patiently


@pytest.fixture
def service(rig: Any, double_tar: bytes, picture_tar: bytes) -> Any:
    rig.max_evidence_age = 120
    rig.add_model(double_tar)
    rig.add_model(picture_tar)
    rig.register()
    return rig


@pytest.fixture
def url(service: Any, kit: Any) -> Iterator[str]:
    with kit.broker_server(service.store) as address:
        yield address


def _settings(rig: Any, url: str, **changes: Any) -> WorkerSettings:
    return parse_settings(
        json.dumps(
            {
                "queue_url": "unix:///nowhere",
                "service": rig.init_data.service,
                "consumer": "worker-0",
                "broker_url": url,
                "init_data": rig.init_data.to_toml().decode(),
                "tee": "sgx",
                "bundles": [{"path": str(p), "resource": r} for r, p in rig.sealed.items()],
            }
            | changes
        ).encode()
    )


def test_a_worker_is_given_what_it_needs(service: Any, url: str) -> None:
    enrolled = enrol(_settings(service, url), service.quoter())
    assert [bundle.manifest.name for bundle in enrolled.bundles] == ["double", "picture"]
    assert enrolled.bundles[1].labels == ("red", "green", "blue")
    assert [epoch.epoch for epoch in enrolled.epochs] == [1]
    assert enrolled.policy.decode() == service.policy
    assert enrolled.max_age == 120


def test_a_worker_that_asks_classically_gets_nothing_unless_the_policy_allows_it(
    service: Any, url: str
) -> None:
    with pytest.raises(StrongroomError) as refused:
        enrol(_settings(service, url, classical_release=True), service.quoter())
    assert refused.value.code == "release-classical"


def test_the_configuration_names_the_service_of_the_init_data(service: Any, url: str) -> None:
    with pytest.raises(StrongroomError) as refused:
        enrol(_settings(service, url, service="texts"), service.quoter())
    assert refused.value.code == "worker-config-refused"


def test_two_models_of_one_name_are_refused(service: Any, url: str, monkeypatch: Any) -> None:
    bundles = _settings(service, url).bundles
    same = [{"path": each.path, "resource": each.resource} for each in (bundles[0], bundles[0])]
    same[1]["resource"] = bundles[1].resource
    with pytest.raises(StrongroomError) as refused:
        enrol(_settings(service, url, bundles=same), service.quoter())
    assert refused.value.code == "bundle-refused"


def test_an_address_that_is_none_is_refused(service: Any, url: str) -> None:
    with pytest.raises(StrongroomError) as refused:
        enrol(_settings(service, "http://"), service.quoter())
    assert refused.value.code == "worker-config-refused"


def test_evidence_of_another_kind_is_refused(service: Any, url: str) -> None:
    with pytest.raises(StrongroomError):
        enrol(_settings(service, url, tee="tdx"), service.quoter())


class Waits(list[float]):
    """Collects the pauses instead of waiting."""

    def __call__(self, seconds: float) -> bool:
        self.append(seconds)
        return False


def _failing(*errors: Exception) -> Any:
    left = list(errors)

    def work() -> Enrolled:
        if left:
            raise left.pop(0)
        return Enrolled(*[None] * 5)  # type: ignore[arg-type]

    return work


def test_while_the_broker_is_away_the_pauses_grow() -> None:
    waits, lines = Waits(), []
    away = [UnreachableError(BROKER_UNREACHABLE)] * 9
    patiently(_failing(*away, BrokerError(SESSIONS_FULL)), Journal(lines.append), waits)
    assert waits[0] == 0.1
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_PAUSE
    assert len(lines) == 10
    assert json.loads(lines[0])["code"] == "broker-unreachable"


def test_a_refusal_is_final() -> None:
    waits = Waits()
    with pytest.raises(BrokerError):
        patiently(_failing(BrokerError(RELEASE_UNSIGNED)), Journal(lambda _: None), waits)
    assert waits == []


def test_a_broker_that_comes_back_is_found(service: Any, kit: Any) -> None:
    """The first attempt meets a closed port; the second the broker on it."""
    import socket
    from contextlib import ExitStack

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = _settings(service, f"http://127.0.0.1:{port}")
    quoter = service.quoter()
    lines: list[bytes] = []
    with ExitStack() as stack:

        def start_the_broker(_seconds: float) -> bool:
            stack.enter_context(kit.broker_server(service.store, port))
            return False

        enrolled = patiently(lambda: enrol(settings, quoter), Journal(lines.append), start_the_broker)
    assert enrolled.max_age == 120
    assert [json.loads(line)["attempt"] for line in lines] == [1]


def test_a_launcher_that_does_not_quote_is_final(service: Any, url: str) -> None:
    from strongroom.errors import EvidenceError
    from strongroom.worker.quoter import QUOTE_REFUSED

    class Refusing:
        def quote(self, report_data: bytes) -> Evidence:
            raise EvidenceError(QUOTE_REFUSED)

    with pytest.raises(EvidenceError, match="quote-refused"):
        enrol(_settings(service, url), Refusing())
