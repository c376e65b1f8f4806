"""The official vectors, and agreement with the single-shot HPKE of the cryptography package."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import hpke as pyca
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto._kdf import labeled_expand, labeled_extract
from strongroom.crypto.hpke import Aead, Kem, PrivateKey, Suite, setup_receiver, setup_sender

ROUNDS = 1000
SUITES = [Suite(kem, 1, aead) for kem in Kem for aead in Aead]
NAMES = [suite.name for suite in SUITES]


@pytest.fixture(scope="module")
def cases(hpke_vectors) -> list[dict[str, Any]]:
    """The base-mode vectors of our suites."""
    ours = {(suite.kem, suite.kdf, suite.aead) for suite in SUITES}
    found = [
        case
        for case in hpke_vectors
        if case["mode"] == 0 and (case["kem_id"], case["kdf_id"], case["aead_id"]) in ours
    ]
    assert len(found) == 4
    return found


def suite_of(case: dict[str, Any]) -> Suite:
    return Suite(case["kem_id"], case["kdf_id"], case["aead_id"])


def receiver_of(case: dict[str, Any]):
    suite = suite_of(case)
    key = PrivateKey.from_bytes(suite.kem, bytes.fromhex(case["skRm"]))
    return setup_receiver(suite, bytes.fromhex(case["enc"]), key, bytes.fromhex(case["info"]))


def sender_of(case: dict[str, Any]):
    """The vector's sender, whose ephemeral key comes from `ikmE` by DeriveKeyPair of RFC 9180."""
    kem_id = b"KEM\x00\x20"
    prk = labeled_extract(kem_id, b"", b"dkp_prk", bytes.fromhex(case["ikmE"]))
    ephemeral = labeled_expand(kem_id, prk, b"sk", b"", 32)
    return setup_sender(
        suite_of(case),
        bytes.fromhex(case["pkRm"]),
        bytes.fromhex(case["info"]),
        rng=lambda size: ephemeral[:size],
    )


def inputs(count: int) -> Iterator[bytes]:
    """The inputs of an accumulated vector: from SHAKE128, each a length of one byte and so many bytes."""
    stream = hashlib.shake_128(b"").digest(256 * count)
    at = 0
    for _ in range(count):
        size = stream[at]
        yield stream[at + 1 : at + 1 + size]
        at += 1 + size


def test_receiver_opens_every_encryption(cases):
    opened = 0
    for case in cases:
        receiver = receiver_of(case)
        for step in case.get("encryptions", []):
            text = receiver.open(bytes.fromhex(step["ct"]), bytes.fromhex(step["aad"]))
            assert text.hex() == step["pt"]
            opened += 1
    assert opened >= 10


def test_key_schedule_is_the_vectors(cases):
    checked = 0
    for case in cases:
        if "base_nonce" in case:
            receiver = receiver_of(case)
            assert receiver._nonce().hex() == case["base_nonce"]
            assert receiver._exporter_secret.hex() == case["exporter_secret"]
            assert suite_of(case).suite_id.hex() == case["suite_id"]
            checked += 1
    assert checked == 1


def test_receiver_exports_every_value(cases):
    exported = 0
    for case in cases:
        receiver = receiver_of(case)
        for step in case.get("exports", []):
            value = receiver.export(bytes.fromhex(step["exporter_context"]), step["L"])
            assert value.hex() == step["exported_value"]
            exported += 1
    assert exported >= 5


def test_accumulated_encryptions_of_both_sides(cases):
    accumulated = [case for case in cases if "encryptions_accumulated" in case]
    assert len(accumulated) >= 3
    for case in accumulated:
        receiver = receiver_of(case)
        enc, sender = sender_of(case)
        assert enc.hex() == case["enc"]
        source, sink = inputs(2 * ROUNDS), hashlib.shake_128()
        for aad, text in zip(source, source, strict=True):
            sealed = sender.seal(text, aad)
            assert receiver.open(sealed, aad) == text
            sink.update(sealed)
        assert sink.hexdigest(16) == case["encryptions_accumulated"]


def test_accumulated_exports_of_both_sides(cases):
    accumulated = [case for case in cases if "exports_accumulated" in case]
    assert len(accumulated) >= 3
    for case in accumulated:
        _, sender = sender_of(case)
        for context in (receiver_of(case), sender):
            sink = hashlib.shake_128()
            for length, exporter_context in enumerate(inputs(ROUNDS)):
                sink.update(context.export(exporter_context, length))
            assert sink.hexdigest(16) == case["exports_accumulated"]


PYCA_KEM = {Kem.X25519_HKDF_SHA256: pyca.KEM.X25519, Kem.MLKEM768_X25519: pyca.KEM.MLKEM768_X25519}
PYCA_AEAD = {
    Aead.AES_128_GCM: pyca.AEAD.AES_128_GCM,
    Aead.AES_256_GCM: pyca.AEAD.AES_256_GCM,
    Aead.CHACHA20_POLY1305: pyca.AEAD.CHACHA20_POLY1305,
}


def pyca_suite(suite: Suite) -> pyca.Suite:
    return pyca.Suite(PYCA_KEM[suite.kem], pyca.KDF.HKDF_SHA256, PYCA_AEAD[suite.aead])


def pyca_public(kem: Kem, raw: bytes):
    x25519 = X25519PublicKey.from_public_bytes(raw[-32:])
    if kem is Kem.X25519_HKDF_SHA256:
        return x25519
    return pyca.MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(raw[:-32]), x25519)


def pyca_private(kem: Kem, raw: bytes):
    if kem is Kem.X25519_HKDF_SHA256:
        return X25519PrivateKey.from_private_bytes(raw)
    expanded = hashlib.shake_256(raw).digest(96)
    return pyca.MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])
    )


@settings(max_examples=40)
@given(seed=st.binary(min_size=32, max_size=32), text=st.binary(max_size=300), info=st.binary(max_size=80))
@pytest.mark.parametrize("suite", SUITES, ids=NAMES)
def test_single_shot_of_cryptography_opens_ours(suite, seed, text, info):
    key = PrivateKey.from_bytes(suite.kem, seed)
    enc, sender = setup_sender(suite, key.public_bytes(), info)
    sealed = enc + sender.seal(text)
    assert pyca_suite(suite).decrypt(sealed, pyca_private(suite.kem, seed), info) == text


@settings(max_examples=40)
@given(seed=st.binary(min_size=32, max_size=32), text=st.binary(max_size=300), info=st.binary(max_size=80))
@pytest.mark.parametrize("suite", SUITES, ids=NAMES)
def test_ours_opens_single_shot_of_cryptography(suite, seed, text, info):
    key = PrivateKey.from_bytes(suite.kem, seed)
    sealed = pyca_suite(suite).encrypt(text, pyca_public(suite.kem, key.public_bytes()), info)
    enc, ciphertext = sealed[: suite.kem.enc_size], sealed[suite.kem.enc_size :]
    assert setup_receiver(suite, enc, key, info).open(ciphertext) == text
