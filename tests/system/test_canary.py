"""Plaintext stays out of the untrusted parts: memory, files and logs, while and after it is served."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest

import strongroom
from strongroom.engines.canary import (
    Sighting,
    array_forms,
    byte_forms,
    descendants,
    search_files,
    search_process,
)

pytestmark = [pytest.mark.system, pytest.mark.slow]

UNTRUSTED = ("frontend", "queue", "broker", "worker-0")


def canary() -> np.ndarray:
    """Random float32 numbers with all their digits."""
    return np.random.default_rng().standard_normal(256, dtype=np.float32)


def forms_of(values: np.ndarray) -> dict[str, bytes]:
    """All forms of the first 32 numbers, and of their bytes."""
    part = values.reshape(-1)[:32]
    return array_forms(part) | byte_forms(part.tobytes())


def search(service, forms: dict[str, bytes]) -> list[Sighting]:
    """Search everything of the service but the enclave."""
    found = search_process(service.process.pid, "supervisor", forms)
    for part in UNTRUSTED:
        found += search_process(service.pid(part), part, forms)
    return found + search_files([service.home], forms)


def test_a_sealed_request_and_its_answer_are_found_nowhere(service) -> None:
    values = canary()[:256].reshape(4, 64)
    forms = forms_of(values)
    stop = threading.Event()
    served = 0

    def serve() -> None:
        nonlocal served
        with strongroom.connect(service.url, policy=service.policy) as room:
            while not stop.is_set():
                answer = room.infer("echo", {"x": values})
                assert np.array_equal(answer.outputs["y"], values)
                served += 1

    client = threading.Thread(target=serve)
    client.start()
    try:
        while_serving = search(service, forms)
    finally:
        stop.set()
        client.join(60)
    after = search(service, forms)
    assert served > 0
    assert while_serving == []
    assert after == []


def test_the_enclave_is_the_only_part_left_out(service) -> None:
    searched = {service.process.pid, *(service.pid(part) for part in UNTRUSTED)}
    others = {pid: line for pid, line in descendants(service.process.pid).items() if pid not in searched}
    assert len(others) == 1, others
    assert "strongroom.worker.main" in next(iter(others.values()))


def test_the_same_request_in_plain_mode_is_found_in_the_front_end(service) -> None:
    values = canary()[:64].reshape(1, 64)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 64], "data": values.reshape(-1).tolist()}
    with httpx.Client(base_url=service.url, trust_env=False) as http:
        answer = http.post("/v2/models/echo/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    assert answer.headers["strongroom-mode"] == "plain"
    assert np.array_equal(np.float32(answer.json()["outputs"][0]["data"]), values.reshape(-1))
    forms = forms_of(values)
    assert search_process(service.pid("frontend"), "frontend", forms), "the positive control failed"
    assert search_process(service.pid("queue"), "queue", forms) == []


def test_a_file_with_the_canary_is_found(service, tmp_path: Path) -> None:
    values = canary()[:64]
    (tmp_path / "log").write_text(json.dumps([float(v) for v in values]))
    assert search_files([tmp_path], forms_of(values))
