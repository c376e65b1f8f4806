"""The simulator's chip of SEV-SNP: its keys are made once, when they are first needed."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.attestation import initdata
from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.verify import verify_evidence
from strongroom_simulator.errors import SimulatorError
from strongroom_simulator.state import COLLATERAL_AGE, SimulatorState

NOW = 1_790_000_000
INIT_DATA = b"the exact bytes"
SNP = EvidenceKind.SNP


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state with a chip: making its keys takes seconds."""
    folder = tmp_path_factory.mktemp("simulator") / "state"
    state = SimulatorState.open(folder, now=lambda: NOW)
    assert {path.name for path in folder.iterdir()} == {"keys.json"}
    quote(state)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "state"))


def at(folder: Path, now: int = NOW) -> SimulatorState:
    return SimulatorState.open(folder, now=lambda: now)


def quote(state: SimulatorState) -> Evidence:
    return state.quote(SNP, b"M" * 48, initdata.host_data(INIT_DATA), b"R" * 64)


def claims(state: SimulatorState, evidence: Evidence, now: int = NOW) -> Claims:
    bound = Evidence(evidence.kind, evidence.quote, evidence.collateral, INIT_DATA)
    return verify_evidence(bound, TrustRoots(simulated=frozenset({state.root_of(SNP)})), now)


def test_makes_evidence_that_the_production_verifier_accepts(folder: Path) -> None:
    state = at(folder)
    found = claims(state, quote(state))
    assert found.anchor is Anchor.SIMULATED
    assert found.root_sha256 == state.root_of(SNP) != state.root_of(EvidenceKind.SGX)
    assert (found.measurement, found.report_data) == ((b"M" * 48).hex(), b"R" * 64)
    assert found.init_data_digest == initdata.digest(INIT_DATA)
    assert {found.product: dict(found.tcb)} == state.tcb_floor(SNP)
    assert found.revocation_checked
    assert not found.debug


def test_the_other_kinds_have_no_floor(folder: Path) -> None:
    assert at(folder).tcb_floor(EvidenceKind.TDX) == {}


def test_only_the_owner_can_reach_the_files(folder: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"keys.json": 0o600, "snp.json": 0o600, "collateral-snp.json": 0o600}
    (folder / "snp.json").chmod(0o640)
    with pytest.raises(SimulatorError, match="simulator-state-exposed"):
        quote(at(folder))


def test_a_second_opening_has_the_same_chip(folder: Path) -> None:
    first, second = at(folder), at(folder)
    assert claims(first, quote(second)) == claims(second, quote(first))


def test_the_revocation_list_is_kept_for_a_day_and_then_issued_again(folder: Path) -> None:
    first = quote(at(folder, NOW + COLLATERAL_AGE)).collateral
    assert first == quote(at(folder)).collateral
    later = NOW + COLLATERAL_AGE + 1
    renewed = at(folder, later)
    assert quote(renewed).collateral != first
    assert claims(renewed, quote(renewed), later).expires > later


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document | {"format": "strongroom-simulator-snp/2"},
        lambda document: document | {"extra": 1},
        lambda document: document | {"chip_id": "xyz"},
        lambda document: document | {"root": document["authority"] | {"key": document["root"]["key"]}},
        lambda document: document | {"root": document["signer"]},
        lambda document: document | {"signer": document["root"]},
    ],
    ids=["other format", "unknown part", "no hex", "key of another", "no RSA key", "no EC key"],
)
def test_damaged_keys_are_refused(
    folder: Path, change: Callable[[dict[str, dict[str, str]]], dict[str, object]]
) -> None:
    path = folder / "snp.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(SimulatorError, match="simulator-state-damaged"):
        quote(at(folder))


def test_keys_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    state = at(tmp_path / "state")
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(SimulatorError, match="simulator-state-unwritable"):
        quote(state)


@pytest.mark.parametrize(("measurement", "digest", "data"), [(32, 32, 64), (48, 48, 64), (48, 32, 63)])
def test_fields_of_another_size_are_refused(folder: Path, measurement: int, digest: int, data: int) -> None:
    with pytest.raises(SimulatorError, match="simulator-field-size"):
        at(folder).quote(SNP, bytes(measurement), bytes(digest), bytes(data))
