"""Key files: private, whole or absent, overwritten before they are removed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from strongroom.broker import keyfile


def test_a_key_file_is_private_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    old = os.umask(0)
    try:
        assert keyfile.create(path, b"k" * 32)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keyfile.read(path, limit=32) == b"k" * 32
    assert [entry.name for entry in tmp_path.iterdir()] == ["root.key"]


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    assert keyfile.create(path, b"first")
    assert not keyfile.create(path, b"second")
    assert keyfile.read(path, limit=32) == b"first"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666, 0o777])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, refused, mode: int) -> None:
    path = tmp_path / "root.key"
    keyfile.create(path, b"k")
    path.chmod(mode)
    with refused("key-file-exposed"):
        keyfile.read(path, limit=32)


def test_a_file_of_another_user_is_refused(tmp_path: Path, refused, monkeypatch) -> None:
    path = tmp_path / "root.key"
    keyfile.create(path, b"k")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with refused("key-file-exposed"):
        keyfile.read(path, limit=32)


def test_links_folders_and_pipes_are_refused(tmp_path: Path, refused) -> None:
    keyfile.create(tmp_path / "real", b"k")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "folder", "pipe", "missing"):
        with refused("store-unusable"):
            keyfile.read(tmp_path / name, limit=32)


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path, refused) -> None:
    keyfile.create(tmp_path / "k", b"x" * 33)
    with refused("store-unusable"):
        keyfile.read(tmp_path / "k", limit=32)


def test_a_destroyed_file_was_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "k"
    keyfile.create(path, b"secret-secret-secret")
    with path.open("rb") as held:  # still sees the blocks after the name is gone
        keyfile.destroy(path, rng=lambda size: b"\xaa" * size)
        assert held.read() == b"\xaa" * 20
    assert not path.exists()
    keyfile.destroy(path)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_or_removed_is_told(tmp_path: Path, refused) -> None:
    with refused("store-unusable"):
        keyfile.create(tmp_path / "missing" / "k", b"k")
    (tmp_path / "folder").mkdir()
    with refused("store-unusable"):
        keyfile.destroy(tmp_path / "folder")


def test_a_failed_write_leaves_nothing(tmp_path: Path, refused, monkeypatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with refused("store-unusable"):
        keyfile.create(tmp_path / "k", b"k")
    assert list(tmp_path.iterdir()) == []


def test_a_replaced_file_is_whole_private_and_its_old_content_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "k"
    keyfile.create(path, b"old-old-old")
    with path.open("rb") as held:
        keyfile.replace(path, b"new", rng=lambda size: b"\xaa" * size)
        assert held.read() == b"\xaa" * 11
    assert keyfile.read(path, limit=32) == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["k"]


def test_what_is_not_there_is_not_replaced(tmp_path: Path, refused) -> None:
    with refused("store-unusable"):
        keyfile.replace(tmp_path / "k", b"new")
    assert list(tmp_path.iterdir()) == []
