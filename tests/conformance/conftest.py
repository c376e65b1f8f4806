"""The cases, made once for all tests here."""

from __future__ import annotations

import time

import pytest

from strongroom.conformance.case import Case
from strongroom.conformance.kit import generate

pytest.importorskip("lxml.etree")


@pytest.fixture(scope="session")
def cases() -> list[Case]:
    return list(generate(int(time.time())))
