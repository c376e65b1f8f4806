"""A machine with a TPM 2.0: from a quote by a pinned attestation key to claims.

No certificate comes along. The relying party has enrolled the TPM before: it has verified the certificate of
the endorsement key and challenged the TPM for the attestation key (`tpm.verify_ek_chain`,
`tpm.make_credential`), and pins the digest of that key. A TPM says what a machine has started. It does not
keep the machine's owner from reading its memory.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from strongroom.attestation import tpm_forms
from strongroom.attestation.certificates import MAX_TIME
from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.errors import EVIDENCE_KEY
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.roots import TrustRoots, untrusted_root
from strongroom.attestation.tpm import verify_quote_by_key
from strongroom.attestation.tpm_keys import PublicKey
from strongroom.errors import EvidenceError


def verify(evidence: Evidence, roots: TrustRoots, now: int) -> Claims:  # noqa: ARG001 -- as all verifiers
    """Verify a quote by a key that the roots pin.

    Raises:
        EvidenceError: A code `evidence-...`.
    """
    form = tpm_forms.parse_tpm(evidence.quote)
    digest = hashlib.sha256(form.ak).hexdigest()
    if digest not in roots.tpm_keys:
        raise untrusted_root(digest, roots.tpm_keys, what="attestation key of the TPM")
    quote = form.quote
    said = verify_quote_by_key(_key(form.ak), quote.attest, quote.signature, nonce=None, pcrs=quote.banks)
    return Claims(
        kind=evidence.kind,
        anchor=Anchor.TPM,
        root_sha256=digest,
        measurement="",
        signer="",
        report_data=tpm_forms.report_data(said.nonce),
        init_data_digest=tpm_forms.init_data_digest(quote.pcrs, evidence.init_data),
        tcb_status="",
        advisories=(),
        debug=False,
        product_id=0,
        svn=0,
        expires=MAX_TIME,  # the pin has no end
        pcrs=said.pcrs["sha256"],
    )


def _key(der: bytes) -> PublicKey:
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EvidenceError(EVIDENCE_KEY, "attestation key of the TPM") from error
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise EvidenceError(EVIDENCE_KEY, "attestation key of the TPM", expected="RSA or ECDSA")
    return key
