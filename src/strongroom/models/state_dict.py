"""Weights from PyTorch's files, without PyTorch: `torch.save(model.state_dict(), path)`, in both formats.

    arrays = read_state_dict(path.read_bytes())
    arrays["_fc.weight"].shape      # (1000, 1280)

The zip format (PyTorch 1.6 and later) has a pickle and one stored file for each storage. The legacy format is
a series of pickles (magic, protocol, platform, state dict, storage keys), then each storage with its element
count. Nothing in a file is executed (`strongroom.models._pickle_machine`); anything but tensors by name is
refused.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strongroom.models._pickle_machine import Storage, TensorView, invalid, load

MAX_STATE_DICT: Final = 4 * 1024**3
"""Default size limit of a file, in bytes."""

_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL: Final = 1001
_ZIP_MAGIC: Final = b"PK\x03\x04"
_COUNT: Final = struct.Struct("<q")


def read_state_dict(data: bytes, *, limit: int = MAX_STATE_DICT) -> dict[str, NDArray[Any]]:
    """Read a state dict.

    Returns:
        Read-only arrays by name, in the order of the file.

    Raises:
        ModelError: `state-dict-invalid`.
    """
    if len(data) > limit:
        raise invalid(f"the file has more than {limit} bytes")
    views, storages = _read_zip(data) if data.startswith(_ZIP_MAGIC) else _read_legacy(memoryview(data))
    return {name: _array(view, storages[view.storage.key]) for name, view in views.items()}


def _read_legacy(data: memoryview) -> tuple[dict[str, TensorView], Mapping[str, memoryview]]:
    magic, position = load(data)
    protocol, position = load(data, position)
    platform, position = load(data, position)
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        raise invalid("neither of PyTorch's formats")
    if not isinstance(platform, dict) or platform.get("little_endian") is not True:
        raise invalid("not written on a little-endian machine")
    value, position = load(data, position)
    views, wanted = _views(value)
    keys, position = load(data, position)
    if (
        not isinstance(keys, list)
        or any(type(key) is not str for key in keys)
        or sorted(keys) != sorted(wanted)
    ):
        raise invalid("its storages are not those of its tensors")
    storages: dict[str, memoryview] = {}
    for key in keys:
        start = position + _COUNT.size
        position = start + wanted[key].elements * wanted[key].dtype.itemsize
        if position > len(data):
            raise invalid("a storage is cut off")
        if _COUNT.unpack_from(data, start - _COUNT.size)[0] != wanted[key].elements:
            raise invalid("a storage has another size than its tensors say")
        storages[key] = data[start:position]
    if position != len(data):
        raise invalid("bytes follow the last storage")
    return views, storages


def _read_zip(data: bytes) -> tuple[dict[str, TensorView], Mapping[str, memoryview]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            roots = [
                name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")
            ]
            if len(roots) != 1:
                raise invalid("not one state dict")
            pickle = _stored(archive, roots[0] + "data.pkl", len(data))
            views, wanted = _views(load(memoryview(pickle))[0])
            order = roots[0] + "byteorder"
            if order in archive.namelist() and _stored(archive, order, len(data)) != b"little":
                raise invalid("not written on a little-endian machine")
            storages: dict[str, memoryview] = {}
            # Entries of a crafted archive may overlap; honest ones fit into the file together.
            room = len(data)
            for key in wanted:
                storages[key] = memoryview(_stored(archive, f"{roots[0]}data/{key}", room))
                room -= len(storages[key])
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        KeyError,
        ValueError,
        EOFError,
        OSError,
        RuntimeError,
    ) as error:
        raise invalid("the archive is damaged") from error
    for key, storage in wanted.items():
        if len(storages[key]) != storage.elements * storage.dtype.itemsize:
            raise invalid("a storage has another size than its tensors say")
    return views, storages


def _stored(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise invalid("a part of the archive is compressed")
    if entry.file_size > limit:
        raise invalid("the parts of the archive are larger than the file")
    return archive.read(entry)


def _views(value: object) -> tuple[dict[str, TensorView], dict[str, Storage]]:
    if not isinstance(value, dict) or not all(isinstance(view, TensorView) for view in value.values()):
        raise invalid("not a dictionary of tensors only")
    storages: dict[str, Storage] = {}
    for view in value.values():
        if storages.setdefault(view.storage.key, view.storage) != view.storage:
            raise invalid("a storage is described twice, differently")
    return value, storages


def _array(view: TensorView, storage: memoryview) -> NDArray[Any]:
    elements: int = math.prod(view.shape, start=1)
    last = view.offset + sum(
        (size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True)
    )
    # An honest tensor shows no element twice; a crafted one could claim any size with strides of 0.
    if not 0 < elements <= view.storage.elements or last >= view.storage.elements:
        raise invalid("a tensor is empty or reaches beyond its storage")
    size = view.storage.dtype.itemsize
    strides = tuple(stride * size for stride in view.strides)
    return np.ndarray(view.shape, view.storage.dtype, storage, view.offset * size, strides)
