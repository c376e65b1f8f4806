"""`strongroom evidence` with collateral from services and folders."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collateral_rig import CollateralServer, Simulated, collateral_server, serve
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.evidence_file import EvidenceFile
from strongroom.attestation.policy_text import render_policy
from strongroom.cli._collateral import Sources
from strongroom_simulator.pki import Pki
from strongroom_simulator.snp import SnpPlatform

WHEN = "2025-07-13T09:48:14Z"
"""When the recorded quote of family B0C06F000000 had the collateral that is recorded with it."""


@pytest.fixture
def server() -> Iterator[CollateralServer]:
    with collateral_server() as running:
        yield running


@pytest.fixture
def recorded(testdata: Path, tmp_path: Path, server: CollateralServer) -> Path:
    """A real quote in a file; the server has its collateral."""
    vector = json.loads((testdata / "vectors/evidence/TDX_v4_B0C06F000000_263b491b.json").read_text())
    quote = bytes.fromhex(vector["quote"])
    serve(server, Evidence(EvidenceKind.TDX, quote, vector["collateral"]))
    path = tmp_path / "quote.bin"
    path.write_bytes(quote)
    return path


@pytest.fixture
def simulated() -> Simulated:
    """A platform of today: what is fetched to keep must hold now."""
    now = int(time.time())
    return Simulated(Pki.create(now, os.urandom), SnpPlatform.create(now, b"\x44" * 64, rsa_bits=2048))


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(render_policy(kinds=[EvidenceKind.TDX], measurements={EvidenceKind.TDX: ["00" * 48]}))
    return path


def _pack(cli: Any, quote: Path, *options: object) -> Any:
    output = quote.with_name("e.json")
    return cli(
        "evidence", "pack", "--kind", "tdx", "--quote", quote, "--collected", WHEN, "-o", output, *options
    )


def test_packed_with_collateral_it_is_whole(
    cli: Any, recorded: Path, server: CollateralServer, policy: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "collateral"
    result = _pack(cli, recorded, "--fetch", "--cache", cache, "--pccs", server.url, "--kds", server.url)
    assert result.code == 0, result.err
    assert [path.name for path in cache.iterdir()] == ["tdx-b0c06f000000-platform.json"]
    server.stop()
    output = recorded.with_name("e.json")
    assert len(EvidenceFile.parse(output.read_bytes()).evidence.collateral or {}) == 9
    result = cli("evidence", "verify", output, "--at", "collected", "--policy", policy, "--json")
    # It verifies up to Intel's root; the policy wants another measurement.
    assert (result.code, result.error["code"]) == (3, "policy-measurement")


def test_without_it_a_folder_serves(
    cli: Any, recorded: Path, server: CollateralServer, policy: Path, tmp_path: Path
) -> None:
    cache, output = tmp_path / "collateral", recorded.with_name("e.json")
    assert _pack(cli, recorded).code == 0
    command = ("evidence", "verify", output, "--at", "collected", "--policy", policy, "--json")
    assert cli(*command).error["code"] == "evidence-no-collateral"
    assert cli(*command, "--cache", cache).error["code"] == "collateral-missing"
    assert server.asked == []
    assert _pack(cli, recorded, "--fetch", "--cache", cache, "--pccs", server.url).code == 0
    assert _pack(cli, recorded).code == 0
    server.stop()
    assert cli(*command).error["code"] == "evidence-no-collateral"
    assert cli(*command, "--cache", cache).error["code"] == "policy-measurement"


def test_a_folder_that_has_expired_is_refused(
    cli: Any, recorded: Path, server: CollateralServer, policy: Path, tmp_path: Path
) -> None:
    cache, output = tmp_path / "collateral", recorded.with_name("e.json")
    assert _pack(cli, recorded, "--fetch", "--cache", cache, "--pccs", server.url).code == 0
    assert _pack(cli, recorded).code == 0
    command = (
        "evidence",
        "verify",
        output,
        "--at",
        "2025-09-01T00:00:00Z",
        "--policy",
        policy,
        "--cache",
        cache,
    )
    result = cli(*command)
    assert result.code == 3
    assert "has expired on 2025-07-19 10:16:03 UTC" in result.err
    assert "collateral-missing" in result.err


def test_a_folder_is_filled_and_serves(
    cli: Any, server: CollateralServer, simulated: Simulated, tmp_path: Path
) -> None:
    now = int(time.time())
    sgx, snp = simulated.evidence(now=now), simulated.snp_evidence(now=now)
    files = []
    for evidence in (sgx, snp):
        serve(server, evidence)
        bare = Evidence(evidence.kind, evidence.quote)
        files.append(tmp_path / f"{evidence.kind}.json")
        files[-1].write_bytes(EvidenceFile(bare, now).to_json_bytes())
    cache = tmp_path / "collateral"
    options = ("--cache", cache, "--pccs", server.url, "--kds", server.url)
    result = cli("evidence", "fetch", *files, *options)
    assert result.code == 0, result.err
    assert "3 items fetched. Nothing was verified" in result.out
    assert "sgx-51d000000000-platform  holds until " in result.out
    found = cli("evidence", "fetch", *files, *options, "--json").json
    assert found["folder"] == str(cache)
    assert [each["item"].split("-")[0] for each in found["items"]] == ["sgx", "snp", "snp"]
    for each in found["items"]:
        assert Path(each["file"]).exists()
        assert each["expires"] > now
    # Anew each time, so that it lasts: four answers of Intel's and three of AMD's, twice.
    assert len(server.asked) == 14
    server.stop()
    policy = tmp_path / "policy.toml"
    policy.write_text(
        render_policy(
            kinds=[EvidenceKind.SGX, EvidenceKind.SNP],
            measurements={EvidenceKind.SGX: ["00" * 32], EvidenceKind.SNP: ["11" * 48]},
            allow_simulated=True,
            simulated_roots=[simulated.pki.root_sha256, simulated.snp.root_sha256],
            tcb_floor={"Milan": dict(simulated.snp.tcb)},
            require_revocation=True,
        )
    )
    for path in files:
        result = cli("evidence", "verify", path, "--policy", policy, "--cache", cache)
        assert result.code == 0, result.err
        assert result.out.startswith("SIMULATED: ")


def test_the_folder_that_nobody_names_is_in_the_state_folder(
    cli: Any, home: Path, recorded: Path, server: CollateralServer
) -> None:
    assert _pack(cli, recorded, "--fetch", "--pccs", server.url).code == 0
    assert (home / "collateral" / "tdx-b0c06f000000-platform.json").exists()
    assert Sources(None, None, None).open().folder.path == home / "collateral"


@pytest.mark.parametrize("option", ["--cache", "--pccs", "--kds"])
def test_options_that_mean_nothing_are_refused(option: str, cli: Any, recorded: Path) -> None:
    result = _pack(cli, recorded, option, "x", "--json")
    assert (result.code, result.error["code"]) == (2, "option-invalid")
    assert f"{option} has no meaning without --fetch" in result.error["detail"]
    assert not recorded.with_name("e.json").exists()


@pytest.mark.parametrize(
    ("change", "exit_code", "code"),
    [
        ({"status": 404}, 3, "collateral-not-found"),
        ({"status": 500}, 4, "collateral-unreachable"),
        ({"status": 302}, 1, "collateral-answer-invalid"),
    ],
)
def test_a_service_that_fails(
    change: dict[str, Any],
    exit_code: int,
    code: str,
    cli: Any,
    recorded: Path,
    server: CollateralServer,
    tmp_path: Path,
) -> None:
    server.change("/tdx/certification/v4/tcb", **change)
    result = _pack(cli, recorded, "--fetch", "--cache", tmp_path / "c", "--pccs", server.url, "--json")
    assert (result.code, result.error["code"]) == (exit_code, code)
    assert not recorded.with_name("e.json").exists()


def test_an_address_that_is_none(cli: Any, recorded: Path, tmp_path: Path) -> None:
    result = _pack(
        cli, recorded, "--fetch", "--cache", tmp_path / "c", "--pccs", "http://pccs.example", "--json"
    )
    assert (result.code, result.error["code"]) == (2, "collateral-source-invalid")
