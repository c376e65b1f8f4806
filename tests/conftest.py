"""Fixtures that all layers share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A loaded machine is slow, not wrong.
settings.register_profile("strongroom", deadline=None)
settings.load_profile("strongroom")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def testdata() -> Path:
    """Vectors, pictures and models: the folder `STRONGROOM_TESTDATA`, else `../shared`."""
    folder = Path(os.environ.get("STRONGROOM_TESTDATA", ROOT.parent / "shared"))
    if not (folder / "vectors").is_dir():
        pytest.skip(f"test data not found: set STRONGROOM_TESTDATA (looked in {folder})")
    return folder
