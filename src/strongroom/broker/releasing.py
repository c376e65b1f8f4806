"""A release: the decision, its log entry, and then what leaves the broker.

The entry is committed, and cosigned where witnesses are asked for, before anything is encrypted for the
attester. A service key or a model key leaves as a document with its receipt, which the broker has signed. A
secret leaves as the bytes that were stored, as other attesters expect it: they know neither document nor
receipt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from strongroom.broker import consent, envelope, epochs, log, published, registry
from strongroom.broker.consent import Consent
from strongroom.broker.database import Connection
from strongroom.broker.decision import ReleaseDecision
from strongroom.broker.errors import NO_EPOCH
from strongroom.broker.journal import Journal, facts_of
from strongroom.broker.log_entry import Event, Fact
from strongroom.broker.receipt import Receipt
from strongroom.broker.registry import ModelRecord
from strongroom.broker.release import ModelKey, model_document, service_document
from strongroom.broker.resource import SERVICE_KEY_TYPE, Resource
from strongroom.broker.store import Store
from strongroom.broker.witnessing import Witnessing
from strongroom.codec import jcs
from strongroom.errors import BrokerError, StrongroomError


@dataclass(frozen=True, slots=True)
class _Released:
    """What may leave, now that its entry is committed: a document in JCS or the bytes of a secret."""

    content: bytes
    is_document: bool
    index: int
    receipt: Receipt


class Releases:
    """Releases from one store. Safe to share between threads.

    Args:
        store: The store.
        now: The clock.
        journal: For what is withheld after all.
        witnessing: Witnesses that must have cosigned the log before anything leaves; None asks none.
    """

    def __init__(
        self, store: Store, now: Callable[[], float], journal: Journal, witnessing: Witnessing | None
    ) -> None:
        self._store = store
        self._now = now
        self._journal = journal
        self._witnessing = witnessing

    def release(self, decision: ReleaseDecision, resource: Resource) -> bytes:
        """What leaves the broker, not yet encrypted.

        Raises:
            StrongroomError: The code of the check that refused; a code of the witnesses or of the store.
        """
        released = self._log_release(decision, resource)
        receipt = released.receipt
        if self._witnessing is not None:
            try:
                receipt = self._witnessing.receipt(released.index)
            except StrongroomError as error:
                self._journal.withheld(decision, error, resource=resource, release=released.index)
                raise
        return envelope.seal(released.content, receipt) if released.is_document else released.content

    def _log_release(self, decision: ReleaseDecision, resource: Resource) -> _Released:
        now = int(self._now())
        assert decision.init_data is not None  # noqa: S101 -- there is a token
        with self._store.write() as db:
            service = registry.find_service(db, decision.init_data.service)
            values = published.find(db)
            facts: dict[str, Fact] = {**facts_of(decision), "resource": resource.path}
            record = registry.find_model(db, resource.path)
            if resource.type == SERVICE_KEY_TYPE:
                decision.service_key(resource, service, now, published=values)
            else:
                said = Consent() if service is None or record is None else consent.of(db, service, record)
                decision.model_key(resource, service, record, said, now, published=values)
            content = self._content(db, resource, record, facts, now)
            is_document = record is None or record.is_model
            if is_document:
                facts["document"] = envelope.document_digest(content)
            facts |= facts_of(decision)  # with the reference values that it was offered now
            index = log.append(self._store, db, time=now, event=Event.RELEASED, facts=facts)
            receipt = log.receipt(db, index, log.sign(self._store, db), index + 1)
        return _Released(content, is_document, index, receipt)

    def _content(
        self, db: Connection, resource: Resource, record: ModelRecord | None, facts: dict[str, Fact], now: int
    ) -> bytes:
        """What the decision has allowed, a document in JCS or a secret; what it is goes into the facts."""
        recipient = str(facts["recipient"])
        # Without a record it is a service key: the decision refuses any other such resource.
        if record is None:
            found = epochs.honoured(db, resource.repository, now)
            if not found:
                raise BrokerError(NO_EPOCH)
            facts["epochs"] = [each.epoch for each in found]
            keys = [epochs.load(self._store, db, each) for each in found]
            return jcs.canonical(service_document(resource.repository, recipient, keys))
        facts["manifest"] = record.manifest
        wrapped = registry.wrapped_identity(db, resource.path)
        content = self._store.root.unwrap(wrapped, registry.identity_context(resource.path))
        if not record.is_model:
            return content
        key = ModelKey(record.uri, content.decode(), record.manifest, record.sealed, record.version_floor)
        return jcs.canonical(model_document(recipient, key))
