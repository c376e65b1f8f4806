"""A server of collateral, a folder, and a vendor's platform."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collateral_rig import NOW, CollateralServer, Simulated, collateral_server
from strongroom.attestation.collateral.folder import CollateralFolder
from strongroom.attestation.collateral.source import CollateralSource, open_source
from strongroom_simulator.pki import Pki
from strongroom_simulator.snp import SnpPlatform


@pytest.fixture
def server() -> Iterator[CollateralServer]:
    with collateral_server() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> CollateralFolder:
    return CollateralFolder(tmp_path / "collateral")


@pytest.fixture(scope="session")
def simulated(pki: Pki) -> Simulated:
    return Simulated(pki, SnpPlatform.create(NOW, b"\x44" * 64, rsa_bits=2048))


@pytest.fixture
def source(server: CollateralServer, folder: CollateralFolder) -> CollateralSource:
    """All of it from the server on loopback."""
    return open_source(folder.path, pccs=server.url, kds=server.url)
