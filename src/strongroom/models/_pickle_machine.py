"""Reads the pickles that PyTorch writes for weights, without executing them.

A pickle is a program for a stack machine, and the standard unpickler runs what it names. This machine knows
the opcodes of protocol 2 that a state dict needs and builds plain values: text, numbers, tuples, lists,
dictionaries, and descriptions of tensors and storages. It imports nothing and calls nothing; the few names
that may occur are compared as text. Dictionary keys are text, so that no crafted key costs more than its
length to hash.

Formats: docs.python.org/3/library/pickletools.html; torch/_utils.py and torch/serialization.py of PyTorch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from strongroom.errors import ModelError
from strongroom.models.errors import STATE_DICT_INVALID

MAX_PICKLE: Final = 4 * 1024 * 1024
"""Most bytes of one pickle: more than 20,000 tensors."""

MAX_DIMENSIONS: Final = 8

_STORAGES: Final = {
    "torch DoubleStorage": "<f8",
    "torch FloatStorage": "<f4",
    "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}
_ORDERED_DICT: Final = "collections OrderedDict"
_REBUILD_TENSOR: Final = "torch._utils _rebuild_tensor_v2"
_NAMES: Final = frozenset({_ORDERED_DICT, _REBUILD_TENSOR, *_STORAGES})
_MARK: Final = object()


@dataclass(frozen=True, slots=True)
class Name:
    """A global that the pickle names."""

    text: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A flat array that stands elsewhere in the file."""

    key: str
    dtype: np.dtype[Any]
    elements: int


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor: a strided view of a storage. Offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def load(data: memoryview, start: int = 0) -> tuple[Any, int]:
    """Read one pickle.

    Args:
        data: The file.
        start: Where the pickle begins.

    Returns:
        Its value, and the position behind it.

    Raises:
        ModelError: `state-dict-invalid`.
    """
    machine = _Machine(data, start)
    try:
        value = machine.run()
    except (IndexError, KeyError, TypeError, ValueError, struct.error):
        raise invalid(f"the pickle breaks at byte {machine.position}") from None
    return value, machine.position


def invalid(detail: str) -> ModelError:
    """The error for a file that is not a plain state dict."""
    return ModelError(STATE_DICT_INVALID, detail)


class _Machine:
    def __init__(self, data: memoryview, start: int) -> None:
        self._data = data[: start + MAX_PICKLE]
        self.position = start
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        while (opcode := self._data[self.position]) != _STOP:
            self.position += 1
            action = _ACTIONS.get(opcode)
            if action is None:
                raise invalid(
                    f"opcode {opcode:#04x} at byte {self.position - 1} has no place in a state dict"
                )
            action(self)
        self.position += 1
        return self._stack.pop()

    def _take(self, size: int) -> bytes:
        taken = self._data[self.position : self.position + size].tobytes()
        if len(taken) != size:
            raise invalid("the pickle is cut off")
        self.position += size
        return taken

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _line(self) -> str:
        for end in range(self.position, min(self.position + 100, len(self._data))):
            if self._data[end] == 0x0A:
                return self._take(end + 1 - self.position)[:-1].decode("ascii")
        raise invalid("a name has no end")

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def proto(self) -> None:
        if self._number("<B") != 2:
            raise invalid("not pickle protocol 2")

    def integer(self, layout: str) -> None:
        self.push(self._number(layout))

    def long(self) -> None:
        self.push(int.from_bytes(self._take(self._number("<B")), "little", signed=True))

    def text(self) -> None:
        self.push(self._take(self._number("<I")).decode("utf-8"))

    def name(self) -> None:
        name = f"{self._line()} {self._line()}"
        if name not in _NAMES:
            raise invalid(f"it names {name[:80]!r}, which has no place in a state dict")
        self.push(Name(name))

    def memo_put(self, layout: str) -> None:
        self._memo[self._number(layout)] = self._stack[-1]

    def memo_get(self, layout: str) -> None:
        self.push(self._memo[self._number(layout)])

    def last(self, size: int) -> list[Any]:
        start = len(self._stack) - size
        if start < 0:
            raise invalid("the stack is empty")
        parts = self._stack[start:]
        del self._stack[start:]
        return parts

    def since_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                parts = self._stack[index + 1 :]
                del self._stack[index:]
                return parts
        raise invalid("a mark is missing")

    def extend(self, parts: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise invalid("what is not a list gets elements")
        target.extend(parts)

    def update(self, parts: list[Any]) -> None:
        target = self._stack[-1]
        keys, values = parts[::2], parts[1::2]
        if type(target) is not dict or len(keys) != len(values) or any(type(key) is not str for key in keys):
            raise invalid("a dictionary's keys are not text")
        target.update(zip(keys, values, strict=True))

    def build(self) -> None:
        self._stack.pop()  # the attributes of a state dict: versions of its modules
        if type(self._stack[-1]) is not dict:
            raise invalid("what is not a dictionary gets attributes")

    def storage(self) -> None:
        match self._stack.pop():
            case ("storage", Name(kind), str(key), str(), int(elements), *view) if (
                kind in _STORAGES and view in ([], [None])
            ):
                self.push(Storage(key, np.dtype(_STORAGES[kind]), _size(elements)))
            case _:
                raise invalid("a storage is not described as PyTorch does it")

    def reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        match function, arguments:
            case Name(text), () if text == _ORDERED_DICT:
                self.push({})
            case Name(text), (Storage() as storage, offset, tuple(shape), tuple(strides), *_) if (
                text == _REBUILD_TENSOR
            ):
                if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
                    raise invalid("a tensor's shape and strides do not fit")
                sizes, steps = tuple(map(_size, shape)), tuple(map(_size, strides))
                self.push(TensorView(storage, _size(offset), sizes, steps))
            case _:
                raise invalid("it calls what a state dict does not call")


def _size(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise invalid("a size is not a size")
    return value


_STOP: Final = ord(".")
_ACTIONS: Final[dict[int, Callable[[_Machine], None]]] = {
    0x80: _Machine.proto,
    ord("("): lambda m: m.push(_MARK),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("K"): lambda m: m.integer("<B"),
    ord("M"): lambda m: m.integer("<H"),
    ord("J"): lambda m: m.integer("<i"),
    0x8A: _Machine.long,
    ord("X"): _Machine.text,
    ord("c"): _Machine.name,
    ord("q"): lambda m: m.memo_put("<B"),
    ord("r"): lambda m: m.memo_put("<I"),
    ord("h"): lambda m: m.memo_get("<B"),
    ord("j"): lambda m: m.memo_get("<I"),
    ord(")"): lambda m: m.push(()),
    0x85: lambda m: m.push(tuple(m.last(1))),
    0x86: lambda m: m.push(tuple(m.last(2))),
    0x87: lambda m: m.push(tuple(m.last(3))),
    ord("t"): lambda m: m.push(tuple(m.since_mark())),
    ord("]"): lambda m: m.push([]),
    ord("a"): lambda m: m.extend(m.last(1)),
    ord("e"): lambda m: m.extend(m.since_mark()),
    ord("}"): lambda m: m.push({}),
    ord("u"): lambda m: m.update(m.since_mark()),
    ord("s"): lambda m: m.update(m.last(2)),
    ord("b"): _Machine.build,
    ord("Q"): _Machine.storage,
    ord("R"): _Machine.reduce,
}
