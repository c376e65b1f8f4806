from __future__ import annotations

from hashlib import sha256, shake_256

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from strongroom.crypto import _kem
from strongroom.crypto._kdf import labeled_expand, labeled_extract
from strongroom.crypto._kem import Kem, PrivateKey, encapsulate, parse_public_key

X25519 = Kem.X25519_HKDF_SHA256
HYBRID = Kem.MLKEM768_X25519
SEED = bytes(range(32))


def stream(seed: bytes):
    """An rng that gives a fixed stream of bytes."""
    state = [seed]

    def rng(size: int) -> bytes:
        state[0] = sha256(state[0]).digest()
        return shake_256(state[0]).digest(size)

    return rng


@pytest.mark.parametrize("kem", Kem)
def test_both_sides_get_one_secret(kem):
    key = PrivateKey.generate(kem)
    secret, enc = encapsulate(kem, key.public_bytes(), stream(b"a"))
    assert len(secret) == 32
    assert len(enc) == kem.enc_size
    assert len(key.public_bytes()) == kem.public_key_size
    assert key.decapsulate(enc, kem) == secret
    assert key.decapsulate(memoryview(enc), kem) == secret


@pytest.mark.parametrize("kem", Kem)
def test_key_survives_its_serialized_form(kem):
    key = PrivateKey.generate(kem, stream(b"k"))
    again = PrivateKey.from_bytes(kem, key.raw())
    assert len(key.raw()) == 32
    assert again.raw() == key.raw() == stream(b"k")(32)
    assert again.public_bytes() == key.public_bytes()
    assert key.kem is kem


@pytest.mark.parametrize("kem", Kem)
def test_randomness_of_generation_is_the_systems_by_default(kem):
    assert PrivateKey.generate(kem).raw() != PrivateKey.generate(kem).raw()


def test_derive_key_pair_of_rfc_9180(hpke_vectors):
    suite_id = b"KEM\x00\x20"
    cases = [case for case in hpke_vectors if case["kem_id"] == X25519]
    assert len(cases) >= 3
    for case in cases:
        for ikm, secret, public in (("ikmR", case["skRm"], case["pkRm"]), ("ikmE", None, case["enc"])):
            prk = labeled_extract(suite_id, b"", b"dkp_prk", bytes.fromhex(case[ikm]))
            raw = labeled_expand(suite_id, prk, b"sk", b"", 32)
            assert secret in {None, raw.hex()}
            assert PrivateKey.from_bytes(X25519, raw).public_bytes().hex() == public


def test_all_post_quantum_vectors_of_the_hybrid(hpke_vectors):
    cases = [case for case in hpke_vectors if case["kem_id"] == HYBRID]
    assert len(cases) == 2  # one of them with a KDF that we do not speak: its KEM is the same
    for case in cases:
        key = PrivateKey.from_bytes(HYBRID, bytes.fromhex(case["skRm"]))
        assert key.public_bytes().hex() == case["pkRm"]
        assert key.decapsulate(bytes.fromhex(case["enc"]), HYBRID).hex() == case["shared_secret"]


def test_x25519_encapsulation_follows_from_the_randomness():
    key = PrivateKey.from_bytes(X25519, SEED)
    assert encapsulate(X25519, key.public_bytes(), stream(b"a")) == encapsulate(
        X25519, key.public_bytes(), stream(b"a")
    )
    assert encapsulate(X25519, key.public_bytes(), stream(b"a")) != encapsulate(
        X25519, key.public_bytes(), stream(b"b")
    )


def test_hybrid_encapsulation_stays_fresh_under_repeated_randomness():
    key = PrivateKey.from_bytes(HYBRID, SEED)
    first, second = (encapsulate(HYBRID, key.public_bytes(), stream(b"a")) for _ in range(2))
    assert first[0] != second[0]
    assert first[1][-32:] == second[1][-32:]
    assert first[1][:-32] != second[1][:-32]


@pytest.mark.parametrize("kem", Kem)
@pytest.mark.parametrize("size", [0, 1, 31, 33, 64, 96])
def test_private_key_of_another_length_is_refused(kem, size, refuses):
    with refuses("hpke-bad-key"):
        PrivateKey.from_bytes(kem, bytes(size))


@pytest.mark.parametrize("kem", Kem)
def test_public_key_of_another_length_is_refused(kem, refuses):
    public = PrivateKey.from_bytes(kem, SEED).public_bytes()
    for wrong in (b"", public[:-1], public + b"\0", public[:31], public * 2):
        with refuses("hpke-bad-key"):
            parse_public_key(kem, wrong)


def test_public_key_of_the_other_kem_is_refused(refuses):
    with refuses("hpke-bad-key"):
        parse_public_key(HYBRID, PrivateKey.from_bytes(X25519, SEED).public_bytes())
    with refuses("hpke-bad-key"):
        parse_public_key(X25519, PrivateKey.from_bytes(HYBRID, SEED).public_bytes())


def test_ml_kem_coefficient_out_of_range_is_refused(refuses):
    # FIPS 203, section 7.2: the modulus check. Twelve bits are a coefficient; 3329 is the first too large.
    public = bytearray(PrivateKey.from_bytes(HYBRID, SEED).public_bytes())
    public[0:2] = (3328 | (public[1] & 0xF0) << 8).to_bytes(2, "little")
    parse_public_key(HYBRID, bytes(public))  # in range: no error
    public[0:2] = (3329 | (public[1] & 0xF0) << 8).to_bytes(2, "little")
    with refuses("hpke-bad-key"):
        parse_public_key(HYBRID, bytes(public))


@pytest.mark.parametrize("kem", Kem)
def test_encapsulation_of_another_length_is_refused(kem, refuses):
    key = PrivateKey.from_bytes(kem, SEED)
    _, enc = encapsulate(kem, key.public_bytes(), stream(b"a"))
    for size in {*range(0, len(enc), 7), len(enc) - 1}:
        with refuses("hpke-bad-encapsulation"):
            key.decapsulate(enc[:size], kem)
    with refuses("hpke-bad-encapsulation"):
        key.decapsulate(enc + b"\0", kem)


@pytest.mark.parametrize(("kem", "other"), [(X25519, HYBRID), (HYBRID, X25519)])
def test_key_does_not_serve_another_kem(kem, other, refuses):
    key = PrivateKey.from_bytes(kem, SEED)
    _, enc = encapsulate(other, PrivateKey.from_bytes(other, SEED).public_bytes(), stream(b"a"))
    with refuses("hpke-bad-key"):
        key.decapsulate(enc, other)
    _, own = encapsulate(kem, key.public_bytes(), stream(b"a"))
    with refuses("hpke-bad-key"):  # the length fits the key: only the KEM that was asked for does not
        key.decapsulate(own, other)


def test_low_order_point_as_encapsulation_is_refused(low_order_points, refuses):
    key = PrivateKey.from_bytes(X25519, SEED)
    for point in low_order_points:
        with refuses("hpke-bad-encapsulation"):
            key.decapsulate(point, X25519)


def test_low_order_point_in_a_hybrid_encapsulation_is_refused(low_order_points, refuses):
    key = PrivateKey.from_bytes(HYBRID, SEED)
    _, enc = encapsulate(HYBRID, key.public_bytes(), stream(b"a"))
    for point in low_order_points:
        with refuses("hpke-bad-encapsulation"):
            key.decapsulate(enc[:-32] + point, HYBRID)


@pytest.mark.parametrize("kem", Kem)
def test_low_order_point_as_public_key_is_refused(kem, low_order_points, refuses):
    public = PrivateKey.from_bytes(kem, SEED).public_bytes()
    for point in low_order_points:
        with refuses("hpke-bad-key"):
            encapsulate(kem, public[:-32] + point, stream(b"a"))


def test_changed_ml_kem_ciphertext_gives_another_secret():
    # Implicit rejection (FIPS 203, section 6.3): no error here, but the cipher's tag will not hold.
    key = PrivateKey.from_bytes(HYBRID, SEED)
    secret, enc = encapsulate(HYBRID, key.public_bytes(), stream(b"a"))
    secrets = {secret}
    for at in range(0, len(enc) - 32, 16):
        changed = bytearray(enc)
        changed[at] ^= 1
        secrets.add(key.decapsulate(bytes(changed), HYBRID))
    assert len(secrets) == 1 + len(range(0, len(enc) - 32, 16))


@pytest.mark.parametrize("part", range(4))
def test_combiner_binds_every_part(part):
    parts = [bytes([n]) * 32 for n in range(4)]
    whole = _kem._combine(*parts)
    parts[part] = b"\xff" * 32
    assert _kem._combine(*parts) != whole


def test_seed_expands_as_x_wing_says():
    key = PrivateKey.from_bytes(HYBRID, SEED)
    expanded = shake_256(SEED).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).public_key().public_bytes_raw()
    x25519 = X25519PrivateKey.from_private_bytes(expanded[64:]).public_key().public_bytes_raw()
    assert key.public_bytes() == mlkem + x25519


@pytest.mark.parametrize("kem", Kem)
def test_repr_shows_no_secret(kem):
    key = PrivateKey.from_bytes(kem, SEED)
    assert repr(key) == f"PrivateKey({kem.name})"


def test_parsed_public_keys_are_kept_within_bounds():
    public = PrivateKey.from_bytes(HYBRID, SEED).public_bytes()
    assert parse_public_key(HYBRID, public) is parse_public_key(HYBRID, bytes(bytearray(public)))
    for n in range(100):
        parse_public_key(X25519, n.to_bytes(32))
    assert parse_public_key.cache_info().currsize <= 64
