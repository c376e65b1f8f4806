"""The model bundle: an uncompressed tar of a manifest and the files that it describes.

    data = write_bundle(manifest, {"model.xml": xml, "model.bin": weights})
    bundle = read_bundle(data)
    bundle.files["model.bin"]           # a view of data, not a copy

Reading trusts nothing: the manifest comes first and alone decides which files there are; each file must be a
plain file of the size and SHA-256 that the manifest gives. No extension headers, links, folders or devices;
nothing is ever written to disk. A sealed bundle is these bytes in an age file (`strongroom.crypto.agefile`).
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.errors import ModelError
from strongroom.models.errors import BUNDLE_DIGEST, BUNDLE_FILES, BUNDLE_MALFORMED, BUNDLE_TOO_LARGE
from strongroom.models.labels import parse_labels
from strongroom.models.manifest import MANIFEST_NAME, MAX_MANIFEST, FileEntry, Manifest, parse_manifest

_BLOCK: Final = tarfile.BLOCKSIZE
_END: Final = bytes(2 * _BLOCK)

MAX_BUNDLE: Final = 8 * 1024**3
"""Default size limit of a bundle, in bytes."""

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read and found whole.

    Attributes:
        manifest: What it holds.
        files: Read-only views of the bytes that it was read from, by path.
        labels: Class names in the order of the model's classes, or None.
    """

    manifest: Manifest
    files: Mapping[str, memoryview]
    labels: tuple[str, ...] | None


def describe_files(files: Mapping[str, Buffer]) -> dict[str, FileEntry]:
    """The manifest's entries for these files."""
    return {path: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for path, data in files.items()}


def write_bundle(manifest: Manifest, files: Mapping[str, Buffer]) -> bytes:
    """Write a bundle. The same arguments give the same bytes: owner, mode and time are fixed.

    Raises:
        ModelError: `manifest-invalid`, or `bundle-files-mismatch`: these are not the files of the manifest.
    """
    first = manifest.to_bytes()
    parse_manifest(first)
    if describe_files(files) != manifest.files:
        raise ModelError(BUNDLE_FILES, "the files given are not those of the manifest")
    parts: list[Buffer] = []
    for path, data in ((MANIFEST_NAME, first), *sorted(files.items())):
        header = tarfile.TarInfo(path)
        header.size = len(data)
        header.mode = 0o644
        parts += [header.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % _BLOCK)]
    return b"".join((*parts, _END))


def read_bundle(data: Buffer, *, limit: int = MAX_BUNDLE) -> Bundle:
    """Read a bundle and check it against its own manifest.

    Whether this is the right manifest is for the caller to say: compare `manifest.digest`.

    Raises:
        ModelError: `bundle-malformed`, `bundle-too-large`, `bundle-files-mismatch`, `bundle-digest-mismatch`,
            `manifest-invalid`, `preprocess-invalid` or `labels-invalid`.
    """
    view = memoryview(data).cast("B").toreadonly()
    if len(view) > limit:
        raise ModelError(BUNDLE_TOO_LARGE, found=f"{len(view)} bytes", expected=f"at most {limit}")
    name, content, offset = _member(view, 0)
    if name != MANIFEST_NAME:
        raise ModelError(BUNDLE_MALFORMED, "its first member is not manifest.json")
    if len(content) > MAX_MANIFEST:
        raise ModelError(
            BUNDLE_TOO_LARGE, "manifest", found=f"{len(content)} bytes", expected=f"at most {MAX_MANIFEST}"
        )
    manifest = parse_manifest(content)
    files: dict[str, memoryview] = {}
    while not _at_end(view, offset):
        name, content, offset = _member(view, offset)
        _check_file(name, content, manifest, files)
        files[name] = content
    if len(files) != len(manifest.files):
        raise ModelError(BUNDLE_FILES, "files are missing", found=len(files), expected=len(manifest.files))
    labels = None if manifest.labels is None else parse_labels(files[manifest.labels])
    return Bundle(manifest, files, labels)


def _at_end(view: memoryview, offset: int) -> bool:
    """Whether the archive ends here: two blocks of zeros, padded with zeros to at most one record."""
    if view[offset : offset + len(_END)] != _END:
        return False
    rest = view[offset:]
    if len(rest) > len(_END) + tarfile.RECORDSIZE or rest.tobytes().strip(b"\0"):
        raise ModelError(BUNDLE_MALFORMED, "bytes follow its end")
    return True


def _member(view: memoryview, offset: int) -> tuple[str, memoryview, int]:
    """The member whose header stands at `offset`: name, content, offset of the next header."""
    try:
        header = tarfile.TarInfo.frombuf(view[offset : offset + _BLOCK].tobytes(), "ascii", "strict")
    except (tarfile.TarError, UnicodeDecodeError) as error:
        raise ModelError(BUNDLE_MALFORMED, f"no tar header at byte {offset}") from error
    if header.type != tarfile.REGTYPE:
        raise ModelError(
            BUNDLE_MALFORMED, f"not a plain ustar file at byte {offset}", found=f"type {header.type!r}"
        )
    start = offset + _BLOCK
    end = start + header.size
    following = end + -header.size % _BLOCK
    if header.size < 0 or following > len(view):
        raise ModelError(BUNDLE_MALFORMED, "it is cut off", found=f"{len(view)} bytes")
    return header.name, view[start:end], following


def _check_file(name: str, content: memoryview, manifest: Manifest, seen: Mapping[str, memoryview]) -> None:
    entry = manifest.files.get(name)
    if entry is None:
        raise ModelError(BUNDLE_FILES, "a file is not in the manifest")
    if name in seen:
        raise ModelError(BUNDLE_FILES, "a file comes twice", found=name)
    if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise ModelError(BUNDLE_DIGEST, name)
