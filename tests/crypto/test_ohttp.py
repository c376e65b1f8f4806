from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto import ohttp
from strongroom.crypto._kdf import expand, extract
from strongroom.crypto._kem import _combine, encapsulate, parse_public_key
from strongroom.crypto.hpke import (
    CLASSICAL_SUITE,
    DEFAULT_SUITE,
    TAG_SIZE,
    Aead,
    Kem,
    PrivateKey,
    SenderContext,
    Suite,
    setup_sender,
)
from strongroom.crypto.ohttp import (
    HEADER_SIZE,
    MAX_MESSAGE,
    Gateway,
    GatewayKey,
    KeyConfig,
    RequestHeader,
    decode_key_configs,
    peek_key_id,
    seal_request,
)

X25519 = Kem.X25519_HKDF_SHA256
HYBRID = Kem.MLKEM768_X25519
ALL = tuple((1, aead) for aead in (Aead.AES_256_GCM, Aead.AES_128_GCM, Aead.CHACHA20_POLY1305))
KEYS = {kem: PrivateKey.from_bytes(kem, bytes(range(32))) for kem in Kem}
CONFIGS = {
    X25519: KeyConfig(5, X25519, KEYS[X25519].public_bytes(), ALL),
    HYBRID: KeyConfig(4, HYBRID, KEYS[HYBRID].public_bytes(), ALL),
}
GATEWAY = Gateway(GatewayKey(CONFIGS[kem], KEYS[kem]) for kem in Kem)
SUITES = [Suite(kem, 1, aead) for kem in Kem for aead in Aead]
NAMES = [suite.name for suite in SUITES]
KEMS = pytest.mark.parametrize("kem", Kem, ids=lambda kem: kem.name)


def start_of_text(kem: Kem) -> int:
    return HEADER_SIZE + kem.enc_size


def flips(data: bytes):
    for at in range(len(data) * 8):
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        yield at // 8, bytes(changed)


# What works


@pytest.fixture(scope="module")
def vector(testdata) -> dict[str, Any]:
    return json.loads((testdata / "vectors" / "ohttp" / "rfc9458.json").read_text())


def test_example_of_rfc_9458_in_both_directions(vector):
    raw = {name: bytes.fromhex(value) for name, value in vector.items() if name not in {"source", "suite"}}
    (config,) = decode_key_configs(len(raw["key_config"]).to_bytes(2) + raw["key_config"])
    suite = Suite(X25519, 1, Aead.AES_128_GCM)
    sealed = seal_request(
        config, suite, raw["request_bhttp"], rng=lambda size: raw["ephemeral_private_key"][:size]
    )
    assert sealed.data == raw["encapsulated_request"]

    key = PrivateKey.from_bytes(X25519, raw["receiver_private_key"])
    opened = Gateway([GatewayKey(config, key)]).open_request(raw["encapsulated_request"])
    assert opened.plaintext == raw["request_bhttp"]
    assert opened.key_id == 1
    answer = opened.seal_response(raw["response_bhttp"], rng=lambda size: raw["response_nonce"][:size])
    assert answer == raw["encapsulated_response"]
    assert sealed.open_response(raw["encapsulated_response"]) == raw["response_bhttp"]


@pytest.mark.parametrize("suite", SUITES, ids=NAMES)
@settings(max_examples=25)
@given(request=st.binary(max_size=400), response=st.binary(max_size=400))
def test_request_and_response_arrive(suite, request, response):
    sealed = seal_request(CONFIGS[suite.kem], suite, request)
    opened = GATEWAY.open_request(sealed.data)
    assert opened.plaintext == request
    assert opened.key_id == CONFIGS[suite.kem].key_id
    assert sealed.open_response(opened.seal_response(response)) == response
    assert len(sealed.data) == start_of_text(suite.kem) + len(request) + TAG_SIZE


@KEMS
def test_buffers_of_any_kind_are_taken(kem):
    sealed = seal_request(CONFIGS[kem], None, memoryview(b"request"))
    opened = GATEWAY.open_request(memoryview(bytearray(sealed.data)))
    assert opened.plaintext == b"request"
    answer = opened.seal_response(memoryview(b"response"))
    assert isinstance(answer, bytes)
    assert sealed.open_response(memoryview(bytearray(answer))) == b"response"


def test_first_suite_of_the_configuration_is_the_default():
    for kem in Kem:
        head = peek_key_id(seal_request(CONFIGS[kem], None, b"").data)
        assert head == RequestHeader(CONFIGS[kem].key_id, kem, 1, Aead.AES_256_GCM)


def test_text_does_not_show():
    canary = hashlib.shake_128(b"canary").digest(64)
    sealed = seal_request(CONFIGS[HYBRID], None, canary)
    opened = GATEWAY.open_request(sealed.data)
    seen = sealed.data + opened.seal_response(canary)
    assert all(canary[at : at + 8] not in seen for at in range(56))


def test_response_key_follows_rfc_9458_section_4_4():
    """The response, opened here step by step from the exported secret."""
    suite = DEFAULT_SUITE
    enc, context = setup_sender(suite, CONFIGS[HYBRID].public_key, ohttp._REQUEST_LABEL + b"\0" + b"header!")
    exchange = ohttp._Exchange(suite, enc, context.export(b"message/bhttp response", 32))
    answer = ohttp.OpenedRequest(b"", 4, exchange).seal_response(b"response")
    prk = extract(enc + answer[:32], context.export(b"message/bhttp response", 32))
    cipher = AESGCM(expand(prk, b"key", 32))
    assert cipher.decrypt(expand(prk, b"nonce", 12), answer[32:], b"") == b"response"


# One number, one text


def test_sealing_again_makes_a_new_encapsulation():
    for kem in Kem:
        first, second = (seal_request(CONFIGS[kem], None, b"text").data for _ in range(2))
        assert first[:HEADER_SIZE] == second[:HEADER_SIZE]
        assert first[HEADER_SIZE : start_of_text(kem)] != second[HEADER_SIZE : start_of_text(kem)]
        assert first[start_of_text(kem) :] != second[start_of_text(kem) :]


def test_sealed_request_cannot_be_changed():
    sealed = seal_request(CONFIGS[HYBRID], None, b"text")
    with pytest.raises(dataclasses.FrozenInstanceError):
        sealed.data = b""  # type: ignore[misc]
    assert isinstance(sealed.data, bytes)
    assert not hasattr(sealed, "seal")


def test_request_may_be_opened_and_answered_twice():
    sealed = seal_request(CONFIGS[HYBRID], None, b"text")
    answers = [GATEWAY.open_request(sealed.data).seal_response(b"same") for _ in range(2)]
    opened = GATEWAY.open_request(sealed.data)
    answers += [opened.seal_response(b"same"), opened.seal_response(b"same")]
    assert len({answer[:32] for answer in answers}) == 4
    assert len({answer[32:] for answer in answers}) == 4
    assert {sealed.open_response(answer) for answer in answers} == {b"same"}


def test_response_opens_again_after_itself_and_after_a_bad_one(refuses):
    sealed = seal_request(CONFIGS[HYBRID], None, b"text")
    answer = GATEWAY.open_request(sealed.data).seal_response(b"response")
    assert sealed.open_response(answer) == b"response"
    with refuses("ohttp-response-failed"):
        sealed.open_response(answer[:-1] + bytes([answer[-1] ^ 1]))
    assert sealed.open_response(answer) == b"response"


# The head


def test_head_is_read_and_not_judged():
    assert peek_key_id(b"\x09\xff\xfe\x01\x02\x03\x04rest") == RequestHeader(9, 0xFFFE, 0x0102, 0x0304)
    assert peek_key_id(memoryview(bytes(7))) == RequestHeader(0, 0, 0, 0)


@pytest.mark.parametrize("size", range(HEADER_SIZE))
def test_head_must_be_whole(size, refuses):
    with refuses("ohttp-malformed"):
        peek_key_id(bytes(size))


# Requests that are refused


@KEMS
def test_every_truncation_of_a_request_is_refused(kem, refuses):
    data = seal_request(CONFIGS[kem], None, b"some text").data
    for size in range(len(data)):
        code = "ohttp-malformed" if size < start_of_text(kem) + TAG_SIZE else "ohttp-open-failed"
        with refuses(code):
            GATEWAY.open_request(data[:size])


@KEMS
def test_every_flipped_bit_of_a_request_is_refused(kem, code_of):
    data = seal_request(CONFIGS[kem], None, b"some text").data
    seen = set()
    for at, changed in flips(data):
        code = code_of(GATEWAY.open_request, changed)
        seen.add(code)
        if at >= HEADER_SIZE:
            assert code == "ohttp-open-failed"
    # In the head: 4 and 5 are both key ids, and the AEADs 2 and 3 are both offered. The key binds them.
    assert seen == {"ohttp-unknown-key", "ohttp-unknown-suite", "ohttp-open-failed"}


def test_head_of_another_offered_suite_is_refused(refuses):
    data = bytearray(seal_request(CONFIGS[X25519], CLASSICAL_SUITE, b"text").data)
    data[6] = Aead.CHACHA20_POLY1305  # offered, and of the same sizes
    with refuses("ohttp-open-failed"):
        GATEWAY.open_request(bytes(data))


def test_head_of_another_key_of_the_same_kind_is_refused(refuses):
    """Two ids for one private key: only the id in the `info` tells them apart."""
    twin = dataclasses.replace(CONFIGS[X25519], key_id=6)
    gateway = Gateway([GatewayKey(CONFIGS[X25519], KEYS[X25519]), GatewayKey(twin, KEYS[X25519])])
    data = bytearray(seal_request(CONFIGS[X25519], None, b"text").data)
    assert gateway.open_request(bytes(data)).key_id == 5
    data[0] = 6
    with refuses("ohttp-open-failed"):
        gateway.open_request(bytes(data))


@KEMS
@pytest.mark.parametrize("tail", [b"\0", bytes(16), bytes(1000)])
def test_bytes_after_a_request_are_refused(kem, tail, refuses):
    with refuses("ohttp-open-failed"):
        GATEWAY.open_request(seal_request(CONFIGS[kem], None, b"text").data + tail)


@KEMS
def test_unknown_key_is_refused(kem, refuses):
    old = dataclasses.replace(CONFIGS[kem], key_id=77)
    with refuses("ohttp-unknown-key"):
        GATEWAY.open_request(seal_request(old, None, b"text").data)
    with refuses("ohttp-unknown-key"):
        Gateway([]).open_request(seal_request(CONFIGS[kem], None, b"text").data)


@KEMS
def test_key_of_another_epoch_under_the_same_id_is_refused(kem, refuses):
    other = PrivateKey.generate(kem)
    config = dataclasses.replace(CONFIGS[kem], public_key=other.public_bytes())
    with refuses("ohttp-open-failed"):
        GATEWAY.open_request(seal_request(config, None, b"text").data)


@KEMS
def test_suite_that_is_not_offered_is_refused(kem, refuses):
    narrow = dataclasses.replace(CONFIGS[kem], suites=ALL[:1])
    gateway = Gateway([GatewayKey(narrow, KEYS[kem])])
    wide = seal_request(CONFIGS[kem], Suite(kem, 1, Aead.CHACHA20_POLY1305), b"text")
    assert GATEWAY.open_request(wide.data).plaintext == b"text"  # all else is right
    with refuses("ohttp-unknown-suite"):
        gateway.open_request(wide.data)
    with refuses("ohttp-unknown-suite"):
        seal_request(narrow, Suite(kem, 1, Aead.CHACHA20_POLY1305), b"text")


def test_suite_of_another_kem_is_refused(refuses):
    with refuses("ohttp-unknown-suite"):
        seal_request(CONFIGS[X25519], DEFAULT_SUITE, b"text")
    with refuses("ohttp-unknown-suite"):
        seal_request(CONFIGS[HYBRID], CLASSICAL_SUITE, b"text")


@pytest.mark.parametrize(("field", "number"), [(1, 0x0010), (1, 0x647A), (3, 2), (5, 4), (5, 0xFFFF)])
def test_unknown_number_in_the_head_is_refused(field, number, refuses):
    data = bytearray(seal_request(CONFIGS[X25519], None, b"text").data)
    data[field : field + 2] = number.to_bytes(2)
    with refuses("ohttp-unknown-suite"):
        GATEWAY.open_request(bytes(data))


def test_kem_of_another_key_in_the_head_is_refused(refuses):
    """A request that is sealed under the wrong KEM number in all its parts, and would open."""
    key = KEYS[X25519]
    header = bytes([5]) + HYBRID.to_bytes(2) + b"\0\1\0\2"
    enc, context = setup_sender(CLASSICAL_SUITE, key.public_bytes(), b"message/bhttp request\0" + header)
    with refuses("ohttp-unknown-suite"):
        GATEWAY.open_request(header + enc + context.seal(b"text"))


def test_low_order_points_are_refused(low_order_points, refuses):
    """Requests over a zero secret, forged so that they would open if the check were not there."""
    mlkem = parse_public_key(HYBRID, CONFIGS[HYBRID].public_key)
    assert mlkem.mlkem is not None
    header = CONFIGS[HYBRID].header(DEFAULT_SUITE)
    info = b"message/bhttp request\0" + header
    for point in low_order_points:
        secret_m, ciphertext = mlkem.mlkem.encapsulate()
        secret = _combine(secret_m, bytes(32), point, mlkem.x25519_raw)
        text = SenderContext(DEFAULT_SUITE, secret, info).seal(b"text")
        with refuses("ohttp-open-failed"):
            GATEWAY.open_request(header + ciphertext + point + text)
        with refuses("ohttp-open-failed"):
            GATEWAY.open_request(CONFIGS[X25519].header(CLASSICAL_SUITE) + point + bytes(40))


def test_low_order_public_key_is_not_sealed_to(low_order_points, refuses):
    for point in low_order_points:
        with refuses("hpke-bad-key"):
            seal_request(dataclasses.replace(CONFIGS[X25519], public_key=point), None, b"text")


def test_refusals_do_not_tell_why(code_of):
    """A wrong point, a wrong ciphertext and a wrong tag look the same."""
    data = seal_request(CONFIGS[HYBRID], None, b"text").data
    zero_point = data[: start_of_text(HYBRID) - 32] + bytes(32) + data[start_of_text(HYBRID) :]
    wrong_ciphertext = data[:HEADER_SIZE] + bytes([data[HEADER_SIZE] ^ 1]) + data[HEADER_SIZE + 1 :]
    wrong_tag = data[:-1] + bytes([data[-1] ^ 1])
    messages = set()
    for wrong in (zero_point, wrong_ciphertext, wrong_tag):
        with pytest.raises(Exception, match="ohttp-open-failed") as caught:
            GATEWAY.open_request(wrong)
        messages.add(str(caught.value))
        assert caught.value.__suppress_context__
    assert len(messages) == 1


# Sizes


@KEMS
def test_request_over_the_limit_is_refused(kem, refuses):
    gateway = Gateway([GatewayKey(CONFIGS[kem], KEYS[kem])], limit=10)
    assert gateway.open_request(seal_request(CONFIGS[kem], None, bytes(10)).data).plaintext == bytes(10)
    with refuses("ohttp-oversize"):
        gateway.open_request(seal_request(CONFIGS[kem], None, bytes(11)).data)


def test_client_keeps_to_its_limits(refuses):
    sealed = seal_request(CONFIGS[X25519], None, bytes(10), limit=10)
    with refuses("ohttp-oversize"):
        seal_request(CONFIGS[X25519], None, bytes(11), limit=10)
    opened = GATEWAY.open_request(sealed.data)
    assert sealed.open_response(opened.seal_response(bytes(10), limit=10), limit=10) == bytes(10)
    with refuses("ohttp-oversize"):
        opened.seal_response(bytes(11), limit=10)
    with refuses("ohttp-oversize"):
        sealed.open_response(opened.seal_response(bytes(11)), limit=10)


def test_default_limit_is_64_mib(refuses):
    assert MAX_MESSAGE == 64 * 1024 * 1024
    with refuses("ohttp-oversize"):
        seal_request(CONFIGS[X25519], None, bytes(MAX_MESSAGE + 1))


# Responses that are refused


@pytest.mark.parametrize("suite", SUITES, ids=NAMES)
def test_every_truncation_of_a_response_is_refused(suite, refuses):
    sealed = seal_request(CONFIGS[suite.kem], suite, b"request")
    answer = GATEWAY.open_request(sealed.data).seal_response(b"some text")
    least = max(12, suite.aead.key_size) + TAG_SIZE
    for size in range(len(answer)):
        with refuses("ohttp-malformed" if size < least else "ohttp-response-failed"):
            sealed.open_response(answer[:size])


@pytest.mark.parametrize("suite", SUITES, ids=NAMES)
def test_every_flipped_bit_of_a_response_is_refused(suite, code_of):
    sealed = seal_request(CONFIGS[suite.kem], suite, b"request")
    answer = GATEWAY.open_request(sealed.data).seal_response(b"some text")
    for _, changed in flips(answer):
        assert code_of(sealed.open_response, changed) == "ohttp-response-failed"
    assert code_of(sealed.open_response, answer) is None


@pytest.mark.parametrize("tail", [b"\0", bytes(100)])
def test_bytes_after_a_response_are_refused(tail, refuses):
    sealed = seal_request(CONFIGS[HYBRID], None, b"request")
    answer = GATEWAY.open_request(sealed.data).seal_response(b"text")
    with refuses("ohttp-response-failed"):
        sealed.open_response(answer + tail)


@KEMS
def test_response_to_another_request_is_refused(kem, refuses):
    first, second = (seal_request(CONFIGS[kem], None, b"request") for _ in range(2))
    answer = GATEWAY.open_request(second.data).seal_response(b"text")
    with refuses("ohttp-response-failed"):
        first.open_response(answer)


def test_request_is_not_a_response(refuses):
    sealed = seal_request(CONFIGS[HYBRID], None, b"request")
    with refuses("ohttp-response-failed"):
        sealed.open_response(sealed.data)


# Keys


def test_private_key_must_fit_its_configuration(refuses):
    with refuses("ohttp-key-mismatch"):
        GatewayKey(CONFIGS[X25519], KEYS[HYBRID])
    for kem in Kem:
        with refuses("ohttp-key-mismatch"):
            GatewayKey(CONFIGS[kem], PrivateKey.generate(kem))


def test_gateway_has_one_key_per_id(refuses):
    other = PrivateKey.generate(X25519)
    same_id = KeyConfig(4, X25519, other.public_bytes(), ALL)
    with refuses("ohttp-duplicate-key"):
        Gateway([GatewayKey(CONFIGS[HYBRID], KEYS[HYBRID]), GatewayKey(same_id, other)])


def test_nothing_secret_shows_in_a_repr():
    sealed = seal_request(CONFIGS[X25519], None, b"canary-request")
    opened = GATEWAY.open_request(sealed.data)
    text = "".join(map(repr, (sealed, opened, sealed._exchange, GatewayKey(CONFIGS[X25519], KEYS[X25519]))))
    assert "canary" not in text
    assert repr(sealed._exchange.secret) not in text
    assert repr(KEYS[X25519].raw()) not in text


def test_deterministic_request_follows_from_its_randomness():
    first, second = (
        seal_request(CONFIGS[X25519], None, b"text", rng=lambda size: bytes([3] * size)) for _ in range(2)
    )
    secret, enc = encapsulate(X25519, CONFIGS[X25519].public_key, lambda size: bytes([3] * size))
    assert first.data == second.data
    assert first.data[HEADER_SIZE : start_of_text(X25519)] == enc
    assert KEYS[X25519].decapsulate(enc, X25519) == secret


def test_module_loads_nothing_heavy():
    code = "import sys, strongroom.crypto.ohttp, strongroom.crypto.sign; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    outside = {name.partition(".")[0] for name in loaded.split()} - sys.stdlib_module_names
    ours = {
        ".".join(name.split(".")[:2]) for name in loaded.split() if name.partition(".")[0] == "strongroom"
    }
    assert {name for name in outside if not name.startswith(("_", "strongroom"))} <= {
        "cryptography",
        "sitecustomize",
    }
    assert ours == {"strongroom", "strongroom.crypto", "strongroom.codec", "strongroom.errors"}
