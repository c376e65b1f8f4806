"""Builders for the attestation tests: real vectors, mutants of documents, a whole service to appraise."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from mutants import mutants
from strongroom.attestation import initdata
from strongroom.attestation.beacon import BEACON_TYPE, Beacon, SignedBeacon
from strongroom.attestation.evidence import DCAP_COLLATERAL, Evidence, EvidenceKind
from strongroom.attestation.initdata import InitData
from strongroom.attestation.keyset import KEYSET_TYPE, Keyset, KeysetModel, SignedKeyset
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.serving import (
    EvidenceList,
    ServiceAppraisal,
    ServiceEvidence,
    Verdict,
    broker_report_data,
    serve_report_data,
)
from strongroom.crypto.hpke import Aead, Kem, PrivateKey
from strongroom.crypto.ohttp import KeyConfig, encode_key_configs
from strongroom.crypto.sign import SigningKey
from strongroom.errors import StrongroomError
from strongroom_simulator.collateral import make_collateral
from strongroom_simulator.pki import Pki
from strongroom_simulator.quotes import QuotingEnclave, enclave_report, td_report

SIMULATED_NOW = 1_800_000_000


@pytest.fixture(scope="session", name="mutants")
def _mutants() -> Callable[..., Iterator[bytes]]:
    """`mutants(value, encode, count, seed)`: half are changed values, encoded again, half changed bytes."""
    return mutants


@dataclass(frozen=True)
class Survey:
    """What a parser did with many inputs: how often each code, and what it accepted."""

    codes: Counter[str]
    accepted: list[tuple[bytes, Any]]


@pytest.fixture(scope="session")
def survey() -> Callable[[Callable[[bytes], Any], Iterable[bytes]], Survey]:
    """`survey(parse, inputs)`: run them all; an exception that is not ours fails the test."""

    def run(parse: Callable[[bytes], Any], inputs: Iterable[bytes]) -> Survey:
        result = Survey(Counter(), [])
        for data in inputs:
            try:
                result.accepted.append((data, parse(data)))
            except StrongroomError as error:
                result.codes[error.code] += 1
        return result

    return run


@pytest.fixture(scope="session")
def code_of() -> Callable[..., str | None]:
    """`code_of(function, *arguments)`: the code of the error that it raises, `None` if it raises none."""

    def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str | None:
        try:
            function(*args, **kwargs)
        except StrongroomError as error:
            return error.code
        return None

    return run


@pytest.fixture(scope="session")
def json_bytes() -> Callable[[Any], bytes]:
    """Compact JSON."""
    return lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


@pytest.fixture
def small_evidence() -> Evidence:
    """Well-formed evidence that verifies nowhere."""
    return Evidence(
        kind=EvidenceKind.SGX,
        quote=b"quote",
        collateral=dict.fromkeys(sorted(DCAP_COLLATERAL), "text"),
        init_data=b"init",
    )


def load_vector(path: Path) -> tuple[Evidence, int]:
    """One recorded piece of evidence and the time at which it is to be verified."""
    vector = json.loads(path.read_text())
    kind = EvidenceKind(path.name[:3].lower())
    return Evidence(kind, bytes.fromhex(vector["quote"]), vector["collateral"]), vector["now"]


@pytest.fixture
def vector(testdata: Path) -> Callable[[str], tuple[Evidence, int]]:
    """`vector("SGX_v3_00A067110000")`: recorded evidence whose name begins so, and its time."""

    def load(prefix: str) -> tuple[Evidence, int]:
        (path,) = (testdata / "vectors" / "evidence").glob(f"{prefix}*.json")
        return load_vector(path)

    return load


@pytest.fixture(scope="session")
def pki() -> Pki:
    """A simulated vendor and platform, made at `SIMULATED_NOW`."""
    return Pki.create(SIMULATED_NOW, os.urandom)


# A whole service, of which a test changes one thing.

WORKER = b"\x11" * 32
BROKER = b"\x22" * 32
SIGNER = SigningKey.from_raw(b"\x01" * 64)
RECEIPT_KEY = SigningKey.from_raw(b"\x02" * 64).verifying_key.text
POST_QUANTUM, CLASSICAL = (
    KeyConfig(
        key_id, kem, PrivateKey.from_bytes(kem, bytes(range(32))).public_bytes(), ((1, Aead.AES_256_GCM),)
    )
    for key_id, kem in ((1, Kem.MLKEM768_X25519), (2, Kem.X25519_HKDF_SHA256))
)
OHTTP_KEYS = encode_key_configs([POST_QUANTUM, CLASSICAL])
CLASSICAL_KEYS = encode_key_configs([CLASSICAL])


@dataclass(frozen=True)
class Service:
    """A service with a broker and simulated workers, good as it stands; `replace` changes one thing.

    The fields are what the parts say; the methods are the documents that they serve. `release` and `client`
    are arguments of `render_policy`.
    """

    pki: Pki
    now: int = SIMULATED_NOW
    name: str = "lite"
    signer: SigningKey = SIGNER
    receipt_key: str = RECEIPT_KEY
    nonce: bytes = bytes(range(32))
    classical_keys: bytes = CLASSICAL_KEYS
    release: dict[str, Any] = field(default_factory=dict)
    client: dict[str, Any] = field(default_factory=dict)

    def _policy(self, **changes: Any) -> str:
        parts: dict[str, Any] = {
            "kinds": [EvidenceKind.SGX],
            "measurements": {EvidenceKind.SGX: [WORKER.hex()]},
            "allow_simulated": True,
            "simulated_roots": [self.pki.root_sha256],
        }
        return render_policy(**(parts | changes))

    def client_policy(self) -> Policy:
        broker = {"broker_key": self.signer.verifying_key.text, "allow_unattested_broker": True}
        return Policy.parse(self._policy(**(broker | self.client)))

    def release_policy(self) -> bytes:
        return self._policy(**self.release).encode()

    def keyset(self, **changes: Any) -> Keyset:
        keyset = Keyset(
            service=self.name,
            epoch=3,
            keys=OHTTP_KEYS,
            release_policy=Policy.parse(self.release_policy().decode()).digest,
            models={"lite0": KeysetModel("1.0", "sha256:" + "cd" * 32)},
            not_before=self.now - 100,
            not_after=self.now + 10_000,
            broker_key=self.signer.verifying_key.text,
            key_custodian="Example Hospital",
        )
        return replace(keyset, **changes)

    def signed(self, keyset: Keyset, signer: SigningKey | None = None) -> SignedKeyset:
        payload = keyset.payload()
        return SignedKeyset(payload, (signer or self.signer).sign(KEYSET_TYPE, payload))

    def init_data(self, **changes: Any) -> bytes:
        keyset = self.keyset()
        value = InitData(keyset.service, keyset.broker_key, keyset.release_policy, ())
        return replace(value, **changes).to_toml()

    def beacon(self, signer: SigningKey | None = None, **changes: Any) -> SignedBeacon:
        payload = replace(Beacon(self.name, 3, self.now - 10, bytes(32)), **changes).payload()
        return SignedBeacon(payload, (signer or self.signer).sign(BEACON_TYPE, payload))

    def quote(
        self,
        report_data: bytes,
        init_data: bytes,
        *,
        pki: Pki | None = None,
        kind: EvidenceKind = EvidenceKind.SGX,
        measurement: bytes = WORKER,
        **collateral: Any,
    ) -> Evidence:
        pki = pki or self.pki
        make = enclave_report if kind is EvidenceKind.SGX else td_report
        report = make(measurement, initdata.digest(init_data), report_data)
        quote = QuotingEnclave(pki, kind, os.urandom).quote(report)
        return Evidence(kind, quote, make_collateral(pki, kind, self.now, **collateral), init_data)

    def broker_evidence(self, keyset: Keyset, measurement: bytes = BROKER) -> Evidence:
        bound = broker_report_data(keyset.digest(), keyset.broker_key)
        return replace(self.quote(bound, b"", measurement=measurement), init_data=None)

    def worker(
        self,
        *,
        worker: str = "worker-0",
        nonce: bytes | None = None,
        beacon: SignedBeacon | None = None,
        init_data: bytes | None = None,
        **quote: Any,
    ) -> ServiceEvidence:
        """A worker's document over the client's nonce, or over that of a given beacon."""
        nonce = nonce or (self.nonce if beacon is None else beacon.evidence_nonce)
        beacon = beacon or self.beacon()
        init_data = self.init_data() if init_data is None else init_data
        keyset = self.keyset().digest()
        bound = serve_report_data(keyset, nonce, init_data, self.receipt_key)
        evidence = self.quote(bound, init_data, **quote)
        return ServiceEvidence(worker, evidence, nonce, beacon, keyset, self.receipt_key)

    def appraisal(self, **kwargs: Any) -> ServiceAppraisal:
        """An appraisal that has come as far as the workers' evidence."""
        appraisal = ServiceAppraisal(self.client_policy(), self.now, **kwargs)
        appraisal.keyset(self.signed(self.keyset()).to_json_bytes())
        appraisal.release_policy(self.release_policy())
        return appraisal

    def verdict(self, *workers: ServiceEvidence, nonce: bytes | None = None) -> Verdict:
        return self.appraisal().evidence(EvidenceList(workers).to_json_bytes(), nonce)


@pytest.fixture
def service(pki: Pki) -> Service:
    """A good service with simulated workers."""
    return Service(pki)
