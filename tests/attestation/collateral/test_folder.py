"""The folder: files come back as they were kept, and anything else counts as absent."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from collateral_rig import Simulated
from mutants import mutants
from strongroom.attestation.collateral.folder import CollateralFolder
from strongroom.attestation.collateral.needs import DcapItem, VcekItem, needs
from strongroom.attestation.evidence import EvidenceKind

Code = Callable[..., str | None]
ITEM = DcapItem(EvidenceKind.SGX, "51d000000000", "platform")
OTHER = DcapItem(EvidenceKind.SGX, "51d000000000", "processor")


@pytest.fixture
def parts(simulated: Simulated) -> dict[str, str]:
    return simulated.parts()


def test_what_is_kept_comes_back(folder: CollateralFolder, parts: dict[str, str]) -> None:
    assert folder.load(ITEM) is None
    folder.keep(ITEM, parts)
    assert folder.load(ITEM) == parts
    assert folder.load(OTHER) is None
    assert [path.name for path in folder.path.iterdir()] == ["sgx-51d000000000-platform.json"]


def test_the_form_of_a_file(folder: CollateralFolder, parts: dict[str, str]) -> None:
    folder.keep(ITEM, parts)
    path = folder.path_of(ITEM)
    assert json.loads(path.read_bytes()) == {
        "type": "strongroom-collateral/1",
        "item": "sgx-51d000000000-platform",
        "parts": parts,
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_an_item_is_replaced(folder: CollateralFolder, simulated: Simulated) -> None:
    folder.keep(ITEM, simulated.parts())
    later = simulated.parts(now=1_800_086_400)
    folder.keep(ITEM, later)
    assert folder.load(ITEM) == later
    assert len(list(folder.path.iterdir())) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"type":"strongroom-collateral/1","item":"x","parts":{}}'],
)
def test_a_garbled_file_counts_as_absent(
    content: bytes, folder: CollateralFolder, parts: dict[str, str]
) -> None:
    folder.keep(ITEM, parts)
    folder.path_of(ITEM).write_bytes(content)
    assert folder.load(ITEM) is None


def test_a_file_of_another_name_counts_as_absent(folder: CollateralFolder, simulated: Simulated) -> None:
    evidence = simulated.snp_evidence()
    ((vcek, _),) = needs(evidence.kind, evidence.quote)
    assert isinstance(vcek, VcekItem)
    folder.keep(vcek, {"vek": simulated.snp.collateral()["vek"]})
    # Another chip: the certificate itself would pass for this item.
    other = VcekItem("Milan", bytes(64), vcek.tcb)
    folder.path_of(vcek).rename(folder.path_of(other))
    assert folder.load(other) is None


def test_a_file_of_another_type_counts_as_absent(folder: CollateralFolder, parts: dict[str, str]) -> None:
    folder.keep(ITEM, parts)
    text = folder.path_of(ITEM).read_text()
    folder.path_of(ITEM).write_text(text.replace("strongroom-collateral/1", "strongroom-collateral/2"))
    assert folder.load(ITEM) is None


def test_a_file_that_is_too_large_counts_as_absent(folder: CollateralFolder, parts: dict[str, str]) -> None:
    folder.keep(ITEM, parts)
    with folder.path_of(ITEM).open("ab") as file:
        file.write(b" " * 1024 * 1024)
    assert folder.load(ITEM) is None


def test_a_folder_in_place_of_a_file_counts_as_absent(folder: CollateralFolder) -> None:
    folder.path_of(ITEM).mkdir(parents=True)
    assert folder.load(ITEM) is None


def test_mutants_of_a_file_come_back_whole_or_not(folder: CollateralFolder, parts: dict[str, str]) -> None:
    folder.keep(ITEM, parts)
    value = json.loads(folder.path_of(ITEM).read_bytes())
    absent = 0
    for content in mutants(value, lambda changed: json.dumps(changed).encode(), 200, 9):
        folder.path_of(ITEM).write_bytes(content)
        found = folder.load(ITEM)
        absent += found is None
        assert found is None or found.keys() == parts.keys()
    assert absent > 50


def test_it_is_bounded(tmp_path: Path, parts: dict[str, str], simulated: Simulated) -> None:
    folder = CollateralFolder(tmp_path, max_items=3)
    vek = {"vek": simulated.snp.collateral()["vek"]}
    chips = [VcekItem("Milan", bytes([number] * 64), bytes(8)) for number in range(5)]
    for age, chip in enumerate(chips):
        folder.keep(chip, vek)
        os.utime(folder.path_of(chip), (1000 + age, 1000 + age))
    assert [folder.load(chip) is not None for chip in chips] == [False, False, True, True, True]
    folder.keep(chips[2], vek)  # no new file, so no other goes
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_cannot_be_written(tmp_path: Path, parts: dict[str, str], code_of: Code) -> None:
    (tmp_path / "file").write_text("")
    folder = CollateralFolder(tmp_path / "file")
    assert code_of(folder.keep, ITEM, parts) == "collateral-folder-unwritable"
    assert folder.load(ITEM) is None


def test_a_write_that_fails_leaves_nothing(
    folder: CollateralFolder, parts: dict[str, str], code_of: Code
) -> None:
    folder.path_of(ITEM).mkdir(parents=True)
    (folder.path_of(ITEM) / "in the way").write_text("")
    assert code_of(folder.keep, ITEM, parts) == "collateral-folder-unwritable"
    assert [path.name for path in folder.path.iterdir()] == [folder.path_of(ITEM).name]


def test_readers_never_see_half_a_file(folder: CollateralFolder, parts: dict[str, str]) -> None:
    folder.keep(ITEM, parts)
    done = threading.Event()

    def write() -> None:
        for _ in range(50):
            CollateralFolder(folder.path).keep(ITEM, parts)
        done.set()

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    while not done.is_set():
        assert folder.load(ITEM) == parts
    for writer in writers:
        writer.join()
    assert len(list(folder.path.iterdir())) == 1
