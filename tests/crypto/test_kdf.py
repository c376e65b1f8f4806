from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from strongroom.crypto._kdf import MAX_EXPAND, expand, extract, labeled_expand, labeled_extract


def test_rfc_5869_case_1():
    prk = extract(bytes(range(13)), bytes([0x0B]) * 22)
    assert prk.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    okm = expand(prk, bytes(range(0xF0, 0xFA)), 42)
    assert okm.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"


@given(salt=st.binary(max_size=64), ikm=st.binary(max_size=200))
def test_extract_is_hmac(salt, ikm):
    assert extract(salt, ikm) == hmac.digest(salt or bytes(32), ikm, hashlib.sha256)


@given(
    prk=st.binary(min_size=32, max_size=32), info=st.binary(max_size=80), length=st.integers(0, MAX_EXPAND)
)
def test_expand_is_the_chain_of_rfc_5869(prk, info, length):
    block, whole = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes([counter]), hashlib.sha256)
        whole += block
    assert expand(prk, info, length) == whole[:length]


def test_labels_go_in_front_as_in_rfc_9180():
    suite_id = b"HPKE\x00\x20\x00\x01\x00\x01"
    assert labeled_extract(suite_id, b"salt", b"label", b"ikm") == extract(
        b"salt", b"HPKE-v1" + suite_id + b"labelikm"
    )
    prk = bytes(32)
    assert labeled_expand(suite_id, prk, b"label", b"info", 300) == expand(
        prk, b"\x01\x2cHPKE-v1" + suite_id + b"labelinfo", 300
    )
