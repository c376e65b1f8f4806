"""Builders for the attestation tests: real vectors, mutants of documents, a whole service to appraise."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation.evidence import COLLATERAL_NAMES, Evidence, EvidenceKind
from strongroom.errors import StrongroomError
from strongroom_simulator.pki import Pki

SIMULATED_NOW = 1_800_000_000

# Values that break assumptions: types, bounds, encodings.
_ODD_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**53 - 1,
    2**53,
    10**30,
    0.5,
    1e300,
    "",
    "x",
    "=",
    "\n",
    "\x00",
    "\u00e9",
    "\U0001f512",
    "A" * 43,
    "sgx",
    "ed25519:" + "A" * 43,
    "sha256:" + "0" * 64,
    "sha384:" + "F" * 96,
    [],
    {},
    [[]],
    [None],
    ["sgx", "sgx"],
    {"a": 1},
    "A" * 5000,
]


def _nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document, as container and key."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _nodes(value[key])


def _edit_text(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    return rng.choice(
        [
            text[:at] + rng.choice("Aaz09-_=. \n\x00é\"'") + text[at + 1 :],
            text[:at] + text[at + 1 :],
            text[:at] + rng.choice("Aaz09-_=. \n\x00é\"'") + text[at:],
            text[:at],
            text + text,
            text.swapcase(),
        ]
    )


def mutate_value(rng: random.Random, value: Any) -> Any:
    """A copy of a JSON value with one to three changes inside."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = list(_nodes(value))
        if not places:
            return rng.choice(_ODD_VALUES)
        container, key = rng.choice(places)
        action = rng.randrange(6)
        if action == 0:
            del container[key]
        elif action == 1 and isinstance(container, dict):
            container[_edit_text(rng, key)] = container.pop(key)
        elif action == 2 and isinstance(container, list):
            container.append(json.loads(json.dumps(rng.choice(container))))
        elif action == 3 and isinstance(container[key], str):
            container[key] = _edit_text(rng, container[key])
        elif action == 4 and type(container[key]) is int:
            container[key] += rng.choice([-(2**40), -1, 1, 2**40, 2**60])
        else:
            container[key] = json.loads(json.dumps(rng.choice(_ODD_VALUES)))
    return value


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """A copy of a text with a few bytes flipped, cut, repeated or put in."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(out) + 1)
        action = rng.randrange(5)
        if action == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            del out[at : at + rng.choice([1, 2, 8, 64])]
        elif action == 2:
            out[at:at] = rng.choice([b"\x00", b"{", b"[", b'"', b"\\u0000", b"\xff", b"'''", b"1e999", b"\r"])
        elif action == 3:
            out[at:at] = out[: rng.choice([1, 8, 64])]
        else:
            del out[at:]
    return bytes(out)


@pytest.fixture
def mutants() -> Callable[..., Iterator[bytes]]:
    """`mutants(value, encode, count, seed)`: half are changed values, encoded again, half changed bytes."""

    def make(value: Any, encode: Callable[[Any], bytes], count: int, seed: int) -> Iterator[bytes]:
        rng = random.Random(seed)
        plain = encode(value)
        for _ in range(count // 2):
            yield encode(mutate_value(rng, value))
            yield mutate_bytes(rng, plain)

    return make


@dataclass(frozen=True)
class Survey:
    """What a parser did with many inputs: how often each code, and what it accepted."""

    codes: Counter[str]
    accepted: list[tuple[bytes, Any]]


@pytest.fixture(scope="session")
def survey() -> Callable[[Callable[[bytes], Any], Iterable[bytes]], Survey]:
    """`survey(parse, inputs)`: run them all; an exception that is not ours fails the test."""

    def run(parse: Callable[[bytes], Any], inputs: Iterable[bytes]) -> Survey:
        result = Survey(Counter(), [])
        for data in inputs:
            try:
                result.accepted.append((data, parse(data)))
            except StrongroomError as error:
                result.codes[error.code] += 1
        return result

    return run


@pytest.fixture(scope="session")
def code_of() -> Callable[..., str | None]:
    """`code_of(function, *arguments)`: the code of the error that it raises, `None` if it raises none."""

    def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str | None:
        try:
            function(*args, **kwargs)
        except StrongroomError as error:
            return error.code
        return None

    return run


@pytest.fixture(scope="session")
def json_bytes() -> Callable[[Any], bytes]:
    """Compact JSON."""
    return lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


@pytest.fixture
def small_evidence() -> Evidence:
    """Well-formed evidence that verifies nowhere."""
    return Evidence(
        kind=EvidenceKind.SGX,
        quote=b"quote",
        collateral=dict.fromkeys(sorted(COLLATERAL_NAMES), "text"),
        init_data=b"init",
    )


def load_vector(path: Path) -> tuple[Evidence, int]:
    """One recorded piece of evidence and the time at which it is to be verified."""
    vector = json.loads(path.read_text())
    kind = EvidenceKind(path.name[:3].lower())
    return Evidence(kind, bytes.fromhex(vector["quote"]), vector["collateral"]), vector["now"]


@pytest.fixture
def vector(testdata: Path) -> Callable[[str], tuple[Evidence, int]]:
    """`vector("SGX_v3_00A067110000")`: recorded evidence whose name begins so, and its time."""

    def load(prefix: str) -> tuple[Evidence, int]:
        (path,) = (testdata / "vectors" / "evidence").glob(f"{prefix}*.json")
        return load_vector(path)

    return load


@pytest.fixture(scope="session")
def pki() -> Pki:
    """A simulated vendor and platform, made at `SIMULATED_NOW`."""
    return Pki.create(SIMULATED_NOW, os.urandom)
