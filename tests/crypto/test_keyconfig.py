from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.crypto._keyconfig import (
    MAX_COLLECTION,
    MAX_SUITES,
    KeyConfig,
    decode_key_configs,
    encode_key_configs,
)
from strongroom.crypto.hpke import Aead, Kem, PrivateKey
from strongroom.crypto.ohttp import Gateway, GatewayKey, seal_request

KEYS = {kem: PrivateKey.from_bytes(kem, bytes(range(32))) for kem in Kem}
ALL = ((1, Aead.AES_256_GCM), (1, Aead.AES_128_GCM), (1, Aead.CHACHA20_POLY1305))


def config(key_id: int = 1, kem: Kem = Kem.X25519_HKDF_SHA256, suites=ALL) -> KeyConfig:
    return KeyConfig(key_id, kem, KEYS[kem].public_bytes(), suites)


def framed(*encoded: bytes) -> bytes:
    return b"".join(len(one).to_bytes(2) + one for one in encoded)


def raw(*, key_id=1, kem=0x0020, public=None, suites=b"\0\1\0\1", size=None) -> bytes:
    """The bytes of one configuration, as wrong as one likes."""
    public = KEYS[Kem.X25519_HKDF_SHA256].public_bytes() if public is None else public
    size = len(suites) if size is None else size
    return key_id.to_bytes(1) + kem.to_bytes(2) + public + size.to_bytes(2) + suites


configs = st.builds(
    config,
    st.integers(0, 255),
    st.sampled_from(Kem),
    st.lists(st.sampled_from(ALL), min_size=1, max_size=5).map(tuple),
)


@given(st.lists(configs, min_size=1, max_size=5, unique_by=lambda one: one.key_id))
def test_collection_survives_its_wire_format(listed):
    assert decode_key_configs(encode_key_configs(listed)) == tuple(listed)


def test_wire_format_is_the_example_of_rfc_9458(testdata):
    vector = json.loads((testdata / "vectors" / "ohttp" / "rfc9458.json").read_text())
    encoded = bytes.fromhex(vector["key_config"])
    (one,) = decode_key_configs(framed(encoded))
    private = PrivateKey.from_bytes(Kem(0x20), bytes.fromhex(vector["receiver_private_key"]))
    assert one == KeyConfig(
        1, Kem(0x20), private.public_bytes(), ((1, Aead.AES_128_GCM), (1, Aead.CHACHA20_POLY1305))
    )
    assert one.encode() == encoded


def test_suite_and_header():
    one = config(7)
    assert one.suite().aead is Aead.AES_256_GCM
    assert one.suite(2).aead is Aead.CHACHA20_POLY1305
    assert one.header(one.suite(2)).hex() == "07002000010003"


def test_equal_configurations_are_equal():
    assert config() == config()
    assert hash(config()) == hash(config())
    assert config() != config(2)


@pytest.mark.parametrize("key_id", [-1, 256, 1000])
def test_key_id_out_of_range_is_refused(key_id, refuses):
    with refuses("ohttp-key-config"):
        config(key_id)


@pytest.mark.parametrize("count", [0, MAX_SUITES + 1])
def test_number_of_suites_is_bounded(count, refuses):
    with refuses("ohttp-key-config"):
        config(suites=ALL[:1] * count)
    with refuses("ohttp-key-config"):
        decode_key_configs(framed(raw(suites=b"\0\1\0\1" * count), config(2).encode()))
    assert len(config(suites=ALL[:1] * MAX_SUITES).suites) == MAX_SUITES
    assert decode_key_configs(framed(raw(suites=b"\0\1\0\1" * MAX_SUITES)))


def test_number_of_unknown_suites_is_bounded_too(refuses):
    unknown = b"\0\x11\0\1" * MAX_SUITES
    assert decode_key_configs(framed(raw(suites=unknown), config(2).encode())) == (config(2),)
    with refuses("ohttp-key-config"):
        decode_key_configs(framed(raw(suites=unknown + b"\0\1\0\1"), config(2).encode()))


@pytest.mark.parametrize("suite", [(2, Aead.AES_128_GCM), (1, 4), (1, 0xFFFF), (0, 1)])
def test_unknown_suite_cannot_be_offered(suite, refuses):
    with refuses("ohttp-key-config"):
        config(suites=(suite,))


@pytest.mark.parametrize("kem", Kem)
def test_public_key_of_another_length_cannot_be_offered(kem, refuses):
    public = KEYS[kem].public_bytes()
    for wrong in (b"", public[:-1], public + b"\0"):
        with refuses("ohttp-key-config"):
            KeyConfig(1, kem, wrong, ALL)


def test_public_key_that_is_not_one_is_refused(refuses):
    wrong = b"\xff" * 1184 + bytes(32)
    with refuses("ohttp-key-config"):
        KeyConfig(1, Kem.MLKEM768_X25519, wrong, ALL)
    with refuses("ohttp-key-config"):
        decode_key_configs(framed(raw(kem=0x647A, public=wrong), config(2).encode()))


def test_collections_have_one_key_per_id(refuses):
    with refuses("ohttp-duplicate-key"):
        encode_key_configs([config(1), config(1, Kem.MLKEM768_X25519)])
    with refuses("ohttp-duplicate-key"):
        decode_key_configs(framed(config(1).encode(), config(1, Kem.MLKEM768_X25519).encode()))
    with refuses("ohttp-duplicate-key"):  # one that we cannot use counts too
        decode_key_configs(framed(config(1).encode(), raw(kem=0x0010)))


def test_empty_collection_is_refused(refuses):
    with refuses("ohttp-key-config"):
        encode_key_configs([])
    with refuses("ohttp-unknown-suite"):
        decode_key_configs(b"")


def test_oversize_collection_is_refused(refuses):
    listed = [config(n, Kem.MLKEM768_X25519) for n in range(60)]
    with refuses("ohttp-key-config"):
        encode_key_configs(listed)
    whole = framed(*(one.encode() for one in listed))
    assert len(whole) > MAX_COLLECTION
    with refuses("ohttp-key-config"):
        decode_key_configs(whole)
    assert decode_key_configs(framed(*(one.encode() for one in listed[:50])))


@pytest.mark.parametrize("kem", [0x0000, 0x0010, 0x0041, 0x647B, 0xFFFF])
def test_unknown_kem_is_left_out(kem, refuses):
    unknown = raw(key_id=9, kem=kem, public=b"anything")
    assert decode_key_configs(framed(unknown, config().encode())) == (config(),)
    assert decode_key_configs(framed(config().encode(), unknown)) == (config(),)
    with refuses("ohttp-unknown-suite"):
        decode_key_configs(framed(unknown))


def test_unknown_suites_are_left_out(refuses):
    known, new_kdf, new_aead = b"\0\1\0\2", b"\0\x11\0\1", b"\0\1\0\x09"
    (one,) = decode_key_configs(framed(raw(suites=new_kdf + known + new_aead)))
    assert one.suites == ((1, Aead.AES_256_GCM),)
    for unknown in (new_kdf, new_aead):
        assert decode_key_configs(framed(raw(suites=unknown), config(2).encode())) == (config(2),)
        with refuses("ohttp-unknown-suite"):
            decode_key_configs(framed(raw(suites=unknown)))


def test_every_truncation_is_refused(refuses, code_of):
    first, second = config(1, Kem.MLKEM768_X25519).encode(), config(2).encode()
    whole = framed(first, second)
    for size in range(1, len(whole)):
        if size == len(framed(first)):  # a whole collection of its own
            assert decode_key_configs(whole[:size]) == (config(1, Kem.MLKEM768_X25519),)
        else:
            with refuses("ohttp-key-config"):
                decode_key_configs(whole[:size])
    for encoded in (first, second):  # cut within a frame that is whole
        for size in range(len(encoded)):
            with refuses("ohttp-key-config"):
                decode_key_configs(framed(encoded[:size], config(3).encode()))


@pytest.mark.parametrize("tail", [b"\0", b"\1", b"\0\0", b"\0\2\1\0", b"\0\1\1", b"\xff\xff", bytes(50)])
def test_trailing_bytes_are_refused(tail, refuses):
    with refuses("ohttp-key-config"):
        decode_key_configs(framed(config().encode()) + tail)


@pytest.mark.parametrize(
    ("size", "suites"),
    [
        (0, b""),  # none
        (4, b"\0\1\0\1\0"),  # bytes after the suites
        (4, b"\0\1\0\1\0\1\0\2"),  # a suite after the suites
        (8, b"\0\1\0\1"),  # fewer than announced
        (6, b"\0\1\0\1\0\1"),  # half a suite
        (0, b"\0\1\0\1"),
        (0xFFFC, b"\0\1\0\1"),
    ],
)
def test_wrong_length_of_suites_is_refused(size, suites, refuses):
    # a good configuration follows, so that leaving the bad one out would not be noticed
    with refuses("ohttp-key-config"):
        decode_key_configs(framed(raw(size=size, suites=suites), config(2).encode()))


@pytest.mark.slow
@pytest.mark.parametrize("kem", Kem)
def test_no_flipped_bit_changes_what_the_gateway_opens(kem, code_of):
    """A flip makes the collection or its requests refused, or takes a choice away; it never adds one."""
    original = config(5, kem, ALL[:2] if kem is Kem.X25519_HKDF_SHA256 else ALL[:1])
    gateway = Gateway([GatewayKey(original, KEYS[kem])])
    whole = framed(original.encode())
    offers = {(5, kem, suite) for suite in original.suites}
    outcomes: Counter[str | None] = Counter()
    for at in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[at // 8] ^= 1 << at % 8
        code = code_of(decode_key_configs, bytes(changed))
        outcomes[code] += 1
        if code is None:
            (one,) = decode_key_configs(bytes(changed))
            for index, suite in enumerate(one.suites):
                sealed = seal_request(one, one.suite(index), b"text")
                refused = code_of(gateway.open_request, sealed.data)
                outcomes[refused] += 1
                same_key = one.public_key == original.public_key
                assert (refused is None) == (same_key and (one.key_id, one.kem, suite) in offers)
    assert set(outcomes) == {
        None,
        "ohttp-key-config",
        "ohttp-unknown-suite",
        "ohttp-unknown-key",
        "ohttp-open-failed",
    }


@given(st.binary(max_size=200))
def test_no_bytes_lead_to_a_foreign_error(code_of, data):
    ours = {None, "ohttp-key-config", "ohttp-unknown-suite", "ohttp-duplicate-key"}
    assert code_of(decode_key_configs, data) in ours
    assert code_of(decode_key_configs, framed(data)) in ours


SUITE_CHOICES = (
    b"\0\1\0\1",
    b"\0\1\0\1",
    b"\0\1\0\1",
    b"\0\1\0\2",
    b"\0\1\0\3",
    b"\0\2\0\1",
    b"\0\1\xff\xff",
    b"\0",
)
KEM_CHOICES = (0x0020, 0x0020, 0x0020, 0x647A, 0x0010)


def mutant(rng: random.Random) -> bytes:
    """One configuration, whole in most of its parts."""
    kem = rng.choice(KEM_CHOICES)
    public = KEYS[Kem(kem)].public_bytes() if kem in set(Kem) else rng.randbytes(rng.randrange(80))
    if rng.random() < 0.3 and public:
        changed = bytearray(public)
        at = rng.randrange(len(changed))
        changed[at : at + 1] = rng.randbytes(rng.choice((0, 1, 1, 1, 2)))
        public = bytes(changed)
    suites = b"".join(rng.choices(SUITE_CHOICES, k=rng.choice((1, 1, 2, 3)))) * rng.choice(
        (1,) * 20 + (65, 0)
    )
    size = rng.choice((None,) * 9 + (rng.randrange(80),))
    encoded = raw(key_id=rng.randrange(8), kem=kem, public=public, suites=suites, size=size)
    return encoded[: rng.randrange(len(encoded))] if rng.random() < 0.05 else encoded


@pytest.mark.slow
def test_mutants_lead_to_our_errors_only(code_of):
    rng = random.Random(9458)
    codes: Counter[str | None] = Counter()
    outer = 0
    for _ in range(20_000):
        data = framed(*(mutant(rng) for _ in range(rng.choice((1, 1, 2, 3)))))
        if rng.random() < 0.3:
            broken = bytearray(data)
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
            data = bytes(broken)[: rng.randrange(1, len(broken) + 1)]
        else:
            outer += 1  # every length of a configuration is right
        code = code_of(decode_key_configs, data)
        codes[code] += 1
        if code is None:
            decoded = decode_key_configs(data)
            assert decode_key_configs(encode_key_configs(decoded)) == decoded
    assert set(codes) == {None, "ohttp-key-config", "ohttp-unknown-suite", "ohttp-duplicate-key"}
    assert min(codes.values()) > 500
    assert outer >= 10_000
