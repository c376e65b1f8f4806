"""Files of the host: bounded reads, writes in one call, errors by what the system says."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.attestation.collectors.files import HOST, HostFiles, read, read_text, write
from strongroom.errors import EvidenceError


def test_reads_to_the_limit_and_refuses_what_is_longer(tmp_path: Path) -> None:
    path = tmp_path / "quote"
    path.write_bytes(b"x" * 100_000)
    assert read(HOST, path, 100_000) == b"x" * 100_000
    with pytest.raises(EvidenceError, match=r"quote.*at most 99999 bytes.*collector-answer-invalid"):
        read(HOST, path, 99_999)
    assert len(HOST.read(path, 10)) == 11  # no more than one byte too many is ever read


def test_a_text_is_stripped_and_must_be_ascii(tmp_path: Path) -> None:
    path = tmp_path / "provider"
    path.write_bytes(b"tdx_guest\n")
    assert read_text(HOST, path) == "tdx_guest"
    path.write_bytes("tdx_gu\u00e9st".encode())
    with pytest.raises(EvidenceError, match=r"not ASCII.*collector-answer-invalid"):
        read_text(HOST, path)


def test_writes_to_a_file_that_is_there_and_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "inblob"
    with pytest.raises(EvidenceError, match=r"inblob: No such file.*collector-absent"):
        write(HOST, path, b"1234")
    path.write_bytes(b"")
    write(HOST, path, b"1234")
    assert path.read_bytes() == b"1234"


def test_a_short_write_is_refused(tmp_path: Path) -> None:
    class Short(HostFiles):
        def write(self, path: Path, data: bytes) -> int:
            return super().write(path, data[:-1])

    path = tmp_path / "inblob"
    path.touch()
    with pytest.raises(EvidenceError, match=r"took 3 of 4 bytes.*collector-failed"):
        write(Short(), path, b"1234")


def test_what_is_neither_absent_nor_denied_has_failed(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"Is a directory.*collector-failed"):
        read(HOST, tmp_path, 10)


def test_folders_are_made_and_removed(tmp_path: Path) -> None:
    HOST.make_folder(tmp_path / "report")
    assert (tmp_path / "report").is_dir()
    HOST.remove_folder(tmp_path / "report")
    assert not (tmp_path / "report").exists()
