"""Start one worker as configured: measure, launch, quote for it until it ends."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import msgspec

from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.initdata import InitData
from strongroom.config import CONFIG_INVALID, Config
from strongroom.engines.import_roots import measure_default
from strongroom.engines.launcher import Launcher, SimulatedQuoting
from strongroom.errors import ConfigError
from strongroom.worker.config import BundleSource, WorkerSettings
from strongroom_simulator.state import KINDS, SimulatorState

SHARD: Final = 0
_log = logging.getLogger(__name__)


def run(config: Config, name: str = "") -> int:
    """Launch a worker and wait for its end; returns its exit status.

    Args:
        config: The service's configuration, with a `[worker]` table.
        name: Stable name of the worker in the queue; empty for the configured one.

    Raises:
        ConfigError: There is no `[worker]` table, or its kind of evidence is not known.
        MeasurementError, SimulatorError, EngineError: The worker cannot be started.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if config.worker is None:
        raise ConfigError(CONFIG_INVALID, "[worker] is missing")
    kind = _kind(config.worker.tee)
    init_data = init_data_of(config)
    measurement = measure_default()
    _log.info("measured %s", measurement.sha256.hex())
    state = SimulatorState.open(Path(config.worker.simulator))
    backend = SimulatedQuoting.of(state, kind, measurement, init_data)
    return Launcher(measurement, backend, msgspec.json.encode(settings_of(config, name, init_data))).run()


def _kind(tee: str) -> EvidenceKind:
    for kind in KINDS:
        if kind == tee:
            return kind
    raise ConfigError(CONFIG_INVALID, "worker.tee", found=tee, expected=", ".join(KINDS))


def init_data_of(config: Config) -> bytes:
    """The attested init-data of the workers: service, broker key, release policy, models, witnesses.

    Raises:
        ConfigError: There is no `[worker]` table.
        EvidenceError: `init-data-malformed`.
    """
    if config.worker is None:
        raise ConfigError(CONFIG_INVALID, "[worker] is missing")
    return InitData(
        service=config.service,
        broker_key=config.broker.key,
        release_policy=config.worker.release_policy,
        models=tuple(model.resource for model in config.worker.models),
        witnesses=tuple(witness.key for witness in config.broker.witnesses),
        witness_threshold=config.broker.usable_threshold,
    ).to_toml()


def settings_of(config: Config, name: str, init_data: bytes) -> WorkerSettings:
    """What the worker reads from its launcher; nothing in it needs to be trusted.

    Raises:
        ConfigError: There is no `[worker]` table.
    """
    worker = config.worker
    if worker is None:
        raise ConfigError(CONFIG_INVALID, "[worker] is missing")
    return WorkerSettings(
        queue_url=config.queue.url,
        queue_tls=config.queue.tls,
        service=config.service,
        shard=SHARD,
        consumer=name or worker.name,
        broker_url=config.broker.url,
        init_data=init_data.decode(),
        tee=worker.tee,
        bundles=tuple(BundleSource(model.path, model.resource) for model in worker.models),
        classical_release=worker.classical_release,
        threads=worker.threads,
        streams=worker.streams,
        max_body=config.queue.max_body,
        claim_after_ms=int(config.queue.claim_after * 1000),
        max_deliveries=config.queue.max_deliveries,
    )
