"""What the broker writes into its log about attesters: one place for the facts of each event."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from strongroom.broker import log, teekey
from strongroom.broker.decision import ReleaseDecision
from strongroom.broker.log_entry import Event, Fact
from strongroom.broker.resource import Resource
from strongroom.broker.store import Store
from strongroom.errors import StrongroomError


class Journal:
    """Writes entries, each in a transaction of its own. Safe to share between threads.

    Args:
        store: Where the log is.
        now: The clock.
    """

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now

    def attested(self, decision: ReleaseDecision) -> None:
        """Evidence was accepted.

        Raises:
            BrokerError: A code of the store or the log.
        """
        self._append(Event.ATTESTED, decision, {})

    def refused(
        self, decision: ReleaseDecision, error: StrongroomError, *, stage: str, resource: str | None
    ) -> None:
        """An attester that has shown evidence was refused.

        Raises:
            BrokerError: A code of the store or the log.
        """
        facts: dict[str, Fact] = {"code": error.code, "stage": stage}
        if resource is not None:
            facts["resource"] = resource
        self._append(Event.REFUSED, decision, facts)

    def withheld(
        self, decision: ReleaseDecision, error: StrongroomError, *, resource: Resource, release: int
    ) -> None:
        """A release that has its entry, number `release`, did not take place.

        Raises:
            BrokerError: A code of the store or the log.
        """
        facts: dict[str, Fact] = {"code": error.code, "resource": resource.path, "release": release}
        self._append(Event.WITHHELD, decision, facts)

    def _append(self, event: Event, decision: ReleaseDecision, facts: Mapping[str, Fact]) -> None:
        with self._store.write() as db:
            all_facts = {**facts_of(decision), **facts}
            log.append(self._store, db, time=int(self._now()), event=event, facts=all_facts)


def facts_of(decision: ReleaseDecision) -> dict[str, Fact]:
    """What is known of an attester."""
    facts: dict[str, Fact] = {"kind": str(decision.kind)}
    if decision.tee_key is not None:
        facts["recipient"] = teekey.thumbprint(decision.tee_key)
    if decision.init_data is not None:
        facts["service"] = decision.init_data.service
        facts["policy"] = decision.init_data.release_policy
    if decision.reference_values:
        facts["reference_values"] = list(decision.reference_values)
    if decision.claims is not None:
        facts["anchor"] = str(decision.claims.anchor)
        facts["measurement"] = decision.claims.measurement
        facts["tcb_status"] = decision.claims.tcb_status
        facts["init_data"] = decision.claims.init_data_digest.hex()
        if decision.claims.devices:
            facts["gpus"] = [device.gpu.device_key_sha256 for device in decision.claims.devices]
    return facts
