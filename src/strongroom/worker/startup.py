"""From a hardened process to one that can serve: attest, take keys, open the models.

While one thread talks with the broker and decrypts the bundles, another imports the runtime, which takes as
long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.attestation.policy import Policy, decode_policy
from strongroom.broker.client import KbsClient
from strongroom.broker.release import ServiceEpoch
from strongroom.errors import StrongroomError
from strongroom.models.bundle import Bundle
from strongroom.worker.config import WorkerSettings
from strongroom.worker.enroll import Enrolment
from strongroom.worker.errors import BUNDLE_REFUSED, CONFIG_REFUSED, WorkerError
from strongroom.worker.logging import Journal
from strongroom.worker.quoter import Quoter

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
_PASSING: Final = 503


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a worker has been given.

    Attributes:
        enrolment: The dealings with the broker.
        epochs: The service keys, newest epoch first.
        bundles: The models, names distinct.
        policy: Text of the release policy.
        max_age: Seconds for which clients accept evidence, as the release policy has it.
    """

    enrolment: Enrolment
    epochs: tuple[ServiceEpoch, ...]
    bundles: tuple[Bundle, ...]
    policy: bytes
    max_age: int


def enrol(settings: WorkerSettings, quoter: Quoter) -> Enrolled:
    """Attest to the broker, and take keys, models and policy.

    Raises:
        UnreachableError: `broker-unreachable`.
        StrongroomError: A refusal, by the broker or of what it gave.
    """
    init_data = settings.init_data.encode()
    try:
        client = KbsClient(
            settings.broker_url, settings.tee, quoter.quote, classical=settings.classical_release
        )
    except ValueError as error:
        raise WorkerError(CONFIG_REFUSED, f"broker_url: {error}") from None
    enrolment = Enrolment(client, init_data)
    if enrolment.init_data.service != settings.service:
        raise WorkerError(
            CONFIG_REFUSED, "service", found=settings.service, expected=enrolment.init_data.service
        )
    try:
        enrolment.attest()
        epochs = enrolment.service_keys()
        bundles = tuple(enrolment.bundle(Path(each.path), each.resource) for each in settings.bundles)
        policy = enrolment.release_policy()
    finally:
        enrolment.close()
    names = {bundle.manifest.name for bundle in bundles}
    if len(names) != len(bundles):
        raise WorkerError(BUNDLE_REFUSED, "two bundles have a model of the same name")
    return Enrolled(enrolment, epochs, bundles, policy, Policy.parse(decode_policy(policy)).max_evidence_age)


def patiently(
    work: Callable[[], Enrolled], journal: Journal, wait: Callable[[float], object] | None = None
) -> Enrolled:
    """Do it again with growing pauses while the broker is away or overloaded.

    Args:
        work: What to do.
        journal: The log.
        wait: Waits some seconds.

    Raises:
        StrongroomError: A refusal that waiting does not mend.
    """
    if wait is None:
        wait = threading.Event().wait
    pause = FIRST_PAUSE
    attempt = 1
    while True:
        try:
            return work()
        except StrongroomError as error:
            if error.status != _PASSING:
                raise
            journal.failure("enrol", error, attempt=attempt)
        wait(pause)
        attempt += 1
        pause = min(2 * pause, LONGEST_PAUSE)
