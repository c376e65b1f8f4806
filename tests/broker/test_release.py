"""Released documents: a worker takes only what its own broker signed, for it, about what it asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from release_log import released, released_document
from strongroom.attestation.keyset import KEYSET_TYPE, Keyset, KeysetModel
from strongroom.broker import release
from strongroom.broker.envelope import Terms
from strongroom.broker.receipt import Witnesses
from strongroom.broker.release import ModelKey, ServiceEpoch
from strongroom.codec import b64, jcs
from strongroom.crypto.hpke import Aead, Kem, PrivateKey
from strongroom.crypto.notes import NoteSigner, NoteType
from strongroom.crypto.ohttp import Gateway, GatewayKey, KeyConfig, encode_key_configs, seal_request
from strongroom.crypto.sign import SigningKey

BROKER = SigningKey.generate()
ROGUE = SigningKey.generate()
ME = "recipient-thumbprint"
WITNESS = NoteSigner("witness.example/w1", NoteType.COSIGNATURE_V1, b"\x01" * 32)
KEMS = (Kem.MLKEM768_X25519, Kem.X25519_HKDF_SHA256)
MODEL = ModelKey(
    "kbs:///default/model/lite0", "AGE-SECRET-KEY-1X", "sha256:" + "1" * 64, "sha256:" + "2" * 64, 3
)


def make_epoch(number: int, *, broker: SigningKey = BROKER, **changes: Any) -> ServiceEpoch:
    keys = []
    for index, kem in enumerate(KEMS):
        private = PrivateKey.generate(kem)
        config = KeyConfig(
            (2 * number + index) % 256,
            kem,
            private.public_bytes(),
            ((1, Aead.AES_256_GCM), (1, Aead.AES_128_GCM)),
        )
        keys.append(GatewayKey(config, private))
    members: dict[str, Any] = {
        "service": "pictures",
        "epoch": number,
        "keys": encode_key_configs(key.config for key in keys),
        "release_policy": "sha256:" + "3" * 64,
        "models": {"lite0": KeysetModel("1", "sha256:" + "4" * 64)},
        "not_before": 1000,
        "not_after": 2000,
        "broker_key": broker.verifying_key.text,
        "key_custodian": "Example Bank",
    }
    keyset = Keyset(**{**members, **changes})
    return ServiceEpoch(keyset, broker.sign(KEYSET_TYPE, keyset.payload()), tuple(keys), 1500 + number)


EPOCHS = [make_epoch(7), make_epoch(8)]


def service_document(epochs: list[ServiceEpoch] = EPOCHS, recipient: str = ME) -> dict[str, Any]:
    return json.loads(json.dumps(release.service_document("pictures", recipient, epochs)))


def sealed(document: dict[str, Any], key: SigningKey = BROKER) -> bytes:
    return released_document(document, key)


def open_service(data: bytes, service: str = "pictures") -> tuple[ServiceEpoch, ...]:
    return release.open_service_key(data, BROKER.verifying_key, ME, service)


def open_model(data: bytes, resource: str = MODEL.resource) -> ModelKey:
    return release.open_model_key(data, BROKER.verifying_key, ME, resource)


def test_a_service_key_opens_newest_epoch_first() -> None:
    opened = open_service(sealed(service_document()))
    assert [epoch.epoch for epoch in opened] == [8, 7]
    for epoch, made in zip(opened, reversed(EPOCHS), strict=True):
        assert epoch.keyset == made.keyset
        assert epoch.signed.payload == made.keyset.payload()
        assert epoch.signed.verify(BROKER.verifying_key) == made.keyset
        assert epoch.honoured_until == made.honoured_until
        assert [key.private_key.raw() for key in epoch.keys] == [key.private_key.raw() for key in made.keys]


def test_released_keys_open_what_clients_seal_to_the_keyset() -> None:
    opened = open_service(sealed(service_document()))
    gateway = Gateway(key for epoch in opened for key in epoch.keys)
    for epoch in opened:
        for config in epoch.keyset.key_configs:
            assert gateway.open_request(seal_request(config, None, b"hello").data).plaintext == b"hello"


def test_a_model_key_opens() -> None:
    data = sealed(release.model_document(ME, MODEL))
    assert open_model(data) == MODEL
    assert open_model(data, "default/model/lite0") == MODEL


def test_a_rogue_brokers_documents_are_refused(refused) -> None:
    rogue = service_document([make_epoch(9, broker=ROGUE)])
    with refused("release-foreign-broker"):
        open_service(sealed(rogue, ROGUE))
    with refused("release-foreign-broker"):
        open_model(sealed(release.model_document(ME, MODEL), ROGUE))


def test_a_document_for_another_recipient_is_refused(refused) -> None:
    """Also the older replay: each attestation has a key, hence a recipient, of its own."""
    with refused("release-foreign-recipient"):
        open_service(sealed(service_document(recipient="other")))
    with refused("release-foreign-recipient"):
        open_model(sealed(release.model_document("other", MODEL)))


def test_a_document_about_something_else_is_refused(refused) -> None:
    with refused("release-foreign-subject"):
        open_service(sealed(service_document()), "sounds")
    with refused("release-foreign-subject"):
        open_model(sealed(release.model_document(ME, MODEL)), "default/model/other")
    with refused("release-foreign-subject"):
        open_service(sealed(release.model_document(ME, MODEL)))
    with refused("release-foreign-subject"):
        open_model(sealed(service_document()))


@pytest.mark.parametrize("change", [{"recipient": "other"}, {"resource": "x/y/z"}, {"service": "sounds"}])
def test_an_entry_that_names_something_else_is_refused(refused, change: dict[str, str]) -> None:
    """A broker could log a release so that the owner of what it released does not find it."""
    terms = Terms("pictures")
    facts = {"recipient": ME, "service": "pictures"}
    payload = jcs.canonical(service_document())
    resource = "pictures/service-key/current"
    data = released(payload, BROKER, **{**facts, "resource": resource})
    assert release.open_service_key(data, BROKER.verifying_key, ME, "pictures", terms=terms)
    data = released(payload, BROKER, **{**facts, "resource": resource, **change})
    with refused("release-unlogged"):
        release.open_service_key(data, BROKER.verifying_key, ME, "pictures", terms=terms)
    payload = jcs.canonical(release.model_document(ME, MODEL))
    resource = "default/model/lite0"
    data = released(payload, BROKER, **{**facts, "resource": resource})
    assert release.open_model_key(data, BROKER.verifying_key, ME, resource, terms=terms)
    data = released(payload, BROKER, **{**facts, "resource": resource, **change})
    with refused("release-unlogged"):
        release.open_model_key(data, BROKER.verifying_key, ME, resource, terms=terms)


def test_too_few_witnesses_are_refused(refused) -> None:
    """What the terms ask of witnesses reaches the envelope of both."""
    terms = Terms(witnesses=Witnesses((WITNESS.key,), 1))
    with refused("log-unwitnessed"):
        release.open_service_key(
            sealed(service_document()), BROKER.verifying_key, ME, "pictures", terms=terms
        )
    with refused("log-unwitnessed"):
        release.open_model_key(
            sealed(release.model_document(ME, MODEL)), BROKER.verifying_key, ME, MODEL.resource, terms=terms
        )


def test_a_keyset_that_the_keys_do_not_make_is_refused(refused) -> None:
    """A broker that releases keys of one keyset beside the signature of another contradicts itself."""
    for change in (
        lambda e: e["keys"][0].update(private_key=b64.encode_url(bytes(32))),
        lambda e: e["keys"].reverse(),
        lambda e: e["keys"].pop(),
        lambda e: e["keys"][0].update(key_id=99),
        lambda e: e["keys"][0]["suites"].reverse(),
        lambda e: e["keyset"].update(release_policy="sha256:" + "9" * 64),
        lambda e: e["keyset"].update(key_custodian="Someone Else"),
        lambda e: e["keyset"].update(key_release="classical"),
        lambda e: e["keyset"].update(not_after=9999),
        lambda e: e["keyset"].update(not_before=1),
        lambda e: e["keyset"]["models"].update(more={"version": "1", "manifest": "sha256:" + "5" * 64}),
        lambda e: e.update(epoch=9),
        lambda e: e.update(keyset_signature=b64.encode_url(bytes(64))),
        lambda e: e.update(keyset_signature=""),
    ):
        document = service_document()
        change(document["epochs"][0])
        with refused("release-keyset"):
            open_service(sealed(document))


def test_a_keyset_that_names_another_broker_is_refused(refused) -> None:
    """Even where the pinned broker signed it."""
    epoch = make_epoch(9, broker_key=ROGUE.verifying_key.text)
    with refused("release-keyset"):
        open_service(sealed(service_document([epoch])))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(epochs=[]),
        lambda d: d["epochs"].reverse(),
        lambda d: d["epochs"].append(d["epochs"][-1]),
        lambda d: d.update(epochs=d["epochs"][:1] * 9),
        lambda d: d.update(extra=1),
        lambda d: d.pop("service"),
        lambda d: d.update(service=1),
        lambda d: d["epochs"][0].update(epoch=0),
        lambda d: d["epochs"][0].update(honoured_until=-1),
        lambda d: d["epochs"][0].update(keys=[]),
        lambda d: d["epochs"][0]["keys"][0].update(kem=7),
        lambda d: d["epochs"][0]["keys"][0].update(key_id=256),
        lambda d: d["epochs"][0]["keys"][0].update(private_key="AA"),
        lambda d: d["epochs"][0]["keys"][0].update(private_key="===="),
        lambda d: d["epochs"][0]["keys"][0].update(suites=[]),
        lambda d: d["epochs"][0]["keys"][0].update(suites=[{"kdf": 1, "aead": 9}]),
        lambda d: d["epochs"][0]["keys"][0].update(suites=[{"kdf": 9, "aead": 1}]),
        lambda d: d["epochs"][0]["keys"][1].update(key_id=d["epochs"][0]["keys"][0]["key_id"]),
        lambda d: d["epochs"][0]["keyset"].update(release_policy="sha256:x"),
        lambda d: d["epochs"][0]["keyset"].update(not_before=5000),
        lambda d: d["epochs"][0]["keyset"].update(broker_key="x"),
        lambda d: d["epochs"][0]["keyset"].update(key_custodian=""),
    ],
)
def test_other_forms_are_refused(refused, change: Callable[[dict[str, Any]], None]) -> None:
    document = service_document()
    change(document)
    with refused("release-invalid"):
        open_service(sealed(document))


def test_one_key_identifier_for_two_epochs_is_refused(refused) -> None:
    """128 epochs apart the identifiers meet again; a gateway could not tell the keys apart."""
    with refused("release-invalid"):
        open_service(sealed(service_document([make_epoch(1), make_epoch(129)])))


@pytest.mark.parametrize("name", ["identity", "manifest", "sealed", "version_floor", "resource"])
def test_a_model_document_is_complete(refused, name: str) -> None:
    document = release.model_document(ME, MODEL)
    for value in (None, -1, "x" * 2000):
        with refused(
            "release-foreign-subject" if (name, value) == ("resource", "x" * 2000) else "release-invalid"
        ):
            open_model(sealed({**document, name: value}))
    del document[name]
    with refused("release-invalid"):
        open_model(sealed(document))


def test_no_error_shows_a_key() -> None:
    secret = b64.encode_url(EPOCHS[1].keys[0].private_key.raw())
    for name in ("key_id", "kem", "private_key"):
        document = service_document()
        document["epochs"][0]["keys"][0][name] = {"nested": secret}
        with pytest.raises(Exception) as caught:  # noqa: PT011 -- any error, whatever it is
            open_service(sealed(document))
        shown = repr(caught.value) + str(caught.value) + str(caught.value.__cause__)
        assert secret not in shown


def test_no_repr_shows_a_key() -> None:
    shown = repr(EPOCHS) + repr(MODEL)
    assert MODEL.identity not in shown
    for epoch in EPOCHS:
        for key in epoch.keys:
            assert repr(key.private_key.raw())[2:-1] not in shown


@pytest.mark.slow
def test_mutants(mutants, survey) -> None:
    """Most inputs are changed documents that the broker has signed: they reach the last check."""
    document = service_document()
    model = release.model_document(ME, MODEL)
    envelope = json.loads(sealed(document))

    def resign(resource: str) -> Callable[[Any], bytes]:
        def make(value: Any) -> bytes:
            payload = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
            return released(payload, BROKER, recipient=ME, resource=resource)

        return make

    def plain(value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")

    def service_inputs() -> Iterator[bytes]:
        yield from mutants(document, resign("pictures/service-key/current"), 12_000, 1)
        yield from mutants(envelope, plain, 2_000, 2)

    outcomes = survey(open_service, service_inputs())
    outcomes += survey(open_model, mutants(model, resign("default/model/lite0"), 6_000, 3))
    assert sum(outcomes.values()) == 20_000
    assert outcomes.keys() <= {
        "ok",
        "release-invalid",
        "release-foreign-broker",
        "release-foreign-recipient",
        "release-foreign-subject",
        "release-keyset",
        "release-unlogged",
        "log-receipt-invalid",
        "merkle-proof-invalid",
    }
    assert outcomes["release-invalid"] > 2_000
    assert outcomes["release-keyset"] > 200


def test_keys_that_came_under_a_classical_key_need_a_keyset_that_says_so(refused) -> None:
    said = make_epoch(9, key_release="classical")
    data = sealed(service_document([said]))
    assert release.open_service_key(data, BROKER.verifying_key, ME, "pictures", classical=True)
    assert open_service(data)  # fetched better than promised
    mixed = sealed(service_document([said, make_epoch(8)]))
    for document in (sealed(service_document()), mixed):
        with refused("release-downgraded"):
            release.open_service_key(document, BROKER.verifying_key, ME, "pictures", classical=True)
