"""What a client needs before it seals: keyset, workers' evidence, release policy.

Workers publish these documents into the queue. The front end passes them on and checks nothing: the client
trusts none of it before it has appraised it. It only picks a keyset and
evidence that belong together.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import msgspec

from strongroom.attestation.keyset import Keyset, SignedKeyset
from strongroom.errors import StrongroomError
from strongroom.forms import ready
from strongroom.frontend.errors import NO_WORKER, FrontendError


class Publications(Protocol):
    """What the front end needs of the queue's documents."""

    async def documents(self, kind: str) -> Mapping[str, bytes]:
        """All live documents of a kind, by name."""


@ready
class _EvidenceHead(msgspec.Struct):
    """The one member of a worker's document that the front end reads."""

    keyset: str


@dataclass(frozen=True, slots=True)
class ServiceDocuments:
    """A keyset with the evidence that binds it, as served."""

    keyset: bytes
    evidence: bytes
    policy: bytes
    ohttp_keys: bytes
    parsed: Keyset


class Documents:
    """The current documents, read from the queue at most once in `max_age` seconds."""

    def __init__(
        self, queue: Publications, *, max_age: float = 0.5, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._queue = queue
        self._max_age = max_age
        self._now = now
        self._cached: ServiceDocuments | None = None
        self._read_at = float("-inf")

    async def current(self) -> ServiceDocuments:
        """The newest keyset that some worker's evidence binds.

        Raises:
            FrontendError: `no-worker`.
            QueueError: The queue is away.
        """
        if self._cached is None or self._now() - self._read_at > self._max_age:
            self._cached = await self._read()
            self._read_at = self._now()
        return self._cached

    async def _read(self) -> ServiceDocuments:
        keysets = await self._queue.documents("keyset")
        evidence = list((await self._queue.documents("evidence")).values())
        policies = await self._queue.documents("policy")
        for served, keyset in _newest_first(keysets.values()):
            bound = [document for document in evidence if _binds(document, keyset.digest())]
            policy = next((text for text in policies.values() if _is_policy(text, keyset)), None)
            if bound and policy is not None:
                return ServiceDocuments(
                    keyset=served,
                    evidence=evidence_list(bound),
                    policy=policy,
                    ohttp_keys=keyset.keys,
                    parsed=keyset,
                )
        raise FrontendError(NO_WORKER)


def evidence_list(documents: list[bytes]) -> bytes:
    """Workers' documents as one JSON document."""
    return b'{"workers":[' + b",".join(documents) + b"]}"


def _newest_first(served: Iterable[bytes]) -> list[tuple[bytes, Keyset]]:
    """Keysets that parse, newest epoch first; the queue is not trusted to hold only good ones."""
    parsed: list[tuple[bytes, Keyset]] = []
    for data in served:
        with suppress(StrongroomError):
            parsed.append((data, Keyset.parse(SignedKeyset.parse(data).payload)))
    return sorted(parsed, key=lambda item: item[1].epoch, reverse=True)


def _binds(document: bytes, keyset_digest: str) -> bool:
    try:
        return msgspec.json.decode(document, type=_EvidenceHead).keyset == keyset_digest
    except (msgspec.MsgspecError, ValueError, RecursionError):  # ValueError: a text that is not UTF-8
        return False


def _is_policy(text: bytes, keyset: Keyset) -> bool:
    return keyset.release_policy == "sha256:" + hashlib.sha256(text).hexdigest()
