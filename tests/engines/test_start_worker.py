"""What a worker is given: the init-data that its evidence binds, and settings that need no trust."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from strongroom.attestation import initdata
from strongroom.config import (
    BrokerConfig,
    Config,
    ModelConfig,
    QueueConfig,
    TlsFiles,
    WitnessConfig,
    WorkerConfig,
)
from strongroom.crypto.sign import SigningKey
from strongroom.engines.start_worker import init_data_of, run, settings_of
from strongroom.errors import EXIT_USAGE, ConfigError, EvidenceError
from strongroom.worker.config import BundleSource, WorkerSettings, parse_settings

KEY = SigningKey.from_raw(bytes(64)).verifying_key.text
POLICY = "sha256:" + "ab" * 32
WORKER = WorkerConfig(
    tee="sgx",
    simulator="/home/simulator",
    release_policy=POLICY,
    models=(
        ModelConfig("/models/lite0.sealed", "kbs:///default/model/lite0"),
        ModelConfig("/models/mlp.sealed", "kbs:///default/model/mlp"),
    ),
    name="worker-7",
    threads=3,
    streams=2,
)
CONFIG = Config(
    service="pictures",
    queue=QueueConfig(
        "rediss://queue:6380",
        max_body=1 << 20,
        claim_after=2.5,
        max_deliveries=4,
        tls=TlsFiles("ca.pem", "worker.pem", "worker.key"),
    ),
    broker=BrokerConfig("https://broker:8471", KEY),
    worker=WORKER,
)
WITNESS = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
WITHOUT_WORKER = msgspec.structs.replace(CONFIG, worker=None)


def changed(**members: object) -> Config:
    return msgspec.structs.replace(CONFIG, worker=msgspec.structs.replace(WORKER, **members))


def test_init_data_names_service_broker_key_policy_and_models() -> None:
    parsed = initdata.parse(init_data_of(CONFIG))
    assert parsed.service == "pictures"
    assert parsed.broker_key == KEY
    assert parsed.release_policy == POLICY
    assert parsed.models == ("kbs:///default/model/lite0", "kbs:///default/model/mlp")


@pytest.mark.parametrize("classical", [False, True])
def test_the_form_of_the_one_time_key_is_passed_on(classical: bool) -> None:
    settings = settings_of(changed(classical_release=classical), "worker-7", init_data_of(CONFIG))
    assert settings.classical_release is classical


def test_init_data_names_the_witnesses_of_the_broker() -> None:
    watched = msgspec.structs.replace(CONFIG.broker, witnesses=(WitnessConfig("https://w", WITNESS),))
    parsed = initdata.parse(init_data_of(msgspec.structs.replace(CONFIG, broker=watched)))
    assert (parsed.witnesses, parsed.witness_threshold) == ((WITNESS,), 1)


@pytest.mark.parametrize(
    "config",
    [
        msgspec.structs.replace(CONFIG, service="other"),
        msgspec.structs.replace(
            CONFIG,
            broker=BrokerConfig("https://broker:8471", SigningKey.from_raw(b"\1" * 64).verifying_key.text),
        ),
        changed(release_policy="sha256:" + "cd" * 32),
        changed(models=WORKER.models[:1]),
        changed(models=WORKER.models[::-1]),
        msgspec.structs.replace(
            CONFIG, broker=BrokerConfig("https://broker:8471", KEY, witnesses=(WitnessConfig("u", WITNESS),))
        ),
    ],
    ids=["service", "broker key", "policy", "models", "order", "witnesses"],
)
def test_each_of_them_changes_what_the_evidence_binds(config: Config) -> None:
    assert initdata.digest(init_data_of(config)) != initdata.digest(init_data_of(CONFIG))


@pytest.mark.parametrize(
    "config",
    [
        changed(threads=9, streams=9, name="other", simulator="/elsewhere"),
        changed(models=tuple(ModelConfig("/moved", model.resource) for model in WORKER.models)),
        msgspec.structs.replace(CONFIG, queue=QueueConfig("unix:///queue.sock")),
        msgspec.structs.replace(CONFIG, broker=BrokerConfig("http://other:1", KEY)),
    ],
    ids=["sizes", "paths", "queue", "broker url"],
)
def test_where_things_are_changes_nothing_of_it(config: Config) -> None:
    """Workers on other hosts have one init-data, and the host may move what needs no trust."""
    assert init_data_of(config) == init_data_of(CONFIG)


@pytest.mark.parametrize(
    "config",
    [
        msgspec.structs.replace(CONFIG, service="Not A Name"),
        msgspec.structs.replace(CONFIG, broker=BrokerConfig("http://broker", "ed25519+mldsa65:short")),
        changed(release_policy="md5:00"),
        changed(models=(ModelConfig("/models/x", "kbs:///not a resource"),)),
    ],
    ids=["service", "broker key", "policy", "model"],
)
def test_what_no_worker_would_take_is_refused_here(config: Config) -> None:
    with pytest.raises(EvidenceError, match="init-data-malformed"):
        init_data_of(config)


def test_settings_say_where_things_are() -> None:
    init_data = init_data_of(CONFIG)
    assert settings_of(CONFIG, "", init_data) == WorkerSettings(
        queue_url="rediss://queue:6380",
        queue_tls=TlsFiles("ca.pem", "worker.pem", "worker.key"),
        service="pictures",
        shard=0,
        consumer="worker-7",
        broker_url="https://broker:8471",
        init_data=init_data.decode(),
        tee="sgx",
        bundles=(
            BundleSource("/models/lite0.sealed", "kbs:///default/model/lite0"),
            BundleSource("/models/mlp.sealed", "kbs:///default/model/mlp"),
        ),
        threads=3,
        streams=2,
        max_body=1 << 20,
        claim_after_ms=2500,
        max_deliveries=4,
    )


def test_a_name_on_the_command_line_comes_first() -> None:
    assert settings_of(CONFIG, "worker-1", b"").consumer == "worker-1"


def test_the_worker_reads_what_the_launcher_writes() -> None:
    settings = settings_of(CONFIG, "worker-1", init_data_of(CONFIG))
    assert parse_settings(msgspec.json.encode(settings)) == settings


@pytest.mark.parametrize(
    "use",
    [init_data_of, lambda config: settings_of(config, "", b""), run],
    ids=["init-data", "settings", "run"],
)
def test_a_configuration_without_a_worker_is_refused(use: Callable[[Config], object]) -> None:
    with pytest.raises(ConfigError, match=r"\[worker\] is missing") as caught:
        use(WITHOUT_WORKER)
    assert (caught.value.code, caught.value.exit_code) == ("config-invalid", EXIT_USAGE)


def test_a_kind_of_evidence_that_is_not_known_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError) as caught:
        run(changed(tee="sev", simulator="/nonexistent"))
    assert caught.value.code == "config-invalid"
    assert (caught.value.found, caught.value.expected) == ("sev", "sgx, tdx, snp")
