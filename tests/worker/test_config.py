from __future__ import annotations

import json
import os
import random
import threading
from typing import Any

import pytest

from strongroom.errors import StrongroomError
from strongroom.worker.config import MAX_CONFIG, parse_settings, read_settings
from strongroom.worker.errors import WorkerError

GOOD: dict[str, Any] = {
    "queue_url": "unix:///run/strongroom/queue.sock",
    "queue_tls": None,
    "service": "hospital",
    "shard": 0,
    "consumer": "worker-0",
    "broker_url": "http://127.0.0.1:8471",
    "init_data": 'service = "hospital"\n',
    "tee": "sgx",
    "bundles": [{"path": "/models/lite0.sealed", "resource": "kbs:///default/model/lite0"}],
    "threads": 2,
    "streams": 0,
    "max_in_flight": 32,
}


def _json(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_a_good_configuration_is_typed() -> None:
    settings = parse_settings(_json())
    assert settings.service == "hospital"
    assert settings.bundles[0].resource == "kbs:///default/model/lite0"
    assert settings.usable_threads == 2
    assert settings.usable_in_flight == 32


def test_zero_means_what_the_machine_has() -> None:
    settings = parse_settings(_json(threads=0, max_in_flight=0))
    assert settings.usable_threads == len(os.sched_getaffinity(0))
    assert settings.usable_in_flight == 64


def test_tls_files_are_taken() -> None:
    tls = {"ca": "/ca.pem", "certificate": "/c.pem", "key": "/k.pem"}
    settings = parse_settings(_json(queue_url="rediss://queue:6379", queue_tls=tls))
    assert settings.queue_tls is not None
    assert settings.queue_tls.ca == "/ca.pem"


@pytest.mark.parametrize(
    "change",
    [
        {"debug": True},
        {"log_plaintext": True},
        {"queue_url": "http://queue"},
        {"broker_url": "file:///etc/passwd"},
        {"broker_url": "http://" + "x" * 1100},
        {"service": ""},
        {"service": "two words"},
        {"service": 7},
        {"consumer": "../../etc"},
        {"tee": "none"},
        {"shard": -1},
        {"shard": 1024},
        {"threads": 257},
        {"threads": -1},
        {"streams": 257},
        {"max_in_flight": 5000},
        {"max_in_flight": 1.5},
        {"max_body": 1},
        {"claim_after_ms": 1},
        {"max_deliveries": 0},
        {"metrics": -1},
        {"init_data": ""},
        {"init_data": "x" * 65537},
        {"bundles": []},
        {"bundles": [{"path": "/a", "resource": "kbs:///default/model/a"}] * 65},
        {"bundles": [{"path": "/a", "resource": "kbs:///default/model/a"}] * 2},
        {"bundles": [{"path": "", "resource": "kbs:///default/model/a"}]},
        {"bundles": [{"path": "/a", "resource": "http://elsewhere/key"}]},
        {"bundles": [{"path": "/a", "resource": "kbs:///default/model/a", "verify": False}]},
        {"queue_tls": {"ca": "/ca.pem", "insecure": True}},
    ],
)
def test_each_value_out_of_bounds_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(WorkerError) as refused:
        parse_settings(_json(**change))
    assert refused.value.code == "worker-config-refused"


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff\xfe", b"null", b'{"service": "\xff"}'])
def test_what_is_not_our_json_is_refused(data: bytes) -> None:
    with pytest.raises(WorkerError, match="worker-config-refused"):
        parse_settings(data)


@pytest.mark.parametrize(
    "key", ["queue_url", "service", "consumer", "broker_url", "init_data", "tee", "bundles"]
)
def test_a_missing_key_is_refused(key: str) -> None:
    partial = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(WorkerError, match=key):
        parse_settings(json.dumps(partial).encode())


def test_an_oversized_configuration_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(WorkerError, match="size"):
        parse_settings(_json() + b" " * MAX_CONFIG)


def test_the_pipe_is_read_to_its_end_and_closed() -> None:
    reading, writing = os.pipe()
    data = _json()
    os.write(writing, data[:10])
    feeder = threading.Thread(target=lambda: (os.write(writing, data[10:]), os.close(writing)))
    feeder.start()
    settings = read_settings(reading)
    feeder.join()
    assert settings.service == "hospital"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)


def test_a_pipe_that_never_ends_is_cut_at_the_bound() -> None:
    reading, writing = os.pipe()

    def feed() -> None:
        try:
            while True:
                os.write(writing, b" " * 65536)
        except BrokenPipeError:
            os.close(writing)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with pytest.raises(WorkerError, match="size"):
        read_settings(reading)
    feeder.join()


def test_a_descriptor_that_is_no_pipe_is_refused() -> None:
    descriptor = os.open("/", os.O_RDONLY)
    with pytest.raises(WorkerError, match="pipe"):
        read_settings(descriptor)


def test_mutants_raise_only_our_errors() -> None:
    """20,000 inputs, most of them structure-aware: a good configuration with one value changed."""
    rng = random.Random(20260801)
    strange: list[Any] = [
        None,
        True,
        -1,
        0,
        2**63,
        1.5,
        "",
        "x",
        "\u0000",
        [],
        {},
        [[]],
        {"a": 1},
        "x" * 5000,
    ]
    accepted = refused = 0
    for turn in range(20_000):
        if turn % 2:
            key = rng.choice([*GOOD, "max_body", "metrics", "unknown"])
            data = _json(**{key: rng.choice(strange)})
        else:
            raw = bytearray(_json())
            for _ in range(rng.randint(1, 3)):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            data = bytes(raw)
        try:
            parse_settings(data)
            accepted += 1
        except StrongroomError:
            refused += 1
    assert accepted + refused == 20_000
    assert refused > 10_000
