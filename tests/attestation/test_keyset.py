"""The keyset: exact bytes, strict reading, and nothing read before the signature holds."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.evidence import Evidence
from strongroom.attestation.keyset import (
    KEYSET_TYPE,
    MAX_KEYS,
    MAX_PAYLOAD,
    MAX_SIGNED,
    Keyset,
    KeysetModel,
    SignedKeyset,
    suite_names,
)
from strongroom.codec import b64, jcs
from strongroom.crypto.hpke import Aead, Kem, PrivateKey
from strongroom.crypto.ohttp import KeyConfig, encode_key_configs
from strongroom.crypto.sign import SIGNATURE_SIZE, SigningKey
from strongroom.errors import CryptoError, EvidenceError, StrongroomError

SIGNER = SigningKey.from_raw(b"\x01" * 64)
BROKER_KEY = SIGNER.verifying_key.text
CONFIGS = (
    KeyConfig(
        2,
        Kem.MLKEM768_X25519,
        PrivateKey.from_bytes(Kem.MLKEM768_X25519, bytes(range(32))).public_bytes(),
        ((1, Aead.AES_256_GCM),),
    ),
    KeyConfig(
        3,
        Kem.X25519_HKDF_SHA256,
        PrivateKey.from_bytes(Kem.X25519_HKDF_SHA256, bytes(range(32))).public_bytes(),
        ((1, Aead.AES_128_GCM), (1, Aead.CHACHA20_POLY1305)),
    ),
)
KEYSET = Keyset(
    service="lite",
    epoch=1,
    keys=encode_key_configs(CONFIGS),
    release_policy="sha256:" + "ab" * 32,
    models={"lite0": KeysetModel("1.0", "sha256:" + "cd" * 32)},
    not_before=1_000,
    not_after=2_000,
    broker_key=BROKER_KEY,
    key_custodian="Example Hospital",
)


def signed(payload: bytes, signer: SigningKey = SIGNER, purpose: str = KEYSET_TYPE) -> SignedKeyset:
    return SignedKeyset(payload, signer.sign(purpose, payload))


def test_payload_reads_back() -> None:
    assert Keyset.parse(KEYSET.payload()) == KEYSET


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(
    epoch=st.integers(1, 2**53 - 1),
    times=st.tuples(st.integers(0, 2**52), st.integers(1, 2**52 - 1)),
    names=st.lists(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True), unique=True, max_size=4
    ),
    custodian=st.from_regex(r"[ -~]{1,128}", fullmatch=True),
    release=st.sampled_from(["classical", "hpke-0x647a"]),
)
def test_any_keyset_reads_back(
    epoch: int, times: tuple[int, int], names: list[str], custodian: str, release: str
) -> None:
    keyset = replace(
        KEYSET,
        epoch=epoch,
        not_before=times[0],
        not_after=sum(times),
        models={name: KeysetModel("2", "sha256:" + "0" * 64) for name in names},
        key_custodian=custodian,
        key_release=release,
    )
    assert Keyset.parse(keyset.payload()) == keyset


def test_payload_is_canonical_and_has_the_documented_members() -> None:
    value = json.loads(KEYSET.payload())
    assert jcs.canonical(value) == KEYSET.payload()
    assert value == {
        "type": "strongroom-keyset/2",
        "service": "lite",
        "epoch": 1,
        "keys": b64.encode_url(KEYSET.keys),
        "suites": [
            "MLKEM768-X25519/HKDF-SHA256/AES-256-GCM",
            "X25519-HKDF-SHA256/HKDF-SHA256/AES-128-GCM",
            "X25519-HKDF-SHA256/HKDF-SHA256/CHACHA20-POLY1305",
        ],
        "release_policy": KEYSET.release_policy,
        "models": {"lite0": {"version": "1.0", "manifest": "sha256:" + "cd" * 32}},
        "not_before": 1_000,
        "not_after": 2_000,
        "broker_key": BROKER_KEY,
        "key_custodian": "Example Hospital",
        "signature_suite": "MLDSA65-Ed25519-SHA512",
        "key_release": "hpke-0x647a",
    }


def test_digest_is_over_the_exact_payload() -> None:
    assert KEYSET.digest() == "sha384:" + hashlib.sha384(KEYSET.payload()).hexdigest()
    assert replace(KEYSET, epoch=2).digest() != KEYSET.digest()


def test_key_configurations_and_suites() -> None:
    assert KEYSET.key_configs == CONFIGS
    assert KEYSET.suites == suite_names(CONFIGS)
    assert suite_names((*CONFIGS, *CONFIGS)) == suite_names(CONFIGS)


@pytest.mark.parametrize(
    "change",
    [
        {"service": "Lite"},
        {"epoch": 0},
        {"epoch": True},
        {"epoch": 2**53},
        {"keys": bytes(MAX_KEYS + 1)},
        {"release_policy": "ab" * 32},
        {"models": {"../x": KeysetModel("1", "sha256:" + "0" * 64)}},
        {"models": {"x": KeysetModel("", "sha256:" + "0" * 64)}},
        {"models": {"x": KeysetModel("1", "0" * 64)}},
        {"models": {f"m{n}": KeysetModel("1", "sha256:" + "0" * 64) for n in range(65)}},
        {"not_before": -1},
        {"not_before": 2_000},
        {"not_after": 2**53},
        {"broker_key": "ed25519+mldsa65:"},
        {"key_custodian": ""},
        {"key_custodian": "a\nb"},
        {"key_custodian": "\x1b[31m"},
        {"key_release": "post-quantum"},
    ],
    ids=lambda change: repr(change)[:60],
)
def test_a_value_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError) as caught:
        replace(KEYSET, **change)
    assert caught.value.code == "keyset-malformed"


def altered(**change: Any) -> bytes:
    value = json.loads(KEYSET.payload()) | change
    return jcs.canonical({name: item for name, item in value.items() if item is not None})


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        KEYSET.payload() + b"\n",
        json.dumps(json.loads(KEYSET.payload())).encode(),
        altered(type="strongroom-keyset/1"),
        altered(signature_suite="Ed25519"),
        altered(signature_suite=None),
        altered(type=None),
        altered(extra=1),
        altered(suites=[]),
        altered(suites=["MLKEM768-X25519/HKDF-SHA256/AES-256-GCM"]),
        altered(suites=["\n"]),
        altered(keys="AA=="),
        altered(keys=b64.encode_url(b"\0")),
        altered(keys=b64.encode_url(KEYSET.keys + b"\0")),
        altered(keys=b64.encode_url(KEYSET.keys[:-1])),
        altered(models=[]),
        altered(models={"x": {"version": "1"}}),
        altered(models={"x": {"version": "1", "manifest": "sha256:" + "0" * 64, "extra": 1}}),
        altered(models={"x": None}),
        altered(key_custodian="x" * MAX_PAYLOAD),
        b" " * (MAX_PAYLOAD + 1),
    ],
    ids=lambda payload: repr(payload[-60:]),
)
def test_another_payload_is_refused_even_if_signed(payload: bytes) -> None:
    with pytest.raises(EvidenceError) as caught:
        signed(payload).verify(SIGNER.verifying_key)
    assert caught.value.code == "keyset-malformed"


def test_a_keyset_whose_keys_are_not_keys_has_no_configurations() -> None:
    with pytest.raises(EvidenceError) as caught:
        replace(KEYSET, keys=b"\0\1\2").payload()
    assert caught.value.code == "keyset-malformed"


def test_served_document_reads_back(small_evidence: Evidence) -> None:
    bare = signed(KEYSET.payload())
    attested = replace(bare, broker_evidence=small_evidence)
    assert SignedKeyset.parse(bare.to_json_bytes()) == bare
    assert SignedKeyset.parse(attested.to_json_bytes()) == attested
    assert bare.verify(SIGNER.verifying_key) == KEYSET


@pytest.mark.parametrize(
    "forged",
    [
        signed(KEYSET.payload(), SigningKey.from_raw(b"\x02" * 64)),
        signed(KEYSET.payload(), purpose="strongroom-beacon/1"),
        SignedKeyset(KEYSET.payload(), bytes(SIGNATURE_SIZE)),
        SignedKeyset(replace(KEYSET, epoch=2).payload(), signed(KEYSET.payload()).signature),
    ],
    ids=["another key", "another purpose", "no signature", "another payload"],
)
def test_a_forged_signature_is_refused(forged: SignedKeyset) -> None:
    with pytest.raises(CryptoError) as caught:
        forged.verify(SIGNER.verifying_key)
    assert caught.value.code == "signature-invalid"


def test_the_payload_is_not_read_before_the_signature_holds() -> None:
    with pytest.raises(CryptoError):
        SignedKeyset(b"not a keyset", bytes(SIGNATURE_SIZE)).verify(SIGNER.verifying_key)


@pytest.mark.parametrize(
    "change",
    [
        {"keyset": None},
        {"keyset": b64.encode_url(bytes(MAX_PAYLOAD + 1))},
        {"signature": b64.encode_url(bytes(SIGNATURE_SIZE - 1))},
        {"signature": b64.encode_url(bytes(SIGNATURE_SIZE + 1))},
        {"signature": 5},
        {"extra": 1},
    ],
    ids=lambda change: repr(change)[:40],
)
def test_another_served_document_is_refused(change: dict[str, Any]) -> None:
    value = json.loads(signed(KEYSET.payload()).to_json_bytes()) | change
    with pytest.raises(EvidenceError) as caught:
        SignedKeyset.parse(json.dumps(value).encode())
    assert caught.value.code == "keyset-malformed"


def test_a_served_document_over_its_bound_is_refused() -> None:
    with pytest.raises(EvidenceError) as caught:
        SignedKeyset.parse(b" " * (MAX_SIGNED + 1))
    assert caught.value.code == "keyset-malformed"


@pytest.mark.slow
def test_mutants_of_the_payload_raise_our_errors_only(
    mutants: Callable[..., Iterator[bytes]], survey: Callable[..., Any], json_bytes: Callable[[Any], bytes]
) -> None:
    """All mutants are signed by the broker, so that they pass the outer frame."""

    def encode(value: Any) -> bytes:
        try:
            return jcs.canonical(value)
        except StrongroomError:
            return json_bytes(value)

    inputs = mutants(json.loads(KEYSET.payload()), encode, 20_000, seed=3)
    result = survey(lambda data: signed(data).verify(SIGNER.verifying_key), inputs)
    assert set(result.codes) == {"keyset-malformed"}
    assert result.codes.total() > 10_000
    assert len(result.accepted) > 100
    assert all(keyset.payload() == data for data, keyset in result.accepted)


def test_mutants_of_the_served_document_raise_our_errors_only(
    mutants: Callable[..., Iterator[bytes]],
    survey: Callable[..., Any],
    json_bytes: Callable[[Any], bytes],
    small_evidence: Evidence,
) -> None:
    document = replace(signed(KEYSET.payload()), broker_evidence=small_evidence)
    inputs = list(mutants(json.loads(document.to_json_bytes()), json_bytes, 20_000, seed=4))
    random.Random(4).shuffle(inputs)
    result = survey(SignedKeyset.parse, inputs)
    assert set(result.codes) == {"keyset-malformed", "evidence-malformed"}
    assert result.codes.total() > 10_000
    assert len(result.accepted) > 100
    for data, value in result.accepted:
        assert json.loads(value.to_json_bytes()) == json.loads(data)
