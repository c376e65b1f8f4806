from __future__ import annotations

import io
import random
import shutil
import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import ModelError
from strongroom.models.bundle import describe_files, read_bundle, write_bundle
from strongroom.models.manifest import MAX_MANIFEST, Manifest

FILES = {"model.xml": b"<net/>" * 100, "model.bin": b"", "labels.txt": b"cat\ndog\n"}
Make = Callable[..., Manifest]
Member = tuple[str, bytes]


@pytest.fixture
def manifest(simple_manifest: Make) -> Manifest:
    return simple_manifest(FILES, labels="labels.txt")


def tar(*members: Member, end: bytes = bytes(1024), **fields: Any) -> bytes:
    """A tar made by hand; keyword arguments change the header of the last member."""
    parts = []
    for number, (name, data) in enumerate(members, start=1):
        header = tarfile.TarInfo(name)
        header.size = len(data)
        if number == len(members):
            for key, value in fields.items():
                setattr(header, key, value)
        parts += [header.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % 512)]
    return b"".join(parts) + end


def refusal(data: bytes, code: str, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        read_bundle(data, **options)
    assert caught.value.code == code, caught.value
    return str(caught.value)


def test_reads_what_it_writes(manifest: Manifest) -> None:
    bundle = read_bundle(write_bundle(manifest, FILES))
    assert bundle.manifest == manifest
    assert {name: bytes(view) for name, view in bundle.files.items()} == FILES
    assert bundle.labels == ("cat", "dog")


def test_labels_are_optional(simple_manifest: Make) -> None:
    assert read_bundle(write_bundle(simple_manifest(FILES), FILES)).labels is None


def test_files_are_read_only_views_of_the_input(manifest: Manifest) -> None:
    data = bytearray(write_bundle(manifest, FILES))
    view = read_bundle(memoryview(data)).files["model.xml"]
    assert view.readonly
    data[data.index(b"<net/>")] = ord("?")
    assert bytes(view[:6]) == b"?net/>"


def test_the_same_arguments_give_the_same_bytes(manifest: Manifest) -> None:
    backwards = dict(reversed(FILES.items()))
    assert write_bundle(manifest, FILES) == write_bundle(manifest, backwards)


def test_other_programs_can_read_it(manifest: Manifest) -> None:
    with tarfile.open(fileobj=io.BytesIO(write_bundle(manifest, FILES))) as archive:
        assert archive.getnames() == ["manifest.json", "labels.txt", "model.bin", "model.xml"]
        member = archive.getmember("model.xml")
        assert (member.mode, member.mtime, member.uid, member.uname) == (0o644, 0, 0, "")


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar program")
def test_other_programs_can_write_it(manifest: Manifest, tmp_path: Path) -> None:
    for name, data in {**FILES, "manifest.json": manifest.to_bytes()}.items():
        (tmp_path / name).write_bytes(data)
    names = ["manifest.json", *FILES]
    subprocess.run(["tar", "--format=ustar", "-cf", "net.model", *names], cwd=tmp_path, check=True)
    assert read_bundle((tmp_path / "net.model").read_bytes()).manifest == manifest


def test_writes_only_the_files_of_the_manifest(manifest: Manifest) -> None:
    for files in ({**FILES, "more": b""}, {"model.xml": b""}, {**FILES, "model.bin": b"?"}):
        with pytest.raises(ModelError, match="bundle-files-mismatch"):
            write_bundle(manifest, files)


def test_writes_only_a_valid_manifest(simple_manifest: Make) -> None:
    with pytest.raises(ModelError, match="manifest-invalid"):
        write_bundle(simple_manifest(FILES, name="not a name"), FILES)


def test_refuses_more_than_the_limit(manifest: Manifest) -> None:
    data = write_bundle(manifest, FILES)
    assert read_bundle(data, limit=len(data)).manifest == manifest
    refusal(data, "bundle-too-large", limit=len(data) - 1)


def test_refuses_a_large_manifest() -> None:
    refusal(tar(("manifest.json", b" " * (MAX_MANIFEST + 1))), "bundle-too-large")


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\0" * 512, b"\0" * 10240, b"x" * 512, b"PK\x03\x04" + bytes(600)]
)
def test_refuses_what_is_no_tar(data: bytes) -> None:
    assert "no tar header at byte 0" in refusal(data, "bundle-malformed")


def test_the_manifest_comes_first(manifest: Manifest) -> None:
    members = [*FILES.items(), ("manifest.json", manifest.to_bytes())]
    assert "first member" in refusal(tar(*members), "bundle-malformed")


def test_refuses_a_broken_manifest() -> None:
    refusal(tar(("manifest.json", b"{}"), *FILES.items()), "manifest-invalid")


def test_refuses_broken_labels(simple_manifest: Make) -> None:
    files = {**FILES, "labels.txt": b"\xff"}
    refusal(write_bundle(simple_manifest(files, labels="labels.txt"), files), "labels-invalid")


def test_refuses_every_cut(manifest: Manifest) -> None:
    data = write_bundle(manifest, FILES)
    for length in [*range(0, len(data), 97), len(data) - 1, len(data) - 512, len(data) - 1024]:
        with pytest.raises(ModelError) as caught:
            read_bundle(data[:length])
        assert caught.value.code == "bundle-malformed"


def test_refuses_any_flipped_bit_in_a_file(manifest: Manifest) -> None:
    data = bytearray(write_bundle(manifest, FILES))
    data[data.index(b"cat")] ^= 1
    assert "labels.txt" in refusal(bytes(data), "bundle-digest-mismatch")


def test_refuses_a_file_of_another_size(manifest: Manifest) -> None:
    members = {**FILES, "model.bin": b"\0"}
    data = tar(("manifest.json", manifest.to_bytes()), *members.items())
    assert "model.bin" in refusal(data, "bundle-digest-mismatch")


def test_refuses_a_file_that_is_not_in_the_manifest(manifest: Manifest) -> None:
    data = tar(("manifest.json", manifest.to_bytes()), *FILES.items(), ("../../evil", b"x"))
    assert "not in the manifest" in refusal(data, "bundle-files-mismatch")


def test_refuses_a_file_that_comes_twice(manifest: Manifest) -> None:
    data = tar(("manifest.json", manifest.to_bytes()), *FILES.items(), ("model.bin", b""))
    assert "twice" in refusal(data, "bundle-files-mismatch")


def test_refuses_a_second_manifest(manifest: Manifest) -> None:
    first = ("manifest.json", manifest.to_bytes())
    refusal(tar(first, *FILES.items(), first), "bundle-files-mismatch")


def test_refuses_a_missing_file(manifest: Manifest) -> None:
    data = tar(("manifest.json", manifest.to_bytes()), ("model.bin", b""))
    assert "missing" in refusal(data, "bundle-files-mismatch")


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
        tarfile.CONTTYPE, tarfile.AREGTYPE, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK, tarfile.GNUTYPE_SPARSE,
    ],
)  # fmt: skip
def test_refuses_what_is_not_a_plain_file(kind: bytes, manifest: Manifest) -> None:
    members = [("manifest.json", manifest.to_bytes()), *FILES.items()]
    data = tar(*members, type=kind)
    assert "not a plain ustar file" in refusal(data, "bundle-malformed")


@pytest.mark.parametrize("size", [-1, 2**62, 513, 10**6])
def test_refuses_sizes_that_reach_beyond_the_end(size: int, manifest: Manifest) -> None:
    header = tarfile.TarInfo("manifest.json")
    header.size = size
    data = header.tobuf(tarfile.GNU_FORMAT) + manifest.to_bytes()[:512].ljust(512, b"\0") + bytes(1024)
    refusal(data, "bundle-malformed" if size != 513 else "manifest-invalid")


def test_refuses_a_name_that_is_not_ascii() -> None:
    header = bytearray(tarfile.TarInfo("manifest.json").tobuf(tarfile.USTAR_FORMAT))
    header[0] = 0xFF
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    assert "no tar header" in refusal(bytes(header) + bytes(1024), "bundle-malformed")


@pytest.mark.parametrize("tail", [b"\1", bytes(5000) + b"x", bytes(20_000)])
def test_refuses_what_follows_the_end(tail: bytes, manifest: Manifest) -> None:
    assert "follow" in refusal(write_bundle(manifest, FILES) + tail, "bundle-malformed")


def test_accepts_the_padding_of_a_tar_program(manifest: Manifest) -> None:
    data = write_bundle(manifest, FILES)
    assert read_bundle(data + bytes(-len(data) % 10240)).manifest == manifest


def _mutant(rng: random.Random, make: Make) -> bytes:
    """A tar whose headers have good checksums, with members changed, moved, repeated or left out."""
    manifest = make(FILES, labels="labels.txt")
    members: list[Member] = [("manifest.json", manifest.to_bytes()), *FILES.items()]
    fields: dict[str, Any] = {}
    at = rng.randrange(len(members))
    name, data = members[at]
    match rng.randrange(9):
        case 0:
            members.append(members.pop(at))
        case 1:
            members.insert(rng.randrange(len(members) + 1), (name, data))
        case 2:
            del members[at]
        case 3:
            members[at] = (
                rng.choice(("/etc/passwd", "../x", "", "model.xml", "manifest.json", "a/" * 40)),
                data,
            )
        case 4:
            fields = {"type": bytes([rng.randrange(256)])}
        case 5:
            fields = {"size": rng.choice((0, 1, 511, 512, 513, 2**33 - 1, len(data) + 1))}
        case 6:
            fields = {
                "linkname": "x" * rng.randrange(100),
                "mode": rng.randrange(4096),
                "mtime": rng.randrange(2**33),
            }
        case 7:
            files = {**FILES, "model.bin": rng.randbytes(rng.randrange(2000))}
            changed = make(files, labels=rng.choice(("labels.txt", "model.bin", None)))
            members = [("manifest.json", changed.to_bytes()), *files.items()]
        case _:
            members[at] = (name, data[: rng.randrange(len(data) + 1)])
    return tar(*members, end=bytes(rng.choice((0, 512, 1024, 1024, 1024, 2048, 30_000))), **fields)


@pytest.mark.slow
def test_mutants_meet_only_our_errors(
    simple_manifest: Make, manifest: Manifest, spoil: Callable[[random.Random, bytes], bytes]
) -> None:
    rng = random.Random(2)
    good = write_bundle(manifest, FILES)
    outcomes: Counter[str] = Counter()
    for number in range(20_000):
        data = _mutant(rng, simple_manifest) if number % 2 else spoil(rng, good)
        try:
            bundle = read_bundle(data)
        except ModelError as error:
            outcomes[error.code] += 1
        else:
            outcomes["valid"] += 1
            if describe_files(bundle.files) != bundle.manifest.files:
                outcomes["files of another manifest"] += 1
    assert set(outcomes) == {
        "valid", "bundle-malformed", "bundle-files-mismatch", "bundle-digest-mismatch", "manifest-invalid",
        "labels-invalid",
    }  # fmt: skip
