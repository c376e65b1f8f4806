"""TPM quotes, EK chains and credentials: what this file makes verifies, and each check alone refuses."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from mutants import mutate_bytes
from strongroom.attestation.tpm import (
    Credential,
    TpmClaims,
    make_credential,
    verify_ek_chain,
    verify_quote,
    verify_quote_by_key,
)
from strongroom.attestation.tpm_enrolment import Challenge, Expected, Identity, challenge
from strongroom.attestation.tpm_keys import Attributes, TpmPublic
from strongroom.attestation.tpm_reader import MAX_STRUCTURE, TpmHash, TpmScheme
from strongroom.attestation.tpm_structures import MAX_DATA, TpmQuote, TpmSignature, frame_rsassa
from strongroom.errors import EvidenceError

CodeOf = Callable[..., str | None]

NOW = 1_800_000_000
YEAR = 365 * 24 * 3600
NONCE = bytes(range(32))
SHA1 = 0x0004
NULL = b"\x00\x10"
AES_128_CFB = struct.pack(">3H", 6, 128, 0x43)
GOOD = 0x50072  # fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign
BIT = {"fixedTPM": 1, "fixedParent": 4, "sensitiveDataOrigin": 5, "restricted": 16, "decrypt": 17, "sign": 18}
PCRS = {TpmHash.SHA256: {0: b"\x10" * 32, 7: b"\x17" * 32, 14: b"\x1e" * 32}}
RSA_KEY = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
PRIVATE: dict[str, Any] = {"rsassa": RSA_KEY, "rsapss": RSA_KEY, "ecdsa": P256, "ecdsa384": P384}
SCHEME = {"rsassa": (0x14, 0x0B), "rsapss": (0x16, 0x0B), "ecdsa": (0x18, 0x0B), "ecdsa384": (0x18, 0x0C)}


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


@dataclass(frozen=True)
class Area:
    """A TPMT_PUBLIC, good as it stands; `replace` changes one thing."""

    key: Any
    scheme: bytes
    attributes: int = GOOD
    name_hash: int = 0x0B
    policy: bytes = b""
    symmetric: bytes = NULL
    kind: int | None = None
    parameters: bytes | None = None

    def encode(self) -> bytes:
        head = struct.pack(">HI", self.name_hash, self.attributes) + sized(self.policy)
        if isinstance(self.key, rsa.RSAPrivateKey):
            kind, public = 1, self.key.public_key().public_numbers()
            rest = struct.pack(">HI", 2048, 0) + sized(public.n.to_bytes(256))
        else:
            kind, point = 0x23, self.key.public_key().public_numbers()
            size = self.key.key_size // 8
            curve = numbers({32: 3, 48: 4}[size])
            rest = curve + NULL + sized(point.x.to_bytes(size)) + sized(point.y.to_bytes(size))
        rest = rest if self.parameters is None else self.parameters
        return numbers(self.kind or kind) + head + self.symmetric + self.scheme + rest


@dataclass(frozen=True)
class Attest:
    """A TPMS_ATTEST of a quote, good as it stands; `replace` changes one thing."""

    magic: int = 0xFF544347
    kind: int = 0x8018
    signer: bytes = b"\x00\x0b" + b"\x77" * 32
    nonce: bytes = NONCE
    safe: int = 1
    pcrs: Mapping[TpmHash, Mapping[int, bytes]] = field(default_factory=lambda: PCRS)
    digest_by: str = "sha256"
    selection: bytes | None = None
    digest: bytes | None = None
    tail: bytes = b""

    def encode(self) -> bytes:
        selection, values = struct.pack(">I", len(self.pcrs)), b""
        for bank, registers in self.pcrs.items():
            bits = sum(1 << number for number in registers)
            selection += struct.pack(">HB", bank, 3) + bits.to_bytes(3, "little")
            values += b"".join(registers[number] for number in sorted(registers))
        digest = hashlib.new(self.digest_by, values).digest() if self.digest is None else self.digest
        return (
            struct.pack(">IH", self.magic, self.kind)
            + sized(self.signer)
            + sized(self.nonce)
            + struct.pack(">QIIBQ", 123_456, 3, 1, self.safe, 0x2020_0312)
            + (selection if self.selection is None else self.selection)
            + sized(digest)
            + self.tail
        )


def area(name: str) -> Area:
    return Area(PRIVATE[name], numbers(*SCHEME[name]))


def public(name: str = "ecdsa", **changes: Any) -> TpmPublic:
    return TpmPublic.parse(replace(area(name), **changes).encode())


def sign(name: str, data: bytes, digest: Any = None) -> bytes:
    """A TPMT_SIGNATURE."""
    scheme, code = SCHEME[name]
    chosen = digest or {0x0B: hashes.SHA256(), 0x0C: hashes.SHA384()}[code]
    code = {"sha1": SHA1, "sha256": 0x0B, "sha384": 0x0C}[chosen.name]
    key = PRIVATE[name]
    if scheme == 0x18:
        size = key.key_size // 8
        values = [each.to_bytes(size) for each in decode_dss_signature(key.sign(data, ec.ECDSA(chosen)))]
    elif scheme == 0x14:
        values = [key.sign(data, padding.PKCS1v15(), chosen)]
    else:
        values = [key.sign(data, padding.PSS(padding.MGF1(chosen), padding.PSS.MAX_LENGTH), chosen)]
    return numbers(scheme, code) + b"".join(sized(value) for value in values)


def quote(name: str = "ecdsa", *, nonce: bytes = NONCE, pcrs: Any = None, **changes: Any) -> TpmClaims:
    """Verify a quote with something changed in it, signed as it then is."""
    if name == "ecdsa384":
        changes = {"digest_by": "sha384"} | changes
    attest = Attest(**changes).encode()
    return verify_quote(
        public(name), attest, sign(name, attest), nonce=nonce, pcrs=PCRS if pcrs is None else pcrs
    )


# Quotes that hold


@pytest.mark.parametrize("name", PRIVATE)
def test_a_quote_verifies(name: str) -> None:
    claims = quote(name)
    assert claims == TpmClaims(
        ak_name=(b"\x00\x0b" + hashlib.sha256(area(name).encode()).digest()).hex(),
        qualified_signer="000b" + "77" * 32,
        nonce=NONCE,
        pcrs={"sha256": {0: "10" * 32, 7: "17" * 32, 14: "1e" * 32}},
        firmware_version=0x2020_0312,
        clock=123_456,
        reset_count=3,
        restart_count=1,
        safe=True,
    )


def test_a_clock_that_is_not_safe_is_reported() -> None:
    assert not quote(safe=0).safe


def test_a_quote_of_two_banks_is_hashed_in_its_own_order() -> None:
    both = {TpmHash.SHA384: {1: b"\x31" * 48}, TpmHash.SHA256: {23: b"\x32" * 32}}
    attest = Attest(pcrs=both).encode()
    claims = verify_quote(
        public(), attest, sign("ecdsa", attest), nonce=NONCE, pcrs=dict(reversed(both.items()))
    )
    assert claims.pcrs == {"sha256": {23: "32" * 32}, "sha384": {1: "31" * 48}}


def test_a_bare_key_has_no_name() -> None:
    attest = Attest().encode()
    framed = frame_rsassa(RSA_KEY.sign(attest, padding.PKCS1v15(), hashes.SHA256()))
    assert framed == sign("rsassa", attest)
    assert not verify_quote_by_key(RSA_KEY.public_key(), attest, framed, nonce=NONCE, pcrs=PCRS).ak_name


def test_the_name_is_by_its_own_hash() -> None:
    changed = replace(area("ecdsa"), name_hash=0x0C)
    assert public(name_hash=0x0C).name == b"\x00\x0c" + hashlib.sha384(changed.encode()).digest()


def test_a_public_area_may_come_with_its_length() -> None:
    data = area("rsassa").encode()
    assert TpmPublic.parse_sized(sized(data)).name == TpmPublic.parse(data).name


# Quotes that do not: in each one thing is wrong


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"magic": 0xFF544348}, "evidence-format"),
        ({"magic": 0x474354FF}, "evidence-format"),
        ({"kind": 0x8017}, "evidence-format"),
        ({"kind": 0x8014}, "evidence-format"),
        ({"nonce": NONCE[:-1]}, "evidence-nonce"),
        ({"nonce": NONCE + b"\0"}, "evidence-nonce"),
        ({"nonce": b""}, "evidence-nonce"),
        ({"nonce": bytes(MAX_DATA + 1)}, "evidence-malformed"),
        ({"signer": bytes(MAX_DATA + 1)}, "evidence-malformed"),
        ({"safe": 2}, "evidence-malformed"),
        ({"tail": b"\0"}, "evidence-malformed"),
        ({"tail": bytes(MAX_STRUCTURE)}, "evidence-too-large"),
        ({"digest": bytes(32)}, "evidence-binding"),
        ({"digest": b""}, "evidence-binding"),
        ({"digest": bytes(65)}, "evidence-malformed"),
        ({"digest_by": "sha384"}, "evidence-binding"),
        ({"pcrs": {TpmHash.SHA256: {0: bytes(32), 7: b"\x17" * 32, 14: b"\x1e" * 32}}}, "evidence-binding"),
        ({"pcrs": {TpmHash.SHA256: {0: b"\x10" * 32, 7: b"\x17" * 32}}}, "evidence-binding"),
        ({"pcrs": {}}, "evidence-binding"),
        ({"selection": struct.pack(">IHB", 1, SHA1, 3) + b"\x81\x40\0"}, "evidence-algorithm"),
        ({"selection": struct.pack(">IHB", 1, 0x0C, 3) + b"\x81\x40\0"}, "evidence-binding"),
        ({"selection": struct.pack(">IHB", 1, 0x0B, 3) + b"\x81\x41\0"}, "evidence-binding"),
        ({"selection": struct.pack(">IHB", 1, 0x0B, 0)}, "evidence-malformed"),
        ({"selection": struct.pack(">IHB", 1, 0x0B, 5) + b"\x81\x40\0\0\0"}, "evidence-malformed"),
        ({"selection": struct.pack(">I", 2) + 2 * (b"\0\x0b\x03\x81\x40\0")}, "evidence-malformed"),
        ({"selection": struct.pack(">I", 2**32 - 1)}, "evidence-malformed"),
    ],
)
def test_a_quote_that_says_something_else(changes: dict[str, Any], code: str) -> None:
    attest = Attest(**changes).encode()
    with pytest.raises(EvidenceError) as caught:
        verify_quote(public(), attest, sign("ecdsa", attest), nonce=NONCE, pcrs=PCRS)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("pcrs", "code"),
    [
        ({}, "evidence-binding"),
        ({TpmHash.SHA256: {}}, "evidence-binding"),
        ({TpmHash.SHA256: PCRS[TpmHash.SHA256] | {1: bytes(32)}}, "evidence-binding"),
        ({TpmHash.SHA256: PCRS[TpmHash.SHA256] | {0: bytes(32)}}, "evidence-binding"),
        ({TpmHash.SHA256: PCRS[TpmHash.SHA256] | {0: b"\x10" * 33}}, "evidence-malformed"),
        (PCRS | {TpmHash.SHA384: {0: bytes(48)}}, "evidence-binding"),
        ({TpmHash.SHA384: PCRS[TpmHash.SHA256]}, "evidence-binding"),
    ],
)
def test_other_values_than_those_quoted(pcrs: Any, code: str, code_of: CodeOf) -> None:
    assert code_of(quote, pcrs=pcrs) == code


def test_values_cannot_move_between_registers(code_of: CodeOf) -> None:
    """Their concatenation is what it was, and each has another length."""
    first, second, third = PCRS[TpmHash.SHA256].values()
    moved = {TpmHash.SHA256: {0: first + second[:1], 7: second[1:], 14: third}}
    assert code_of(quote, pcrs=moved) == "evidence-malformed"


def test_a_quote_over_nothing(code_of: CodeOf) -> None:
    attest = Attest(pcrs={}).encode()
    signature = sign("ecdsa", attest)
    assert code_of(verify_quote, public(), attest, signature, nonce=NONCE, pcrs={}) == "evidence-binding"


@pytest.mark.parametrize("nonce", [b"", NONCE[::-1], bytes(10_000)])
def test_another_nonce(nonce: bytes, code_of: CodeOf) -> None:
    assert code_of(quote, nonce=nonce) == "evidence-nonce"


def test_an_empty_nonce_never_holds(code_of: CodeOf) -> None:
    attest = Attest(nonce=b"").encode()
    signature = sign("ecdsa", attest)
    assert code_of(verify_quote, public(), attest, signature, nonce=b"", pcrs=PCRS) == "evidence-nonce"


@pytest.mark.parametrize("name", PRIVATE)
def test_another_ak(name: str, code_of: CodeOf) -> None:
    attest = Attest(digest_by=hashes_of(name)).encode()
    made: Any = (
        rsa.generate_private_key(65537, 2048)
        if "rsa" in name
        else ec.generate_private_key(PRIVATE[name].curve)
    )
    other, signature = public(name, key=made), sign(name, attest)
    assert code_of(verify_quote, other, attest, signature, nonce=NONCE, pcrs=PCRS) == "evidence-signature"


def hashes_of(name: str) -> str:
    return {0x0B: "sha256", 0x0C: "sha384"}[SCHEME[name][1]]


@pytest.mark.parametrize("name", PRIVATE)
def test_a_single_bit_of_the_attestation(name: str, code_of: CodeOf) -> None:
    attest = Attest(digest_by=hashes_of(name)).encode()
    ak, signature = public(name), sign(name, attest)
    for at in range(len(attest)):
        changed = attest[:at] + bytes([attest[at] ^ 1 << at % 8]) + attest[at + 1 :]
        code = code_of(verify_quote, ak, changed, signature, nonce=NONCE, pcrs=PCRS)
        assert code == "evidence-signature", at


@pytest.mark.parametrize("name", PRIVATE)
def test_a_single_bit_of_the_signature(name: str, code_of: CodeOf) -> None:
    attest = Attest(digest_by=hashes_of(name)).encode()
    ak, signature = public(name), sign(name, attest)
    for at in range(len(signature)):
        changed = signature[:at] + bytes([signature[at] ^ 1 << at % 8]) + signature[at + 1 :]
        assert code_of(verify_quote, ak, attest, changed, nonce=NONCE, pcrs=PCRS) is not None, at


@pytest.mark.parametrize(
    ("name", "change"),
    [("rsassa", hashes.SHA384()), ("ecdsa", hashes.SHA384()), ("ecdsa384", hashes.SHA256())],
)
def test_another_hash_than_the_ak_is_bound_to(name: str, change: Any, code_of: CodeOf) -> None:
    attest = Attest(digest_by=change.name).encode()
    signature = sign(name, attest, change)
    code = code_of(verify_quote, public(name), attest, signature, nonce=NONCE, pcrs=PCRS)
    assert code == "evidence-algorithm"
    bare = PRIVATE[name].public_key()
    assert code_of(verify_quote_by_key, bare, attest, signature, nonce=NONCE, pcrs=PCRS) is None


@pytest.mark.parametrize("name", ["rsassa", "ecdsa"])
def test_sha1_is_refused(name: str, code_of: CodeOf) -> None:
    attest = Attest(digest_by="sha1").encode()
    signature = numbers(SCHEME[name][0], SHA1) + sign(name, attest)[4:]
    key = PRIVATE[name].public_key()
    code = code_of(verify_quote_by_key, key, attest, signature, nonce=NONCE, pcrs=PCRS)
    assert code == "evidence-algorithm"


def test_a_key_of_another_kind_than_the_signature(code_of: CodeOf) -> None:
    attest = Attest().encode()
    for key, name in ((RSA_KEY, "ecdsa"), (P256, "rsassa"), (P256, "rsapss")):
        code = code_of(
            verify_quote_by_key, key.public_key(), attest, sign(name, attest), nonce=NONCE, pcrs=PCRS
        )
        assert code == "evidence-key"


@pytest.mark.parametrize("name", ["rsassa", "rsapss", "ecdsa"])
def test_signatures_that_are_none(name: str, code_of: CodeOf) -> None:
    attest = Attest().encode()
    ak, good = public(name), sign(name, attest)

    def check(signature: bytes) -> str | None:
        return code_of(verify_quote, ak, attest, signature, nonce=NONCE, pcrs=PCRS)

    assert check(good) is None
    assert check(good + b"\0") == "evidence-malformed"
    for size in range(len(good)):
        assert check(good[:size]) == "evidence-malformed", size
    assert (
        check(good[:4] + 2 * sized(b"") if name == "ecdsa" else good[:4] + sized(b"")) == "evidence-signature"
    )
    assert check(good + bytes(MAX_STRUCTURE)) == "evidence-too-large"


def test_a_bare_signature_is_bounded(code_of: CodeOf) -> None:
    assert code_of(frame_rsassa, bytes(513)) == "evidence-too-large"
    assert TpmSignature.parse(frame_rsassa(bytes(512))).scheme is TpmScheme.RSASSA


def test_a_truncated_attestation(code_of: CodeOf) -> None:
    attest = Attest().encode()
    for size in range(len(attest)):
        cut = attest[:size]
        code = code_of(verify_quote, public(), cut, sign("ecdsa", cut), nonce=NONCE, pcrs=PCRS)
        assert code == "evidence-malformed", size


# Attestation keys


@pytest.mark.parametrize("bit", BIT)
def test_an_ak_with_one_attribute_changed(bit: str, code_of: CodeOf) -> None:
    attest = Attest().encode()
    ak = public(attributes=GOOD ^ 1 << BIT[bit])
    code = code_of(verify_quote, ak, attest, sign("ecdsa", attest), nonce=NONCE, pcrs=PCRS)
    assert code == "evidence-key"


def test_attributes_have_the_bits_of_the_specification() -> None:
    assert sum(1 << bit for name, bit in BIT.items() if name != "decrypt") | 1 << 6 == GOOD
    assert 1 << BIT["decrypt"] == Attributes.DECRYPT


@pytest.mark.parametrize("change", [{"scheme": NULL}, {"symmetric": AES_128_CFB}])
def test_an_ak_that_is_not_only_for_one_scheme(change: dict[str, bytes], code_of: CodeOf) -> None:
    attest = Attest().encode()
    code = code_of(verify_quote, public(**change), attest, sign("ecdsa", attest), nonce=NONCE, pcrs=PCRS)
    assert code == "evidence-key"


def _modulus(bits: int, exponent: int, modulus: bytes) -> bytes:
    return struct.pack(">HI", bits, exponent) + sized(modulus)


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("ecdsa", {"name_hash": SHA1}, "evidence-algorithm"),
        ("ecdsa", {"scheme": numbers(0x18, SHA1)}, "evidence-algorithm"),
        ("ecdsa", {"scheme": numbers(0x1A, 0x0B, 0)}, "evidence-algorithm"),
        ("ecdsa", {"symmetric": numbers(6, 128, 0x42)}, "evidence-algorithm"),
        ("ecdsa", {"symmetric": numbers(6, 64, 0x43)}, "evidence-algorithm"),
        ("ecdsa", {"kind": 0x08}, "evidence-algorithm"),
        ("ecdsa", {"policy": bytes(65)}, "evidence-malformed"),
        ("ecdsa", {"parameters": numbers(5) + NULL}, "evidence-algorithm"),
        ("ecdsa", {"parameters": numbers(3, 0x20, 0x0B)}, "evidence-algorithm"),
        ("ecdsa", {"parameters": numbers(3) + NULL + 2 * sized(b"\x01" * 32)}, "evidence-key"),
        ("ecdsa", {"parameters": numbers(3) + NULL + 2 * sized(b"")}, "evidence-key"),
        ("ecdsa", {"parameters": numbers(3) + NULL + 2 * sized(b"\x01" * 33)}, "evidence-malformed"),
        ("rsassa", {"parameters": _modulus(1024, 0, b"\xff" * 128)}, "evidence-key"),
        ("rsassa", {"parameters": _modulus(2048, 3, b"\xff" * 256)}, "evidence-key"),
        ("rsassa", {"parameters": _modulus(2048, 0, b"\x7f" * 256)}, "evidence-key"),
        ("rsassa", {"parameters": _modulus(2048, 0, b"\0" + b"\xff" * 256)}, "evidence-key"),
        ("rsassa", {"parameters": _modulus(3072, 0, b"\xff" * 256)}, "evidence-key"),
        ("rsassa", {"parameters": _modulus(2048, 0, b"\xfe" * 256)}, "evidence-key"),
        ("rsassa", {"parameters": _modulus(2048, 0, b"\xff" * 513)}, "evidence-malformed"),
    ],
)
def test_public_areas_that_are_refused(name: str, change: dict[str, Any], code: str, code_of: CodeOf) -> None:
    assert code_of(public, name, **change) == code


@pytest.mark.parametrize("name", PRIVATE)
def test_a_public_area_is_read_whole(name: str, code_of: CodeOf) -> None:
    data = area(name).encode()
    assert code_of(TpmPublic.parse, data + b"\0") == "evidence-malformed"
    assert code_of(TpmPublic.parse_sized, sized(data) + b"\0") == "evidence-malformed"
    assert code_of(TpmPublic.parse_sized, sized(data + b"\0")) == "evidence-malformed"
    for size in range(len(data)):
        assert code_of(TpmPublic.parse, data[:size]) is not None, size


# Whatever the input


def test_mutants_raise_our_error_only(survey: Any) -> None:
    """20,000 of each of the structures and of the whole verification."""
    rng = random.Random(20)
    areas = [area(name).encode() for name in PRIVATE]
    attests = [Attest(digest_by=hashes_of(name)).encode() for name in PRIVATE]
    signatures = [sign(name, attest) for name, attest in zip(PRIVATE, attests, strict=True)]
    for parse, seeds in (
        (TpmPublic.parse, areas),
        (TpmQuote.parse, attests),
        (TpmSignature.parse, signatures),
    ):
        found = survey(parse, (mutate_bytes(rng, rng.choice(seeds)) for _ in range(20_000)))
        assert sum(found.codes.values()) > 5_000
    assert survey(TpmPublic.parse, (rng.randbytes(rng.randrange(300)) for _ in range(20_000))).accepted == []


def test_no_mutant_of_a_quote_verifies(survey: Any) -> None:
    rng = random.Random(21)
    attest = Attest().encode()
    ak, signature = public(), sign("ecdsa", attest)

    def verify(data: bytes) -> TpmClaims:
        return verify_quote(ak, data, signature, nonce=NONCE, pcrs=PCRS)

    found = survey(verify, (mutate_bytes(rng, attest) for _ in range(3_000)))
    assert all(data == attest for data, _ in found.accepted)


# Endorsement keys

EK = "2.23.133.8.1"
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
RSA_EK = rsa.generate_private_key(65537, 2048)


@dataclass(frozen=True)
class Maker:
    """A maker of TPMs: a root, an authority below it and the certificate of an EK."""

    root: Any = P384
    authority: Any = P256
    ek: Any = RSA_EK
    purposes: tuple[str, ...] = (EK,)
    usage: str = "key_encipherment"
    has_usage: bool = True
    is_authority: bool = True
    leaf_until: int = NOW + YEAR

    def chain(self) -> list[bytes]:
        ek = self._certificate("EK", self.ek.public_key(), "CA", self.authority, self.leaf_until, leaf=True)
        middle = self._certificate("CA", self.authority.public_key(), "Root", self.root, NOW + 2 * YEAR)
        root = self._certificate("Root", self.root.public_key(), "Root", self.root, NOW + 9 * YEAR)
        return [ek, middle, root]

    def _certificate(
        self, subject: str, key: Any, issuer: str, signer: Any, until: int, *, leaf: bool = False
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key)
            .serial_number(77)
            .not_valid_before(datetime.datetime.fromtimestamp(NOW - YEAR, datetime.UTC))
            .not_valid_after(datetime.datetime.fromtimestamp(until, datetime.UTC))
        )
        authority = not leaf and (self.is_authority or subject == "Root")
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        if leaf:
            uses = dict.fromkeys(USAGES, False)
            if self.has_usage:
                builder = builder.add_extension(
                    x509.KeyUsage(**uses | dict.fromkeys(self.usage.split(), True)), critical=True
                )
            if self.purposes:
                named = x509.ExtendedKeyUsage([ObjectIdentifier(each) for each in self.purposes])
                builder = builder.add_extension(named, critical=False)
        return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.DER)


def roots_of(chain: list[bytes]) -> frozenset[str]:
    return frozenset({hashlib.sha256(chain[-1]).hexdigest()})


@pytest.mark.parametrize("ek", [RSA_EK, P256, P384])
def test_a_chain_of_an_ek_verifies(ek: Any) -> None:
    usage = "key_encipherment" if ek is RSA_EK else "key_agreement"
    chain = Maker(ek=ek, usage=usage).chain()
    found = verify_ek_chain(chain, roots_of(chain), NOW)
    assert found.key == ek.public_key()
    spki = ek.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert found.key_sha256 == hashlib.sha256(spki).hexdigest()
    assert found.root_sha256 == hashlib.sha256(chain[-1]).hexdigest()
    assert found.expires == NOW + YEAR


def test_a_challenge_is_for_a_verified_tpm_and_a_key_that_signs_for_it_alone(code_of: CodeOf) -> None:
    """Each of the three checks of an enrolment refuses alone."""
    (ek, *authorities) = chain = Maker().chain()

    def ask(ak: Area = area("ecdsa"), *, above: list[bytes] = authorities) -> tuple[Challenge, Expected]:  # noqa: B008
        return challenge(Identity(ak.encode(), ek), above, roots_of(chain), NOW, rng=os.urandom)

    asked, expected = ask()
    spki = P256.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert expected.ak_sha256 == hashlib.sha256(spki).hexdigest()
    assert len(expected.secret) == 32
    assert expected.secret not in asked.to_json_bytes()
    assert expected.secret != ask()[1].secret
    unrestricted = replace(area("ecdsa"), attributes=GOOD ^ 1 << BIT["restricted"])
    assert code_of(ask, unrestricted) == "evidence-key"
    assert code_of(ask, replace(area("ecdsa"), kind=0x25)) == "evidence-algorithm"
    stranger = Maker(root=ec.generate_private_key(ec.SECP256R1())).chain()[1:]
    assert code_of(lambda: ask(above=stranger)) == "evidence-untrusted-root"


def test_a_chain_to_another_root(code_of: CodeOf) -> None:
    chain, other = Maker().chain(), Maker(root=ec.generate_private_key(ec.SECP256R1())).chain()
    assert code_of(verify_ek_chain, chain, roots_of(other), NOW) == "evidence-untrusted-root"
    assert code_of(verify_ek_chain, chain, frozenset(), NOW) == "evidence-untrusted-root"
    mixed = [*chain[:-1], other[-1]]
    assert code_of(verify_ek_chain, mixed, roots_of(other), NOW) == "evidence-chain"


@pytest.mark.parametrize("now", [NOW + YEAR + 1, NOW - YEAR - 1, -1, 2**60])
def test_a_chain_out_of_its_time(now: int, code_of: CodeOf) -> None:
    chain = Maker().chain()
    assert code_of(verify_ek_chain, chain, roots_of(chain), now) == "evidence-expired"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"purposes": ()}, "evidence-key"),
        ({"purposes": ("2.23.133.8.3",)}, "evidence-key"),
        ({"purposes": (ExtendedKeyUsageOID.SERVER_AUTH.dotted_string,)}, "evidence-key"),
        ({"usage": "digital_signature"}, "evidence-key"),
        ({"usage": "key_agreement"}, "evidence-key"),
        ({"usage": "key_encipherment key_cert_sign"}, "evidence-key"),
        ({"has_usage": False}, "evidence-key"),
        ({"ek": rsa.generate_private_key(65537, 1024)}, "evidence-key"),
        ({"ek": ec.generate_private_key(ec.SECP521R1())}, "evidence-key"),
        ({"ek": ed25519.Ed25519PrivateKey.generate()}, "evidence-key"),
        ({"is_authority": False}, "evidence-chain"),
    ],
)
def test_a_chain_with_one_thing_wrong(change: dict[str, Any], code: str, code_of: CodeOf) -> None:
    chain = Maker(**change).chain()
    assert code_of(verify_ek_chain, chain, roots_of(chain), NOW) == code


def test_chains_that_are_none(code_of: CodeOf) -> None:
    chain = Maker().chain()
    roots = roots_of(chain)
    for broken, code in (
        ([], "evidence-certificate"),
        ([chain[-1]], "evidence-certificate"),
        ([chain[0]] * 9, "evidence-certificate"),
        ([b"", *chain[1:]], "evidence-certificate"),
        ([chain[0] + b"\0", *chain[1:]], "evidence-certificate"),
        ([chain[0], chain[-1]], "evidence-chain"),
        ([chain[0], *chain], "evidence-chain"),
        (chain[:-1], "evidence-untrusted-root"),
        (chain[::-1], "evidence-untrusted-root"),
    ):
        assert code_of(verify_ek_chain, broken, roots, NOW) == code


def test_mutants_of_a_chain_never_say_something_else(survey: Any) -> None:
    """A few verify: the count of unused bits of the signature, for one, is not signed."""
    rng = random.Random(22)
    chain = Maker().chain()
    roots = roots_of(chain)

    def verify(data: bytes) -> Any:
        return verify_ek_chain([data, *chain[1:]], roots, NOW)

    found = survey(verify, (mutate_bytes(rng, chain[0]) for _ in range(20_000)))
    assert found.codes["evidence-chain"] > 1_000
    assert all(claims == verify(chain[0]) for _, claims in found.accepted)


# Credentials: opened as a TPM would, with code of the library that the other side does not use

NAME = b"\x00\x0b" + b"\x5a" * 32
SECRET = b"thirty-two bytes of secret, here"


def read(data: bytes) -> tuple[bytes, bytes]:
    (size,) = struct.unpack_from(">H", data)
    assert len(data) >= 2 + size
    return data[2 : 2 + size], data[2 + size :]


def seed_of(ek: Any, encrypted: bytes, algorithm: Any) -> bytes:
    if isinstance(ek, rsa.RSAPrivateKey):
        return ek.decrypt(encrypted, padding.OAEP(padding.MGF1(algorithm), algorithm, b"IDENTITY\0"))
    x, rest = read(encrypted)
    y, rest = read(rest)
    assert rest == b""
    point = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ek.curve).public_key()
    own = ek.public_key().public_numbers().x.to_bytes(ek.key_size // 8)
    info = b"IDENTITY\0" + x + own
    return ConcatKDFHash(algorithm, algorithm.digest_size, info).derive(ek.exchange(ec.ECDH(), point))


def kdfa(algorithm: Any, seed: bytes, label: bytes, context: bytes, size: int) -> bytes:
    kdf = KBKDFHMAC(
        algorithm, Mode.CounterMode, size, 4, 4, CounterLocation.BeforeFixed, label, context, None
    )
    return kdf.derive(seed)


def activate(ek: Any, name: bytes, credential: Credential) -> bytes:
    """TPM2_ActivateCredential."""
    algorithm: Any = hashes.SHA384() if ek.key_size == 384 else hashes.SHA256()
    body, rest = read(credential.id_object)
    assert rest == b""
    integrity, identity = read(body)
    encrypted, rest = read(credential.encrypted_secret)
    assert rest == b""
    seed = seed_of(ek, encrypted, algorithm)
    mac_key = kdfa(algorithm, seed, b"INTEGRITY", b"", algorithm.digest_size)
    if not hmac.compare_digest(hmac.digest(mac_key, identity + name, algorithm.name), integrity):
        raise ValueError("TPM_RC_INTEGRITY")
    aes = kdfa(algorithm, seed, b"STORAGE", name, 32 if ek.key_size == 384 else 16)
    decryptor = Cipher(algorithms.AES(aes), CFB(bytes(16))).decryptor()
    secret, rest = read(decryptor.update(identity) + decryptor.finalize())
    assert rest == b""
    return secret


@pytest.mark.parametrize("ek", [RSA_EK, P256, P384])
@pytest.mark.parametrize("size", [1, 16, 32])
def test_a_credential_opens_for_its_ak_only(ek: Any, size: int) -> None:
    credential = make_credential(ek.public_key(), NAME, SECRET[:size], rng=os.urandom)
    assert activate(ek, NAME, credential) == SECRET[:size]
    with pytest.raises(ValueError, match="INTEGRITY"):
        activate(ek, NAME[:-1] + b"\0", credential)


@pytest.mark.parametrize("ek", [RSA_EK, P256, P384])
def test_a_changed_credential_does_not_open(ek: Any) -> None:
    made = make_credential(ek.public_key(), NAME, SECRET, rng=os.urandom)
    for at in range(4, len(made.id_object)):
        changed = bytearray(made.id_object)
        changed[at] ^= 1
        with pytest.raises((ValueError, AssertionError, struct.error)):
            activate(ek, NAME, replace(made, id_object=bytes(changed)))


@pytest.mark.parametrize("ek", [RSA_EK, P256, P384])
def test_a_credential_takes_its_randomness_from_the_caller(ek: Any) -> None:
    asked: list[int] = []

    def rng(size: int) -> bytes:
        asked.append(size)
        return bytes(size)

    first, second = (make_credential(ek.public_key(), NAME, SECRET, rng=rng) for _ in range(2))
    assert first.id_object == second.id_object
    assert asked[0] == {RSA_EK: 32, P256: 40, P384: 56}[ek]
    assert activate(ek, NAME, first) == SECRET


def test_credentials_that_are_not_made(code_of: CodeOf) -> None:
    for key in (ec.generate_private_key(ec.SECP521R1()), rsa.generate_private_key(65537, 3072)):
        assert code_of(make_credential, key.public_key(), NAME, SECRET, rng=os.urandom) == "evidence-key"
    for name, secret in ((NAME, b""), (NAME, bytes(33)), (b"", SECRET), (NAME + b"\0", SECRET)):
        with pytest.raises(ValueError, match="length"):
            make_credential(RSA_EK.public_key(), name, secret, rng=os.urandom)
    assert activate(P384, NAME, make_credential(P384.public_key(), NAME, bytes(48), rng=os.urandom)) == bytes(
        48
    )
