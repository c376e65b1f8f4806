"""Folders to digests: what counts, what is refused, and that a linked copy measures like a real one."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.attestation import _tree
from strongroom.attestation.measurement_errors import MeasurementError


def keep(_name: str, _is_folder: bool) -> bool:
    return False


def measured(root: Path, skip: _tree.Skip = keep) -> dict[str, str]:
    files = _tree.digest(_tree.walk(str(root), "r", skip), threads=2)
    return {file.name: file.sha256.hex() for file in files}


def refused(root: Path) -> str:
    with pytest.raises(MeasurementError) as caught:
        measured(root)
    return caught.value.code


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "package" / "inner").mkdir(parents=True)
    (folder / "module.py").write_bytes(b"x = 1\n")
    (folder / "package" / "__init__.py").write_bytes(b"")
    (folder / "package" / "inner" / "data.bin").write_bytes(bytes(range(256)) * 10_000)  # more than one read
    return folder


def test_names_are_relative_and_digests_are_those_of_the_content(root: Path) -> None:
    assert measured(root) == {
        "r/module.py": sha256(b"x = 1\n"),
        "r/package/__init__.py": sha256(b""),
        "r/package/inner/data.bin": sha256(bytes(range(256)) * 10_000),
    }


def test_sizes_and_elf_files_are_noted(root: Path) -> None:
    (root / "lib.so").write_bytes(b"\x7fELF and so on")
    files = {file.name: file for file in _tree.digest(_tree.walk(str(root), "r", keep), threads=1)}
    assert {name for name, file in files.items() if file.elf} == {"r/lib.so"}
    assert files["r/package/inner/data.bin"].size == 2_560_000
    assert files["r/package/__init__.py"].size == 0


def test_a_copy_on_another_path_gives_the_same(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "deep"
    shutil.copytree(root, copy)
    assert measured(copy) == measured(root)


def test_a_link_counts_as_what_it_leads_to(root: Path, tmp_path: Path) -> None:
    plain = measured(root)
    store = tmp_path / "store"
    store.mkdir()
    (root / "module.py").rename(store / "m")
    (root / "module.py").symlink_to(store / "m")
    (root / "package").rename(store / "p")
    (root / "package").symlink_to(store / "p")
    assert measured(root) == plain
    linked = tmp_path / "linked"
    linked.symlink_to(root)
    assert measured(linked) == plain


def test_changing_what_a_link_leads_to_shows(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.py"
    target.write_text("a = 1")
    (root / "link.py").symlink_to(target)
    before = measured(root)
    target.write_text("a = 2")
    assert measured(root)["r/link.py"] != before["r/link.py"]


def test_a_link_that_leads_nowhere_counts_as_such(root: Path, tmp_path: Path) -> None:
    without = measured(root)
    (root / "gone.py").symlink_to(tmp_path / "gone.py")
    (root / "itself.py").symlink_to("itself.py")
    (root / "below_a_file.py").symlink_to(root / "module.py" / "x")
    dangling = measured(root)
    assert {name: dangling[name] for name in dangling.keys() - without.keys()} == dict.fromkeys(
        ["r/gone.py", "r/itself.py", "r/below_a_file.py"], _tree.MISSING.hex()
    )
    (tmp_path / "gone.py").write_text("now = 'here'")
    assert measured(root)["r/gone.py"] == sha256(b"now = 'here'")


def test_a_link_to_a_folder_above_is_refused(root: Path) -> None:
    (root / "package" / "up").symlink_to(root)
    assert refused(root) == "measurement-unsupported-file"


def test_links_that_lead_to_each_other_are_refused(root: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (root / name).mkdir()
        (root / name / "over").symlink_to(root / other)
    assert refused(root) == "measurement-unsupported-file"


def test_two_links_to_one_folder_are_fine(root: Path) -> None:
    for name in ("one", "two"):
        (root / name).symlink_to(root / "package")
    assert measured(root)["r/one/__init__.py"] == measured(root)["r/two/__init__.py"] == sha256(b"")


@pytest.mark.parametrize("linked", [False, True])
def test_pipes_are_refused(root: Path, tmp_path: Path, linked: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    place = root / "module2.py"
    place.symlink_to(tmp_path / "pipe") if linked else (tmp_path / "pipe").rename(place)
    assert refused(root) == "measurement-unsupported-file"


def test_sockets_are_refused(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "s"))
        assert refused(root) == "measurement-unsupported-file"


def test_what_is_skipped_is_not_looked_at(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "package" / "up").symlink_to(root)

    def skip(name: str, is_folder: bool) -> bool:
        return name == "pipe" or (is_folder and name == "package")

    assert measured(root, skip).keys() == {"r/module.py"}


def test_a_missing_root_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "missing") == "measurement-unreadable"


def test_a_file_that_vanished_counts_like_a_link_to_nowhere(tmp_path: Path) -> None:
    (file,) = _tree.digest([("name", str(tmp_path / "vanished"))], threads=1)
    assert (file.sha256, file.size, file.elf) == (_tree.MISSING, 0, False)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="measurement-unreadable"):
        _tree.digest([("name", str(tmp_path))], threads=1)  # a folder opens, and does not read
    with pytest.raises(MeasurementError, match="measurement-unreadable"):
        _tree.digest([("name", str(tmp_path / ("x" * 300)))], threads=1)  # does not even open


def test_a_link_that_cannot_be_followed_is_refused(root: Path) -> None:
    (root / "long").symlink_to("x" * 300)
    assert refused(root) == "measurement-unreadable"


def test_too_many_files_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tree, "MAX_FILES", 5)
    assert len(measured(root)) == 3  # and two folders
    (root / "sixth").write_text("")
    assert refused(root) == "measurement-too-large"


def test_a_file_that_is_too_large_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tree, "MAX_FILE_SIZE", 2_560_000)
    assert len(measured(root)) == 3
    monkeypatch.setattr(_tree, "MAX_FILE_SIZE", 2_559_999)
    assert refused(root) == "measurement-too-large"


def test_the_order_of_names_and_the_number_of_threads_do_not_matter(tmp_path: Path) -> None:
    paths = []
    for number in range(100):
        path = tmp_path / f"{number}"
        path.write_bytes(b"%d" % number * number)
        paths.append((f"n{number}", str(path)))
    results = [
        {file.name: file.sha256 for file in _tree.digest(order, threads=threads)}
        for order in (paths, paths[::-1])
        for threads in (1, 2, 5)
    ]
    assert all(result == results[0] for result in results)
    assert results[0]["n7"] == hashlib.sha256(b"7" * 7).digest()


name = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=20).filter(
    lambda text: text not in {".", ".."}
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(content=st.dictionaries(name, st.binary(max_size=50), max_size=8))
def test_any_flat_folder_reads_back(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("flat")
    for file, data in content.items():
        (folder / file).write_bytes(data)
    assert measured(folder) == {f"r/{file}": sha256(data) for file, data in content.items()}


Change = Callable[[Path], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "module.py").write_bytes(b"x = 2\n"),
        lambda root: (root / "module.py").write_bytes(b"x = 1\n\n"),
        lambda root: (root / "module.py").rename(root / "other.py"),
        lambda root: (root / "module.py").unlink(),
        lambda root: (root / "package" / "new.so").write_bytes(b""),
        lambda root: (root / "package").rename(root / "package2"),
    ],
    ids=["changed", "grown", "renamed", "removed", "added", "folder renamed"],
)
def test_every_change_shows(root: Path, change: Change) -> None:
    before = measured(root)
    change(root)
    assert measured(root) != before
