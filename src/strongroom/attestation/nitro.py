"""AWS Nitro Enclaves: from an attestation document to claims.

The document is a COSE_Sign1 (RFC 9052) whose payload carries its own certificate chain. The signing
certificate lives for three hours and there is no revocation of it. Source: AWS, "Nitro Enclaves attestation
process" (github.com/aws/aws-nitro-enclaves-nsm-api, docs/attestation_process.md).

The report data is the document's `user_data`. Its `nonce` and `public_key` are signed too and not used here:
what they would bind, the report data binds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509

from strongroom.attestation import certificates
from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.errors import (
    EVIDENCE_ALGORITHM,
    EVIDENCE_INIT_DATA,
    EVIDENCE_MALFORMED,
)
from strongroom.attestation.evidence import MAX_QUOTE, Evidence
from strongroom.attestation.roots import AWS_ROOT_SHA256, TrustRoots, untrusted_root
from strongroom.codec import cbor
from strongroom.errors import CodecError, EvidenceError

_COSE_SIGN1: Final = 18
_ES384: Final = {1: -35}
_COORDINATE: Final = 48
_DIGEST_SIZE: Final = 48
_MAX_PCR: Final = 31
_BOUND: Final = {"user_data": 512, "nonce": 512, "public_key": 1024}
_NEEDED: Final = frozenset({"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"})


@dataclass(frozen=True, slots=True)
class NitroDocument:
    """An attestation document, parsed and not verified.

    Attributes:
        module_id: Name of the enclave at its instance.
        timestamp: Unix time in milliseconds by the hypervisor's clock.
        pcrs: The platform's registers that are not locked out, SHA-384, 48 bytes each, by number 0 to 31.
        certificates: Signer first, root last, in DER.
        user_data: At most 512 bytes chosen by the enclave; empty if none.
        signed: What the signature covers (the Sig_structure of RFC 9052, section 4.4).
        signature: ES384, 96 bytes.
    """

    module_id: str
    timestamp: int
    pcrs: dict[int, bytes]
    certificates: tuple[bytes, ...]
    user_data: bytes
    signed: bytes
    signature: bytes

    @classmethod
    def parse(cls, data: bytes) -> NitroDocument:
        """Read a document of at most 64 KiB.

        Raises:
            EvidenceError: `evidence-malformed` or `evidence-algorithm`.
        """
        message = _decode(data, "document")
        if isinstance(message, cbor.Tagged) and message.tag == _COSE_SIGN1:
            message = message.value
        if not isinstance(message, list) or len(message) != 4:
            raise _malformed("not a COSE_Sign1")
        protected, unprotected, payload, signature = message
        if not all(isinstance(part, bytes) for part in (protected, payload, signature)) or unprotected != {}:
            raise _malformed("parts of the COSE_Sign1")
        if _decode(protected, "protected header") != _ES384:
            raise EvidenceError(EVIDENCE_ALGORITHM, "Nitro document", expected="ES384 and no other header")
        if len(signature) != 2 * _COORDINATE:
            raise _malformed("signature")
        signed = cbor.encode(["Signature1", protected, b"", payload])
        return cls(**_payload(_decode(payload, "payload")), signed=signed, signature=signature)


def verify(evidence: Evidence, roots: TrustRoots, now: int) -> Claims:
    """Verify an attestation document.

    Raises:
        EvidenceError: A code `evidence-...`.
    """
    document = NitroDocument.parse(evidence.quote)
    chain = tuple(
        certificates.parse_certificate(der, f"certificate {place}")
        for place, der in enumerate(document.certificates)
    )
    anchor = _anchor(chain[-1], roots)
    certificates.verify_chain(chain, now)
    _check_signature(document, chain[0])
    if evidence.init_data is not None:
        raise EvidenceError(EVIDENCE_INIT_DATA, "a Nitro document binds no init-data")
    registers = [document.pcrs.get(number, bytes(_DIGEST_SIZE)).hex() for number in range(3)]
    return Claims(
        kind=evidence.kind,
        anchor=anchor,
        root_sha256=certificates.sha256(chain[-1]),
        measurement=":".join(registers),
        signer=document.pcrs.get(8, bytes(_DIGEST_SIZE)).hex(),
        report_data=document.user_data,
        init_data_digest=bytes(48),
        tcb_status="",
        advisories=(),
        debug=not any(document.pcrs.get(0, b"")),
        product_id=0,
        svn=0,
        expires=certificates.expiry(chain),
        revocation_checked=True,  # the signer lives for hours, which stands for a revocation list
    )


def _decode(data: bytes, what: str) -> Any:
    try:
        return cbor.decode(data, limit=MAX_QUOTE, what=what)
    except CodecError as error:
        raise _malformed(f"{what}: {error.kind.title}") from None


def _malformed(what: str) -> EvidenceError:
    return EvidenceError(EVIDENCE_MALFORMED, f"Nitro document: {what}")


def _payload(value: Any) -> dict[str, Any]:
    """The members of the payload, checked as the source's section 2.2.2 says."""
    if not isinstance(value, dict) or not _NEEDED <= value.keys() <= _NEEDED | _BOUND.keys():
        raise _malformed("members of the payload")
    if value["digest"] != "SHA384":
        raise EvidenceError(EVIDENCE_ALGORITHM, "digest of the Nitro document", expected="SHA384")
    if type(value["timestamp"]) is not int or not isinstance(value["module_id"], str):
        raise _malformed("timestamp or module_id")
    optional = {name: _optional(value, name) for name in _BOUND}
    return {
        "module_id": value["module_id"],
        "timestamp": value["timestamp"],
        "pcrs": _registers(value["pcrs"]),
        "certificates": _certificates(value["certificate"], value["cabundle"]),
        "user_data": optional["user_data"],
    }


def _registers(value: Any) -> dict[int, bytes]:
    if not isinstance(value, dict) or not value:
        raise _malformed("pcrs")
    for number, digest in value.items():
        if type(number) is not int or not 0 <= number <= _MAX_PCR:
            raise _malformed("number of a PCR")
        if not isinstance(digest, bytes) or len(digest) != _DIGEST_SIZE:
            raise _malformed(f"PCR{number}")
    return value


def _certificates(leaf: Any, above: Any) -> tuple[bytes, ...]:
    """The chain from the signer to the root; the bundle has it the other way round."""
    if not isinstance(above, list) or not 1 <= len(above) < certificates.MAX_CHAIN:
        raise _malformed("cabundle")
    chain = (leaf, *reversed(above))
    if not all(isinstance(each, bytes) for each in chain):
        raise _malformed("a certificate is not bytes")
    return chain


def _optional(value: dict[str, Any], name: str) -> bytes:
    data = value.get(name)
    if data is None:
        return b""
    if not isinstance(data, bytes) or len(data) > _BOUND[name]:
        raise _malformed(name)
    return data


def _anchor(root: x509.Certificate, roots: TrustRoots) -> Anchor:
    digest = certificates.sha256(root)
    if digest == AWS_ROOT_SHA256 and roots.aws:
        return Anchor.AWS
    if digest in roots.simulated:
        return Anchor.SIMULATED
    raise untrusted_root(digest, roots.simulated, vendor="AWS's" if roots.aws else "")


def _check_signature(document: NitroDocument, signer: x509.Certificate) -> None:
    r, s = document.signature[:_COORDINATE], document.signature[_COORDINATE:]
    certificates.verify_p384(signer, int.from_bytes(r), int.from_bytes(s), document.signed, "Nitro document")
