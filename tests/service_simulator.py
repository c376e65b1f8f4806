"""A service in memory that can be honest or play the attacker; the client meets it over a mock transport."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import httpx
import msgspec

from strongroom.attestation import initdata
from strongroom.attestation.beacon import BEACON_TYPE, Beacon, SignedBeacon
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.initdata import InitData
from strongroom.attestation.keyset import KEYSET_TYPE, Keyset, KeysetModel, SignedKeyset
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.serving import EvidenceList, ServiceEvidence, serve_report_data
from strongroom.codec.b64 import decode_url
from strongroom.codec.bhttp import Request, Response, decode_request, encode_response, header
from strongroom.codec.oip import (
    HEADER_NAME,
    InferResponse,
    Tensor,
    decode_infer_request,
    encode_infer_response,
    parse_header_length,
)
from strongroom.crypto.hpke import Aead, Kem, PrivateKey
from strongroom.crypto.ohttp import Gateway, GatewayKey, KeyConfig, encode_key_configs
from strongroom.crypto.sign import SigningKey
from strongroom_simulator.state import SimulatorState

MEASUREMENT = bytes(range(32))
UNKNOWN_KEY = {
    "type": "https://iana.org/assignments/http-problem-types#ohttp-key",
    "status": 400,
    "code": "x",
}
Handler = Callable[[Request], Response]


def echo(request: Request) -> Response:
    """Answer an inference with its first input as `y`, and a label."""
    name = HEADER_NAME.lower().encode()
    parsed = decode_infer_request(request.body, parse_header_length(header(request.headers, name)))
    tensor = parsed.inputs[0]
    y = Tensor("y", tensor.datatype, tensor.shape, tensor.array)
    labels = [[{"index": 3, "name": "three", "probability": 0.75}]]
    response = InferResponse("echo", "1", (y,), parameters={"labels": labels})
    body, length = encode_infer_response(response, binary=True)
    headers = [(b"strongroom-timing", b"open;dur=0.5, infer;dur=2")]
    if length is not None:
        headers.append((name, str(length).encode()))
    return Response(200, tuple(headers), body)


@dataclass
class ServiceSimulator:
    """One service. Change its attributes to make it lie."""

    state: SimulatorState
    now: Callable[[], float] = time.time
    broker: SigningKey = field(default_factory=lambda: SigningKey.generate(os.urandom))
    epoch: int = 1
    measurement: bytes = MEASUREMENT
    handler: Handler = echo
    tamper: Callable[[str, httpx.Response], httpx.Response | Exception] = lambda path, response: response
    honoured: int = 1
    kems: tuple[Kem, ...] = (Kem.MLKEM768_X25519, Kem.X25519_HKDF_SHA256)
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    keys: dict[int, list[GatewayKey]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.release_policy = render_policy(
            kinds=[EvidenceKind.SGX],
            measurements={EvidenceKind.SGX: [MEASUREMENT.hex()]},
            allow_simulated=True,
            simulated_roots=[self.state.root_sha256],
        )
        self.init_data = InitData(
            service="default",
            broker_key=self.broker.verifying_key.text,
            release_policy=Policy.parse(self.release_policy).digest,
            models=("kbs:///default/model/echo",),
        ).to_toml()

    @property
    def policy(self) -> Policy:
        """The policy of an honest client."""
        return Policy.parse(
            render_policy(
                kinds=[EvidenceKind.SGX],
                measurements={EvidenceKind.SGX: [MEASUREMENT.hex()]},
                allow_simulated=True,
                simulated_roots=[self.state.root_sha256],
                allow_unattested_broker=True,
                broker_key=self.broker.verifying_key.text,
            )
        )

    def gateway_keys(self, epoch: int) -> list[GatewayKey]:
        if epoch not in self.keys:
            self.keys[epoch] = []
            for kem in self.kems:
                key_id = 2 * epoch + (kem is Kem.X25519_HKDF_SHA256)
                private = PrivateKey.generate(kem)
                config = KeyConfig(key_id, kem, private.public_bytes(), ((1, Aead.AES_256_GCM),))
                self.keys[epoch].append(GatewayKey(config, private))
        return self.keys[epoch]

    def keyset(self) -> Keyset:
        now = int(self.now())
        return Keyset(
            service="default",
            epoch=self.epoch,
            keys=encode_key_configs([key.config for key in self.gateway_keys(self.epoch)]),
            release_policy=Policy.parse(self.release_policy).digest,
            models={"echo": KeysetModel("1", "sha256:" + "0" * 64)},
            not_before=now - now % 1000 - 3600,
            not_after=now - now % 1000 + 36000,
            broker_key=self.broker.verifying_key.text,
            key_custodian="a test",
        )

    def evidence(self, nonce: bytes | None) -> ServiceEvidence:
        payload = Beacon("default", self.epoch, int(self.now()), os.urandom(32)).payload()
        beacon = SignedBeacon(payload, self.broker.sign(BEACON_TYPE, payload))
        nonce = nonce or beacon.evidence_nonce
        receipt_key = SigningKey.generate(os.urandom).verifying_key.text
        digest = self.keyset().digest()
        report_data = serve_report_data(digest, nonce, self.init_data, receipt_key)
        bound = initdata.digest(self.init_data)
        quoted = self.state.quote(EvidenceKind.SGX, self.measurement, bound, report_data)
        evidence = replace(quoted, init_data=self.init_data)
        return ServiceEvidence("w", evidence, nonce, beacon, digest, receipt_key)

    def answer(self, request: httpx.Request) -> httpx.Response:
        """The front end's answer to an outer request."""
        path = request.url.path
        self.requests.append((path, request.content))
        response = self._answer(path, request)
        tampered = self.tamper(path, response)
        if isinstance(tampered, Exception):
            raise tampered
        return tampered

    def _answer(self, path: str, request: httpx.Request) -> httpx.Response:
        if path == "/strongroom/v1/keyset":
            payload = self.keyset().payload()
            signed = SignedKeyset(payload, self.broker.sign(KEYSET_TYPE, payload))
            return httpx.Response(200, headers=self.headers, content=signed.to_json_bytes())
        if path == "/strongroom/v1/policy":
            return httpx.Response(200, content=self.release_policy.encode())
        if path == "/strongroom/v1/evidence":
            text = request.url.params.get("nonce")
            nonce = None if text is None else decode_url(text, limit=32)
            return httpx.Response(200, content=EvidenceList((self.evidence(nonce),)).to_json_bytes())
        assert path == "/.well-known/ohttp-gateway"
        assert request.headers["content-type"] == "message/ohttp-req"
        epochs = range(max(1, self.epoch - self.honoured + 1), self.epoch + 1)
        gateway = Gateway(list(itertools.chain(*(self.gateway_keys(epoch) for epoch in epochs))))
        try:
            opened = gateway.open_request(request.content)
        except Exception:
            return httpx.Response(400, content=msgspec.json.encode(UNKNOWN_KEY))
        answer = opened.seal_response(encode_response(self.handler(decode_request(opened.plaintext))))
        return httpx.Response(200, headers={"content-type": "message/ohttp-res"}, content=answer)

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    def sent(self) -> list[bytes]:
        """Bodies of the sealed requests so far."""
        return [body for path, body in self.requests if path.endswith("ohttp-gateway")]

    def fetched(self, name: str) -> int:
        """How often a document was asked for."""
        return sum(path == f"/strongroom/v1/{name}" for path, _ in self.requests)
