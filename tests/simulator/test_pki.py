"""The test PKI: names that nobody can mistake, chains that hold, and nothing of Intel's."""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.roots import INTEL_ROOT_SHA256
from strongroom_simulator import pki as module
from strongroom_simulator.pki import Pki, pem, public_point, sign


def test_every_name_says_simulated(pki: Pki) -> None:
    for holder in (pki.root, pki.platform_ca, pki.tcb_signing, pki.pck):
        for name in holder.certificate.subject:
            assert name.value.startswith("SIMULATED") or name.value == "US"


def test_the_chains_hold(pki: Pki) -> None:
    pairs = [
        (pki.root, pki.root),
        (pki.platform_ca, pki.root),
        (pki.tcb_signing, pki.root),
        (pki.pck, pki.platform_ca),
    ]
    for holder, issuer in pairs:
        holder.certificate.verify_directly_issued_by(issuer.certificate)
        assert holder.key.public_key() == holder.certificate.public_key()
    with pytest.raises(ValueError, match=r"[Ii]ssuer"):
        pki.pck.certificate.verify_directly_issued_by(pki.root.certificate)


def test_only_the_cas_may_sign_certificates(pki: Pki) -> None:
    def is_ca(certificate: x509.Certificate) -> bool:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert usage.key_cert_sign == usage.crl_sign == constraints.ca != usage.digital_signature
        return constraints.ca

    assert [is_ca(h.certificate) for h in (pki.root, pki.platform_ca, pki.tcb_signing, pki.pck)] == [
        *(True, True, False, False)
    ]


def test_lifetime(pki: Pki, now: int) -> None:
    for holder in (pki.root, pki.platform_ca, pki.tcb_signing, pki.pck):
        assert holder.certificate.not_valid_before_utc.timestamp() == now - 86400
        assert holder.certificate.not_valid_after_utc.timestamp() == now + 3650 * 86400


def test_the_root_is_not_intels_and_no_other_installations(pki: Pki, now: int) -> None:
    der = pki.root.certificate.public_bytes(Encoding.DER)
    other = Pki.create(now, bytes)
    assert pki.root_sha256 == hashlib.sha256(der).hexdigest()
    assert len({pki.root_sha256, other.root_sha256, INTEL_ROOT_SHA256}) == 3


def test_the_platforms_identity_comes_from_the_given_randomness(now: int) -> None:
    made = Pki.create(now, lambda size: b"\x07" * size)
    assert made.ppid == b"\x07" * 16
    extension = made.pck.certificate.extensions.get_extension_for_oid(
        x509.ObjectIdentifier("1.2.840.113741.1.13.1")
    )
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    for part in (made.ppid, module.FMSPC, module.CPU_SVN):
        assert part in extension.value.value


def test_signatures_are_raw_and_verify(pki: Pki) -> None:
    signature = sign(pki.pck.key, b"message")
    assert len(signature) == 64
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    pki.pck.key.public_key().verify(der, b"message", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        pki.pck.key.public_key().verify(der, b"another", ec.ECDSA(hashes.SHA256()))
    numbers = pki.pck.key.public_key().public_numbers()
    assert public_point(pki.pck.key) == numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def test_chains_are_pem_in_order(pki: Pki) -> None:
    chain = x509.load_pem_x509_certificates(pem(pki.pck, pki.platform_ca, pki.root).encode())
    assert chain == [pki.pck.certificate, pki.platform_ca.certificate, pki.root.certificate]
