"""What `strongroom evidence token` does: the verdict on archived evidence, as a token for others."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.attestation.composite import verify_composite
from strongroom.attestation.evidence_file import MAX_FILE, EvidenceFile
from strongroom.attestation.runtime_data import RuntimeData
from strongroom.broker import keyfile
from strongroom.broker.ear import EarIssuer, status, trust_vector
from strongroom.cli._evidence import moment, read
from strongroom.cli._output import emit, say
from strongroom.cli._values import load_policy

_MAX_KEY: Final = 16 * 1024
_TOKEN_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Issue:
    """How a token is to be issued."""

    key: Path
    issuer: str
    seconds: int


def run_token(
    path: Path, policy: Path, issue: Issue, *, values: Path | None, at: str, json_output: bool
) -> None:
    """Verify and appraise an evidence file, and print the verdict as a token."""
    demanded = load_policy(policy, values)
    issuer = EarIssuer.from_pem(
        keyfile.read(issue.key, limit=_MAX_KEY), issuer=issue.issuer, seconds=issue.seconds
    )
    file = EvidenceFile.parse(read(path, MAX_FILE))
    appraised_at = file.collected if at == "collected" else moment(at, "--at")
    bound = None if file.runtime_data is None else RuntimeData.parse(file.runtime_data)
    claims = verify_composite(file.evidence, bound, demanded.roots, appraised_at, rims=file.rims)
    demanded.appraise(claims, now=appraised_at)
    now = int(time.time())
    token = issuer.issue(
        claims,
        # Not even the attester's key: an archived verdict is no ground to release anything to it.
        runtime_data={},
        token_id=os.urandom(_TOKEN_ID_BYTES).hex(),
        policy_id=demanded.digest,
        now=now,
        appraised_at=appraised_at,
    )
    if json_output:
        emit(
            {
                "token": token,
                "status": status(trust_vector(claims)),
                "simulated": claims.simulated,
                "appraised_at": appraised_at,
                "expires": now + issue.seconds,
            }
        )
    else:
        say(token)
