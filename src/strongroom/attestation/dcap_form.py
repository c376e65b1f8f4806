"""The form of a DCAP quote, so that no byte of it is free.

Signatures cover the report and, through the QE report, the attestation key; the certificates cover
themselves. Not covered are lengths, what follows them, and the certificate chain as text, of which a verifier
needs the first two certificates only. Here those bytes are checked too. What stays free is documented
(docs/reference/evidence.md): the characters that end the lines of the chain.

Source: Intel SGX ECDSA QuoteLibReference DCAP API (version 3), Intel TDX DCAP Quoting Library API (4 and 5),
appendix "Quote Format".
"""

from __future__ import annotations

import base64
from typing import Final

from strongroom.attestation.errors import EVIDENCE_CHAIN, EVIDENCE_MALFORMED
from strongroom.attestation.reader import Reader
from strongroom.errors import EvidenceError

_TDX: Final = 0x81
_REST_OF_HEADER: Final = 40
_SGX_BODY: Final = 384
_TDX_BODY: Final = 584
_SIGNATURE_AND_KEY: Final = 128
_QE_REPORT_AND_SIGNATURE: Final = 384 + 64
_QE_CERTIFICATION: Final = 6
_PCK_CHAIN: Final = 5
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"
_LINE_ENDS: Final = b"\r\n"
_MAX_CHAIN: Final = 8


def check_form(quote: bytes, root: bytes, now: int) -> None:
    """Check of a quote what no signature covers.

    Args:
        quote: A quote that verifies.
        root: DER of the root up to which it does.
        now: Unix time of the appraisal.

    Raises:
        EvidenceError: `evidence-malformed`; or, of a root that comes along, `evidence-chain`,
            `evidence-certificate` or `evidence-expired`.
    """
    reader = Reader(quote, "quote", "little")
    version = reader.number(2)
    reader.take(2)
    sgx_or_tdx = reader.number(4)
    reader.take(_REST_OF_HEADER)
    if version >= 5:
        reader.take(2)
        reader.take(reader.number(4))
    else:
        reader.take(_TDX_BODY if sgx_or_tdx == _TDX else _SGX_BODY)
    signature = Reader(reader.take(reader.number(4)), "signature data of the quote", "little")
    if any(reader.rest):
        raise reader.error("other bytes than zeros after its end")
    signature.take(_SIGNATURE_AND_KEY)
    if version >= 4:
        if signature.number(2) != _QE_CERTIFICATION:
            raise signature.error("type of the certification data")
        signature = _inner(signature)
    signature.take(_QE_REPORT_AND_SIGNATURE)
    signature.take(signature.number(2))
    kind = signature.number(2)
    certification = _inner(signature)
    if kind == _PCK_CHAIN:
        _check_chain(certification.rest, root, now)


def _inner(reader: Reader) -> Reader:
    """What stands behind a length, up to the end of what is read."""
    data = reader.take(reader.number(4))
    reader.end()
    return Reader(data, "certification data of the quote", "little")


def _check_chain(pem: bytes, root: bytes, now: int) -> None:
    """Each certificate is written in one way only, and behind the first two stands the root."""
    first, *parts = pem.rstrip(b"\0").translate(None, _LINE_ENDS).split(_BEGIN, _MAX_CHAIN + 1)
    if first or not 2 <= len(parts) <= _MAX_CHAIN:
        raise _malformed(f"not 2 to {_MAX_CHAIN} certificates in PEM")
    chain = []
    for part in parts:
        body = part.removesuffix(_END)
        try:
            chain.append(base64.b64decode(body, validate=True))
        except ValueError:  # binascii.Error is one
            raise _malformed("a certificate is not base64") from None
        if part != base64.b64encode(chain[-1]) + _END:
            raise _malformed("a certificate is not written in the usual way")
    for each in chain[2:]:
        if each != root:
            _check_other_root(each, root, now)


def _check_other_root(der: bytes, root: bytes, now: int) -> None:
    """A maker may issue its root anew. It counts as the same if it has the same key, and signs itself."""
    from strongroom.attestation import certificates

    certificate = certificates.parse_certificate(der, "the root in the quote")
    trusted = certificates.parse_certificate(root, "the root")
    certificates.verify_chain([certificate], now)
    if certificates.key_sha256(certificate) != certificates.key_sha256(trusted):
        raise EvidenceError(EVIDENCE_CHAIN, "the quote has another root than its collateral")


def _malformed(detail: str) -> EvidenceError:
    return EvidenceError(EVIDENCE_MALFORMED, f"certificate chain of the quote: {detail}")
