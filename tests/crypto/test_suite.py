from __future__ import annotations

import pytest

from strongroom.crypto.hpke import CLASSICAL_SUITE, DEFAULT_SUITE, Aead, Kdf, Kem, Suite

KEMS = (0x0020, 0x647A)
AEADS = (1, 2, 3)


def test_defaults():
    assert Suite(Kem.MLKEM768_X25519, Kdf.HKDF_SHA256, Aead.AES_256_GCM) == DEFAULT_SUITE
    assert Suite(Kem.X25519_HKDF_SHA256, Kdf.HKDF_SHA256, Aead.AES_256_GCM) == CLASSICAL_SUITE
    assert DEFAULT_SUITE.name == "MLKEM768-X25519/HKDF-SHA256/AES-256-GCM"


def test_numbers_become_members():
    suite = Suite(0x647A, 1, 3)  # type: ignore[arg-type]
    assert (suite.kem, suite.kdf, suite.aead) == (
        Kem.MLKEM768_X25519,
        Kdf.HKDF_SHA256,
        Aead.CHACHA20_POLY1305,
    )
    assert isinstance(suite.kem, Kem)
    assert isinstance(suite.aead, Aead)
    assert suite == Suite(Kem.MLKEM768_X25519, Kdf.HKDF_SHA256, Aead.CHACHA20_POLY1305)


def test_suite_id_as_in_rfc_9180():
    assert Suite(Kem.X25519_HKDF_SHA256, 1, Aead.AES_128_GCM).suite_id == b"HPKE\x00\x20\x00\x01\x00\x01"
    assert DEFAULT_SUITE.suite_id == b"HPKE\x64\x7a\x00\x01\x00\x02"


def test_names_differ():
    names = {Suite(kem, 1, aead).name for kem in Kem for aead in Aead}
    assert len(names) == 6


@pytest.mark.parametrize("kem", [0, 0x0010, 0x0011, 0x0012, 0x0021, 0x0041, 0x0050, 0x647B, 0xFFFF])
def test_unknown_kem_is_refused(kem, refuses):
    with refuses("hpke-unknown-suite"):
        Suite(kem, 1, 1)


@pytest.mark.parametrize("kdf", [0, 2, 3, 0x10, 0x11, 0xFFFF])
def test_unknown_kdf_is_refused(kdf, refuses):
    with refuses("hpke-unknown-suite"):
        Suite(0x0020, kdf, 1)


@pytest.mark.parametrize("aead", [0, 4, 0xFFFF])
def test_unknown_cipher_is_refused(aead, refuses):
    with refuses("hpke-unknown-suite"):
        Suite(0x0020, 1, aead)


def test_vectors_of_other_suites_are_refused(hpke_vectors, refuses):
    known = 0
    for case in hpke_vectors:
        numbers = (case["kem_id"], case["kdf_id"], case["aead_id"])
        if numbers[0] in KEMS and numbers[1] == 1 and numbers[2] in AEADS:
            Suite(*numbers)
            known += 1
        else:
            with refuses("hpke-unknown-suite"):
                Suite(*numbers)
    assert known == 4


@pytest.mark.parametrize(("aead", "size"), [(1, 16), (2, 32), (3, 32)])
def test_key_sizes(aead, size):
    cipher = Aead(aead).cipher(bytes(size))
    assert Aead(aead).key_size == size
    assert cipher.decrypt(bytes(12), cipher.encrypt(bytes(12), b"text", b""), b"") == b"text"
