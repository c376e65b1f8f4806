from __future__ import annotations

import mmap
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto._kem import _combine, encapsulate, parse_public_key
from strongroom.crypto.hpke import (
    CLASSICAL_SUITE,
    DEFAULT_SUITE,
    MAX_INFO,
    MAX_TEXT,
    NONCE_SIZE,
    TAG_SIZE,
    Aead,
    Kem,
    PrivateKey,
    ReceiverContext,
    SenderContext,
    Suite,
    setup_receiver,
    setup_sender,
)

SUITES = [Suite(kem, 1, aead) for kem in Kem for aead in Aead]
NAMES = [suite.name for suite in SUITES]
INFO = b"info"
KEYS = {kem: PrivateKey.generate(kem) for kem in Kem}
LAST = (1 << 8 * NONCE_SIZE) - 2


def pair(suite: Suite, info: bytes = INFO) -> tuple[SenderContext, ReceiverContext]:
    key = KEYS[suite.kem]
    enc, sender = setup_sender(suite, key.public_bytes(), info)
    return sender, setup_receiver(suite, enc, key, info)


@pytest.mark.parametrize("suite", SUITES, ids=NAMES)
@settings(max_examples=30)
@given(texts=st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=50)), max_size=5))
def test_texts_open_in_their_order(suite, texts):
    sender, receiver = pair(suite)
    for text, aad in texts:
        sealed = sender.seal(memoryview(text), aad)
        assert len(sealed) == len(text) + TAG_SIZE
        assert receiver.open(memoryview(sealed), aad) == text


@pytest.mark.parametrize("suite", SUITES, ids=NAMES)
@given(context=st.binary(max_size=100), length=st.integers(0, 300))
@settings(max_examples=30)
def test_both_sides_export_the_same(suite, context, length):
    sender, receiver = pair(suite)
    value = sender.export(context, length)
    assert len(value) == length
    assert receiver.export(context, length) == value


def test_export_depends_on_context_and_not_on_sequence():
    sender, receiver = pair(DEFAULT_SUITE)
    first = sender.export(b"a", 32)
    sender.seal(b"text")
    assert sender.export(b"a", 32) == first == receiver.export(b"a", 32)
    assert sender.export(b"b", 32) != first
    assert sender.export(b"a", 33)[:32] != first  # the length is bound too


@pytest.mark.parametrize("length", [-1, 255 * 32 + 1, 1 << 40])
def test_export_length_out_of_range_is_refused(length, refuses):
    sender, receiver = pair(CLASSICAL_SUITE)
    for context in (sender, receiver):
        with refuses("hpke-export-length"):
            context.export(b"", length)


def test_longest_export_works():
    sender, receiver = pair(CLASSICAL_SUITE)
    assert len(sender.export(b"", 255 * 32)) == 255 * 32
    assert receiver.export(b"", 0) == b""


def test_equal_texts_seal_differently():
    sender, _ = pair(CLASSICAL_SUITE)
    again, _ = pair(CLASSICAL_SUITE)
    sealed = [sender.seal(b"text") for _ in range(5)] + [again.seal(b"text")]
    assert len(set(sealed)) == 6


@pytest.mark.parametrize("suite", SUITES, ids=NAMES)
def test_every_truncation_is_refused(suite, refuses):
    sender, receiver = pair(suite)
    sealed = sender.seal(b"some text", b"aad")
    for size in range(len(sealed)):
        with refuses("hpke-open-failed"):
            receiver.open(sealed[:size], b"aad")
    assert receiver.open(sealed, b"aad") == b"some text"


@pytest.mark.parametrize("suite", SUITES, ids=NAMES)
def test_every_flipped_bit_is_refused(suite, refuses):
    sender, receiver = pair(suite)
    sealed, aad = sender.seal(b"some text", b"aad"), b"aad"
    whole = sealed + aad
    for at in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[at // 8] ^= 1 << at % 8
        with refuses("hpke-open-failed"):
            receiver.open(bytes(changed[: len(sealed)]), bytes(changed[len(sealed) :]))


@pytest.mark.parametrize("suite", [CLASSICAL_SUITE, DEFAULT_SUITE], ids=lambda suite: suite.kem.name)
def test_every_flipped_bit_of_the_encapsulation_is_refused(suite, code_of):
    key = KEYS[suite.kem]
    enc, sender = setup_sender(suite, key.public_bytes(), INFO)
    sealed = sender.seal(b"text")

    def attempt(changed: bytes) -> None:
        setup_receiver(suite, changed, key, INFO).open(sealed)

    assert code_of(attempt, enc) is None
    for at in range(len(enc) * 8):
        changed = bytearray(enc)
        changed[at // 8] ^= 1 << at % 8
        assert code_of(attempt, bytes(changed)) == "hpke-open-failed"


def test_trailing_bytes_are_refused(refuses):
    sender, receiver = pair(DEFAULT_SUITE)
    with refuses("hpke-open-failed"):
        receiver.open(sender.seal(b"text") + b"\0")


@pytest.mark.parametrize("other", [b"", b"inf", b"info\0", b"Info"])
def test_other_info_is_refused(other, refuses):
    key = KEYS[DEFAULT_SUITE.kem]
    enc, sender = setup_sender(DEFAULT_SUITE, key.public_bytes(), INFO)
    with refuses("hpke-open-failed"):
        setup_receiver(DEFAULT_SUITE, enc, key, other).open(sender.seal(b"text"))


def test_other_key_is_refused(refuses):
    for kem, suite in ((kem, Suite(kem, 1, Aead.AES_256_GCM)) for kem in Kem):
        enc, sender = setup_sender(suite, KEYS[kem].public_bytes(), INFO)
        with refuses("hpke-open-failed"):
            setup_receiver(suite, enc, PrivateKey.generate(kem), INFO).open(sender.seal(b"text"))


@pytest.mark.parametrize("kem", Kem)
def test_other_cipher_is_refused(kem, refuses):
    # AES-256-GCM and ChaCha20Poly1305 take keys of one size: only the suite id in the schedule differs.
    enc, sender = setup_sender(Suite(kem, 1, Aead.AES_256_GCM), KEYS[kem].public_bytes(), INFO)
    for aead in (Aead.AES_128_GCM, Aead.CHACHA20_POLY1305):
        with refuses("hpke-open-failed"):
            setup_receiver(Suite(kem, 1, aead), enc, KEYS[kem], INFO).open(sender.seal(b"text"))


def test_key_of_another_kem_is_refused(refuses):
    enc, _ = setup_sender(CLASSICAL_SUITE, KEYS[CLASSICAL_SUITE.kem].public_bytes(), INFO)
    with refuses("hpke-bad-key"):
        setup_receiver(CLASSICAL_SUITE, enc, KEYS[DEFAULT_SUITE.kem], INFO)
    with refuses("hpke-bad-key"):
        setup_sender(CLASSICAL_SUITE, KEYS[DEFAULT_SUITE.kem].public_bytes(), INFO)


def test_replay_omission_and_reordering_are_refused(refuses):
    sender, receiver = pair(CLASSICAL_SUITE)
    first, second, third = (sender.seal(text) for text in (b"1", b"2", b"3"))
    with refuses("hpke-open-failed"):
        receiver.open(second)
    assert receiver.open(first) == b"1"
    with refuses("hpke-open-failed"):
        receiver.open(first)
    with refuses("hpke-open-failed"):
        receiver.open(third)
    assert [receiver.open(second), receiver.open(third)] == [b"2", b"3"]


def test_forged_message_over_a_zero_shared_secret_is_refused(low_order_points, refuses):
    """The sender knows all that goes into the key: without the check, the message would open."""
    key = KEYS[Kem.MLKEM768_X25519]
    public = parse_public_key(Kem.MLKEM768_X25519, key.public_bytes())
    assert public.mlkem is not None
    for point in low_order_points:
        secret_m, ciphertext = public.mlkem.encapsulate()
        secret = _combine(secret_m, bytes(32), point, public.x25519_raw)
        sealed = SenderContext(DEFAULT_SUITE, secret, INFO).seal(b"text")
        assert ReceiverContext(DEFAULT_SUITE, secret, INFO).open(sealed) == b"text"
        with refuses("hpke-bad-encapsulation"):
            setup_receiver(DEFAULT_SUITE, ciphertext + point, key, INFO)


def test_encapsulation_must_be_whole(refuses):
    for kem, key in KEYS.items():
        suite = Suite(kem, 1, Aead.AES_128_GCM)
        _, enc = encapsulate(kem, key.public_bytes(), lambda size: bytes(range(size)))
        for wrong in (b"", enc[:-1], enc + b"\0"):
            with refuses("hpke-bad-encapsulation"):
                setup_receiver(suite, wrong, key, INFO)


def test_last_sequence_number_is_never_used(refuses):
    sender, receiver = pair(CLASSICAL_SUITE)
    sender._sequence = receiver._sequence = LAST
    sealed = sender.seal(b"the last")
    assert receiver.open(sealed) == b"the last"
    for _ in range(2):
        with refuses("hpke-sequence-overflow"):
            sender.seal(b"one more")
        with refuses("hpke-sequence-overflow"):
            receiver.open(sealed)
    assert sender.export(b"", 1) == receiver.export(b"", 1)


def test_nonce_is_base_nonce_xor_sequence():
    sender, _ = pair(CLASSICAL_SUITE)
    base = sender._nonce()
    seen = set()
    for number in (0, 1, 255, 256, 1 << 32, LAST):
        sender._sequence = number
        assert int.from_bytes(sender._nonce()) == int.from_bytes(base) ^ number
        seen.add(sender._nonce())
    assert len(seen) == 6


def untouched(size: int) -> memoryview:
    """Memory that exists only once it is read."""
    return memoryview(mmap.mmap(-1, size))


def test_refused_text_uses_no_number(refuses):
    sender, receiver = pair(CLASSICAL_SUITE)
    with refuses("hpke-oversize"):
        sender.seal(untouched(MAX_TEXT + 1))
    assert receiver.open(sender.seal(b"first")) == b"first"


def test_oversize_text_is_refused_before_it_is_read(refuses):
    sender, receiver = pair(CLASSICAL_SUITE)
    view = untouched(MAX_TEXT + TAG_SIZE + 1)
    with refuses("hpke-oversize"):
        sender.seal(view[: MAX_TEXT + 1])
    with refuses("hpke-oversize"):
        sender.seal(b"", view[: MAX_TEXT + 1])
    with refuses("hpke-oversize"):
        receiver.open(view)
    with refuses("hpke-oversize"):
        receiver.open(bytes(TAG_SIZE), view[: MAX_TEXT + 1])


def test_oversize_info_and_exporter_context_are_refused(refuses):
    key = KEYS[CLASSICAL_SUITE.kem]
    long_info = bytes(MAX_INFO + 1)
    enc, sender = setup_sender(CLASSICAL_SUITE, key.public_bytes(), long_info[1:])  # just fits
    with refuses("hpke-oversize"):
        setup_sender(CLASSICAL_SUITE, key.public_bytes(), long_info)
    with refuses("hpke-oversize"):
        setup_receiver(CLASSICAL_SUITE, enc, key, long_info)
    assert len(sender.export(long_info[1:], 32)) == 32
    with refuses("hpke-oversize"):
        sender.export(long_info, 32)


def test_threads_never_share_a_number():
    sender, receiver = pair(CLASSICAL_SUITE)
    with ThreadPoolExecutor(8) as pool:
        sealed = list(pool.map(lambda _: sender.seal(b"text"), range(2000)))
    assert len(set(sealed)) == 2000
    assert sender._sequence == 2000
    expected = set()
    for number in range(2000):
        receiver._sequence = number
        expected.add(receiver._cipher.encrypt(receiver._nonce(), b"text", b""))
    assert set(sealed) == expected
