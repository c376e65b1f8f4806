"""X.509 chains: each check alone refuses."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ssl import DER_cert_to_PEM_cert
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mutants import mutate_bytes
from strongroom.attestation.certificates import (
    MAX_CERTIFICATE,
    MAX_CHAIN,
    MAX_CRL,
    check_revocation,
    expiry,
    key_sha256,
    name_of,
    parse_certificate,
    parse_chain,
    sha256,
    verify_chain,
    verify_p384,
)
from strongroom.errors import EvidenceError

NOW = 1_800_000_000
DAY = 24 * 3600
TIME = datetime.fromtimestamp(NOW, UTC)
ROOT_KEY, MIDDLE_KEY, LEAF_KEY = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
RSA_KEY = rsa.generate_private_key(65537, 2048)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _issue(
    subject: str,
    issuer: str,
    key: Any,
    signer: Any,
    *,
    ca: bool | None = None,
    path_length: int | None = None,
    days: int = 10,
    digest: Any = None,
    rsa_padding: Any = None,
    extension: x509.ExtensionType | None = None,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(TIME - timedelta(days=1))
        .not_valid_after(TIME + timedelta(days=days))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer, digest or hashes.SHA384(), rsa_padding=rsa_padding)


def _filler(size: int) -> x509.ExtensionType:
    """What makes a certificate or a list larger, and no worse."""
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), bytes(size))


ROOT = _issue("root", "root", ROOT_KEY, ROOT_KEY, ca=True, path_length=1, days=30)
MIDDLE = _issue("middle", "root", MIDDLE_KEY, ROOT_KEY, ca=True, path_length=0, days=20)
LEAF = _issue("leaf", "middle", LEAF_KEY, MIDDLE_KEY)


def test_a_chain_verifies() -> None:
    verify_chain((LEAF, MIDDLE, ROOT), NOW)
    assert expiry((LEAF, MIDDLE, ROOT)) == NOW + 10 * DAY
    assert len({sha256(each) for each in (LEAF, MIDDLE, ROOT)}) == 3
    assert key_sha256(LEAF) != key_sha256(ROOT)


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_rsa_signs_too(digest: Any) -> None:
    for rsa_padding in (padding.PKCS1v15(), padding.PSS(padding.MGF1(digest), digest.digest_size)):
        root = _issue("r", "r", RSA_KEY, RSA_KEY, ca=True, digest=digest, rsa_padding=rsa_padding)
        leaf = _issue("leaf", "r", LEAF_KEY, RSA_KEY, digest=digest, rsa_padding=rsa_padding)
        verify_chain((leaf, root), NOW)


def test_an_issuer_of_another_name_is_refused() -> None:
    misnamed = _issue("leaf", "other", LEAF_KEY, MIDDLE_KEY)
    with pytest.raises(EvidenceError, match=r"another issuer.*evidence-chain"):
        verify_chain((misnamed, MIDDLE, ROOT), NOW)


def test_a_signature_by_another_key_is_refused() -> None:
    forged = _issue("leaf", "middle", LEAF_KEY, ROOT_KEY)
    with pytest.raises(EvidenceError, match=r"signature of CN=middle.*evidence-chain"):
        verify_chain((forged, MIDDLE, ROOT), NOW)


def test_a_root_that_does_not_sign_itself_is_refused() -> None:
    with pytest.raises(EvidenceError, match="evidence-chain"):
        verify_chain((LEAF, MIDDLE), NOW)


def test_an_rsa_issuer_of_an_ecdsa_signature_is_refused() -> None:
    root = _issue("r", "r", RSA_KEY, RSA_KEY, ca=True)
    leaf = _issue("leaf", "r", LEAF_KEY, ROOT_KEY)
    with pytest.raises(EvidenceError, match="evidence-chain"):
        verify_chain((leaf, root), NOW)


def test_an_edwards_signature_is_not_taken() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name("r"))
        .issuer_name(_name("r"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(TIME)
        .not_valid_after(TIME + timedelta(days=1))
    )
    with pytest.raises(EvidenceError, match="evidence-chain"):
        verify_chain((builder.sign(key, None),), NOW)


def test_a_weak_digest_is_refused() -> None:
    root = _issue("r", "r", ROOT_KEY, ROOT_KEY, ca=True)
    leaf = _issue("leaf", "r", LEAF_KEY, ROOT_KEY, digest=hashes.SHA224())
    with pytest.raises(EvidenceError, match="evidence-chain"):
        verify_chain((leaf, root), NOW)


@pytest.mark.parametrize("ca", [None, False])
def test_an_issuer_that_is_no_authority_is_refused(ca: bool | None) -> None:
    middle = _issue("middle", "root", MIDDLE_KEY, ROOT_KEY, ca=ca)
    with pytest.raises(EvidenceError, match=r"not an authority.*evidence-chain"):
        verify_chain((LEAF, middle, ROOT), NOW)


def test_an_authority_over_more_than_it_may_is_refused() -> None:
    root = _issue("root", "root", ROOT_KEY, ROOT_KEY, ca=True, path_length=0)
    with pytest.raises(EvidenceError, match=r"not an authority.*evidence-chain"):
        verify_chain((LEAF, MIDDLE, root), NOW)


@pytest.mark.parametrize("now", [NOW - 2 * DAY, NOW + 11 * DAY])
def test_outside_its_validity_a_chain_is_refused(now: int) -> None:
    with pytest.raises(EvidenceError, match=r"CN=leaf.*evidence-expired"):
        verify_chain((LEAF, MIDDLE, ROOT), now)


@pytest.mark.parametrize("now", [-1, 2**36 + 1, 2**70])
def test_a_time_out_of_range_is_refused(now: int) -> None:
    with pytest.raises(EvidenceError, match="evidence-expired"):
        verify_chain((LEAF, MIDDLE, ROOT), now)


# ---- revocation lists


def _list(
    signer: Any, issuer: str, revoked: tuple[int, ...] = (), *, days: int = 5, filler: int = 0
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(_name(issuer))
        .last_update(TIME - timedelta(days=1))
        .next_update(TIME + timedelta(days=days))
    )
    for serial in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(TIME).build()
        )
    if filler:
        builder = builder.add_extension(_filler(filler), critical=False)
    return builder.sign(signer, hashes.SHA384()).public_bytes(Encoding.DER)


def test_a_list_that_names_nobody_passes() -> None:
    assert check_revocation(_list(ROOT_KEY, "root"), ROOT, (LEAF, MIDDLE), NOW) == NOW + 5 * DAY


def test_a_revoked_certificate_is_refused() -> None:
    crl = _list(ROOT_KEY, "root", (1, MIDDLE.serial_number))
    with pytest.raises(EvidenceError, match=r"CN=middle.*evidence-revoked"):
        check_revocation(crl, ROOT, (LEAF, MIDDLE), NOW)


def test_a_list_says_nothing_of_other_issuers_certificates() -> None:
    check_revocation(_list(ROOT_KEY, "root", (LEAF.serial_number,)), ROOT, (LEAF, MIDDLE), NOW)


def test_a_list_of_another_issuer_is_refused() -> None:
    with pytest.raises(EvidenceError, match=r"of another issuer.*evidence-crl"):
        check_revocation(_list(ROOT_KEY, "middle"), ROOT, (LEAF, MIDDLE), NOW)


def test_a_list_with_another_signature_is_refused() -> None:
    with pytest.raises(EvidenceError, match=r"signature.*evidence-crl"):
        check_revocation(_list(MIDDLE_KEY, "root"), ROOT, (LEAF, MIDDLE), NOW)


@pytest.mark.parametrize("now", [NOW - 2 * DAY, NOW + 6 * DAY])
def test_a_list_outside_its_validity_is_refused(now: int) -> None:
    with pytest.raises(EvidenceError, match=r"revocation list.*evidence-expired"):
        check_revocation(_list(ROOT_KEY, "root"), ROOT, (LEAF, MIDDLE), now)


@pytest.mark.parametrize("crl", [b"", b"\x30\x00", bytes(100), bytes(MAX_CRL + 1)])
def test_what_is_no_list_is_refused(crl: bytes) -> None:
    with pytest.raises(EvidenceError, match="evidence-crl"):
        check_revocation(crl, ROOT, (LEAF,), NOW)


def test_a_list_is_bounded() -> None:
    """However good it is."""
    room = MAX_CRL - len(_list(ROOT_KEY, "root", filler=MAX_CRL - 1000)) + MAX_CRL - 1000
    check_revocation(_list(ROOT_KEY, "root", filler=room - 8), ROOT, (LEAF,), NOW)
    with pytest.raises(EvidenceError, match=r"bytes.*evidence-crl"):
        check_revocation(_list(ROOT_KEY, "root", filler=room + 8), ROOT, (LEAF,), NOW)


# ---- signatures of hardware


def _signature(key: ec.EllipticCurvePrivateKey, text: bytes) -> tuple[int, int]:
    return decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA384())))


def test_a_signature_on_p384_holds() -> None:
    verify_p384(LEAF, *_signature(LEAF_KEY, b"report"), b"report", "report")


def test_a_signature_over_something_else_is_refused() -> None:
    with pytest.raises(EvidenceError, match=r"report.*evidence-signature"):
        verify_p384(LEAF, *_signature(LEAF_KEY, b"report"), b"other", "report")


@pytest.mark.parametrize("number", [0, 2**384, 2**600])
def test_numbers_that_no_signature_has_are_refused(number: int) -> None:
    r, s = _signature(LEAF_KEY, b"report")
    for numbers in ((number, s), (r, number)):
        with pytest.raises(EvidenceError, match="evidence-signature"):
            verify_p384(LEAF, *numbers, b"report", "report")


def test_a_key_on_another_curve_is_refused_for_hardware() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(EvidenceError, match=r"curve.*evidence-key"):
        verify_p384(_issue("leaf", "i", key, key), *_signature(key, b"report"), b"report", "report")


def test_an_rsa_key_is_refused_for_hardware() -> None:
    with pytest.raises(EvidenceError, match=r"curve.*evidence-key"):
        verify_p384(_issue("leaf", "i", RSA_KEY, RSA_KEY), 1, 1, b"report", "report")


# ---- parsing


def _pem(*certificates: x509.Certificate) -> str:
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in certificates)


def test_a_chain_is_read_in_its_order() -> None:
    assert parse_chain(_pem(LEAF, MIDDLE, ROOT), "chain") == (LEAF, MIDDLE, ROOT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        _pem(ROOT) * (MAX_CHAIN + 1),
        _pem(ROOT) + " " * 2 * MAX_CHAIN * MAX_CERTIFICATE,
        _pem(ROOT) + "\u00e9",
    ],
)
def test_what_is_no_chain_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError, match="evidence-certificate"):
        parse_chain(text, "chain")


def test_a_certificate_is_bounded() -> None:
    def certificate(filler: int) -> bytes:
        made = _issue("leaf", "middle", LEAF_KEY, MIDDLE_KEY, extension=_filler(filler))
        return made.public_bytes(Encoding.DER)

    room = MAX_CERTIFICATE - len(certificate(MAX_CERTIFICATE - 1000)) + MAX_CERTIFICATE - 1000
    parse_certificate(certificate(room - 8), "leaf")
    with pytest.raises(EvidenceError, match=r"leaf.*evidence-certificate"):
        parse_certificate(certificate(room + 8), "leaf")


def test_a_name_is_bounded_and_printable() -> None:
    certificate = _issue("\u00e9\x07" + "x" * 60, "i", LEAF_KEY, LEAF_KEY)
    assert name_of(certificate).isprintable()
    assert name_of(certificate).isascii()
    assert len(name_of(certificate)) <= 100


def test_20000_mutants_give_our_errors_only() -> None:
    rng = random.Random(3)
    der, crl = LEAF.public_bytes(Encoding.DER), _list(ROOT_KEY, "root", (5,))
    read = 0
    for number in range(20_000):
        with suppress(EvidenceError):
            if number % 4 == 1:
                read += 1
                parse_chain(DER_cert_to_PEM_cert(mutate_bytes(rng, der)), "leaf")
                read += 1
            elif number % 2:
                verify_chain((parse_certificate(mutate_bytes(rng, der), "leaf"), MIDDLE, ROOT), NOW)
            else:
                read += 1
                check_revocation(mutate_bytes(rng, crl), ROOT, (MIDDLE,), NOW)
                read += 1
    assert read >= 10_000
