"""AWS Nitro: real documents verify; of simulated ones each check alone refuses."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mutants import mutate_bytes
from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.nitro import NitroDocument, verify
from strongroom.attestation.roots import TrustRoots
from strongroom.codec import cbor
from strongroom.errors import EvidenceError
from strongroom_simulator.nitro import NitroPlatform

NOW = 1_800_000_000
HOUR = 3600
PCRS = {0: b"\x10" * 48, 1: b"\x11" * 48, 2: b"\x12" * 48, 4: b"\x14" * 48, 8: b"\x18" * 48}
USER_DATA = b"\x22" * 64
ES384 = cbor.encode({1: -35})


@dataclasses.dataclass(frozen=True)
class Real:
    """A recorded document and the time at which it was good."""

    evidence: Evidence
    now: int


def _real(testdata: Path, name: str) -> Real:
    vector = json.loads((testdata / f"vectors/evidence/{name}.json").read_text())
    return Real(Evidence(EvidenceKind.NITRO, base64.b64decode(vector["doc"])), vector["now"])


@pytest.fixture(scope="module")
def platform() -> NitroPlatform:
    return NitroPlatform.create(NOW)


@pytest.fixture
def payload(platform: NitroPlatform) -> dict[str, Any]:
    return platform.payload(PCRS, USER_DATA, NOW)


def _verify(
    platform: NitroPlatform, document: bytes, *, now: int = NOW, init_data: bytes | None = None
) -> Claims:
    roots = TrustRoots(simulated=frozenset({platform.root_sha256}))
    return verify(Evidence(EvidenceKind.NITRO, document, None, init_data), roots, now)


# ---- real documents


def test_a_real_document_verifies(testdata: Path) -> None:
    real = _real(testdata, "NITRO_prod")
    claims = verify(real.evidence, TrustRoots(), real.now)
    assert (claims.kind, claims.anchor, claims.debug) == (EvidenceKind.NITRO, Anchor.AWS, False)
    assert (claims.svn, claims.product_id) == (0, 0)
    assert [len(each) for each in claims.measurement.split(":")] == [96, 96, 96]
    assert len(claims.report_data) == 64
    assert real.now < claims.expires <= real.now + 3 * HOUR


def test_a_real_debug_enclave_is_told(testdata: Path) -> None:
    real = _real(testdata, "NITRO_debug")
    assert verify(real.evidence, TrustRoots(), real.now).debug


@pytest.mark.slow
def test_no_byte_of_a_real_document_can_change(testdata: Path) -> None:
    real = _real(testdata, "NITRO_prod")
    for place in range(len(real.evidence.quote)):
        quote = bytearray(real.evidence.quote)
        quote[place] ^= 1 << place % 8
        with pytest.raises(EvidenceError):
            verify(dataclasses.replace(real.evidence, quote=bytes(quote)), TrustRoots(), real.now)


def test_a_real_document_is_refused_later_and_without_the_root(testdata: Path) -> None:
    real = _real(testdata, "NITRO_prod")
    with pytest.raises(EvidenceError, match="evidence-expired"):
        verify(real.evidence, TrustRoots(), real.now + 4 * HOUR)
    with pytest.raises(EvidenceError, match="evidence-untrusted-root"):
        verify(real.evidence, TrustRoots(aws=False), real.now)


# ---- simulated documents: what is said, and each check alone


def test_a_simulated_document_verifies_under_its_own_root_only(
    platform: NitroPlatform, payload: dict[str, Any]
) -> None:
    claims = _verify(platform, platform.document(payload))
    assert claims.simulated
    assert claims.root_sha256 == platform.root_sha256
    assert claims.measurement == ":".join(PCRS[number].hex() for number in range(3))
    assert (claims.signer, claims.report_data) == ("18" * 48, USER_DATA)
    assert (claims.debug, claims.expires, claims.revocation_checked) == (False, NOW + 3 * HOUR, True)
    with pytest.raises(EvidenceError, match="evidence-untrusted-root"):
        verify(Evidence(EvidenceKind.NITRO, platform.document(payload)), TrustRoots(), NOW)


def test_the_tag_of_a_cose_sign1_may_be_there(platform: NitroPlatform, payload: dict[str, Any]) -> None:
    document = cbor.decode(platform.document(payload), limit=1 << 16)
    assert _verify(platform, cbor.encode(cbor.Tagged(18, document))).report_data == USER_DATA
    with pytest.raises(EvidenceError, match="COSE_Sign1"):
        _verify(platform, cbor.encode(cbor.Tagged(17, document)))


def test_registers_that_are_not_there_count_as_zeros(
    platform: NitroPlatform, payload: dict[str, Any]
) -> None:
    claims = _verify(platform, platform.document(payload | {"pcrs": {4: bytes(48)}}))
    assert claims.measurement == ":".join(["00" * 48] * 3)
    assert (claims.signer, claims.debug) == ("00" * 48, True)


def test_user_data_may_be_missing(platform: NitroPlatform, payload: dict[str, Any]) -> None:
    del payload["nonce"]
    assert _verify(platform, platform.document(payload | {"user_data": None})).report_data == b""


def test_init_data_has_no_place(platform: NitroPlatform, payload: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError, match="evidence-init-data"):
        _verify(platform, platform.document(payload), init_data=b"version = 1")


def test_another_algorithm_is_refused(platform: NitroPlatform, payload: dict[str, Any]) -> None:
    for header in ({1: -7}, {1: -35, 4: b"k"}, {}):
        with pytest.raises(EvidenceError, match="evidence-algorithm"):
            _verify(platform, platform.signed(cbor.encode(header), cbor.encode(payload)))


def test_another_digest_is_refused(platform: NitroPlatform, payload: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError, match="evidence-algorithm"):
        _verify(platform, platform.document(payload | {"digest": "SHA256"}))


def test_an_unprotected_header_is_refused(platform: NitroPlatform, payload: dict[str, Any]) -> None:
    protected, _, content, signature = cbor.decode(platform.document(payload), limit=1 << 16)
    with pytest.raises(EvidenceError, match="parts of the COSE_Sign1"):
        _verify(platform, cbor.encode([protected, {4: b"k"}, content, signature]))


def test_a_signature_by_another_key_is_refused(platform: NitroPlatform, payload: dict[str, Any]) -> None:
    stranger = dataclasses.replace(platform, key=ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(EvidenceError, match="evidence-signature"):
        _verify(platform, stranger.document(payload))


def test_a_signature_has_one_spelling(platform: NitroPlatform, payload: dict[str, Any]) -> None:
    """RFC 9053, 2.1: two coordinates of 48 bytes, also where a longer second one is the same number."""
    protected, header, content, signature = cbor.decode(platform.document(payload), limit=1 << 16)
    longer = signature[:48] + b"\0" + signature[48:]
    with pytest.raises(EvidenceError, match="Nitro document: signature"):
        _verify(platform, cbor.encode([protected, header, content, longer]))


def test_a_signer_on_another_curve_is_refused(platform: NitroPlatform) -> None:
    odd = NitroPlatform.create(NOW, curve=ec.SECP256R1())
    with pytest.raises(EvidenceError, match="evidence-key"):
        _verify(odd, odd.document(odd.payload(PCRS, USER_DATA, NOW)))


def test_a_chain_of_two_vendors_is_refused(platform: NitroPlatform, payload: dict[str, Any]) -> None:
    other = NitroPlatform.create(NOW)
    mixed = payload | {"cabundle": [payload["cabundle"][0], other.authority.public_bytes(Encoding.DER)]}
    with pytest.raises(EvidenceError, match="evidence-chain"):
        _verify(platform, platform.document(mixed))


def test_a_signer_that_signs_itself_is_refused(platform: NitroPlatform, payload: dict[str, Any]) -> None:
    """The root is trusted, and stands right above a certificate that it has not issued."""
    with pytest.raises(EvidenceError, match="evidence-chain"):
        _verify(platform, platform.document(payload | {"cabundle": payload["cabundle"][:1]}))


@pytest.mark.parametrize("now", [NOW - HOUR, NOW + 3 * HOUR + 1])
def test_outside_the_signers_life_it_is_refused(
    platform: NitroPlatform, payload: dict[str, Any], now: int
) -> None:
    with pytest.raises(EvidenceError, match="evidence-expired"):
        _verify(platform, platform.document(payload), now=now)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"surprise": 1}, "members"),
        ({"timestamp": "1"}, "timestamp"),
        ({"timestamp": True}, "timestamp"),
        ({"module_id": b"i"}, "module_id"),
        ({"pcrs": {}}, "pcrs"),
        ({"pcrs": [bytes(48)]}, "pcrs"),
        ({"pcrs": {32: bytes(48)}}, "number of a PCR"),
        ({"pcrs": {-1: bytes(48)}}, "number of a PCR"),
        ({"pcrs": {"0": bytes(48)}}, "number of a PCR"),
        ({"pcrs": {0: bytes(32)}}, "PCR0"),
        ({"pcrs": {0: "0"}}, "PCR0"),
        ({"certificate": "x"}, "a certificate is not bytes"),
        ({"cabundle": []}, "cabundle"),
        ({"cabundle": b"x"}, "cabundle"),
        ({"cabundle": [b""] * 8}, "cabundle"),
        ({"cabundle": ["x"]}, "a certificate is not bytes"),
        ({"user_data": bytes(513)}, "user_data"),
        ({"user_data": "x"}, "user_data"),
        ({"nonce": bytes(513)}, "nonce"),
        ({"public_key": bytes(1025)}, "public_key"),
    ],
)
def test_a_payload_of_another_form_is_refused(
    platform: NitroPlatform, payload: dict[str, Any], changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(EvidenceError, match=rf"{why}.*evidence-malformed"):
        _verify(platform, platform.document(payload | changes))


@pytest.mark.parametrize("name", ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"])
def test_a_payload_without_a_member_is_refused(
    platform: NitroPlatform, payload: dict[str, Any], name: str
) -> None:
    del payload[name]
    with pytest.raises(EvidenceError, match="members of the payload"):
        _verify(platform, platform.document(payload))


@pytest.mark.parametrize("certificate", [b"", b"\x30\x03\x02\x01\x00", bytes(9000)])
def test_what_is_no_certificate_is_refused(
    platform: NitroPlatform, payload: dict[str, Any], certificate: bytes
) -> None:
    with pytest.raises(EvidenceError, match="evidence-certificate"):
        _verify(platform, platform.document(payload | {"certificate": certificate}))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff",
        cbor.encode(1),
        cbor.encode([b"", {}, b""]),
        cbor.encode([b"", {}, b"", 1]),
        cbor.encode([ES384, {}, b"", bytes(96)]),
        cbor.encode([ES384, {}, cbor.encode([]), bytes(96)]),
        cbor.encode([ES384, {}, cbor.encode({}), bytes(95)]),
        cbor.encode([b"\xff", {}, cbor.encode({}), bytes(96)]),
    ],
)
def test_what_is_no_document_is_refused(document: bytes) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        NitroDocument.parse(document)


def test_20000_mutants_give_our_errors_only(platform: NitroPlatform, payload: dict[str, Any]) -> None:
    """Half of them have a whole outer frame and a changed payload."""
    rng = random.Random(11)
    document, content = platform.document(payload), cbor.encode(payload)
    read = 0
    for number in range(20_000):
        if number % 2:
            mutant = mutate_bytes(rng, document)
        else:
            mutant = cbor.encode([ES384, {}, mutate_bytes(rng, content), bytes(96)])
        with suppress(EvidenceError):
            read += bool(NitroDocument.parse(mutant).pcrs)
    assert read > 1000
