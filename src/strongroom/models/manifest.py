"""The manifest of a model bundle: what the model is, what it takes and gives, and the digests of its files.

The bytes are canonical JSON (RFC 8785) without members that have their default, and no other spelling is
accepted, so that the digest of the bytes is the digest of the meaning. It is what keysets, brokers and
receipts name a model by. docs/reference/bundle.md has the format in full, with an example.

Nothing here loads a runtime or an image library.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from strongroom.codec import jcs
from strongroom.errors import CodecError, ModelError
from strongroom.forms import ready
from strongroom.models.errors import MANIFEST_INVALID
from strongroom.models.preprocess import ImagePreprocess

FORMAT: Final = "strongroom-bundle/1"
MANIFEST_NAME: Final = "manifest.json"
MAX_MANIFEST: Final = 256 * 1024
"""Size limit of a manifest, in bytes."""

MAX_FILES: Final = 64
MAX_DIMENSION: Final = 2**31 - 1

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,3}")

Datatype = Literal[
    "BOOL",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]
"""The data types of the Open Inference Protocol v2."""

TensorName = Annotated[str, Meta(pattern=r"^[!-~]{1,200}\Z")]
Dimension = Annotated[int, Meta(ge=-1, le=MAX_DIMENSION)]


@ready
class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor that a model takes or gives.

    Attributes:
        name: Its name, printable ASCII without spaces.
        datatype: Its type, as the Open Inference Protocol names it.
        shape: Its dimensions; -1 stands for any size.
    """

    name: TensorName
    datatype: Datatype
    shape: Annotated[tuple[Dimension, ...], Meta(max_length=8)]


@ready
class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a bundle: SHA-256 in lower-case hex, and size in bytes."""

    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    size: Annotated[int, Meta(ge=0, le=2**33 - 1)]


@ready
class Manifest(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="format",
    tag=FORMAT,
):
    """What a bundle holds.

    `inputs` are the tensors that a service takes as they are. With `preprocess`, the input that it names is a
    batch of ready pictures, UINT8 [n, height, width, 3] in RGB, and may also be sent as BYTES [n], one
    encoded picture each: `forms` lists both.

    Attributes:
        name: The model's name, as it stands in URLs.
        version: The model's version, as it stands in URLs.
        runtime: What runs it. `openvino` wants the files model.xml and model.bin.
        inputs: The tensors that it takes.
        outputs: The tensors that it gives. The first is the one that labels belong to.
        labels: File with one class name a line, or None.
        preprocess: How pictures become the tensor that the model wants, or None.
        files: All files of the bundle but the manifest, by path.
        provenance: Where the model comes from, for people.
        max_batch: Most items of several requests that may be computed together, axis 0 being the batch. 1
            computes each item alone, 0 each request as it came (axis 0 is not a batch), None lets the runtime
            measure.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")]
    version: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,49}\Z")]
    runtime: Literal["openvino"]
    inputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1, max_length=64)]
    outputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1, max_length=64)]
    labels: str | None = None
    preprocess: ImagePreprocess | None = None
    files: Annotated[dict[str, FileEntry], Meta(min_length=1, max_length=MAX_FILES)]
    provenance: Annotated[dict[str, Annotated[str, Meta(max_length=1000)]], Meta(max_length=32)] = {}
    max_batch: Annotated[int, Meta(ge=0, le=1024)] | None = None

    def to_bytes(self) -> bytes:
        """The manifest as canonical JSON (RFC 8785)."""
        return jcs.canonical(msgspec.to_builtins(self))

    @property
    def digest(self) -> str:
        """Digest of the canonical bytes, as `sha256:` and lower-case hex."""
        return "sha256:" + hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def batch_axis(self) -> bool:
        """Whether axis 0 is a batch: every tensor leaves it open, and `max_batch` does not deny it."""
        return self.max_batch != 0 and all(spec.shape[:1] == (-1,) for spec in (*self.inputs, *self.outputs))

    def forms(self, name: str) -> tuple[TensorSpec, ...]:
        """The forms in which the input `name` may be sent, best first; empty if there is no such input."""
        specs = tuple(spec for spec in self.inputs if spec.name == name)
        if specs and self.preprocess is not None and self.preprocess.input == name:
            return (TensorSpec(name, "BYTES", specs[0].shape[:1]), *specs)
        return specs

    def check(self) -> None:
        """Check what the types alone cannot say.

        Raises:
            ModelError: `manifest-invalid`, or `preprocess-invalid`.
        """
        _check_names("inputs", self.inputs)
        _check_names("outputs", self.outputs)
        for path in self.files:
            if len(path) > 99 or not _FILE_NAME.fullmatch(path) or path == MANIFEST_NAME:
                raise _invalid("files: a path is not acceptable", path[:80], "a relative path of plain names")
        if self.max_batch and not self.batch_axis:
            raise _invalid(
                "max_batch: axis 0 is not a batch", self.max_batch, "0, or -1 first in every shape"
            )
        if self.labels is not None and self.labels not in self.files:
            raise _invalid("labels: no such file in the bundle", self.labels[:80])
        if self.preprocess is not None:
            self.preprocess.check()
            self._check_picture(self.preprocess)

    def _check_picture(self, preprocess: ImagePreprocess) -> None:
        spec = next((spec for spec in self.inputs if spec.name == preprocess.input), None)
        if spec is None:
            raise _invalid("preprocess: no such input", preprocess.input[:80])
        picture = (preprocess.height, preprocess.width, 3)
        if spec.datatype != "UINT8" or len(spec.shape) != 4 or spec.shape[1:] != picture:
            raise _invalid(
                "preprocess: its input does not take pictures",
                f"{spec.datatype} {list(spec.shape)}",
                f"UINT8 {[-1, *picture]}",
            )


def parse_manifest(data: bytes | memoryview) -> Manifest:
    """Read a manifest.

    Raises:
        ModelError: `manifest-invalid`, or `preprocess-invalid`.
    """
    if len(data) > MAX_MANIFEST:
        raise _invalid("too large", f"{len(data)} bytes", f"at most {MAX_MANIFEST}")
    raw = bytes(data)
    try:
        value: Any = jcs.parse(raw, limit=MAX_MANIFEST, what="manifest")
        manifest = msgspec.convert(value, Manifest)
    except CodecError as error:
        raise ModelError(MANIFEST_INVALID, "not JSON as RFC 8785 writes it") from error
    except msgspec.ValidationError as error:
        raise ModelError(MANIFEST_INVALID, str(error)[:200]) from error
    manifest.check()
    if manifest.to_bytes() != raw:
        raise ModelError(MANIFEST_INVALID, "not in canonical form (RFC 8785, defaults left out)")
    return manifest


def _check_names(what: str, specs: Iterable[TensorSpec]) -> None:
    specs = tuple(specs)
    if any(spec.datatype == "BYTES" for spec in specs):
        raise _invalid(f"{what}: BYTES is a form of an input with preprocessing, not a type of its own", None)
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise _invalid(f"{what}: a name occurs twice", None)


def _invalid(detail: str, found: object, expected: str | None = None) -> ModelError:
    return ModelError(MANIFEST_INVALID, detail, found=found, expected=expected)
