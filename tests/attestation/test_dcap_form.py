"""No byte of a DCAP quote is free: what signatures do not cover has one form only."""

from __future__ import annotations

import base64
import json
import os
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.dcap_form import check_form
from strongroom.attestation.evidence import DCAP_KINDS, Evidence, EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.verify import verify_evidence
from strongroom.errors import EvidenceError
from strongroom_simulator.pki import Pki, pem
from strongroom_simulator.quotes import QuotingEnclave, enclave_report, td_report

CodeOf = Callable[..., str | None]

NOW = 1_800_000_000  # the time at which the fixture `pki` was made
RECORDED = ("SGX_v3_00606A000000_cef42f35", "TDX_v4_00806F050000_ebe41a4a", "TDX_v5_90C06F000000_55e53813")
END = b"-----END CERTIFICATE-----\n"


@pytest.fixture(params=RECORDED)
def recorded(request: pytest.FixtureRequest, testdata: Path) -> tuple[Evidence, int]:
    name = request.param
    vector = json.loads((testdata / "vectors" / "evidence" / f"{name}.json").read_text())
    kind = EvidenceKind(name[:3].lower())
    return Evidence(kind, bytes.fromhex(vector["quote"]), vector["collateral"]), vector["now"]


@pytest.mark.slow
def test_no_byte_of_a_recorded_quote_can_change(recorded: tuple[Evidence, int]) -> None:
    evidence, now = recorded
    accepted = []
    for place in range(len(evidence.quote)):
        quote = bytearray(evidence.quote)
        quote[place] ^= 1 << place % 8
        try:
            verify_evidence(replace(evidence, quote=bytes(quote)), TrustRoots(), now)
        except EvidenceError:
            continue
        accepted.append(place)
    assert accepted == []


def quote_of(pki: Pki, kind: EvidenceKind) -> bytes:
    make = enclave_report if kind is EvidenceKind.SGX else td_report
    size = 32 if kind is EvidenceKind.SGX else 48
    return QuotingEnclave(pki, kind, os.urandom).quote(make(b"\x11" * size, bytes(48), bytes(64)))


def der_of(pki: Pki) -> bytes:
    return pki.root.certificate.public_bytes(Encoding.DER)


def with_chain(pki: Pki, chain: bytes, kind: int = 5) -> bytes:
    """An SGX quote with another certificate chain, and lengths that fit."""
    quote = quote_of(pki, EvidenceKind.SGX)
    head = quote[: quote.index(b"-----BEGIN") - 6]
    quote = head + struct.pack("<HI", kind, len(chain)) + chain
    return quote[:432] + struct.pack("<I", len(quote) - 436) + quote[436:]


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_quotes_have_the_form(pki: Pki, kind: EvidenceKind) -> None:
    quote = quote_of(pki, kind)
    check_form(quote, der_of(pki), NOW)
    check_form(quote + bytes(100), der_of(pki), NOW)


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_what_follows_is_zeros(pki: Pki, kind: EvidenceKind, code_of: CodeOf) -> None:
    for tail in (b"\1", bytes(10) + b"\1", b"\1" + bytes(10)):
        assert code_of(check_form, quote_of(pki, kind) + tail, der_of(pki), NOW) == "evidence-malformed"


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_lengths_agree(pki: Pki, kind: EvidenceKind, code_of: CodeOf) -> None:
    quote = quote_of(pki, kind)
    sizes = [432 if kind is EvidenceKind.SGX else 632, quote.index(b"-----BEGIN") - 4]
    sizes += [] if kind is EvidenceKind.SGX else [632 + 4 + 128 + 2]
    for place in sizes:
        for change in (-1, 1):
            (size,) = struct.unpack_from("<I", quote, place)
            changed = bytearray(quote + bytes(4))
            struct.pack_into("<I", changed, place, size + change)
            assert code_of(check_form, bytes(changed), der_of(pki), NOW) == "evidence-malformed", place


def test_the_type_of_the_outer_certification_data(pki: Pki, code_of: CodeOf) -> None:
    quote = bytearray(quote_of(pki, EvidenceKind.TDX))
    quote[764] ^= 1
    assert code_of(check_form, bytes(quote), der_of(pki), NOW) == "evidence-malformed"


def chain_of(pki: Pki) -> bytes:
    return pem(pki.pck, pki.platform_ca, pki.root).encode()


def test_chains_that_mean_the_same(pki: Pki) -> None:
    chain = chain_of(pki)
    for each in (
        chain,
        chain + bytes(4),
        chain.rstrip(),
        chain.replace(b"\n", b"\r\n"),
        b"".join(chain.partition(END)[:2]) + chain.partition(END)[2].partition(END)[0] + END,
    ):
        check_form(with_chain(pki, each), der_of(pki), NOW)


def test_certification_data_of_another_type_is_no_text(pki: Pki) -> None:
    check_form(with_chain(pki, bytes(404), kind=3), der_of(pki), NOW)


@pytest.mark.parametrize(
    "change",
    [
        lambda chain: b"x" + chain,
        lambda chain: chain + b"x",
        lambda chain: b"",
        lambda chain: chain.partition(END)[0] + END,
        lambda chain: chain * 3,
        lambda chain: chain.replace(b"\n", b"\v", 1),
        lambda chain: chain.replace(b"\n", b" \n", 1),
        lambda chain: chain.replace(b"BEGIN", b"BEGUN", 1),
        lambda chain: chain.replace(b"END", b"ENT", 1),
        lambda chain: chain.replace(b"\nMII", b"\n!II", 1),
        lambda chain: chain.replace(b"\nMII", b"\nMII=", 1),
    ],
    ids=[
        "before",
        "after",
        "empty",
        "one",
        "nine",
        "line end",
        "space",
        "begin",
        "end",
        "no base64",
        "padding",
    ],
)
def test_chains_in_another_form(pki: Pki, change: Callable[[bytes], bytes], code_of: CodeOf) -> None:
    quote = with_chain(pki, change(chain_of(pki)))
    assert code_of(check_form, quote, der_of(pki), NOW) == "evidence-malformed"


def test_bits_that_base64_does_not_use(pki: Pki, code_of: CodeOf) -> None:
    der = bytes(31)  # 31 bytes leave four bits unused
    text = base64.b64encode(der)
    assert text.endswith(b"A==")
    for body, code in ((text, "evidence-certificate"), (text[:-3] + b"B==", "evidence-malformed")):
        last = b"-----BEGIN CERTIFICATE-----\n" + body + b"\n" + END
        chain = END.join(chain_of(pki).split(END)[:2]) + END + last
        assert code_of(check_form, with_chain(pki, chain), der_of(pki), NOW) == code


def test_a_root_that_was_issued_anew(pki: Pki, code_of: CodeOf) -> None:
    """The same key under another certificate is the same root; one that it has not signed is none."""
    old = pki.root.certificate

    def root(serial: int, key: Any = pki.root.key) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(old.subject)
            .issuer_name(old.issuer)
            .public_key(pki.root.key.public_key())
            .serial_number(serial)
            .not_valid_before(old.not_valid_before_utc)
            .not_valid_after(old.not_valid_after_utc)
        )
        for extension in old.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        return builder.sign(key, old.signature_hash_algorithm).public_bytes(Encoding.PEM)

    above = END.join(chain_of(pki).split(END)[:2]) + END
    check_form(with_chain(pki, above + root(7)), der_of(pki), NOW)
    forged = with_chain(pki, above + root(7, pki.pck.key))
    assert code_of(check_form, forged, der_of(pki), NOW) == "evidence-chain"
    late = with_chain(pki, above + root(7))
    assert code_of(check_form, late, der_of(pki), NOW + 100 * 365 * 86400) == "evidence-expired"


def test_another_root(pki: Pki, code_of: CodeOf) -> None:
    other = Pki.create(NOW, os.urandom)
    above = END.join(chain_of(pki).split(END)[:2]) + END
    quote = with_chain(pki, above + pem(other.root).encode())
    assert code_of(check_form, quote, der_of(pki), NOW) == "evidence-chain"


def test_only_our_errors_leave_it(pki: Pki) -> None:
    rng = random.Random(5)
    quotes = [quote_of(pki, kind) for kind in DCAP_KINDS]
    for _ in range(3_000):
        changed = bytearray(rng.choice(quotes))
        for _ in range(rng.choice([1, 2, 5])):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        cut = changed[: rng.randrange(len(changed))] if rng.random() < 0.2 else changed
        try:
            check_form(bytes(cut), der_of(pki), NOW)
        except EvidenceError:
            continue
