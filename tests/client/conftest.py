"""Fixtures: a service in memory, and what its honest client knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service_simulator import ServiceSimulator
from strongroom_simulator.state import SimulatorState


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> SimulatorState:
    return SimulatorState.open(tmp_path_factory.mktemp("simulator") / "state")


@pytest.fixture
def simulator(state: SimulatorState) -> ServiceSimulator:
    return ServiceSimulator(state)


@pytest.fixture
def policy_file(simulator: ServiceSimulator, tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(simulator.policy.to_toml())
    return path


@pytest.fixture
def values() -> np.ndarray:
    return np.arange(6, dtype=np.float32).reshape(2, 3)
