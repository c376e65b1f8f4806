"""Evidence without collateral, as Confidential Containers' guests send it, is completed or refused."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collateral_rig import SGX, CollateralServer, collateral_server, serve
from strongroom.attestation.collateral.source import CollateralSource, open_source
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.broker import messages
from strongroom.broker.configured import open_collateral
from strongroom.broker.kbs import KeyBroker
from strongroom.broker.server import create_app
from strongroom.config import BrokerConfig

PATH = "pictures/strongroom-service-key/current"


@pytest.fixture
def vendor() -> Iterator[CollateralServer]:
    with collateral_server() as running:
        yield running


@pytest.fixture
def source(vendor: CollateralServer, tmp_path: Path) -> CollateralSource:
    return open_source(tmp_path / "collateral", pccs=vendor.url, kds=vendor.url)


@pytest.fixture
def backend() -> str:
    """What is tested here is the same with any store."""
    return "sqlite"


def _use(rig: Any, source: CollateralSource | None) -> None:
    rig.broker = KeyBroker(rig.store, now=rig.clock, collateral=source)


def _evidence(attester: Any) -> Evidence:
    """Challenge an attester; its evidence, with the collateral that it does not send."""
    attester.challenge()
    return attester.quote(messages.report_data(attester.nonce, attester.jwk))


def _answer(attester: Any, evidence: Evidence) -> str:
    body = attester.body(evidence=replace(evidence, collateral=None))
    assert b'"collateral":{' not in body
    return attester.rig.broker.attest(attester.session, body)


@pytest.mark.parametrize("kind", [EvidenceKind.SGX, EvidenceKind.TDX])
def test_it_is_completed_and_keys_are_released(
    kind: EvidenceKind, rig: Any, vendor: CollateralServer, source: CollateralSource
) -> None:
    _use(rig, source)
    attester = rig.attester(kind)
    evidence = _evidence(attester)
    serve(vendor, evidence)
    assert _answer(attester, evidence)
    assert attester.fetch("default/model/lite0")
    assert len(vendor.asked) == 4
    # The next one asks nobody.
    other = rig.attester(kind)
    assert _answer(other, _evidence(other))
    assert len(vendor.asked) == 4


def test_without_the_option_it_is_refused_as_ever(rig: Any, vendor: CollateralServer, refused: Any) -> None:
    attester = rig.attester()
    evidence = _evidence(attester)
    serve(vendor, evidence)
    with refused("evidence-no-collateral"):
        _answer(attester, evidence)
    assert vendor.asked == []


def test_a_folder_is_enough(
    rig: Any, vendor: CollateralServer, source: CollateralSource, refused: Any
) -> None:
    offline = open_source(source.folder.path)
    _use(rig, offline)
    attester = rig.attester()
    evidence = _evidence(attester)
    with refused("collateral-missing"):
        _answer(attester, evidence)
    (item,) = serve(vendor, evidence)
    source.find(item, int(rig.clock()))
    again = rig.attester()
    assert _answer(again, _evidence(again))


def test_what_the_attester_sends_wins(rig: Any, vendor: CollateralServer, source: CollateralSource) -> None:
    _use(rig, source)
    assert rig.attester().attest().token
    assert vendor.asked == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"status": 404}, "collateral-not-found"),
        ({"status": 500}, "collateral-unreachable"),
        ({"body": b"{}"}, "collateral-answer-invalid"),
    ],
)
def test_a_service_that_fails_is_a_refusal_with_its_own_code(
    change: dict[str, Any],
    code: str,
    rig: Any,
    vendor: CollateralServer,
    source: CollateralSource,
    refused: Any,
) -> None:
    _use(rig, source)
    attester = rig.attester()
    evidence = _evidence(attester)
    serve(vendor, evidence)
    vendor.change(f"{SGX}/tcb", **change)
    with refused(code):
        _answer(attester, evidence)
    with refused("session-unknown"):
        attester.fetch(PATH)


def test_forged_collateral_does_not_verify(
    rig: Any, vendor: CollateralServer, source: CollateralSource, refused: Any
) -> None:
    """A service may say that the platform is up to date; its vendor has not signed that."""
    _use(rig, source)
    attester = rig.attester()
    evidence = _evidence(attester)
    (item,) = serve(vendor, evidence)
    assert evidence.collateral is not None
    forged = evidence.collateral["tcb_info"].replace("OutOfDate", "UpToDate")
    vendor.serve_dcap(item, {**evidence.collateral, "tcb_info": forged})
    with refused("evidence-unverified"):
        _answer(attester, evidence)


@pytest.mark.parametrize("changes", [{"nonce": "A" * 43 + "="}, {"service": "nobody"}])
def test_nothing_is_fetched_before_the_cheap_checks(
    changes: dict[str, Any], rig: Any, vendor: CollateralServer, source: CollateralSource, refused: Any
) -> None:
    _use(rig, source)
    attester = rig.attester(**{name: value for name, value in changes.items() if name == "service"})
    evidence = _evidence(attester)
    serve(vendor, evidence)
    attester.nonce = changes.get("nonce", attester.nonce)
    with refused("nonce-foreign" if "nonce" in changes else "service-unknown"):
        _answer(attester, evidence)
    assert vendor.asked == []


def test_over_http(
    rig: Any, vendor: CollateralServer, source: CollateralSource, serve: Callable[[Any], str]
) -> None:
    """While one appraisal waits for the network, others go on; no failure of it is a bare 500."""
    from collateral_rig import serve as serve_collateral

    _use(rig, source)
    url = urllib.parse.urlsplit(serve(create_app(rig.store, now=rig.clock, broker=rig.broker)))
    gate = threading.Event()
    slow, other = rig.attester(), rig.attester()
    evidence = _evidence(slow)
    serve_collateral(vendor, evidence)
    vendor.change(f"{SGX}/tcb", gate=gate, status=503)

    def post(attester: Any, evidence: Evidence) -> tuple[int, dict[str, Any], str | None]:
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
        headers = {"Cookie": f"{messages.COOKIE}={attester.session}"}
        connection.request("POST", messages.ATTEST_PATH, attester.body(evidence=evidence), headers)
        reply = connection.getresponse()
        value = json.loads(reply.read())
        connection.close()
        return reply.status, value, reply.getheader("Retry-After")

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, slow, replace(evidence, collateral=None))
        while not vendor.asked:
            time.sleep(0.002)
        status, value, _ = post(other, _evidence(other))  # brings its own
        assert (status, list(value)) == (200, ["token"])
        assert not waiting.done()
        gate.set()
        status, value, retry = waiting.result()
    assert (status, value["code"], retry) == (503, "collateral-unreachable", "5")
    assert vendor.url not in value["detail"]  # what the broker's network is like is no guest's business


def test_snp_in_the_form_of_confidential_containers(
    rig: Any, vendor: CollateralServer, source: CollateralSource
) -> None:
    """A report without a certificate table is completed from the KDS: certificate, authorities and list."""
    import hashlib

    from strongroom_simulator.snp import TCB, Guest, SnpPlatform

    now = int(rig.clock())
    platform = SnpPlatform.create(now, b"\x44" * 64, rsa_bits=2048)
    policy = rig.policy(
        kinds=[EvidenceKind.SNP],
        measurements={EvidenceKind.SNP: ["11" * 48]},
        simulated_roots=[platform.root_sha256],
        tcb_floor={"Milan": dict(TCB)},
        require_revocation=True,
    )
    rig.change_service(policy)
    _use(rig, source)
    attester = rig.attester()
    attester.session, attester.nonce = _open(rig, EvidenceKind.SNP)
    report = platform.report(
        Guest(
            measurement=b"\x11" * 48,
            report_data=messages.report_data(attester.nonce, attester.jwk),
            host_data=hashlib.sha256(attester.init_data).digest(),
        )
    )
    crl = platform.revocation_list(now)
    evidence = Evidence(EvidenceKind.SNP, report, platform.collateral(crl=crl), attester.init_data)
    serve(vendor, evidence)
    assert _answer(attester, evidence)
    assert len(vendor.asked) == 3


def _open(rig: Any, kind: EvidenceKind) -> tuple[str, str]:
    given = rig.broker.auth(messages.auth_body(str(kind)))
    return given.session, given.nonce


def _config(**settings: str) -> BrokerConfig:
    return BrokerConfig(url="http://127.0.0.1:8471", key="ed25519:AAAA", **settings)


def test_what_a_configuration_names(tmp_path: Path, monkeypatch: Any, refused: Any) -> None:
    monkeypatch.setenv("STRONGROOM_HOME", str(tmp_path))
    assert open_collateral(_config()) is None
    named = open_collateral(_config(collateral=str(tmp_path / "x")))
    assert named is not None
    assert named.folder.path == tmp_path / "x"
    fetching = open_collateral(_config(pccs="https://pccs.example.org"))
    assert fetching is not None
    assert fetching.folder.path == tmp_path / "collateral"
    assert open_collateral(_config(kds="https://kdsintf.amd.com")) is not None
    with refused("collateral-source-invalid"):
        open_collateral(_config(pccs="http://pccs.example.org"))
    assert list(tmp_path.iterdir()) == []
