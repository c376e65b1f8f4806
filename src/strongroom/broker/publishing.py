"""Taking a publisher's reference values into the store, on the broker's machine.

    publish(store, Path("values.json").read_bytes())

That is the operator's alone: a file counts for every service and model whose policy names its publisher, of
whatever tenant. It is taken only if a policy in the store names its publisher and series, and only forward:
a version that is not above the one before it is refused, so that nobody can put an old file in the place of
a new one.
"""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.attestation.errors import VALUES_FOREIGN, VALUES_OLDER
from strongroom.attestation.reference_checks import ReferenceDemand
from strongroom.attestation.reference_values import ReferenceValues, SignedReferenceValues
from strongroom.broker import log, published, registry
from strongroom.broker.database import Connection
from strongroom.broker.log_entry import Event, Fact
from strongroom.broker.policies import policy_of
from strongroom.broker.principal import OPERATOR
from strongroom.broker.published import PublishedValues
from strongroom.broker.store import Store
from strongroom.errors import PolicyRefused


def publish(store: Store, data: bytes) -> ReferenceValues:
    """Take a file of signed reference values. It counts from the next decision on, of every service.

    Taking the same file again changes nothing.

    Raises:
        BrokerError: A code of the store.
        EvidenceError: `reference-values-malformed`.
        PolicyRefused: `reference-values-foreign`, no policy in the store names this series;
            `reference-values-signature`, none that does names the key that signed it; or
            `reference-values-older`, than a policy accepts or than what is there.
    """
    signed = SignedReferenceValues.parse(data)
    with store.write() as db:
        key, values = _accepted(_demands(db), signed)
        before = published.find(db).get((key, values.name))
        if before is not None and before.signed.payload == signed.payload:
            return values
        if before is not None and values.version <= before.version:
            raise PolicyRefused(
                VALUES_OLDER, found=f"version {values.version}", expected=f"at least {before.version + 1}"
            )
        published.save(db, key, values.name, PublishedValues(values.version, signed))
        facts: dict[str, Fact] = {
            "publisher": key,
            "series": values.name,
            "version": values.version,
            "reference_values": [values.digest],
            "by": OPERATOR.text,
        }
        log.append(store, db, time=int(store.now()), event=Event.VALUES_PUBLISHED, facts=facts)
    return values


def _accepted(demands: list[ReferenceDemand], signed: SignedReferenceValues) -> tuple[str, ReferenceValues]:
    """Key and content, by the demand of a policy that takes the file; if none does, the error of one."""
    refusal = PolicyRefused(VALUES_FOREIGN, "no policy in the store has [reference_values]")
    for demand in demands:
        try:
            return demand.key, demand.accept(signed)
        except PolicyRefused as error:
            refusal = error
    raise refusal


def _demands(db: Connection) -> list[ReferenceDemand]:
    return sorted(set(_named(db)), key=lambda demand: (demand.key, demand.name, demand.min_version))


def _named(db: Connection) -> Iterator[ReferenceDemand]:
    texts = [record.policy for record in registry.services(db)]
    texts += [record.policy for record in registry.models(db) if record.policy is not None]
    for text in texts:
        demand = policy_of(text).reference_values
        if demand is not None:
            yield demand
