"""TPM 2.0: verification of quotes, of endorsement keys, and the challenge that binds one to the other.

An attestation key (AK) signs quotes. That it lives in a genuine TPM is shown in two steps: the certificate
of the TPM's endorsement key (EK) chains up to a maker's root, and only that TPM can answer the challenge of
`make_credential` for the AK's name. Whoever skips this must know the AK's name from elsewhere.

Sources: TCG, "Trusted Platform Module Library", revision 1.59, Parts 1 to 3; "TCG EK Credential Profile for
TPM Family 2.0", version 2.5.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from strongroom.attestation import certificates
from strongroom.attestation.errors import (
    EVIDENCE_ALGORITHM,
    EVIDENCE_BINDING,
    EVIDENCE_CERTIFICATE,
    EVIDENCE_KEY,
    EVIDENCE_NONCE,
    EVIDENCE_SIGNATURE,
)
from strongroom.attestation.roots import untrusted_root
from strongroom.attestation.tpm_keys import Attributes, PublicKey, TpmPublic
from strongroom.attestation.tpm_reader import TpmHash, TpmScheme
from strongroom.attestation.tpm_structures import MAX_DATA, TpmQuote, TpmSignature, pcr_digest
from strongroom.errors import EvidenceError

Pcrs: TypeAlias = Mapping[TpmHash, Mapping[int, bytes]]
"""Values of PCRs by bank and number."""

_HASHES: Final[Mapping[TpmHash, type[hashes.SHA256 | hashes.SHA384]]] = {
    TpmHash.SHA256: hashes.SHA256,
    TpmHash.SHA384: hashes.SHA384,
}
_ATTESTATION: Final = (
    Attributes.FIXED_TPM
    | Attributes.FIXED_PARENT
    | Attributes.SENSITIVE_DATA_ORIGIN
    | Attributes.RESTRICTED
    | Attributes.SIGN
)
_EK_CERTIFICATE: Final = x509.ObjectIdentifier("2.23.133.8.1")
"""tcg-kp-EKCertificate: without it a maker's other certificates could pass for those of EKs."""

_IDENTITY: Final = b"IDENTITY\0"


@dataclass(frozen=True, slots=True)
class TpmClaims:
    """What a verified quote says.

    Attributes:
        ak_name: Name of the AK, lower-case hex; empty where somebody else vouches for the bare key.
        qualified_signer: The AK's qualified name, lower-case hex: its place in the TPM's hierarchy.
        nonce: What the relying party asked to be signed.
        pcrs: Values in lower-case hex by bank (`sha256`, `sha384`) and number.
        firmware_version: As the TPM's vendor counts.
        clock: Milliseconds for which the TPM has been powered, over all its life.
        reset_count: Starts of the TPM since it was cleared.
        restart_count: Resumptions since the last start.
        safe: Whether no higher `clock` was ever shown.
    """

    ak_name: str
    qualified_signer: str
    nonce: bytes
    pcrs: Mapping[str, Mapping[int, str]]
    firmware_version: int
    clock: int
    reset_count: int
    restart_count: int
    safe: bool


@dataclass(frozen=True, slots=True)
class EndorsementKey:
    """An EK whose certificate chain has been verified.

    Attributes:
        key: RSA-2048, P-256 or P-384.
        key_sha256: SHA-256 of the key (SubjectPublicKeyInfo in DER), lower-case hex: the identity of the TPM.
            The certificate's own digest is none, since there can be several encodings of its signature.
        root_sha256: SHA-256 of the DER of the root, lower-case hex.
        expires: Unix time at which the first certificate of the chain expires.
    """

    key: PublicKey
    key_sha256: str
    root_sha256: str
    expires: int


@dataclass(frozen=True, slots=True)
class Credential:
    """A challenge for TPM2_ActivateCredential.

    Attributes:
        id_object: TPM2B_ID_OBJECT (Part 2, section 12.4.3).
        encrypted_secret: TPM2B_ENCRYPTED_SECRET (Part 2, section 11.4.33).
    """

    id_object: bytes
    encrypted_secret: bytes


def verify_quote(
    ak: TpmPublic, attest: bytes, signature: bytes, *, nonce: bytes | None, pcrs: Pcrs
) -> TpmClaims:
    """Verify a quote by an AK of which the public area is known. Whose AK it is, is for the caller to know.

    Args:
        ak: The AK; its attributes are checked.
        attest: TPMS_ATTEST, as it was signed.
        signature: TPMT_SIGNATURE.
        nonce: What the quote must be for, 1 to 66 bytes; None to accept any, where freshness is shown
            otherwise.
        pcrs: The values that the quote must cover, exactly, of at least one PCR.

    Raises:
        EvidenceError: `evidence-key`, and as `verify_quote_by_key`.
    """
    check_attestation_key(ak)
    parsed = TpmSignature.parse(signature)
    if (parsed.scheme, parsed.digest) != ak.scheme:
        raise EvidenceError(EVIDENCE_ALGORITHM, "the signature is not by the scheme of the AK")
    return _verify(ak.key, ak.name, attest, parsed, nonce=nonce, pcrs=pcrs)


def verify_quote_by_key(
    key: PublicKey, attest: bytes, signature: bytes, *, nonce: bytes | None, pcrs: Pcrs
) -> TpmClaims:
    """Verify a quote by a bare key that somebody trusted calls an AK. Arguments as of `verify_quote`.

    Raises:
        EvidenceError: `evidence-signature`, `evidence-key` (not of the signature's kind), `evidence-nonce`,
            `evidence-binding` (PCRs), `evidence-algorithm`, `evidence-format`, `evidence-malformed` or
            `evidence-too-large`.
    """
    return _verify(key, b"", attest, TpmSignature.parse(signature), nonce=nonce, pcrs=pcrs)


def check_attestation_key(ak: TpmPublic) -> None:
    """Check that a key signs what its TPM itself has made and nothing else, and cannot leave that TPM.

    Raises:
        EvidenceError: `evidence-key`.
    """
    missing = _ATTESTATION & ~ak.attributes
    if missing or ak.attributes & Attributes.DECRYPT:
        wrong = f"without {missing!r}" if missing else "may decrypt"
        raise EvidenceError(EVIDENCE_KEY, f"the attributes of the AK: {wrong}", found=hex(ak.attributes))
    if ak.symmetric or ak.scheme is None:
        raise EvidenceError(EVIDENCE_KEY, "the AK is not bound to a signature scheme")


def verify_ek_chain(chain: Sequence[bytes], roots: Collection[str], now: int) -> EndorsementKey:
    """Verify the certificate of an EK.

    Args:
        chain: Certificates in DER, the EK's first, the root last; 2 to 8.
        roots: SHA-256 of the DER of the trusted roots, lower-case hex.
        now: Unix time of the appraisal.

    Raises:
        EvidenceError: `evidence-certificate`, `evidence-untrusted-root`, `evidence-chain`,
            `evidence-expired`, or `evidence-key` (not the certificate of an EK, or a key that is not
            supported).
    """
    if not 2 <= len(chain) <= certificates.MAX_CHAIN:
        raise EvidenceError(EVIDENCE_CERTIFICATE, "number", found=len(chain), expected="2 to 8")
    parsed = tuple(certificates.parse_certificate(der, f"EK chain, {at}") for at, der in enumerate(chain))
    root = certificates.sha256(parsed[-1])
    if root not in roots:
        raise untrusted_root(root, roots, what="EK chain")
    certificates.verify_chain(parsed, now)
    key = _ek_key(parsed[0])
    return EndorsementKey(key, certificates.key_sha256(parsed[0]), root, certificates.expiry(parsed))


def make_credential(
    ek: PublicKey, ak_name: bytes, secret: bytes, *, rng: Callable[[int], bytes]
) -> Credential:
    """Encrypt a secret so that only the TPM with the EK learns it, and only if it holds an AK of that name.

    Part 1, section 24. The EK is taken to be made from the TCG's template for its kind (EK Credential
    Profile, appendix B): SHA-256 and AES-128 for RSA-2048 and P-256, SHA-384 and AES-256 for P-384.

    Args:
        ek: The EK.
        ak_name: The AK's name, 34 or 50 bytes.
        secret: 1 to 32 bytes, 48 with P-384.
        rng: Source of random bytes; for RSA, OAEP takes its own salt from the operating system.

    Raises:
        EvidenceError: `evidence-key`: another kind of EK.
        ValueError: The lengths of name or secret.
    """
    digest, key_bits = _storage_parameters(ek)
    if len(ak_name) not in {2 + each.size for each in TpmHash} or not 1 <= len(secret) <= digest.size:
        raise ValueError("length of the AK's name or of the secret")
    seed, encrypted = _rsa_seed(ek, rng) if isinstance(ek, rsa.RSAPublicKey) else _ecc_seed(ek, digest, rng)
    storage_key = _kdfa(digest, seed, b"STORAGE", ak_name, key_bits)
    # A vector of zeros: the key is fresh, as the seed is.
    encryptor = Cipher(algorithms.AES(storage_key), CFB(bytes(16))).encryptor()
    identity = encryptor.update(_sized(secret)) + encryptor.finalize()
    integrity_key = _kdfa(digest, seed, b"INTEGRITY", b"", 8 * digest.size)
    integrity = hmac.digest(integrity_key, identity + ak_name, digest.label)
    return Credential(_sized(_sized(integrity) + identity), _sized(encrypted))


def _verify(
    key: PublicKey, name: bytes, attest: bytes, signature: TpmSignature, *, nonce: bytes | None, pcrs: Pcrs
) -> TpmClaims:
    """Nothing of the quote is read before its signature holds."""
    _check_signature(key, attest, signature)
    quote = TpmQuote.parse(attest)
    if nonce is not None:
        _check_nonce(quote.extra_data, nonce)
    if not any(pcrs.values()):
        raise EvidenceError(EVIDENCE_BINDING, "a TPM quote over no PCR says nothing")
    expected = pcr_digest(signature.digest, quote.selection, pcrs)
    if not hmac.compare_digest(quote.pcr_digest, expected):
        raise EvidenceError(
            EVIDENCE_BINDING, "values of the PCRs", found=quote.pcr_digest.hex(), expected=expected.hex()
        )
    return TpmClaims(
        ak_name=name.hex(),
        qualified_signer=quote.qualified_signer.hex(),
        nonce=quote.extra_data,
        pcrs={
            bank.label: {at: bytes(v).hex() for at, v in sorted(pcrs[bank].items())} for bank in sorted(pcrs)
        },
        firmware_version=quote.firmware_version,
        clock=quote.clock,
        reset_count=quote.reset_count,
        restart_count=quote.restart_count,
        safe=quote.safe,
    )


def _check_nonce(found: bytes, nonce: bytes) -> None:
    if not 1 <= len(nonce) <= MAX_DATA or not hmac.compare_digest(found, nonce):
        raise EvidenceError(EVIDENCE_NONCE, "TPM quote", found=found.hex(), expected=nonce[:66].hex())


def _check_signature(key: PublicKey, signed: bytes, signature: TpmSignature) -> None:
    digest = _HASHES[signature.digest]()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and signature.scheme is TpmScheme.ECDSA:
            r, s = (int.from_bytes(value) for value in signature.values)
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
        elif isinstance(key, rsa.RSAPublicKey) and signature.scheme is TpmScheme.RSASSA:
            key.verify(signature.values[0], signed, padding.PKCS1v15(), digest)
        elif isinstance(key, rsa.RSAPublicKey) and signature.scheme is TpmScheme.RSAPSS:
            # TPMs differ in the length of the salt (Part 1, annex B.7).
            pss = padding.PSS(padding.MGF1(digest), padding.PSS.AUTO)
            key.verify(signature.values[0], signed, pss, digest)
        else:
            raise EvidenceError(EVIDENCE_KEY, "the AK is not of the kind of its signature")
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise EvidenceError(EVIDENCE_SIGNATURE, "TPM quote") from None


def _ek_key(certificate: x509.Certificate) -> PublicKey:
    """The key of an EK's certificate, which must be for an EK (EK Credential Profile, section 3.2)."""
    key, extensions = certificate.public_key(), certificate.extensions
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise EvidenceError(EVIDENCE_KEY, "kind of the EK")
    _storage_parameters(key)
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        raise EvidenceError(EVIDENCE_KEY, "the certificate does not say what its key is for") from None
    wraps = usage.key_encipherment if isinstance(key, rsa.RSAPublicKey) else usage.key_agreement
    if _EK_CERTIFICATE not in purposes or not wraps or usage.key_cert_sign:
        raise EvidenceError(EVIDENCE_KEY, "not the certificate of an EK")
    return key


def _storage_parameters(ek: PublicKey) -> tuple[TpmHash, int]:
    """Name hash and bits of the AES key of an EK made from the TCG's template."""
    if isinstance(ek, rsa.RSAPublicKey) and ek.key_size == 2048:
        return TpmHash.SHA256, 128
    if isinstance(ek, ec.EllipticCurvePublicKey) and isinstance(ek.curve, ec.SECP256R1):
        return TpmHash.SHA256, 128
    if isinstance(ek, ec.EllipticCurvePublicKey) and isinstance(ek.curve, ec.SECP384R1):
        return TpmHash.SHA384, 256
    raise EvidenceError(EVIDENCE_KEY, "kind of the EK", expected="RSA-2048, P-256 or P-384")


def _rsa_seed(ek: rsa.RSAPublicKey, rng: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """A seed, and how the TPM gets it (Part 1, annex B.10.3)."""
    seed = rng(TpmHash.SHA256.size)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), _IDENTITY)
    return seed, ek.encrypt(seed, oaep)


def _ecc_seed(
    ek: ec.EllipticCurvePublicKey, digest: TpmHash, rng: Callable[[int], bytes]
) -> tuple[bytes, bytes]:
    """A seed, and how the TPM gets it (Part 1, annex C.6.1; KDFe, section 11.4.10.3)."""
    order, size = ek.curve.group_order, ek.key_size // 8
    # Eight bytes more than the order has leave no bias that matters.
    ephemeral = ec.derive_private_key(int.from_bytes(rng(size + 8)) % (order - 1) + 1, ek.curve)
    point, own = ephemeral.public_key().public_numbers(), ek.public_numbers()
    shared = ephemeral.exchange(ec.ECDH(), ek)
    seed = digest.digest((1).to_bytes(4) + shared + _IDENTITY + point.x.to_bytes(size) + own.x.to_bytes(size))
    return seed, _sized(point.x.to_bytes(size)) + _sized(point.y.to_bytes(size))


def _kdfa(digest: TpmHash, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """KDFa (Part 1, section 11.4.10.2), one round of it: for at most one digest."""
    data = (1).to_bytes(4) + label + b"\0" + context + bits.to_bytes(4)
    return hmac.digest(key, data, digest.label)[: bits // 8]


def _sized(data: bytes) -> bytes:
    """A TPM2B."""
    return len(data).to_bytes(2) + data
