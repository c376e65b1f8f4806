"""One case as JSON, and what this implementation says to it.

    {"id": "snp/root-unpinned", "changes": "what differs from the accepted case",
     "expected": CODE or "accepted", "type": "appraisal", "at": UNIX_TIME, "policy": TOML,
     "evidence": {...}, "report_data": HEX, "runtime_data": BASE64URL, "rims": [BASE64URL, ...],
     "reference_values": BASE64URL}

    "type": "document": "document": TEXT          an evidence document, only to be read
    "type": "policy":   "policy": TOML            only to be read
    "type": "service", "release": see the modules of that name

Bytes are base64url without padding. Members that a case does not need are not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.attestation.composite import verify_composite
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.policy import Policy
from strongroom.attestation.reference_values import SignedReferenceValues
from strongroom.attestation.runtime_data import RuntimeData
from strongroom.codec import b64

ACCEPTED: Final = "accepted"
MAX_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes:
        name: Unique, `group/property`.
        changes: What differs from the accepted case of the group, in words.
        expected: The code, or `accepted`.
        type: `appraisal`, `document`, `policy`, `service` or `release`.
        members: The other members of the JSON object.
    """

    name: str
    changes: str
    expected: str
    type: str
    members: Mapping[str, Any] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        head = {"id": self.name, "changes": self.changes, "expected": self.expected, "type": self.type}
        return {**head, **self.members}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Case:
        """Read the JSON object.

        Raises:
            KeyError: A member is missing.
        """
        members = {
            name: each for name, each in value.items() if name not in {"id", "changes", "expected", "type"}
        }
        return cls(value["id"], value["changes"], value["expected"], value["type"], members)


def appraise(members: Mapping[str, Any]) -> None:
    """Verify and appraise. The code of a refusal is raised."""
    appraise_by(Policy.parse(members["policy"]), members)


def appraise_by(policy: Policy, members: Mapping[str, Any]) -> None:
    """Verify and appraise by a policy that was read before. The code of a refusal is raised."""
    values = members.get("reference_values")
    if values is not None:
        policy = policy.with_values(SignedReferenceValues.parse(decode(values)))
    evidence = Evidence.from_json(members["evidence"])
    runtime_data = members.get("runtime_data")
    bound = None if runtime_data is None else RuntimeData.parse(decode(runtime_data))
    rims = [decode(each) for each in members.get("rims", ())]
    claims = verify_composite(evidence, bound, policy.roots, members["at"], rims=rims)
    report_data = members.get("report_data")
    policy.appraise(
        claims, now=members["at"], report_data=None if report_data is None else bytes.fromhex(report_data)
    )


def read_document(members: Mapping[str, Any]) -> None:
    """Read an evidence document."""
    Evidence.parse(members["document"].encode())


def read_policy(members: Mapping[str, Any]) -> None:
    """Read a policy."""
    Policy.parse(members["policy"])


def decode(text: str) -> bytes:
    """Bytes of a member."""
    return b64.decode_url(text, limit=MAX_BYTES, what="member")
