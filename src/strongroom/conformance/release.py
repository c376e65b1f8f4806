"""Cases of the release decision: whether a key may leave the broker.

    "type": "release": "at", "broker_key", "nonce", "kind", "production", "attest": {...} (the body of KBS),
    "service": {...} or null, "model": {...} or null, "resource": PATH, "service_later": as "service"

The service and the model are as the broker has registered them; `service_later` is the service at the time of
the request, if it was changed after the attestation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from strongroom.attestation import initdata
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.initdata import InitData
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_text import render_policy
from strongroom.broker import consent, messages, teekey
from strongroom.broker.consent import Approval, Consent
from strongroom.broker.decision import ReleaseDecision
from strongroom.broker.onetime import HpkeKey
from strongroom.broker.registry import ModelRecord, ServiceRecord
from strongroom.broker.resource import SERVICE_KEY_TYPE, Resource
from strongroom.conformance.case import ACCEPTED, Case
from strongroom.crypto.sign import SigningKey
from strongroom_simulator.collateral import make_collateral
from strongroom_simulator.pki import Pki
from strongroom_simulator.quotes import QuotingEnclave, enclave_report

_NONCE: Final = "bm9uY2Utbm9uY2Utbm9uY2Utbm9uY2Utbm9uY2UtMTI="
_SERVICE: Final = "pictures"
_MODEL: Final = "default/model/lite0"
_MEASUREMENT: Final = b"\x11" * 32


def run(members: Mapping[str, Any]) -> None:
    """Decide as a broker would. The code of a refusal is raised."""
    kind = EvidenceKind(members["kind"])
    decision = ReleaseDecision(
        kind, members["nonce"], members["broker_key"], production=members["production"]
    )
    now = members["at"]
    attestation = messages.parse_attest(json.dumps(members["attest"]).encode(), kind)
    decision.answer(attestation)
    service = _service(members["service"])
    decision.appraise(service, now)
    resource = Resource.parse(members["resource"])
    later = _service(members["service_later"]) if "service_later" in members else service
    if resource.type != SERVICE_KEY_TYPE:
        model = members["model"]
        record = None if model is None else _model(model)
        approvals = tuple(Approval(**each) for each in members["consent"]["approvals"])
        said = Consent(members["consent"]["granted"], approvals)
        decision.model_key(resource, later, record, said, now)
    else:
        decision.service_key(resource, later, now)


def _service(value: Mapping[str, Any] | None) -> ServiceRecord | None:
    return None if value is None else ServiceRecord(**{**value, "models": tuple(value["models"])})


class _Bench:
    """What a good release is made of."""

    def __init__(self, pki: Pki, now: int) -> None:
        self.pki, self.now = pki, now
        self.broker = SigningKey.generate().verifying_key.text
        self.jwk = HpkeKey().jwk
        self.policy = self.text()
        self._collateral = make_collateral(pki, EvidenceKind.SGX, now)
        self._enclave = QuotingEnclave(pki, EvidenceKind.SGX, os.urandom)

    def text(self, **changes: Any) -> str:
        settings: dict[str, Any] = {
            "kinds": [EvidenceKind.SGX],
            "measurements": {EvidenceKind.SGX: [_MEASUREMENT.hex()]},
            "allow_simulated": True,
            "simulated_roots": [self.pki.root_sha256],
        }
        return render_policy(**(settings | changes))

    def service(self, **changes: Any) -> dict[str, Any]:
        record = ServiceRecord(_SERVICE, self.policy, (_MODEL,), "Example Bank", 86400, 3600, 1)
        return asdict(record) | {"models": [_MODEL]} | changes

    def model(self, **changes: Any) -> dict[str, Any]:
        digest = "sha256:" + "22" * 32
        record = asdict(ModelRecord(_MODEL, "lite0", "1", digest, digest, None, 0))
        return record | {"approvers": []} | changes

    def init_data(self, **changes: Any) -> bytes:
        members: dict[str, Any] = {
            "service": _SERVICE,
            "broker_key": self.broker,
            "release_policy": Policy.parse(self.policy).digest,
            "models": (f"kbs:///{_MODEL}",),
        }
        return InitData(**(members | changes)).to_toml()

    def attest(
        self,
        *,
        init_data: bytes | None = None,
        bound: bytes | None = None,
        measurement: bytes = _MEASUREMENT,
    ) -> dict[str, Any]:
        init_data = self.init_data() if init_data is None else init_data
        data = messages.report_data(_NONCE, self.jwk) if bound is None else bound
        report = enclave_report(measurement, initdata.digest(init_data), data)
        evidence = Evidence(EvidenceKind.SGX, self._enclave.quote(report), self._collateral, init_data)
        body: dict[str, Any] = json.loads(messages.attest_body(_NONCE, self.jwk, evidence))
        return body

    def case(self, name: str, changes: str, expected: str, **changed: Any) -> Case:
        members: dict[str, Any] = {
            "at": self.now,
            "broker_key": self.broker,
            "nonce": _NONCE,
            "kind": "sgx",
            "production": False,
            "service": self.service(),
            "model": self.model(),
            "resource": _MODEL,
            "consent": {"granted": False, "approvals": []},
        }
        members |= {"attest": self.attest()} if "attest" not in changed else {}
        return Case(f"release/{name}", changes, expected, "release", members | changed)


def cases(pki: Pki, other: Pki, now: int) -> Iterator[Case]:
    """All cases; the policies pin the root of the first vendor."""
    bench = _Bench(pki, now)
    key = Resource.service_key(_SERVICE).path
    yield bench.case("accepted", "nothing", ACCEPTED)
    yield bench.case("accepted-service-key", "the service key is asked for", ACCEPTED, resource=key)
    yield from _of_the_answer(bench)
    yield from _of_the_init_data(bench)
    yield from _of_the_evidence(bench, other)
    yield from _of_the_request(bench, key)
    yield from _of_the_consent(bench)


def _of_the_answer(bench: _Bench) -> Iterator[Case]:
    for name, nonce in (("other", "AAAA" + _NONCE[4:]), ("empty", ""), ("cut", _NONCE[:-1])):
        body = bench.attest()
        body["runtime-data"]["nonce"] = nonce
        yield bench.case(f"nonce-{name}", "the nonce is not the session's", "nonce-foreign", attest=body)
    for name, changed in (
        ("kind", {"kty": "oct"}),
        ("algorithm", {"alg": "none"}),
        ("point", {"pub": "AA"}),
        ("more", {"kid": "x"}),
    ):
        body = bench.attest()
        body["runtime-data"]["tee-pubkey"] |= changed
        yield bench.case(
            f"tee-key-{name}", "the one-time key is not usable", "tee-key-unsupported", attest=body
        )
    for name, path in (("runtime", "runtime-data"), ("evidence", "tee-evidence")):
        body = bench.attest()
        del body[path]
        yield bench.case(f"body-no-{name}", f"{path} is missing", "kbs-body-invalid", attest=body)
    classical = _Bench(bench.pki, bench.now)
    classical.broker, classical.jwk = bench.broker, teekey.to_jwk(teekey.generate().public_key())
    for name, path in (("service-key", Resource.service_key(_SERVICE).path), ("model-key", _MODEL)):
        yield classical.case(
            f"classical-{name}", "the one-time key is not post-quantum", "release-classical", resource=path
        )
    body = bench.attest()
    body["init-data"] = None
    yield bench.case("init-data-missing", "there is no init-data", "init-data-missing", attest=body)
    body = bench.attest()
    body["init-data"]["body"] = "x"
    yield bench.case("init-data-malformed", "the init-data is none", "init-data-malformed", attest=body)


def _of_the_init_data(bench: _Bench) -> Iterator[Case]:
    rogue = SigningKey.generate().verifying_key.text
    for name, changes, expected, changed in (
        ("broker", "the worker was started for another broker", "init-data-broker", {"broker_key": rogue}),
        (
            "policy",
            "the worker was started under another policy",
            "init-data-policy",
            {"release_policy": "sha256:" + "00" * 32},
        ),
        ("model", "the worker was not started with the model", "init-data-model", {"models": ()}),
    ):
        body = bench.attest(init_data=bench.init_data(**changed))
        yield bench.case(f"init-data-{name}", changes, expected, attest=body)
    body = bench.attest()
    body["init-data"]["body"] += "# changed\n"
    yield bench.case(
        "init-data-changed", "the init-data was changed after the start", "evidence-init-data", attest=body
    )
    yield bench.case("service-unknown", "the service is not registered", "service-unknown", service=None)
    changed_policy = bench.service(policy=bench.policy + "# changed\n")
    yield bench.case(
        "policy-changed", "the service has another policy", "init-data-policy", service=changed_policy
    )


def _of_the_evidence(bench: _Bench, other: Pki) -> Iterator[Case]:
    foreign = _Bench(other, bench.now)
    foreign.policy, foreign.broker, foreign.jwk = bench.policy, bench.broker, bench.jwk
    yield bench.case(
        "other-vendor", "another vendor's platform", "evidence-untrusted-root", attest=foreign.attest()
    )
    yield bench.case(
        "measurement",
        "other code is measured",
        "policy-measurement",
        attest=bench.attest(measurement=b"\x12" * 32),
    )
    for name, bound in (
        ("zeros", bytes(64)),
        ("nonce", messages.report_data("AAAA" + _NONCE[4:], bench.jwk)),
        ("key", messages.report_data(_NONCE, HpkeKey().jwk)),
        ("devices", messages.report_data(_NONCE, bench.jwk, "{}")),
    ):
        yield bench.case(
            f"binds-{name}",
            f"the evidence binds other {name}",
            "policy-report-data",
            attest=bench.attest(bound=bound),
        )
    yield bench.case("production", "the broker is in production", "evidence-untrusted-root", production=True)
    yield bench.case("expired", "the collateral has expired", "evidence-expired", at=bench.now + 40 * 86400)


def _of_the_request(bench: _Bench, key: str) -> Iterator[Case]:
    other_key = key.replace(_SERVICE, "letters", 1)
    yield bench.case(
        "other-service", "another service's key is asked for", "service-foreign", resource=other_key
    )
    yield bench.case("model-unknown", "the model is not registered", "resource-unknown", model=None)
    yield bench.case(
        "model-foreign",
        "the model is not one of the service",
        "model-foreign",
        model=bench.model(resource="default/model/other"),
        resource="default/model/other",
    )
    for name, changes, expected, text in (
        (
            "model-policy",
            "the model's owner approves other code",
            "policy-measurement",
            bench.text(measurements={EvidenceKind.SGX: ["12" * 32]}),
        ),
        (
            "model-simulated",
            "the model's owner allows no simulated evidence",
            "policy-simulated",
            bench.text(allow_simulated=False),
        ),
        (
            "model-root",
            "the model's owner pins another root",
            "policy-simulated-root",
            bench.text(simulated_roots=["00" * 32]),
        ),
        (
            "model-status",
            "the model's owner accepts another status",
            "policy-tcb-status",
            bench.text(tcb_statuses=["OutOfDate"]),
        ),
        ("model-svn", "the model's owner demands a higher version", "policy-svn", bench.text(min_svn=2)),
        (
            "model-service",
            "the model's policy is of another service",
            "model-policy-service",
            bench.text(service="letters"),
        ),
        (
            "model-kind",
            "the model's owner accepts another kind",
            "policy-kind",
            bench.text(kinds=[EvidenceKind.TDX], measurements={EvidenceKind.TDX: ["11" * 48]}),
        ),
    ):
        yield bench.case(name, changes, expected, model=bench.model(policy=text))
    yield bench.case(
        "revoked-service",
        "the service was removed after the attestation",
        "service-unknown",
        service_later=None,
    )
    later = bench.service(policy=bench.text(min_svn=2))
    yield bench.case(
        "policy-later",
        "the policy was changed after the attestation",
        "init-data-policy",
        service_later=later,
    )
    without = bench.service(models=[])
    yield bench.case(
        "model-later", "the model was taken from the service", "model-foreign", service_later=without
    )
    for name, path in (("path", "default/model"), ("path-empty", ""), ("path-dots", "default/model/../x")):
        yield bench.case(name, "the path names no resource", "resource-path-invalid", resource=path)


def _of_the_consent(bench: _Bench) -> Iterator[Case]:
    """Another tenant's model, and one that two of three people must have approved."""
    yield bench.case("revoked", "the model is revoked", "resource-revoked", model=bench.model(revoked=True))
    for name in ("service", "service_later"):
        revoked = bench.service(revoked=True)
        yield bench.case(f"{name}-revoked", "the service is revoked", "service-revoked", **{name: revoked})
    other = bench.service(tenant="hospital")
    granted = {"granted": True, "approvals": []}
    yield bench.case("other-tenant-granted", "nothing", ACCEPTED, service=other, consent=granted)
    yield bench.case("other-tenant", "nobody granted the model", "model-not-granted", service=other)

    people = [f"mtls:{digit * 64}" for digit in "abc"]
    model = bench.model(approvers=people, approvals=2)
    statement = _statement(bench.service(), model)
    good = [Approval(each, statement, bench.now + 60) for each in people[:2]]

    def approved(name: str, changes: str, expected: str, *approvals: Approval, **changed: Any) -> Case:
        said = {"granted": False, "approvals": [asdict(each) for each in approvals]}
        return bench.case(
            f"approval-{name}", changes, expected, **({"model": model, "consent": said} | changed)
        )

    missing = "approval-missing"
    yield approved("two", "nothing", ACCEPTED, *good)
    yield approved("none", "nobody has approved", missing)
    yield approved("one", "one has approved", missing, good[0])
    yield approved("twice", "one has approved, twice", missing, good[0], good[0])
    stranger = replace(good[1], approver=f"mtls:{'d' * 64}")
    yield approved("stranger", "one of two is no approver", missing, good[0], stranger)
    over = replace(good[1], until=bench.now)
    yield approved("over", "one of two approvals is over", missing, good[0], over)
    elsewhere = replace(good[1], statement=f"sha256:{'0' * 64}")
    yield approved("other-statement", "one of two is of another statement", missing, good[0], elsewhere)
    newer = {**model, "manifest": "sha256:" + "33" * 32}
    yield approved("other-model", "the model was replaced", missing, *good, model=newer)
    owners = {**model, "policy": bench.policy}
    yield approved("other-policy", "the model's policy was changed", missing, *good, model=owners)
    moved = bench.service(tenant="hospital")
    unmoved = {"granted": True, "approvals": [asdict(each) for each in good]}
    yield approved("other-tenant", "the service is another's", missing, service=moved, consent=unmoved)


def _statement(service: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    record = _service(service)
    assert record is not None  # noqa: S101 -- it was given
    return consent.statement_digest(record, _model(model))


def _model(members: Mapping[str, Any]) -> ModelRecord:
    return ModelRecord(**{**members, "approvers": tuple(members["approvers"])})
