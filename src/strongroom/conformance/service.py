"""Cases of a whole service, as a client appraises it before it seals anything.

"type": "service": "at", "policy": TOML of the client, "keyset": TEXT, "release_policy": TEXT,
"evidence": TEXT (the three documents as served), "nonce": BASE64URL or null
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from strongroom.attestation import initdata
from strongroom.attestation.beacon import BEACON_TYPE, Beacon, SignedBeacon
from strongroom.attestation.evidence import DCAP_KINDS, Evidence, EvidenceKind
from strongroom.attestation.initdata import InitData
from strongroom.attestation.keyset import KEYSET_TYPE, Keyset, KeysetModel, SignedKeyset
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.serving import (
    EvidenceList,
    ServiceAppraisal,
    ServiceEvidence,
    broker_report_data,
    serve_report_data,
)
from strongroom.codec import b64
from strongroom.conformance.case import ACCEPTED, Case, decode
from strongroom.crypto.hpke import Aead, Kem, PrivateKey
from strongroom.crypto.ohttp import KeyConfig, encode_key_configs
from strongroom.crypto.sign import SigningKey
from strongroom_simulator.collateral import make_collateral
from strongroom_simulator.pki import Pki
from strongroom_simulator.quotes import QuotingEnclave, enclave_report

_WORKER: Final = b"\x11" * 32
_BROKER: Final = b"\x22" * 32
_BOTH: Final = {EvidenceKind.SGX: [_WORKER.hex()], EvidenceKind.TDX: ["99" * 48]}
_HKDF_SHA256: Final = 1
_CLASSICAL: Final = Kem.X25519_HKDF_SHA256


def run(members: Mapping[str, Any]) -> None:
    """Appraise as a client would. The code of a refusal is raised."""
    policy = Policy.parse(members["policy"])
    appraisal = ServiceAppraisal(policy, members["at"])
    appraisal.keyset(members["keyset"].encode())
    appraisal.release_policy(members["release_policy"].encode())
    nonce = members["nonce"]
    appraisal.evidence(members["evidence"].encode(), None if nonce is None else decode(nonce))


@dataclass(frozen=True)
class _Service:
    """A service, good as it stands; `replace` changes one thing."""

    pki: Pki
    now: int
    signer: SigningKey
    nonce: bytes = bytes(range(32))
    client: Mapping[str, Any] = field(default_factory=dict)
    release: Mapping[str, Any] = field(default_factory=dict)

    def policy(self, **changes: Any) -> str:
        settings: dict[str, Any] = {
            "kinds": [EvidenceKind.SGX],
            "measurements": {EvidenceKind.SGX: [_WORKER.hex()]},
            "allow_simulated": True,
            "simulated_roots": [self.pki.root_sha256],
        }
        return render_policy(**(settings | changes))

    def client_policy(self) -> str:
        broker = {"broker_key": self.signer.verifying_key.text, "allow_unattested_broker": True}
        return self.policy(**(broker | dict(self.client)))

    def release_policy(self) -> str:
        return self.policy(**self.release)

    def keyset(self, **changes: Any) -> Keyset:
        private = PrivateKey.generate(changes.pop("kem", Kem.MLKEM768_X25519))
        config = KeyConfig(2, private.kem, private.public_bytes(), ((_HKDF_SHA256, Aead.AES_256_GCM),))
        keyset = Keyset(
            service="lite",
            epoch=3,
            keys=encode_key_configs([config]),
            release_policy=Policy.parse(self.release_policy()).digest,
            models={"lite0": KeysetModel("1.0", "sha256:" + "cd" * 32)},
            not_before=self.now - 100,
            not_after=self.now + 10_000,
            broker_key=self.signer.verifying_key.text,
            key_custodian="Example Hospital",
        )
        return replace(keyset, **changes)

    def signed(self, keyset: Keyset, signer: SigningKey | None = None, **parts: Any) -> str:
        payload = keyset.payload()
        made = SignedKeyset(payload, (signer or self.signer).sign(KEYSET_TYPE, payload))
        return replace(made, **parts).to_json_bytes().decode()

    def init_data(self, keyset: Keyset, **changes: Any) -> bytes:
        value = InitData(keyset.service, keyset.broker_key, keyset.release_policy, ())
        return replace(value, **changes).to_toml()

    def beacon(self, signer: SigningKey | None = None, **changes: Any) -> SignedBeacon:
        payload = replace(Beacon("lite", 3, self.now - 10, bytes(32)), **changes).payload()
        return SignedBeacon(payload, (signer or self.signer).sign(BEACON_TYPE, payload))

    def quote(self, report_data: bytes, init_data: bytes | None, measurement: bytes = _WORKER) -> Evidence:
        digest = initdata.digest(init_data or b"")
        enclave = QuotingEnclave(self.pki, EvidenceKind.SGX, os.urandom)
        quote = enclave.quote(enclave_report(measurement, digest, report_data))
        collateral = make_collateral(self.pki, EvidenceKind.SGX, self.now)
        return Evidence(EvidenceKind.SGX, quote, collateral, init_data)

    def worker(self, served: Keyset, /, **changes: Any) -> ServiceEvidence:
        """A worker's document; `init_data`, `measurement` and `bound` are attested, others only said."""
        init_data = changes.pop("init_data", None) or self.init_data(served)
        receipt_key = SigningKey.generate().verifying_key.text
        bound = changes.pop("bound", None) or serve_report_data(
            served.digest(), self.nonce, init_data, receipt_key
        )
        evidence = self.quote(bound, init_data, changes.pop("measurement", _WORKER))
        made = ServiceEvidence("worker-0", evidence, self.nonce, self.beacon(), served.digest(), receipt_key)
        return replace(made, **changes)

    def case(
        self,
        name: str,
        changes: str,
        expected: str,
        *,
        keyset: Keyset | None = None,
        signer: SigningKey | None = None,
        broker_evidence: Evidence | None = None,
        workers: Sequence[ServiceEvidence] | None = None,
        served: Mapping[str, Any] | None = None,
    ) -> Case:
        """A case; `served` replaces members of the JSON object."""
        keyset = keyset or self.keyset()
        listed = (self.worker(keyset),) if workers is None else tuple(workers)
        members: dict[str, Any] = {
            "at": self.now,
            "policy": self.client_policy(),
            "keyset": self.signed(keyset, signer, broker_evidence=broker_evidence),
            "release_policy": self.release_policy(),
            "evidence": EvidenceList(listed).to_json_bytes().decode(),
            "nonce": b64.encode_url(self.nonce),
        }
        return Case(f"service/{name}", changes, expected, "service", {**members, **(served or {})})


def cases(pki: Pki, other: Pki, now: int) -> Iterator[Case]:
    """All cases; the policies pin the root of the first vendor."""
    good = _Service(pki, now, SigningKey.generate())
    yield good.case("accepted", "nothing", ACCEPTED)
    yield from _of_the_keyset(good)
    yield from _of_the_policies(good)
    yield from _of_the_custodian(good)
    yield from _of_the_workers(good, other)
    yield from _of_the_beacon(good)


def _of_the_keyset(good: _Service) -> Iterator[Case]:
    rogue = SigningKey.generate()
    yield good.case(
        "keyset-signature", "another key has signed the keyset", "service-keyset-signature", signer=rogue
    )
    changed: dict[str, Any]
    for name, changes, expected, changed in (
        ("broker", "names another broker", "service-broker-key", {"broker_key": rogue.verifying_key.text}),
        ("early", "is of tomorrow", "service-keyset-not-yet-valid", {"not_before": good.now + 3600}),
        ("expired", "has expired", "service-keyset-expired", {"not_after": good.now}),
        ("requests", "is for classical requests", "service-classical-requests", {"kem": _CLASSICAL}),
        ("release", "allows a classical release", "service-classical-release", {"key_release": "classical"}),
    ):
        made = good.keyset(**changed)
        yield good.case(f"keyset-{name}", f"the keyset {changes}", expected, keyset=made)
    for name, text in (("empty", ""), ("list", "[]"), ("members", '{"payload": "AA"}')):
        yield good.case(
            f"keyset-form-{name}", "the keyset has another form", "keyset-malformed", served={"keyset": text}
        )


def _of_the_policies(good: _Service) -> Iterator[Case]:
    meant = replace(good, client={"service": "letters"})
    yield meant.case("other-service", "another service is meant", "service-name")
    unpinned = replace(good, client={"broker_key": None})
    yield unpinned.case("no-broker-key", "the policy pins no broker", "service-no-broker-key")
    yield good.case(
        "release-policy-other",
        "another release policy is served",
        "service-release-policy-digest",
        served={"release_policy": good.release_policy() + "# more\n"},
    )
    text = "version = 2\n"
    keyset = good.keyset(release_policy=f"sha256:{hashlib.sha256(text.encode()).hexdigest()}")
    yield good.case(
        "release-policy-invalid",
        "the release policy is none",
        "service-release-policy-invalid",
        keyset=keyset,
        served={"release_policy": text},
    )
    for name, wider in (
        ("measurement", {"measurements": {EvidenceKind.SGX: [_WORKER.hex(), "99" * 32]}}),
        ("status", {"tcb_statuses": ["UpToDate", "OutOfDate"]}),
        ("debug", {"allow_debug": True}),
        ("root", {"simulated_roots": [good.pki.root_sha256, "99" * 32]}),
        ("kind", {"kinds": list(DCAP_KINDS), "measurements": _BOTH}),
    ):
        admits = replace(good, release=wider)
        yield admits.case(
            f"release-policy-{name}",
            f"the release policy admits another {name}",
            "service-release-policy-wider",
        )


def _of_the_custodian(good: _Service) -> Iterator[Case]:
    strict = replace(good, client={"allow_unattested_broker": False})
    yield strict.case("custodian", "the broker shows no evidence", "service-custodian-unattested")
    attested = replace(
        good,
        client={
            "allow_unattested_broker": False,
            "broker_measurements": {EvidenceKind.SGX: [_BROKER.hex()]},
        },
    )
    keyset = attested.keyset()
    bound = broker_report_data(keyset.digest(), keyset.broker_key)
    for name, changes, expected, report_data, measurement in (
        ("attested", "the broker shows evidence", ACCEPTED, bound, _BROKER),
        ("code", "the broker runs other code", "service-custodian-evidence", bound, _WORKER),
        ("binding", "the broker's evidence binds nothing", "service-custodian-evidence", bytes(64), _BROKER),
    ):
        evidence = replace(attested.quote(report_data, b"", measurement), init_data=None)
        yield attested.case(f"custodian-{name}", changes, expected, keyset=keyset, broker_evidence=evidence)


def _of_the_workers(good: _Service, other: Pki) -> Iterator[Case]:
    keyset = good.keyset()

    def with_worker(name: str, changes: str, expected: str, **changed: Any) -> Case:
        return good.case(name, changes, expected, keyset=keyset, workers=[good.worker(keyset, **changed)])

    yield good.case("no-workers", "no worker shows evidence", "service-no-workers", workers=[])
    yield with_worker("worker-code", "the worker runs other code", "policy-measurement", measurement=_BROKER)
    yield with_worker("worker-binding", "the quote binds nothing", "policy-report-data", bound=bytes(64))
    yield with_worker("worker-nonce", "the nonce is another", "service-nonce", nonce=bytes(32))
    yield with_worker(
        "worker-keyset",
        "the worker serves another keyset",
        "service-keyset-digest",
        keyset=good.keyset().digest(),
    )
    receipt_key = SigningKey.generate().verifying_key.text
    yield with_worker(
        "worker-receipt-key", "the receipt key is another", "policy-report-data", receipt_key=receipt_key
    )
    foreign = replace(good, pki=other)
    yield good.case(
        "worker-vendor",
        "the worker runs on another vendor's platform",
        "evidence-untrusted-root",
        keyset=keyset,
        workers=[foreign.worker(keyset)],
    )
    rogue = SigningKey.generate().verifying_key.text
    for name, expected, changed in (
        ("service", "service-init-data-service", {"service": "letters"}),
        ("broker", "service-init-data-broker", {"broker_key": rogue}),
        ("policy", "service-init-data-policy", {"release_policy": "sha256:" + "00" * 32}),
    ):
        init_data = good.init_data(keyset, **changed)
        yield with_worker(
            f"worker-init-data-{name}",
            f"the worker was started for another {name}",
            expected,
            init_data=init_data,
        )
    without = good.worker(keyset)
    without = replace(without, evidence=replace(without.evidence, init_data=None))
    yield good.case(
        "worker-no-init-data",
        "the init-data does not come along",
        "service-no-init-data",
        keyset=keyset,
        workers=[without],
    )
    yield good.case(
        "workers-form",
        "the evidence has another form",
        "service-evidence-malformed",
        served={"evidence": "{}"},
    )
    bad, fine = good.worker(keyset, measurement=_BROKER), good.worker(keyset)
    yield good.case(
        "one-worker-of-two",
        "another worker beside it is refused",
        ACCEPTED,
        keyset=keyset,
        workers=[bad, fine],
    )


def _of_the_beacon(good: _Service) -> Iterator[Case]:
    keyset = good.keyset()
    rogue = SigningKey.generate()
    for name, changes, expected, beacon in (
        ("missing", "does not come along", "service-no-beacon", None),
        ("signature", "is signed by another broker", "service-beacon-signature", good.beacon(rogue)),
        ("service", "is of another service", "service-beacon-service", good.beacon(service="letters")),
        ("stale", "is too old", "service-beacon-stale", good.beacon(time=good.now - 601)),
        ("future", "is of the future", "service-beacon-future", good.beacon(time=good.now + 61)),
    ):
        worker = good.worker(keyset, beacon=beacon)
        yield good.case(f"beacon-{name}", f"the beacon {changes}", expected, keyset=keyset, workers=[worker])
    yield good.case(
        "no-nonce",
        "the client sent no nonce, and the evidence is over none of the beacon",
        "service-nonce",
        served={"nonce": None},
    )
