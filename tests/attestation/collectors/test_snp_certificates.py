"""The host's table of certificates: both byte orders, what belongs together, what is refused."""

from __future__ import annotations

import ssl
import struct
import uuid
from collections.abc import Callable
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from strongroom.attestation.certificates import MAX_CERTIFICATE
from strongroom.attestation.collectors.snp_certificates import (
    ARK,
    ASK,
    MAX_TABLE,
    VCEK,
    VLEK,
    collateral,
    parse,
)
from strongroom.errors import EvidenceError
from strongroom_simulator.snp import SnpPlatform

TableOf = Callable[..., bytes]
OTHER = uuid.UUID("11111111-2222-3333-4444-555555555555")


@pytest.mark.parametrize("little", [False, True])
def test_certificates_are_found_by_guids_in_either_byte_order(table_of: TableOf, little: bool) -> None:
    given = {VCEK: b"vcek", ASK: b"ask", ARK: b"ark"}
    assert parse(table_of(given, little=little)) == given


def test_a_guid_that_is_not_known_does_no_harm(table_of: TableOf) -> None:
    assert collateral(table_of({OTHER: b"something"})) is None
    assert set(collateral(table_of({OTHER: b"something", VCEK: b"vcek"})) or ()) == {"vek"}


def test_no_table_is_no_collateral() -> None:
    assert collateral(b"") is None
    assert collateral(bytes(24)) is None


def test_certificates_are_given_in_pem(table_of: TableOf, platform: SnpPlatform) -> None:
    der = platform.signer.public_bytes(Encoding.DER)
    pem = platform.signer.public_bytes(Encoding.PEM)
    assert collateral(table_of({VCEK: der})) == {"vek": ssl.DER_cert_to_PEM_cert(der)}
    assert collateral(table_of({VCEK: pem + b"\0\0"})) == {"vek": pem.decode()}


def test_the_chain_is_given_only_if_it_is_whole(table_of: TableOf) -> None:
    whole = collateral(table_of({VCEK: b"vcek", ASK: b"ask", ARK: b"ark"}))
    assert whole is not None
    assert whole["chain"] == ssl.DER_cert_to_PEM_cert(b"ask") + ssl.DER_cert_to_PEM_cert(b"ark")
    assert set(collateral(table_of({VCEK: b"vcek", ASK: b"ask"})) or ()) == {"vek"}
    assert set(collateral(table_of({VCEK: b"vcek", ARK: b"ark"})) or ()) == {"vek"}


def test_a_vlek_comes_first_and_without_the_other_keys_chain(table_of: TableOf) -> None:
    found = collateral(table_of({VCEK: b"vcek", VLEK: b"vlek", ASK: b"ask", ARK: b"ark"}))
    assert found == {"vek": ssl.DER_cert_to_PEM_cert(b"vlek")}


@pytest.mark.parametrize(
    ("table", "detail"),
    [
        (bytes(MAX_TABLE + 1), "too long"),
        (VCEK.bytes + bytes(7), "cut off"),
        (struct.pack("<16sII", VCEK.bytes, 24, 1), "not within"),
        (
            struct.pack("<16sII", VCEK.bytes, 48, MAX_CERTIFICATE + 1) + bytes(MAX_CERTIFICATE + 100),
            "not within",
        ),
        (struct.pack("<16sII", VCEK.bytes, 48, 1) * 2 + bytes(24), "twice"),
        (struct.pack("<16sII", VCEK.bytes, 24, 0), "does not end"),
        (b"".join(struct.pack("<16sII", bytes([n + 1]) * 16, 0, 0) for n in range(17)), "does not end"),
    ],
)
def test_any_other_table_is_refused(table: bytes, detail: str) -> None:
    with pytest.raises(EvidenceError, match=rf"{detail}.*collector-answer-invalid"):
        parse(table)


@given(st.binary(max_size=300))
def test_nothing_but_our_error_comes_out(table: bytes) -> None:
    with suppress(EvidenceError):
        assert all(content in table for content in parse(table).values())
