"""Released keys as a worker opens them: JWE, HPKE, and the documents inside. The keys are fixed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

from fuzz.material import Material
from fuzz.target import MAX_INPUT, Parser
from strongroom.broker import envelope, hpke_release, jwe, log, log_entry, release, teekey
from strongroom.broker.log_entry import Event
from strongroom.broker.receipt import Receipt
from strongroom.broker.resource import Resource
from strongroom.codec import b64, jcs
from strongroom.codec.tlog import InclusionProof
from strongroom.crypto.hpke import PrivateKey
from strongroom.crypto.merkle import Frontier, leaf_hash
from strongroom.crypto.sign import SECRET_SIZE, SigningKey

_SERVICE: Final = "lite"
_RESOURCE: Final = "default/model/lite0"
_RECIPIENT: Final = "GNlWv-UQ0__wetFheZAeRyZ4nNk0AOxuQPmVU0fr0hg"
_BROKER: Final = SigningKey(b"\x05" * SECRET_SIZE)


def _zeros(size: int) -> bytes:
    return b"\x01" * size


_CLASSICAL: Final = teekey.generate(_zeros)
_PRIVATE: Final = PrivateKey.generate(teekey.HPKE_SUITE.kem, _zeros)


def _jwe(data: bytes) -> None:
    jwe.open_sealed(_CLASSICAL, data)


def _hpke(data: bytes) -> None:
    hpke_release.open_sealed(_PRIVATE, data, resource=_RESOURCE)


def _envelope(data: bytes) -> None:
    envelope.open_envelope(data, _BROKER.verifying_key, _RECIPIENT)


def _model(data: bytes) -> None:
    release.open_model_key(_released(data, _RESOURCE), _BROKER.verifying_key, _RECIPIENT, _RESOURCE)


def _service(data: bytes) -> None:
    resource = Resource.service_key(_SERVICE).path
    release.open_service_key(_released(data, resource), _BROKER.verifying_key, _RECIPIENT, _SERVICE)


def _released(payload: bytes, resource: str) -> bytes:
    """An envelope whose receipt holds, with any bytes in it."""
    facts = {"document": envelope.document_digest(payload), "recipient": _RECIPIENT, "resource": resource}
    entry, opening = log_entry.make(
        event=Event.RELEASED, time=1, facts=facts, salt=bytes(32), index=0, secret=_BROKER.raw()
    )
    tree = Frontier()
    tree.add(leaf_hash(entry))
    proof = InclusionProof(0, (), log.signed_checkpoint(_BROKER, tree))
    return envelope.seal(payload, Receipt(entry, opening, proof))


def _jwes(_: Material) -> Iterator[bytes]:
    yield jwe.seal(_CLASSICAL.public_key(), b"resource" * 20, rng=_zeros)


def _hpkes(_: Material) -> Iterator[bytes]:
    public = teekey.HpkePublicKey(_PRIVATE.public_bytes())
    yield hpke_release.seal(public, b"resource" * 20, resource=_RESOURCE, rng=_zeros)


def _envelopes(material: Material) -> Iterator[bytes]:
    yield material.documented("model-key.json")
    yield from (_released(payload, _RESOURCE) for payload in _models(material))


def _models(material: Material) -> Iterator[bytes]:
    text: str = json.loads(material.documented("model-key.json"))["payload"]
    yield base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _services(_: Material) -> Iterator[bytes]:
    suites = [{"kdf": 1, "aead": 2}]
    keys = [
        {"key_id": 1, "kem": kem, "private_key": b64.encode_url(b"\x02" * 32), "suites": suites}
        for kem in (0x647A, 0x20)
    ]
    keyset: dict[str, Any] = {
        "release_policy": "sha256:" + "0" * 64,
        "models": {"lite0": {"version": "1", "manifest": "sha256:" + "0" * 64}},
        "not_before": 1,
        "not_after": 2,
        "broker_key": _BROKER.verifying_key.text,
        "key_custodian": "Example Hospital",
        "key_release": "hpke-0x647a",
    }
    epoch = {"epoch": 2, "honoured_until": 3, "keyset": keyset, "keyset_signature": "AA"}
    document = {"type": release.SERVICE_KEY_TYPE, "recipient": _RECIPIENT, "service": _SERVICE}
    for chosen in (keys[:1], keys[1:], keys):
        yield jcs.canonical({**document, "epochs": [{**epoch, "keys": chosen}]})
    many = [{**epoch, "epoch": 50 - number, "keys": keys[1:]} for number in range(49)]
    yield jcs.canonical({**document, "epochs": many})[: MAX_INPUT - 1]


PARSERS: Final = (
    Parser("JWE", _jwe, _jwes),
    Parser("resource sealed with HPKE", _hpke, _hpkes),
    Parser("envelope with its receipt", _envelope, _envelopes),
    Parser("model key", _model, _models),
    Parser("service key", _service, _services),
)
