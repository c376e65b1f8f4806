"""The HPKE release: opens for one key and one resource, and for nothing else."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.broker import hpke_release, jwe, onetime, teekey
from strongroom.codec import jcs
from strongroom.crypto.hpke import (
    CLASSICAL_SUITE,
    DEFAULT_SUITE,
    Kem,
    PrivateKey,
    setup_receiver,
    setup_sender,
)

KEY = PrivateKey.from_bytes(Kem.MLKEM768_X25519, bytes(range(32)))
PUBLIC = teekey.HpkePublicKey(KEY.public_bytes())
RESOURCE = "default/model/lite0"
MEMBERS = ("alg", "ciphertext", "enc")


def seal(plaintext: bytes = b"key", resource: str = RESOURCE) -> bytes:
    return hpke_release.seal(PUBLIC, plaintext, resource=resource)


def opened(document: bytes, key: PrivateKey = KEY, resource: str = RESOURCE) -> bytes:
    return hpke_release.open_sealed(key, document, resource=resource)


def raw(document: dict[str, Any], name: str) -> bytearray:
    return bytearray(base64.urlsafe_b64decode(document[name] + "=="))


def text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


@settings(max_examples=50, deadline=None)
@given(plaintext=st.binary(max_size=4096), resource=st.text("abc/-", min_size=1, max_size=30))
def test_what_is_sealed_opens(plaintext: bytes, resource: str) -> None:
    assert opened(seal(plaintext, resource), resource=resource) == plaintext


def test_the_form() -> None:
    document = seal()
    members = json.loads(document)
    assert jcs.canonical(members) == document
    assert tuple(members) == MEMBERS
    assert members["alg"] == "HPKE-0x647a-0x0001-0x0002"
    assert len(raw(members, "enc")) == 1120
    assert len(raw(members, "ciphertext")) == len(b"key") + 16


def test_info_and_associated_data_are_as_documented() -> None:
    members = json.loads(seal(b"a model key"))
    receiver = setup_receiver(DEFAULT_SUITE, bytes(raw(members, "enc")), KEY, b"strongroom-release/1")
    bound = {"alg": members["alg"], "recipient": teekey.thumbprint(PUBLIC), "resource": RESOURCE}
    assert receiver.open(bytes(raw(members, "ciphertext")), jcs.canonical(bound)) == b"a model key"


def test_nothing_is_sealed_twice_alike() -> None:
    documents = [json.loads(seal()) for _ in range(5)]
    for name in ("ciphertext", "enc"):
        assert len({document[name] for document in documents}) == 5


def test_the_largest_resource_fits_and_a_larger_one_does_not(refused) -> None:
    document = seal(bytes(hpke_release.MAX_PLAINTEXT))
    assert len(document) <= hpke_release.MAX_DOCUMENT
    assert opened(document) == bytes(hpke_release.MAX_PLAINTEXT)
    with pytest.raises(ValueError, match="512 KiB"):
        seal(bytes(hpke_release.MAX_PLAINTEXT + 1))


def test_another_key_does_not_open(refused) -> None:
    """An answer to another worker, or to an earlier attestation of this one."""
    with refused("hpke-release-open-failed"):
        opened(seal(), PrivateKey.generate(Kem.MLKEM768_X25519))


@pytest.mark.parametrize(
    "resource", ["default/model/lite1", "pictures/service-key/current", "", RESOURCE + "/"]
)
def test_an_answer_for_another_resource_does_not_open(refused, resource: str) -> None:
    with refused("hpke-release-open-failed"):
        opened(seal(), resource=resource)


def test_the_recipient_is_bound_beside_the_key(refused) -> None:
    """Sealed to the right key by one who bound another recipient."""
    enc, sender = setup_sender(teekey.HPKE_SUITE, PUBLIC.raw, hpke_release.INFO)
    bound = jcs.canonical({"alg": teekey.HPKE_ALG, "recipient": "other", "resource": RESOURCE})
    document = {"alg": teekey.HPKE_ALG, "ciphertext": text(sender.seal(b"key", bound)), "enc": text(enc)}
    with refused("hpke-release-open-failed"):
        opened(jcs.canonical(document))


def test_the_purpose_is_bound(refused) -> None:
    """What was sealed to this key for something else is no release."""
    enc, sender = setup_sender(teekey.HPKE_SUITE, PUBLIC.raw, b"message/bhttp request")
    bound = {"alg": teekey.HPKE_ALG, "recipient": teekey.thumbprint(PUBLIC), "resource": RESOURCE}
    sealed = sender.seal(b"key", jcs.canonical(bound))
    with refused("hpke-release-open-failed"):
        opened(jcs.canonical({"alg": teekey.HPKE_ALG, "ciphertext": text(sealed), "enc": text(enc)}))


@pytest.mark.parametrize("name", ["ciphertext", "enc"])
def test_every_flipped_byte_of_every_member_is_refused(name: str, refused) -> None:
    members = json.loads(seal())
    for at in range(len(raw(members, name))):
        changed = raw(members, name)
        changed[at] ^= 1 << at % 8
        with refused("hpke-release-open-failed"):
            opened(json.dumps({**members, name: text(changed)}).encode())


@pytest.mark.parametrize("name", ["ciphertext", "enc"])
def test_truncation_is_refused(name: str, refused) -> None:
    members = json.loads(seal())
    whole = raw(members, name)
    for size in (0, 1, 16, len(whole) // 2, len(whole) - 1):
        with refused("hpke-release-open-failed"):
            opened(json.dumps({**members, name: text(whole[:size])}).encode())


def test_the_parts_of_two_answers_do_not_make_one(refused) -> None:
    first, second = json.loads(seal(b"1")), json.loads(seal(b"2"))
    with refused("hpke-release-open-failed"):
        opened(json.dumps({**first, "enc": second["enc"]}).encode())


def test_a_zero_x25519_part_is_refused(refused) -> None:
    """Under it the classical half of the secret would be known to all."""
    members = json.loads(seal())
    enc = raw(members, "enc")
    enc[-32:] = bytes(32)
    with refused("hpke-release-open-failed"):
        opened(json.dumps({**members, "enc": text(enc)}).encode())


@pytest.mark.parametrize(
    "alg",
    [
        "HPKE-0x0020-0x0001-0x0002",
        "HPKE-0x647A-0x0001-0x0002",
        "HPKE-0x647a-0x0001-0x0001",
        "dir",
        "",
        None,
        1,
    ],
)
def test_another_suite_is_refused(alg: object, refused) -> None:
    with refused("hpke-release-invalid"):
        opened(json.dumps({**json.loads(seal()), "alg": alg}).encode())


def test_a_classical_hpke_key_is_no_key_for_this() -> None:
    key = PrivateKey.generate(CLASSICAL_SUITE.kem)
    with pytest.raises(Exception, match="hpke-release-open-failed"):
        opened(seal(), key)


@pytest.mark.parametrize(
    "document",
    [b"", b"{}", b"[]", b"null", b'"a"', b"not JSON", b"\xff", b'{"alg":1}', b"[" * 100],
)
def test_what_is_no_sealed_resource_is_refused(refused, document: bytes) -> None:
    with refused("hpke-release-invalid"):
        opened(document)


def test_a_jwe_in_its_place_is_refused(refused) -> None:
    """Someone on the way answers in the classical form."""
    classical = jwe.seal(teekey.generate().public_key(), b"key")
    with refused("hpke-release-invalid"):
        opened(classical)


def test_an_oversized_document_is_refused_unread(refused) -> None:
    with refused("hpke-release-invalid"):
        opened(b"x" * (hpke_release.MAX_DOCUMENT + 1))


def test_members_beside_the_three_are_refused(refused) -> None:
    for extra in ({"aad": "AA"}, {"psk_id": ""}, {"protected": ""}):
        with refused("hpke-release-invalid"):
            opened(json.dumps({**json.loads(seal()), **extra}).encode())


def test_mutants(mutants, survey, json_bytes) -> None:
    document = json.loads(seal(b"a model key"))

    def flipped() -> Iterator[bytes]:
        """Documents that are well-formed to the last member, with other bytes in one of them."""
        rng = random.Random(3)
        for _ in range(2_000):
            name = rng.choice(["ciphertext", "enc"])
            value = raw(document, name)
            for _ in range(rng.randrange(1, 4)):
                value[rng.randrange(len(value))] = rng.randrange(256)
            yield json_bytes({**document, name: text(value)})

    def inputs() -> Iterator[bytes]:
        yield from mutants(document, json_bytes, 4_000, 1)
        yield from flipped()

    outcomes = survey(opened, inputs())
    assert sum(outcomes.values()) == 6_000
    assert outcomes.keys() <= {"ok", "hpke-release-invalid", "hpke-release-open-failed"}
    assert outcomes["hpke-release-open-failed"] > 1_500
    assert outcomes["ok"] < 500  # JSON that means the same, written otherwise


# The worker's side.


@pytest.mark.parametrize("make", [onetime.HpkeKey, onetime.ClassicalKey])
def test_a_one_time_key_opens_what_is_sealed_to_its_jwk(make: type[Any]) -> None:
    key = make()
    public = teekey.parse_jwk(key.jwk)
    assert teekey.thumbprint(public) == key.recipient
    if isinstance(public, teekey.HpkePublicKey):
        document = hpke_release.seal(public, b"key", resource=RESOURCE)
    else:
        document = jwe.seal(public, b"key")
    assert key.open(document, RESOURCE) == b"key"
    assert key.classical is (make is onetime.ClassicalKey)


@pytest.mark.parametrize("make", [onetime.HpkeKey, onetime.ClassicalKey])
def test_one_time_keys_differ_and_show_nothing(make: type[Any]) -> None:
    assert make().recipient != make().recipient
    assert "object at" in repr(make())  # no member is shown
