"""Models: the bundle with its manifest and labels, and PyTorch's state dict without its pickle.

Pictures are not here: decoding costs by the pixels that the sender asks for, up to a bound of its own.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from fuzz.material import Material
from fuzz.target import Parser
from strongroom.models.bundle import describe_files, read_bundle, write_bundle
from strongroom.models.labels import parse_labels
from strongroom.models.manifest import FileEntry, Manifest, TensorSpec, parse_manifest
from strongroom.models.preprocess import parse_preprocess
from strongroom.models.state_dict import read_state_dict

_FILES: Final = {"model.xml": b"<net/>" * 20, "model.bin": b"", "labels.txt": b"cat\ndog\n"}
_HEAD: Final = (
    0x1950A86A20F9469CFC6C,
    1001,
    {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}},
)
_STATE: Final = (
    b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n"
    b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x02%stQK\x00K\x02\x85K\x01\x85"
    b"\x89ccollections\nOrderedDict\n)RtRu."
)


def _bundle(data: bytes) -> None:
    read_bundle(data)


def _manifest(data: bytes) -> None:
    parse_manifest(data)


def _labels(data: bytes) -> None:
    parse_labels(data)


def _state_dict(data: bytes) -> None:
    """No tensor is larger than the file that it is in."""
    for array in read_state_dict(data).values():
        if array.nbytes > len(data):
            raise AssertionError("a tensor out of nothing")


def _plain(**changes: Any) -> Manifest:
    spec = TensorSpec(name="x", datatype="FP32", shape=(-1, 3, 224, 224))
    out = TensorSpec(name="y", datatype="FP32", shape=(-1, 2))
    members: dict[str, Any] = {
        "name": "lite0",
        "version": "1",
        "runtime": "openvino",
        "inputs": (spec,),
        "outputs": (out,),
        "files": describe_files(_FILES),
        "labels": "labels.txt",
    }
    return Manifest(**members | changes)


def _manifests(_: Material) -> Iterator[bytes]:
    yield _plain().to_bytes()
    pictures = TensorSpec(name="x", datatype="UINT8", shape=(-1, 224, 224, 3))
    how = parse_preprocess("imagenet,input=x")
    yield _plain(inputs=(pictures,), preprocess=how, provenance={"from": "elsewhere"}).to_bytes()
    many = {f"f{n}": FileEntry(size=0, sha256=hashlib.sha256(b"").hexdigest()) for n in range(400)}
    yield _plain(files=describe_files(_FILES) | many).to_bytes()


def _bundles(_: Material) -> Iterator[bytes]:
    whole = write_bundle(_plain(), _FILES)
    yield whole
    yield whole.replace(b"manifest.json", b"manifest.jsox", 1)
    yield whole + bytes(10_240)


def _label_files(_: Material) -> Iterator[bytes]:
    yield _FILES["labels.txt"]
    yield "ä\r\nß".encode()
    yield b"x\n" * 32_000


def _state_dicts(_: Material) -> Iterator[bytes]:
    weights = bytes(8)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", _STATE.replace(b"%s", b""))
        archive.writestr("archive/data/0", weights)
        archive.writestr("archive/byteorder", b"little")
    yield buffer.getvalue()
    head = b"".join(pickle.dumps(part, protocol=2) for part in _HEAD)
    keys = pickle.dumps(["0"], protocol=2)
    yield head + _STATE.replace(b"%s", b"N") + keys + (2).to_bytes(8, "little") + weights
    yield head + pickle.dumps(OrderedDict(), protocol=2) + pickle.dumps([], protocol=2)
    yield b"\x80\x02" + b"(" * 60_000
    yield b"\x80\x02" + b"]q\x00" * 20_000 + b"."
    yield b"\x80\x02]" + b"(h\x00h\x00e" * 10_000 + b"."


PARSERS: Final = (
    Parser("bundle", _bundle, _bundles),
    Parser("manifest", _manifest, _manifests),
    Parser("labels", _labels, _label_files),
    Parser("state dict", _state_dict, _state_dicts),
)
