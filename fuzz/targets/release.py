"""Released keys as a worker opens them: JWE, HPKE, and the signed documents inside. The keys are fixed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

from fuzz.material import Material
from fuzz.target import MAX_INPUT, Parser
from strongroom.broker import hpke_release, jwe, log_proof, release, teekey
from strongroom.broker.log_proof import ANY_TERMS
from strongroom.broker.resource import Resource
from strongroom.codec import b64, jcs
from strongroom.crypto.hpke import PrivateKey
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
    release.open_release(data, _BROKER.verifying_key, _RECIPIENT)


def _model(data: bytes) -> None:
    release.open_model_key(
        _signed(release.MODEL_KEY_TYPE, data), _BROKER.verifying_key, _RECIPIENT, _RESOURCE
    )


def _service(data: bytes) -> None:
    envelope = _signed(release.SERVICE_KEY_TYPE, data)
    release.open_service_key(envelope, _BROKER.verifying_key, _RECIPIENT, _SERVICE)


def _logged(data: bytes) -> None:
    resource = Resource.parse(_RESOURCE)
    log_proof.check_release(data, _BROKER.verifying_key, _RECIPIENT, resource, ANY_TERMS)


def _signed(purpose: str, payload: bytes) -> bytes:
    """An envelope whose signature holds, with any bytes in it."""
    signature = _BROKER.sign(purpose, payload)
    return jcs.canonical({"payload": b64.encode_url(payload), "signature": b64.encode_url(signature)})


def _jwes(_: Material) -> Iterator[bytes]:
    yield jwe.seal(_CLASSICAL.public_key(), b"resource" * 20, rng=_zeros)


def _hpkes(_: Material) -> Iterator[bytes]:
    public = teekey.HpkePublicKey(_PRIVATE.public_bytes())
    yield hpke_release.seal(public, b"resource" * 20, resource=_RESOURCE, rng=_zeros)


def _envelopes(material: Material) -> Iterator[bytes]:
    yield material.documented("model-key.json")
    yield from (_signed(release.MODEL_KEY_TYPE, payload) for payload in _models(material))


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


def _logged_releases(material: Material) -> Iterator[bytes]:
    checkpoint = material.documented("log-checkpoint.txt").decode()
    entry = '{"event":"released","time":1,"type":"strongroom-log/2"}'
    proof = f"c2sp.org/tlog-proof@v1\nindex 0\n\n{checkpoint}"
    receipt = {"type": "strongroom-log-receipt/1", "entry": entry, "opening": None, "proof": proof}
    for envelope in _envelopes(material):
        yield jcs.canonical({**json.loads(envelope), "log": receipt})


PARSERS: Final = (
    Parser("JWE", _jwe, _jwes),
    Parser("resource sealed with HPKE", _hpke, _hpkes),
    Parser("signed envelope", _envelope, _envelopes),
    Parser("model key", _model, _models),
    Parser("service key", _service, _services),
    Parser("proof that a release is logged", _logged, _logged_releases),
)
