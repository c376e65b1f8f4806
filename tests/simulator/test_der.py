"""The DER writer: against ITU-T X.690's own examples and pyca's reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom_simulator import _der


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "020100"), (127, "02017f"), (128, "02020080"), (256, "02020100"), (2**64, "0209010000000000000000")],
)
def test_integers(value: int, encoded: str) -> None:
    assert _der.integer(value).hex() == encoded


def test_small_types() -> None:
    assert _der.boolean(True).hex() == "0101ff"
    assert _der.boolean(False).hex() == "010100"
    assert _der.enumerated(1).hex() == "0a0101"
    assert _der.octets(b"ab").hex() == "04026162"
    assert _der.sequence().hex() == "3000"
    assert _der.sequence(_der.integer(1), _der.boolean(True)).hex() == "30060201010101ff"


def test_object_identifiers() -> None:
    assert (
        _der.oid("1.2.840.113549").hex() == "06062a864886f70d"
    )  # RSADSI, as in Microsoft's and Kaliski's guides
    assert _der.oid("1.2.840.113741.1.13.1").hex() == "06092a864886f84d010d01"


@given(st.integers(0, 70_000))
def test_lengths(size: int) -> None:
    encoded = _der.octets(bytes(size))
    assert encoded.endswith(bytes(size))
    head = encoded[1 : len(encoded) - size]
    if size < 128:
        assert head == bytes([size])
    else:
        assert head[0] == 0x80 | (len(head) - 1)
        assert int.from_bytes(head[1:], "big") == size
        assert head[1] != 0
