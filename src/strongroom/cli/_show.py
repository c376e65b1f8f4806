"""What `verify`, `predict`, `measure` and `keys` show."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

from strongroom.cli._output import emit, say, working
from strongroom.cli.errors import FILE_UNREADABLE, OPTION_INVALID
from strongroom.errors import ConfigError

if TYPE_CHECKING:
    from strongroom.attestation.policy import Policy
    from strongroom.broker.epochs import EpochRecord
    from strongroom.broker.store import Store
    from strongroom.client import Answer, Room
    from strongroom.client._answer import Input
    from strongroom.crypto.hpke import Suite


def suite_by_name(name: str) -> Suite | None:
    """The HPKE suite of `--suite`.

    Raises:
        ConfigError: `option-invalid`.
    """
    from strongroom.crypto.hpke import CLASSICAL_SUITE

    suites: dict[str, Suite | None] = {"default": None, "classical": CLASSICAL_SUITE}
    if name not in suites:
        raise ConfigError(OPTION_INVALID, "--suite", found=name, expected=", ".join(suites))
    return suites[name]


def client_policy(policy: Path | None, values: Path | None) -> Path | Policy | None:
    """What `connect` takes: the policy's file, or the policy with signed measurements."""
    from strongroom.cli._values import load_policy

    return policy if policy is None or values is None else load_policy(policy, values)


def open_store(home: Path | None, config: Path | None) -> Store:
    """The broker's store: the one that a configuration names, else the one in a state folder.

    Raises:
        ConfigError: `option-invalid`, both are given; or a code of the configuration.
        BrokerError: A code of the store.
    """
    from strongroom.broker import configured
    from strongroom.broker.store import Store
    from strongroom.config import home as default_home
    from strongroom.config import load_config

    if config is not None:
        if home is not None:
            raise ConfigError(OPTION_INVALID, "--home", expected="--config or --home, not both")
        return configured.open_store(load_config(config).broker)
    return Store.open((home or default_home()) / "broker")


def show_verdict(room: Room, url: str, *, json_output: bool) -> None:
    """Print what was found out about a service."""
    verdict = room.verdict
    assert verdict is not None  # noqa: S101 -- `connect` sets it or raises
    if json_output:
        emit({"url": url, "plain": room.plain, **verdict.to_json()})
        return
    say(
        f"{verdict.label}: {url} passes the policy"
        + (", which admits simulated evidence" if verdict.simulated else "")
    )
    for warning in verdict.warnings:
        say(f"  warning       {warning}")
    rows: list[tuple[str, object]] = [
        ("service", f"{verdict.service}, epoch {verdict.epoch}, {verdict.workers} worker(s) seen"),
        ("anchor", ", ".join(verdict.anchors)),
        ("measurement", ", ".join(verdict.measurements)),
        ("TCB status", ", ".join(verdict.tcb_statuses) or "none published: the policy's floor holds"),
        ("keyset", verdict.keyset_digest),
        ("suites", ", ".join(verdict.keyset.suites)),
        ("broker key", verdict.keyset.broker_key),
        ("key release", verdict.key_release),
        ("policy", verdict.keyset.release_policy),
    ]
    rows += [
        ("model", f"{name} version {model.version}, manifest {model.manifest}")
        for name, model in verdict.keyset.models.items()
    ]
    rows.append(("valid until", f"{datetime.fromtimestamp(verdict.valid_until, UTC):%Y-%m-%d %H:%M:%S} UTC"))
    if room.plain is not None:
        taken = "taken as well; the front end sees those" if room.plain else "refused"
        rows.append(("plain", f"requests in plain are {taken} (the front end says so)"))
    for name, value in rows:
        say(f"  {name:<13} {value}")


def show_predictions(
    room: Room, model: str, files: Sequence[Path], *, top: int, timeout: float, json_output: bool
) -> None:
    """Predict each file and print the labels, or the outputs where the model has none."""
    metadata = room.model(model, timeout=timeout)
    name = metadata.inputs[0].name
    verdict = room.verdict
    assert verdict is not None  # noqa: S101 -- `connect` sets it or raises
    results = []
    if not json_output:
        say(f"{verdict}")
    for number, path in enumerate(files, 1):
        value = _read_input(path)
        with working(f"{number}/{len(files)} {path.name}"):
            answer = room.infer(model, {name: value}, timeout=timeout)
        if json_output:
            results.append(_as_json(path, answer, top))
        else:
            _say_answer(path, answer, top)
    if json_output:
        emit({"verdict": verdict.label, "model": model, "predictions": results})


def _read_input(path: Path) -> Input:
    import numpy as np

    try:
        if path.suffix != ".npy":
            return path.read_bytes()
        with path.open("rb") as file:
            array: Input = np.lib.format.read_array(file, allow_pickle=False)
            return array
    except OSError as error:
        raise ConfigError(FILE_UNREADABLE, f"{path}: {error.strerror}") from None
    except (ValueError, EOFError, SyntaxError, TokenError, MemoryError) as error:
        raise ConfigError(FILE_UNREADABLE, f"{path} is not an array of plain numbers: {error}") from None


def _as_json(path: Path, answer: Answer, top: int) -> dict[str, Any]:
    timing = answer.timing
    return {
        "file": str(path),
        "labels": [
            {"index": label.index, "name": label.name, "probability": label.probability}
            for label in answer.labels[:top]
        ],
        "outputs": {name: list(array.shape) for name, array in answer.outputs.items()},
        "milliseconds": {
            "total": timing.total,
            "seal": timing.seal,
            "open": timing.open,
            "worker": dict(timing.worker),
        },
    }


def _say_answer(path: Path, answer: Answer, top: int) -> None:
    if not answer.labels:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in answer.outputs.items())
        say(f"{path.name:<28} {shapes}  {answer.timing.total:.1f} ms")
    for rank, label in enumerate(answer.labels[:top]):
        shown, took = (path.name, f"{answer.timing.total:.1f} ms") if rank == 0 else ("", "")
        say(f"{shown:<28} {label.name:<28} {label.probability:6.1%}  {took}".rstrip())


def show_measurement(*, files: bool, json_output: bool) -> None:
    """Measure the worker installed here and print its digests and components."""
    from strongroom.engines.import_roots import measure_default

    with working("Measuring ..."):
        started = time.perf_counter()
        measurement = measure_default()
        seconds = time.perf_counter() - started
    if json_output:
        emit(
            {
                "sgx": measurement.sha256.hex(),
                "tdx": measurement.sha384.hex(),
                "snp": measurement.sha384.hex(),
                "seconds": round(seconds, 3),
                "components": [
                    {"name": part.name, "files": part.files, "bytes": part.size, "sha256": part.sha256}
                    for part in measurement.components()
                ],
                **({"files": dict(measurement.digests)} if files else {}),
            }
        )
        return
    say(f"sgx (MRENCLAVE)    {measurement.sha256.hex()}")
    say(f"tdx (MRTD)         {measurement.sha384.hex()}")
    say(f"snp (MEASUREMENT)  {measurement.sha384.hex()}")
    for part in measurement.components():
        say(f"  {part.name:<14} {part.files:>6} files {part.size / 1e6:>8.1f} MB  {part.sha256}")
    if files:
        say(measurement.manifest().rstrip())


def show_epochs(service: str, epochs: Sequence[EpochRecord], *, json_output: bool) -> None:
    """Print the epochs of a service."""
    rows = [
        {"epoch": epoch.epoch, "minted": epoch.minted, "honoured_until": epoch.honoured_until}
        for epoch in epochs
    ]
    if json_output:
        emit({"service": service, "epochs": rows})
        return
    for epoch in epochs:
        until = datetime.fromtimestamp(epoch.honoured_until, UTC)
        say(f"{service} epoch {epoch.epoch}, honoured until {until:%Y-%m-%d %H:%M:%S} UTC")
