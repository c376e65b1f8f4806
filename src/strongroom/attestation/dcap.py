"""Intel DCAP quotes of SGX and TDX: verification by dcap-qvl, with root and time passed in.

dcap-qvl checks the certificate chain, the revocation lists, the signatures over quote, TCB info and QE
identity, and matches the platform to its TCB level. It always refuses debug enclaves. Here its root is
chosen, its errors get our codes, and bytes that it leaves free are checked (`dcap_form`). The library is
loaded at the first verification, so that programs which verify nothing start without it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.attestation import certificates
from strongroom.attestation.claims import Anchor
from strongroom.attestation.dcap_form import check_form
from strongroom.attestation.errors import (
    EVIDENCE_DEBUG,
    EVIDENCE_EXPIRED,
    EVIDENCE_MALFORMED,
    EVIDENCE_NO_COLLATERAL,
    EVIDENCE_REVOKED,
    EVIDENCE_TCB_UNKNOWN,
    EVIDENCE_UNVERIFIED,
)
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.roots import INTEL_ROOT_SHA256, TrustRoots, untrusted_root
from strongroom.errors import ErrorCode, EvidenceError

MAX_TIME: Final = 2**40
"""Far beyond the lifetime of any certificate, well within what dcap-qvl calculates with."""

MAX_CERTIFICATE: Final = 8 * 1024
"""Most characters of the root in PEM, without its frame; Intel's has about 900."""

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"

# What dcap-qvl 0.7 says, and what it means; everything else is "does not verify".
_MEANINGS: Final[tuple[tuple[str, ErrorCode], ...]] = (
    ("Failed to parse JSON", EVIDENCE_MALFORMED),
    ("Failed to decode", EVIDENCE_MALFORMED),
    ("Debug mode is enabled", EVIDENCE_DEBUG),
    ("TCB status is invalid: Revoked", EVIDENCE_REVOKED),
    ("No matching TCB level", EVIDENCE_TCB_UNKNOWN),
    ("below minimum required", EVIDENCE_TCB_UNKNOWN),
    ("expired", EVIDENCE_EXPIRED),
    ("CrlExpired", EVIDENCE_EXPIRED),
    ("issue date is in the future", EVIDENCE_EXPIRED),
)


@dataclass(frozen=True, slots=True)
class VerifiedQuote:
    """What dcap-qvl found out about a quote.

    Attributes:
        anchor: Who stands at the top of the chain.
        root_sha256: SHA-256 of the DER of that root, lower-case hex.
        report: Name of the report's format and its members; bytes as lower-case hex.
        tcb_status: TCB status, platform and QE combined.
        advisories: Advisories that apply, sorted.
        expires: Unix time at which the first part of the collateral expires.
        fmspc: Platform family, lower-case hex.
    """

    anchor: Anchor
    root_sha256: str
    report: tuple[str, Mapping[str, Any]]
    tcb_status: str
    advisories: tuple[str, ...]
    expires: int
    fmspc: str


def verify_quote(evidence: Evidence, roots: TrustRoots, now: int) -> VerifiedQuote:
    """Verify a quote with its collateral up to a trusted root.

    Args:
        evidence: Quote and collateral.
        roots: Roots up to which it may verify.
        now: Unix time of the appraisal.

    Raises:
        EvidenceError: A code `evidence-...`.
    """
    if evidence.collateral is None:
        raise EvidenceError(EVIDENCE_NO_COLLATERAL)
    if not 0 <= now <= MAX_TIME:
        raise EvidenceError(EVIDENCE_EXPIRED, "the time of the appraisal is out of range")
    anchor, root = choose_root(evidence.collateral["tcb_info_issuer_chain"], roots)
    if anchor is not Anchor.INTEL:
        # dcap-qvl takes it as it is; one that another has issued makes it end the whole process.
        certificates.verify_chain([certificates.parse_certificate(root, "the root")], now)
    found = _verify(evidence.quote, evidence.collateral, None if anchor is Anchor.INTEL else root, now)
    check_form(evidence.quote, root, now)
    (report,) = found["report"].items()
    return VerifiedQuote(
        anchor=anchor,
        root_sha256=hashlib.sha256(root).hexdigest(),
        report=report,
        tcb_status=found["tcb"]["status"],
        advisories=tuple(sorted(set(found["tcb"]["advisory_ids"]))),
        expires=min(found["earliest_expiration_date"], found["qe_iden_earliest_expiration_date"]),
        fmspc=bytes(found["platform"]["pck"]["fmspc"]).hex(),
    )


def choose_root(chain: str, roots: TrustRoots) -> tuple[Anchor, bytes]:
    """The root at the end of a PEM chain, if it is trusted.

    A service may send any chain: its root counts only because its digest is Intel's or pinned by the
    relying party.

    Returns:
        The anchor that the root stands for, and its DER.

    Raises:
        EvidenceError: `evidence-malformed` or `evidence-untrusted-root`.
    """
    der = _last_certificate(chain)
    digest = hashlib.sha256(der).hexdigest()
    if digest == INTEL_ROOT_SHA256 and roots.intel:
        return Anchor.INTEL, der
    if digest in roots.simulated:
        return Anchor.SIMULATED, der
    raise untrusted_root(digest, roots.simulated, vendor="Intel's" if roots.intel else "")


def _last_certificate(chain: str) -> bytes:
    """The DER of the last certificate. Nothing is verified yet, so this takes linear time on any text."""
    text = chain.rstrip(" \t\r\n\0")
    start = text.rfind(_BEGIN)
    if start < 0 or not text.endswith(_END):
        raise EvidenceError(EVIDENCE_MALFORMED, "the issuer chain of the TCB info is not PEM")
    body = text[start + len(_BEGIN) : -len(_END)]
    if len(body) > MAX_CERTIFICATE:
        raise EvidenceError(
            EVIDENCE_MALFORMED, "the root", found=f"{len(body)}", expected=f"at most {MAX_CERTIFICATE}"
        )
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
    except ValueError:  # binascii.Error is one; so is what is not ASCII
        der = b""
    if not der:
        raise EvidenceError(EVIDENCE_MALFORMED, "the issuer chain of the TCB info is not PEM")
    return der


def _verify(quote: bytes, collateral: Mapping[str, str], root: bytes | None, now: int) -> dict[str, Any]:
    import dcap_qvl

    try:
        verifier = dcap_qvl.QuoteVerifier() if root is None else dcap_qvl.QuoteVerifier(root)
        claims = verifier.verify_with_policy(
            quote,
            dcap_qvl.QuoteCollateralV3.from_json(json.dumps(dict(collateral))),
            now,
            # Signatures, chains and validity only: which status is good enough is for our policy to say.
            dcap_qvl.QuotePolicy.claims_only(now),
        )
    except ValueError as error:
        raise _translate(str(error)) from None
    found: dict[str, Any] = json.loads(claims.to_json())
    return found


def _translate(message: str) -> EvidenceError:
    text = message.removeprefix("Verification failed: ")
    for part, kind in _MEANINGS:
        if part in text:
            return EvidenceError(kind, _printable(text))
    return EvidenceError(EVIDENCE_UNVERIFIED, _printable(text))


def _printable(text: str) -> str:
    """Bound and clean a message that may quote what the attester sent."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text[:200])
