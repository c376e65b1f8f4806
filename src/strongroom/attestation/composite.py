"""One verdict over a CPU's evidence and that of its devices.

The CPU's report data must bind the runtime data; the devices' evidence is in the runtime data, and is for a
nonce that is made of the rest of it. So neither can be taken from another machine or another occasion.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import replace

from strongroom.attestation.claims import Claims
from strongroom.attestation.errors import EVIDENCE_BINDING
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.runtime_data import RuntimeData
from strongroom.attestation.verify import verify_evidence
from strongroom.errors import EvidenceError


def verify_composite(
    evidence: Evidence,
    runtime_data: RuntimeData | None,
    roots: TrustRoots,
    now: int,
    *,
    rims: Sequence[bytes] = (),
) -> Claims:
    """Verify evidence and, if there is runtime data, that it binds it, and the devices in it.

    Args:
        evidence: Of the CPU.
        runtime_data: What its report data must bind; None to leave that to somebody else.
        roots: Roots up to which it may verify.
        now: Unix time of the appraisal.
        rims: NVIDIA's reference values, signed.

    Raises:
        EvidenceError: A code `evidence-...`; `evidence-binding` if other runtime data is bound.
    """
    claims = verify_evidence(evidence, roots, now)
    if runtime_data is None:
        return claims
    if not hmac.compare_digest(claims.report_data, runtime_data.report_data()):
        raise EvidenceError(EVIDENCE_BINDING, "the report data binds other runtime data")
    return add_devices(claims, runtime_data, roots, now, rims=rims)


def add_devices(
    claims: Claims, runtime_data: RuntimeData, roots: TrustRoots, now: int, *, rims: Sequence[bytes] = ()
) -> Claims:
    """The claims with those of the devices in the runtime data, which the claims' report data must bind.

    Raises:
        EvidenceError: A code `evidence-...`.
    """
    if not runtime_data.additional_evidence:
        return claims
    from strongroom.attestation.devices import verify_devices, verify_rims

    devices = verify_devices(
        runtime_data.additional_evidence,
        nonce=runtime_data.device_nonce(),
        roots=roots,
        now=now,
        rims=verify_rims(rims, roots=roots, now=now),
    )
    expires = min(claims.expires, *(device.gpu.expires for device in devices))
    return replace(claims, devices=devices, expires=expires)
