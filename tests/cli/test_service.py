"""`verify` and `predict` against a simulated service, and `up` as far as it refuses to start."""

from __future__ import annotations

import dataclasses
import re
import socket
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.policy import Policy
from strongroom.attestation.reference_checks import ReferenceDemand
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.codec.bhttp import Response
from strongroom.crypto.ohttp import peek_key_id
from strongroom.crypto.sign import SigningKey
from strongroom.engines.local import exclusive

# verify


def test_verify_says_what_it_found(cli, loopback) -> None:
    result = cli("verify", "--url", loopback.url, "--policy", loopback.policy)
    assert (result.code, result.err) == (0, "")
    keyset = loopback.simulator.keyset()
    rows = dict(re.findall(r"^  (\S+(?: \S+)?)  +(.+)$", result.out, re.MULTILINE))
    assert result.out.splitlines()[0] == (
        f"SIMULATED: {loopback.url} passes the policy, which admits simulated evidence"
    )
    assert "  warning       SIMULATED evidence: not protection" in result.out
    assert "  warning       key custodian unattested: a test" in result.out
    assert rows["service"] == "default, epoch 1, 1 worker(s) seen"
    assert rows["measurement"] == loopback.simulator.measurement.hex()
    assert rows["keyset"] == keyset.digest()
    assert rows["suites"] == ", ".join(keyset.suites)
    assert rows["broker key"] == keyset.broker_key
    assert rows["policy"] == keyset.release_policy
    assert rows["model"] == "echo version 1, manifest sha256:" + "0" * 64
    assert rows["valid until"].endswith(" UTC")


def test_a_client_may_know_the_measurement_from_its_publisher(cli, loopback, tmp_path) -> None:
    """The own policy lists no code, but names who publishes it."""
    publisher = SigningKey.from_raw(b"\x07" * 64)
    demand = ReferenceDemand(publisher.verifying_key.text, "echo", 2)
    own = dataclasses.replace(Policy.load(loopback.policy), measurements={}, reference_values=demand)
    loopback.policy.write_text(own.to_toml())
    labels = {loopback.simulator.measurement.hex(): "echo 1"}
    now = int(time.time())
    values = ReferenceValues("a test", "echo", 2, now, now - 10, now + 600, {EvidenceKind.SGX: labels})
    path = tmp_path / "values.json"
    path.write_bytes(values.sign(publisher).to_json_bytes())
    asked = ("verify", "--url", loopback.url, "--policy", loopback.policy, "--json")
    refused = cli(*asked)
    assert (refused.code, refused.error["code"]) == (3, "service-release-policy-wider")
    assert cli(*asked, "--values", path).json["measurements"] == list(labels)
    path.write_bytes(dataclasses.replace(values, version=1).sign(publisher).to_json_bytes())
    older = cli(*asked, "--values", path)
    assert (older.code, older.error["code"]) == (3, "reference-values-older")
    assert cli("verify", "--url", loopback.url, "--values", path, "--json").error["code"] == "policy-missing"


@pytest.mark.parametrize(
    ("said", "shown", "value"),
    [
        (
            "enabled",
            "requests in plain are taken as well; the front end sees those (the front end says so)",
            True,
        ),
        ("disabled", "requests in plain are refused (the front end says so)", False),
    ],
)
def test_verify_says_whether_plain_requests_are_taken(cli, loopback, said, shown, value) -> None:
    loopback.simulator.headers = {"strongroom-plain": said}
    asked = ("verify", "--url", loopback.url, "--policy", loopback.policy)
    assert re.search(r"^  plain +(.+)$", cli(*asked).out, re.MULTILINE)[1] == shown
    assert cli(*asked, "--json").json["plain"] is value


def test_verify_for_machines(cli, loopback) -> None:
    result = cli("verify", "--url", loopback.url, "--policy", loopback.policy, "--json")
    assert (result.code, result.err) == (0, "")
    verdict = result.json
    assert verdict["url"] == loopback.url
    assert verdict["service"] == "default"
    assert verdict["simulated"] is True
    assert verdict["measurements"] == [loopback.simulator.measurement.hex()]
    assert "SIMULATED evidence: not protection" in verdict["warnings"]


@pytest.mark.parametrize("fresh", [False, True])
def test_fresh_evidence_is_over_a_nonce_of_ours(cli, loopback, fresh: bool) -> None:
    nonces = []
    evidence = loopback.simulator.evidence

    def seen(nonce: bytes | None):
        nonces.append(nonce)
        return evidence(nonce)

    loopback.simulator.evidence = seen
    options = ["--fresh"] if fresh else []
    assert cli("verify", "--url", loopback.url, "--policy", loopback.policy, *options).code == 0
    assert [nonce is not None and len(nonce) == 32 for nonce in nonces] == [fresh]


def test_verify_refuses_changed_code_with_3(cli, loopback) -> None:
    loopback.simulator.measurement = bytes(32)
    result = cli("verify", "--url", loopback.url, "--policy", loopback.policy)
    assert (result.code, result.out) == (3, "")
    assert f"  found:    {bytes(32).hex()}" in result.err
    assert result.err.endswith("  code:     policy-measurement\n")


def test_verify_refuses_a_foreign_broker_with_3(cli, loopback) -> None:
    loopback.simulator.broker = SigningKey.from_raw(b"\7" * 64)
    result = cli("verify", "--url", loopback.url, "--policy", loopback.policy, "--json")
    assert result.code == 3
    assert result.error["code"] == "service-keyset-signature"


@pytest.mark.parametrize("command", [["verify"], ["predict", "--model", "echo", "x.npy"]])
def test_without_a_policy_nothing_is_asked_or_sent(cli, loopback, command: list[str]) -> None:
    result = cli(*command, "--url", loopback.url)
    assert (result.code, result.out) == (3, "")
    assert "code:     policy-missing" in result.err
    assert "--policy FILE" in result.err
    assert loopback.simulator.requests == []


@pytest.mark.parametrize("command", [["verify"], ["predict", "--model", "echo", "x.npy"]])
def test_a_service_that_is_not_there_is_4(cli, loopback, closed_port: int, command: list[str]) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    result = cli(*command, "--url", url, "--policy", loopback.policy, "--timeout", "0.3")
    assert (result.code, result.out) == (4, "")
    assert "code:     service-unreachable" in result.err


def test_a_service_without_workers_is_4_when_time_is_up(cli, loopback) -> None:
    problem = {"code": "no-worker", "title": "No attested worker has published a keyset", "status": 503}
    loopback.simulator.tamper = lambda *_: httpx.Response(
        503, json=problem, headers={"content-type": "application/problem+json"}
    )
    result = cli("verify", "--url", loopback.url, "--policy", loopback.policy, "--timeout", "0.3")
    assert result.code in {1, 4}
    assert "no-worker" in result.err
    assert len(loopback.simulator.requests) > 1, "it tries again"


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        (None, "policy-unreadable", 2),
        ("", "policy-invalid", 2),
        ("version = 1\nextra = 1", "policy-invalid", 2),
    ],
)
def test_a_policy_that_cannot_be_used_is_2(
    cli, loopback, tmp_path: Path, text: str | None, code: str, status: int
) -> None:
    path = tmp_path / "other.toml"
    if text is not None:
        path.write_text(text)
    result = cli("verify", "--url", loopback.url, "--policy", path, "--json")
    assert (result.code, result.error["code"]) == (status, code)
    assert loopback.simulator.requests == []


# predict


def predict(cli, loopback, *arguments: object):
    return cli("predict", "--url", loopback.url, "--policy", loopback.policy, *arguments)


def test_predict_shows_verdict_label_and_time(cli, loopback, array_file: Path) -> None:
    result = predict(cli, loopback, "--model", "echo", array_file)
    assert (result.code, result.err) == (0, "")
    first, second = result.out.splitlines()
    assert first.startswith("SIMULATED: service default, epoch 1")
    assert re.fullmatch(r"values\.npy +three +75\.0%  \d+\.\d ms", second)


def test_predict_shows_shapes_where_there_are_no_labels(cli, loopback, array_file: Path) -> None:
    respond = loopback.simulator.handler

    def without_labels(request):
        response = respond(request)
        return Response(response.status, response.headers, response.body.replace(b'"labels"', b'"others"'))

    loopback.simulator.handler = without_labels
    result = predict(cli, loopback, "--model", "echo", array_file)
    assert re.search(r"^values\.npy +y \[2, 3\]  \d+\.\d ms$", result.out, re.MULTILINE)


def test_predict_for_machines(cli, loopback, array_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.npy"
    np.save(other, np.zeros((1, 3), np.float32))
    result = predict(cli, loopback, "--model", "echo", array_file, other, "--json", "--top", "5")
    assert (result.code, result.err) == (0, "")
    assert (result.json["verdict"], result.json["model"]) == ("SIMULATED", "echo")
    first, second = result.json["predictions"]
    assert (first["file"], second["file"]) == (str(array_file), str(other))
    assert first["labels"] == [{"index": 3, "name": "three", "probability": 0.75}]
    assert (first["outputs"], second["outputs"]) == ({"y": [2, 3]}, {"y": [1, 3]})
    assert first["milliseconds"]["total"] > 0
    assert first["milliseconds"]["worker"] == {"open": 0.5, "infer": 2.0}


def test_nothing_of_a_file_leaves_in_the_clear(cli, loopback, array_file: Path) -> None:
    assert predict(cli, loopback, "--model", "echo", array_file).code == 0
    bodies = loopback.simulator.sent()
    assert len(bodies) == 2  # the model's description, and the prediction
    for body in bodies:
        assert np.arange(6, dtype=np.float32).tobytes() not in body
        assert b"echo" not in body


@pytest.mark.parametrize(("suite", "key"), [("default", 2), ("classical", 3)])
def test_the_suite_chooses_the_key(cli, loopback, array_file: Path, suite: str, key: int) -> None:
    assert predict(cli, loopback, "--model", "echo", array_file, "--suite", suite).code == 0
    assert {peek_key_id(body).key_id for body in loopback.simulator.sent()} == {key}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("none.jpg", None),
        ("none.npy", None),
        ("empty.npy", b""),
        ("text.npy", b"not an array"),
        ("cut.npy", b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9,)}"),
        ("header.npy", b"\x93NUMPY\x01\x00\x03\x00((("),
        ("zip.npy", b"PK\x03\x04" + bytes(40)),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    cli, loopback, tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = predict(cli, loopback, "--model", "echo", tmp_path / name, "--json")
    assert (result.code, result.error["code"]) == (2, "file-unreadable")
    assert name in result.error["detail"]


def test_an_array_of_python_objects_is_not_unpickled(cli, loopback, tmp_path: Path) -> None:
    path = tmp_path / "objects.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    result = predict(cli, loopback, "--model", "echo", path, "--json")
    assert (result.code, result.error["code"]) == (2, "file-unreadable")


def test_an_error_of_the_worker_is_shown_with_its_code(cli, loopback, array_file: Path) -> None:
    body = b'{"code":"model-unknown","title":"No such model","status":404,"remedy":"Ask for another."}'
    loopback.simulator.handler = lambda _: Response(
        404, ((b"content-type", b"application/problem+json"),), body
    )
    result = predict(cli, loopback, "--model", "nothing", array_file)
    assert result.code == 1
    assert "model-unknown" in result.err


def test_files_before_the_broken_one_are_answered(cli, loopback, array_file: Path, tmp_path: Path) -> None:
    result = predict(cli, loopback, "--model", "echo", array_file, tmp_path / "none.npy")
    assert result.code == 2
    assert "values.npy" in result.out
    assert "none.npy" in result.err


# up, as far as it refuses to start


def test_a_model_without_a_key_here_is_refused_before_anything_starts(
    cli, home: Path, tmp_path: Path
) -> None:
    sealed = tmp_path / "other.sealed"
    sealed.write_bytes(b"sealed elsewhere")
    result = cli("up", sealed, "--json", "--policy-out", tmp_path / "policy.toml")
    assert (result.code, result.out) == (2, "")
    assert result.error["code"] == "model-key-unknown"
    assert list((home / "logs").iterdir()) == []
    assert not (tmp_path / "policy.toml").exists()


def test_a_port_that_is_taken_is_refused(cli, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = cli("up", tmp_path / "x.sealed", "--port", port)
    assert result.code == 2
    assert f"  found:    127.0.0.1:{port}" in result.err
    assert "code:     port-taken" in result.err


def test_a_second_service_in_one_folder_is_refused_at_once(cli, home: Path, tmp_path: Path) -> None:
    with exclusive(home):
        result = cli("up", tmp_path / "x.sealed")
    assert result.code == 2
    assert "code:     already-running" in result.err
    assert {path.name for path in home.iterdir()} == {"lock"}
