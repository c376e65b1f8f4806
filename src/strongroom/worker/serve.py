"""Puts a worker together from what it was given, and runs it on an event loop."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Final

import uvloop

from strongroom.attestation.keyset import KeysetModel
from strongroom.codec.bhttp import Limits
from strongroom.codec.oip import OipLimits
from strongroom.crypto.sign import SigningKey
from strongroom.models.openvino_runtime import OpenVinoRuntime
from strongroom.queue.connect import connect
from strongroom.queue.consumer import WorkQueue
from strongroom.worker.app import App
from strongroom.worker.config import WorkerSettings
from strongroom.worker.core import Core
from strongroom.worker.duties import Credentials, Duties
from strongroom.worker.evidence import Beacons, EvidenceSource
from strongroom.worker.inference import ServedModel
from strongroom.worker.keys import ServiceKeys
from strongroom.worker.logging import Journal
from strongroom.worker.pace import Pace
from strongroom.worker.quoter import Quoter
from strongroom.worker.service import Control, Service
from strongroom.worker.startup import Enrolled
from strongroom.worker.stopping import Stopper

DRAIN: Final = 10.0
"""Seconds that answering what is held may take when the worker stops."""

SWITCH_INTERVAL: Final = 0.001
"""Seconds after which a waiting thread gets the interpreter; the default of 5 ms starves the slots."""

_SEALING: Final = 1024
"""Room for what sealing adds to a message, in bytes."""


def serve(
    settings: WorkerSettings,
    quoter: Quoter,
    enrolled: Enrolled,
    *,
    stopper: Stopper,
    journal: Journal,
    began: float,
) -> int:
    """Load the models and serve until `stopper` is set.

    Args:
        settings: The configuration.
        quoter: Makes quotes.
        enrolled: Keys, models and policy.
        stopper: Set it to stop.
        journal: The log.
        began: When the process began, by `time.monotonic`.

    Returns:
        The exit code.

    Raises:
        StrongroomError: What was given cannot be served, or the queue refuses this worker.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    held = credentials(settings, quoter, enrolled)
    models = [
        ServedModel.of(bundle, OpenVinoRuntime(bundle, streams=settings.streams or None))
        for bundle in enrolled.bundles
    ]
    for model in models:
        journal.event("model", model=model.name, version=model.version, slots=model.runtime.slots)
    # The collector was off while modules were loaded; what is there now lives as long as the process.
    gc.collect()
    gc.freeze()
    gc.enable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, held, models, stopper=stopper, journal=journal, began=began))
    for model in models:
        model.runtime.close()
    return 0


def credentials(settings: WorkerSettings, quoter: Quoter, enrolled: Enrolled) -> Credentials:
    """Check the keys against init-data and models, and get ready to make evidence.

    Raises:
        WorkerError: `service-keys-refused`.
    """
    enrolment = enrolled.enrolment
    keys = ServiceKeys(
        enrolment.init_data,
        {
            bundle.manifest.name: KeysetModel(bundle.manifest.version, bundle.manifest.digest)
            for bundle in enrolled.bundles
        },
        limit=settings.max_body,
    )
    keys.accept(enrolled.epochs, int(time.time()))
    receipt_key = SigningKey.generate().verifying_key.text
    return Credentials(
        enrolment=enrolment,
        keys=keys,
        beacons=Beacons(settings.service, enrolment.broker_key),
        source=EvidenceSource(quoter, settings.init_data.encode(), settings.consumer, receipt_key),
        policy=enrolled.policy,
        max_age=enrolled.max_age,
    )


async def _serve(
    settings: WorkerSettings,
    held: Credentials,
    models: Sequence[ServedModel],
    *,
    stopper: Stopper,
    journal: Journal,
    began: float,
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    stopper.listen(lambda: loop.call_soon_threadsafe(stop.set))
    async with AsyncExitStack() as stack:
        client = connect(settings.queue_url, tls=settings.queue_tls)
        stack.push_async_callback(client.aclose)
        queue = WorkQueue(
            client,
            settings.service,
            settings.shard,
            settings.consumer,
            claim_after_ms=settings.claim_after_ms,
            max_deliveries=settings.max_deliveries,
            max_body=settings.max_body,
        )
        stack.push_async_callback(queue.aclose)
        await queue.start()
        core = Core(
            lambda: held.keys.gateway,
            App(models, limits=OipLimits(body=settings.max_body)),
            report=lambda error: journal.failure("internal", error),
            limits=Limits(message=settings.max_body),
            max_answer=settings.max_body - _SEALING,
        )
        pool = ThreadPoolExecutor(settings.usable_threads, "decode")
        control = ThreadPoolExecutor(1, "control")
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        stack.callback(control.shutdown, wait=False, cancel_futures=True)
        duties = Duties(
            held,
            lambda kind, document, life: queue.publish(kind, settings.consumer, document, life),
            queue.rewrite,
            executor=control,
            journal=journal,
        )
        service = Service(
            core,
            models,
            queue,
            Control(duties.evidence, duties.hurry),
            pace=Pace(slots=sum(model.runtime.slots for model in models), limit=settings.usable_in_flight),
            pool=pool,
            journal=journal,
            claim_after=settings.claim_after_ms / 1000,
        )
        journal.event(
            "serving",
            worker=settings.consumer,
            service=settings.service,
            epoch=held.keys.newest,
            seconds=time.monotonic() - began,
        )
        beside = [asyncio.create_task(duties.run(), name="duties")]
        if settings.metrics:
            beside.append(asyncio.create_task(_metrics(service, settings.metrics, journal), name="metrics"))
        for task in beside:
            stack.callback(task.cancel)
            task.add_done_callback(lambda _: stop.set())  # none of them ends but by a failure
        await service.run(stop, drain=DRAIN)
        _report(service, journal, "drained")
        for task in beside:
            if task.done():
                task.result()


async def _metrics(service: Service, every: float, journal: Journal) -> None:
    while True:
        await asyncio.sleep(every)
        _report(service, journal, "counters")


def _report(service: Service, journal: Journal, event: str) -> None:
    counters = service.counters
    journal.event(
        event,
        taken=counters.taken,
        answered=counters.answered,
        outrun=counters.outrun,
        expired=counters.expired,
        unopenable=counters.unopenable,
        held=service.held,
    )
