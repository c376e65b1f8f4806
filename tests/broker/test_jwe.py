"""The JWE: byte-exact for attesters in Rust, readable by a JOSE library and able to read one's output."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwe as jose
from joserfc.jwk import ECKey, RSAKey

from strongroom.broker import jwe, teekey

KEY = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
MEMBERS = ("protected", "encrypted_key", "iv", "ciphertext", "tag")


def pem(key: Any) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def header(document: bytes) -> str:
    protected = json.loads(document)["protected"]
    return base64.urlsafe_b64decode(protected + "=" * (-len(protected) % 4)).decode()


def compact(document: bytes) -> str:
    members = json.loads(document)
    return ".".join(members[name] for name in MEMBERS)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=4096))
def test_what_is_sealed_opens(plaintext: bytes) -> None:
    assert jwe.open_sealed(KEY, jwe.seal(KEY.public_key(), plaintext)) == plaintext


def test_the_header_is_byte_exact() -> None:
    ephemeral = teekey.generate(lambda size: b"\x05" * size).public_key()
    x, y = (teekey.coordinates(ephemeral)[name] for name in "xy")
    document = jwe.seal(KEY.public_key(), b"key", rng=lambda size: b"\x05" * size)
    assert header(document) == (
        '{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{"crv":"P-256","kty":"EC","x":"'
        + x
        + '","y":"'
        + y
        + '"}}'
    )
    assert list(json.loads(document)) == list(MEMBERS)


def test_the_rsa_header_is_byte_exact() -> None:
    assert header(jwe.seal(RSA.public_key(), b"key")) == '{"alg":"RSA-OAEP-256","enc":"A256GCM"}'


def test_joserfc_opens_ours() -> None:
    for key, theirs in ((KEY, ECKey.import_key(pem(KEY))), (RSA, RSAKey.import_key(pem(RSA)))):
        document = jwe.seal(key.public_key(), b"a model key")
        algorithms = [json.loads(header(document))["alg"], "A256GCM"]
        opened = jose.decrypt_json(json.loads(document), theirs, algorithms=algorithms)
        assert opened.plaintext == b"a model key"
        assert (
            jose.decrypt_compact(compact(document), theirs, algorithms=algorithms).plaintext == b"a model key"
        )


def test_we_open_what_joserfc_seals() -> None:
    public = ECKey.import_key({k: v for k, v in teekey.to_jwk(KEY.public_key()).items() if k != "alg"})
    sealed = jose.encrypt_compact(
        {"alg": "ECDH-ES+A256KW", "enc": "A256GCM"},
        b"theirs",
        public,
        algorithms=["ECDH-ES+A256KW", "A256GCM"],
    )
    document = json.dumps(dict(zip(MEMBERS, sealed.split("."), strict=True))).encode()
    assert jwe.open_sealed(KEY, document) == b"theirs"


def test_nothing_is_sealed_twice_alike() -> None:
    documents = [json.loads(jwe.seal(KEY.public_key(), b"key")) for _ in range(5)]
    for name in MEMBERS:
        assert len({document[name] for document in documents}) == 5


def test_the_largest_resource_fits_and_a_larger_one_does_not() -> None:
    document = jwe.seal(KEY.public_key(), bytes(jwe.MAX_PLAINTEXT))
    assert len(document) <= jwe.MAX_DOCUMENT
    assert jwe.open_sealed(KEY, document) == bytes(jwe.MAX_PLAINTEXT)
    with pytest.raises(ValueError, match="512 KiB"):
        jwe.seal(KEY.public_key(), bytes(jwe.MAX_PLAINTEXT + 1))


def test_another_key_does_not_open(refused) -> None:
    with refused("jwe-open-failed"):
        jwe.open_sealed(teekey.generate(), jwe.seal(KEY.public_key(), b"key"))


@pytest.mark.parametrize("name", MEMBERS)
def test_every_flipped_bit_of_every_member_is_refused(name: str) -> None:
    document = json.loads(jwe.seal(KEY.public_key(), b"key"))
    raw = base64.urlsafe_b64decode(document[name] + "==")
    for at in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[at // 8] ^= 1 << at % 8
        changed = {**document, name: base64.urlsafe_b64encode(flipped).rstrip(b"=").decode()}
        with pytest.raises(Exception) as caught:  # noqa: PT011 -- the code is checked
            jwe.open_sealed(KEY, json.dumps(changed).encode())
        assert getattr(caught.value, "code", None) in {"jwe-invalid", "jwe-open-failed"}


def with_header(document: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> bytes:
    members = json.loads(base64.urlsafe_b64decode(document["protected"] + "=="))
    change(members)
    raw = json.dumps(members, separators=(",", ":")).encode()
    return json.dumps({**document, "protected": base64.urlsafe_b64encode(raw).rstrip(b"=").decode()}).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.update(alg="dir"),
        lambda h: h.update(alg="ECDH-ES"),
        lambda h: h.update(alg="RSA-OAEP-256"),
        lambda h: h.update(enc="A128GCM"),
        lambda h: h.update(enc=None),
        lambda h: h.update(zip="DEF"),
        lambda h: h.update(apu="AA"),
        lambda h: h.update(crit=["exp"]),
        lambda h: h.pop("epk"),
        lambda h: h.update(epk=None),
        lambda h: h.update(epk=[]),
        lambda h: h["epk"].update(crv="P-384"),
        lambda h: h["epk"].update(kty="OKP"),
        lambda h: h["epk"].update(d="AA"),
        lambda h: h["epk"].update(x=1),
        lambda h: h["epk"].update(x="AA"),
        lambda h: h["epk"].update(x=h["epk"]["y"]),
        lambda h: h["epk"].pop("y"),
    ],
)
def test_other_headers_are_refused(refused, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(jwe.seal(KEY.public_key(), b"key"))
    with refused("jwe-invalid"):
        jwe.open_sealed(KEY, with_header(document, change))


@pytest.mark.parametrize(
    "document",
    [b"", b"{}", b"[]", b"null", b'"a"', b"not JSON", b"\xff", b'{"protected":1}', b"[" * 100],
)
def test_what_is_no_jwe_is_refused(refused, document: bytes) -> None:
    with refused("jwe-invalid"):
        jwe.open_sealed(KEY, document)


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("value", [None, 1, "", "AA", "====", "A" * 2000, ["AA"]])
def test_a_member_of_another_form_is_refused(name: str, value: object) -> None:
    document = {**json.loads(jwe.seal(KEY.public_key(), b"key")), name: value}
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- the code is checked
        jwe.open_sealed(KEY, json.dumps(document).encode())
    assert getattr(caught.value, "code", None) in {"jwe-invalid", "jwe-open-failed"}


def test_members_beside_the_five_are_refused(refused) -> None:
    document = json.loads(jwe.seal(KEY.public_key(), b"key"))
    for extra in ({"aad": "AA"}, {"header": {}}, {"unprotected": {}}, {"recipients": []}):
        with refused("jwe-invalid"):
            jwe.open_sealed(KEY, json.dumps({**document, **extra}).encode())


def test_an_oversized_document_is_refused_unread(refused) -> None:
    with refused("jwe-invalid"):
        jwe.open_sealed(KEY, b"x" * (jwe.MAX_DOCUMENT + 1))


def test_mutants(mutants, survey, json_bytes) -> None:
    document = json.loads(jwe.seal(KEY.public_key(), b"a model key"))
    inner = json.loads(base64.urlsafe_b64decode(document["protected"] + "=="))

    def inside(value: Any) -> bytes:
        protected = base64.urlsafe_b64encode(json_bytes(value)).rstrip(b"=").decode()
        return json_bytes({**document, "protected": protected})

    def flipped() -> Iterator[bytes]:
        """Documents that are well-formed to the last member, with other bytes in one of them."""
        rng = random.Random(3)
        for _ in range(8_000):
            name = rng.choice(MEMBERS[1:])
            raw = bytearray(base64.urlsafe_b64decode(document[name] + "=="))
            for _ in range(rng.randrange(1, 4)):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            yield json_bytes({**document, name: base64.urlsafe_b64encode(raw).rstrip(b"=").decode()})

    def inputs() -> Iterator[bytes]:
        yield from mutants(document, json_bytes, 4_000, 1)
        yield from mutants(inner, inside, 8_000, 2)
        yield from flipped()

    outcomes = survey(lambda data: jwe.open_sealed(KEY, data), inputs())
    assert sum(outcomes.values()) == 20_000
    assert outcomes.keys() <= {"ok", "jwe-invalid", "jwe-open-failed"}
    assert outcomes["jwe-open-failed"] > 7_000  # as many get as far as the keys
    assert outcomes["ok"] < 2_000  # JSON that means the same, written otherwise
