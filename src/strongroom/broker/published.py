"""Reference values that publishers have signed: the newest of each series, as the store has them.

A policy in the store may name a publisher (`[reference_values]`). The file itself is no part of the policy:
its text and digest are what init-data pins and clients compare, and the file is an additional input to each
decision, whose digest the log notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.attestation.policy import Policy
from strongroom.attestation.reference_values import SignedReferenceValues
from strongroom.broker.database import Connection


@dataclass(frozen=True, slots=True)
class PublishedValues:
    """The newest publication of a series.

    Attributes:
        version: Its version.
        signed: The file; its signature is checked again whenever it is used.
    """

    version: int
    signed: SignedReferenceValues


Published = Mapping[tuple[str, str], PublishedValues]
"""By the publisher's key and the name of the series."""


def find(db: Connection) -> Published:
    """All that is published.

    Raises:
        EvidenceError: `reference-values-malformed`: the store has been changed.
    """
    rows = db.execute("SELECT publisher, name, version, document FROM reference_values")
    return {
        (key, name): PublishedValues(version, SignedReferenceValues.parse(document))
        for key, name, version, document in rows
    }


def save(db: Connection, key: str, name: str, values: PublishedValues) -> None:
    """Insert a publication, or put it in place of the one before it."""
    db.execute(
        "INSERT INTO reference_values (publisher, name, version, document) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (publisher, name) DO UPDATE SET version = excluded.version,"
        " document = excluded.document",
        (key, name, values.version, values.signed.to_json_bytes()),
    )


def with_published(policy: Policy, published: Published) -> Policy:
    """A policy with the measurements of the publisher that it names, as far as it takes what is there.

    A version that is older than the policy accepts counts as none: then what the policy itself lists is all.

    Raises:
        EvidenceError: `reference-values-malformed`.
        PolicyRefused: `reference-values-signature` or `reference-values-foreign`: the store has been changed.
    """
    demand = policy.reference_values
    if demand is None:
        return policy
    found = published.get((demand.key, demand.name))
    if found is None or found.version < demand.min_version:
        return policy
    return policy.with_values(found.signed)
