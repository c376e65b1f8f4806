"""A simulated vendor, and what the production verifier says about its quotes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import dcap_qvl
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom_simulator.pki import Pki

NOW = 1_800_000_000

Verdict = dict[str, Any]


@pytest.fixture(scope="session")
def now() -> int:
    """The Unix time of these tests."""
    return NOW


@pytest.fixture(scope="session")
def pki() -> Pki:
    """Keys made at `now`."""
    return Pki.create(NOW, os.urandom)


@pytest.fixture(scope="session")
def verify(pki: Pki) -> Callable[..., Verdict]:
    """`verify(quote, collateral, now=, pki=)`: the verifier's claims as a dictionary.

    Raises:
        ValueError: It refused.
    """

    def run(quote: bytes, collateral: Mapping[str, str], *, now: int = NOW, by: Pki = pki) -> Verdict:
        root = by.root.certificate.public_bytes(Encoding.DER)
        parsed = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(dict(collateral)))
        policy = dcap_qvl.QuotePolicy.claims_only(now)
        claims = dcap_qvl.QuoteVerifier(root).verify_with_policy(quote, parsed, now, policy)
        result: Verdict = json.loads(claims.to_json())
        return result

    return run
