"""A machine with a TPM: pinned keys, registers, init-data; each check alone refuses."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.attestation import initdata
from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.tpm_host import verify
from strongroom.errors import EvidenceError
from strongroom_simulator.tpm import SimulatedTpm, init_data_register

NOW = 1_800_000_000
NONCE = b"n" * 48
INIT_DATA = b"version = 1"
TPM = SimulatedTpm(pcrs={4: b"\x04" * 32, 8: init_data_register(INIT_DATA)})


def _verify(quote: bytes, *, keys: frozenset[str] = frozenset({TPM.key_sha256}), **parts: Any) -> Claims:
    return verify(Evidence(EvidenceKind.TPM, quote, **parts), TrustRoots(tpm_keys=keys), NOW)


def _changed(*, ak_public: str | None = None, **quote: Any) -> bytes:
    value = json.loads(TPM.evidence(NONCE))
    value["tpm_quote"] |= quote
    return json.dumps(value | ({} if ak_public is None else {"ak_public": ak_public})).encode()


def test_a_quote_by_a_pinned_key_verifies() -> None:
    claims = _verify(TPM.evidence(NONCE), init_data=INIT_DATA)
    assert (claims.kind, claims.anchor, claims.root_sha256) == (EvidenceKind.TPM, Anchor.TPM, TPM.key_sha256)
    assert (claims.svn, claims.product_id, claims.debug) == (0, 0, False)
    assert claims.report_data == NONCE.ljust(64, b"\0")
    assert claims.init_data_digest == initdata.digest(INIT_DATA)
    assert (claims.pcrs[4], claims.pcrs[5], len(claims.pcrs)) == ("04" * 32, "00" * 32, 24)
    assert not claims.simulated


def test_a_key_that_is_not_pinned_is_refused() -> None:
    with pytest.raises(EvidenceError, match=r"attestation key of the TPM.*evidence-untrusted-root"):
        _verify(TPM.evidence(NONCE), keys=frozenset({SimulatedTpm().key_sha256}))


def test_a_quote_by_another_key_is_refused() -> None:
    stranger = SimulatedTpm(pcrs=TPM.pcrs)
    signature = json.loads(stranger.evidence(NONCE))["tpm_quote"]["signature"]
    with pytest.raises(EvidenceError, match="evidence-signature"):
        _verify(_changed(signature=signature))


def test_another_value_of_a_register_is_refused() -> None:
    pcrs = [value.hex() for value in TPM.registers()]
    pcrs[0] = "01" * 32
    with pytest.raises(EvidenceError, match="evidence-binding"):
        _verify(_changed(pcrs=pcrs))


def test_init_data_that_was_not_measured_is_refused() -> None:
    with pytest.raises(EvidenceError, match=r"PCR 8.*evidence-init-data"):
        _verify(TPM.evidence(NONCE), init_data=b"version = 2")


@pytest.mark.parametrize("kind", ["none", "ed25519"])
def test_what_is_no_key_of_a_tpm_is_refused_even_if_pinned(kind: str) -> None:
    edwards = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    spki = edwards.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = spki if kind == "ed25519" else b"no key"
    pinned = frozenset({hashlib.sha256(key).hexdigest()})
    with pytest.raises(EvidenceError, match="evidence-key") as caught:
        _verify(_changed(ak_public=base64.b64encode(key).decode()), keys=pinned)
    assert caught.value.detail == "attestation key of the TPM"


def test_no_byte_of_a_quote_can_change() -> None:
    attest = TPM.attest(NONCE)
    for place in range(len(attest)):
        changed = bytearray(attest)
        changed[place] ^= 1 << place % 8
        with pytest.raises(EvidenceError, match="evidence-signature"):
            _verify(_changed(message=base64.b64encode(changed).decode()))
