from __future__ import annotations

import random
from collections import Counter

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto import agefile
from strongroom.crypto.errors import AGE_KEY_INVALID
from strongroom.errors import CryptoError

LIMIT = 1 << 20
CHUNK = 64 * 1024


@pytest.fixture(scope="module")
def identity() -> str:
    return agefile.generate_identity()


@pytest.fixture(scope="module")
def recipient(identity) -> str:
    return agefile.recipient_of(identity)


def test_identity_and_recipient_have_their_standard_form(identity, recipient):
    assert identity.startswith("AGE-SECRET-KEY-1")
    assert recipient.startswith("age1")
    assert agefile.generate_identity() != identity


def test_recipient_is_the_public_key_of_the_identity():
    identity = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0"
    secret = X25519PrivateKey.from_private_bytes(bech32_payload(identity))
    recipient = agefile.recipient_of(identity)
    assert bech32_payload(recipient) == secret.public_key().public_bytes_raw()
    assert recipient == "age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef"


def bech32_payload(text: str) -> bytes:
    """The 32 bytes in a Bech32 text (BIP 173), without looking at the checksum."""
    letters = text.lower().rpartition("1")[2][:-6]
    number = 0
    for letter in letters:
        number = number << 5 | "qpzry9x8gf2tvdw0s3jn54khce6mua7l".index(letter)
    return (number >> len(letters) * 5 - 256).to_bytes(32)


@settings(max_examples=50)
@given(data=st.binary(max_size=500))
def test_what_is_sealed_opens(identity, recipient, data):
    sealed = agefile.seal(data, recipient)
    assert agefile.open_sealed(sealed, identity, limit=len(data)) == data
    assert sealed.startswith(b"age-encryption.org/v1\n-> X25519 ")


def test_content_does_not_show(recipient):
    canary = random.Random(1).randbytes(64)
    sealed = agefile.seal(canary, recipient)
    assert all(canary[at : at + 8] not in sealed for at in range(56))


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_sizes_around_a_chunk_open_and_fit_the_bound(identity, recipient, size):
    data = random.Random(size).randbytes(size)
    sealed = agefile.seal(data, recipient)
    assert len(sealed) <= agefile.sealed_size_limit(size)
    assert agefile.open_sealed(sealed, identity, limit=size) == data


HEAD = b"age-encryption.org/v1\n"
TAIL = b"--- " + b"C" * 43 + b"\n" + bytes(64)
LINE = b"A" * 64 + b"\n"


@pytest.mark.parametrize(
    "header",
    [
        HEAD + b"-> x\n\n" * 21 + TAIL,
        HEAD + b"-> x\n" + LINE * 39 + b"\n" + TAIL,
        HEAD + b"-> x" + b" a" * 128 + b"\n\n" + TAIL,
        HEAD + b"-> " + b"x" * 4096 + b"\n\n" + TAIL,
        HEAD + b"-> x\n" + LINE * 900,
    ],
    ids=["stanzas", "lines", "words", "bytes", "endless"],
)
def test_a_long_header_is_refused_before_it_is_parsed(identity, header):
    """The library takes time in the square of it: 2 s for 40 KB, hours for a file of the size of a model."""
    with pytest.raises(CryptoError, match=r"header .*\[age-open-failed\]"):
        agefile.open_sealed(header, identity, limit=LIMIT)


def test_a_file_for_a_dozen_recipients_opens(identity, recipient):
    others = [pyrage.x25519.Identity.generate().to_public() for _ in range(11)]
    sealed = pyrage.encrypt(b"weights", [*others, pyrage.x25519.Recipient.from_str(recipient)])
    assert agefile.open_sealed(sealed, identity, limit=LIMIT) == b"weights"


def test_every_truncation_is_refused(identity, recipient, refuses):
    sealed = agefile.seal(b"weights", recipient)
    for size in range(len(sealed)):
        with refuses("age-open-failed"):
            agefile.open_sealed(sealed[:size], identity, limit=LIMIT)


def test_truncation_at_a_chunk_is_refused(identity, recipient, refuses):
    data = bytes(3 * CHUNK)
    sealed = agefile.seal(data, recipient)
    tail = CHUNK + 16
    for cut in (1, tail, 2 * tail, 3 * tail):
        with refuses("age-open-failed"):
            agefile.open_sealed(sealed[:-cut], identity, limit=LIMIT)


def test_swapped_chunks_are_refused(identity, recipient, refuses):
    sealed = agefile.seal(bytes(3 * CHUNK), recipient)
    tail = CHUNK + 16
    start = len(sealed) - 3 * tail
    swapped = (
        sealed[:start]
        + sealed[start + tail : start + 2 * tail]
        + sealed[start : start + tail]
        + sealed[start + 2 * tail :]
    )
    with refuses("age-open-failed"):
        agefile.open_sealed(swapped, identity, limit=LIMIT)


def test_every_flipped_bit_is_refused(identity, recipient, refuses):
    sealed = agefile.seal(b"weights", recipient)
    for at in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[at // 8] ^= 1 << at % 8
        with refuses("age-open-failed"):
            agefile.open_sealed(bytes(changed), identity, limit=LIMIT)


@pytest.mark.parametrize("tail", [b"\0", b"\n", bytes(CHUNK + 16)])
def test_trailing_bytes_are_refused(identity, recipient, refuses, tail):
    with refuses("age-open-failed"):
        agefile.open_sealed(agefile.seal(b"weights", recipient) + tail, identity, limit=LIMIT)


def test_file_for_another_identity_is_refused(recipient, refuses):
    with refuses("age-open-failed"):
        agefile.open_sealed(agefile.seal(b"weights", recipient), agefile.generate_identity(), limit=LIMIT)


def test_file_for_a_passphrase_is_refused(identity, refuses):
    with refuses("age-open-failed"):
        agefile.open_sealed(pyrage.passphrase.encrypt(b"weights", "secret"), identity, limit=LIMIT)


def test_armored_file_is_refused(identity, recipient, refuses):
    armored = pyrage.encrypt(b"weights", [pyrage.x25519.Recipient.from_str(recipient)], armored=True)
    with refuses("age-open-failed"):
        agefile.open_sealed(armored, identity, limit=LIMIT)


def test_content_over_the_limit_is_refused(identity, recipient, refuses):
    sealed = agefile.seal(bytes(101), recipient)
    assert len(sealed) <= agefile.sealed_size_limit(100)
    with refuses("age-oversize"):
        agefile.open_sealed(sealed, identity, limit=100)


def test_file_over_the_limit_is_refused_before_it_is_opened(identity, recipient, refuses):
    # The content would fit: only the header, for many recipients, makes the file too large.
    keys = [pyrage.x25519.Recipient.from_str(recipient)] * 60
    sealed = pyrage.encrypt(b"weights", keys)
    assert pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(identity)]) == b"weights"
    with refuses("age-oversize"):
        agefile.open_sealed(sealed, identity, limit=100)


@pytest.mark.parametrize("bad", ["", "x", "age1", "AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1QQ", "é" * 60])
def test_malformed_keys_are_refused(bad, refuses):
    with refuses("age-key-invalid"):
        agefile.seal(b"", bad)
    with refuses("age-key-invalid"):
        agefile.recipient_of(bad)
    with refuses("age-key-invalid"):
        agefile.open_sealed(b"", bad, limit=LIMIT)


def test_keys_do_not_stand_for_each_other(identity, recipient, refuses):
    with refuses("age-key-invalid"):
        agefile.seal(b"", identity)
    with refuses("age-key-invalid"):
        agefile.recipient_of(recipient)


def test_long_keys_are_refused_before_they_are_parsed(identity, recipient):
    for use in (lambda: agefile.recipient_of(identity * 3), lambda: agefile.seal(b"", recipient * 3)):
        with pytest.raises(CryptoError, match="too long") as caught:
            use()
        assert caught.value.kind is AGE_KEY_INVALID


def test_error_shows_no_identity(identity):
    broken = identity[:-1] + ("A" if identity[-1] != "A" else "C")
    with pytest.raises(CryptoError) as caught:
        agefile.recipient_of(broken)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert broken[20:40] not in str(caught.value)


@pytest.mark.slow
def test_mutants_lead_to_our_errors_only(identity, recipient, code_of):
    rng = random.Random(20260722)
    seeds = [agefile.seal(rng.randbytes(size), recipient) for size in (0, 1, 100, 3000)]
    codes: Counter[str | None] = Counter()
    for _ in range(20_000):
        mutant = bytearray(rng.choice(seeds))
        header_end = mutant.index(b"\n---")
        for _ in range(rng.choice((1, 1, 2, 5))):
            # half of the changes are within the header, behind the line with the version
            at = rng.randrange(22, header_end) if rng.random() < 0.5 else rng.randrange(len(mutant))
            _mutate(rng, mutant, at)
        if bytes(mutant) not in seeds:
            codes[code_of(agefile.open_sealed, bytes(mutant), identity, limit=LIMIT)] += 1
    assert codes.keys() == {"age-open-failed"}
    assert codes.total() > 19_000


def _mutate(rng: random.Random, data: bytearray, at: int) -> None:
    match rng.randrange(4):
        case 0 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at:at] = rng.randbytes(rng.randrange(1, 4))
        case 2 if len(data) > 200:
            del data[at : at + rng.randrange(1, 40)]
        case _:
            data[at:at] = rng.choice((b"\n", b"\n-> x\n", b"-> scrypt AAAA 99\n", b"\r", b"=", b"\0"))
