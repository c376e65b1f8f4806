"""Mutants of documents: changed values inside valid JSON, and changed bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

# Values that break assumptions: types, bounds, encodings.
_ODD: list[Any] = [
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
    "ed25519+mldsa65:" + "A" * 43,
    "sha256:" + "0" * 64,
    "sha384:" + "F" * 96,
    [],
    {},
    [[]],
    [None],
    ["sgx", "sgx"],
    {"a": 1},
    "A" * 5000,
    2**63,
    2**64,
    10**40,
    "\x00",
    "tdx",
    "0.4.0",
]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document, as container and key."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _edited(rng: random.Random, text: str) -> str:
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
        places = list(_places(value))
        if not places:
            return rng.choice(_ODD)
        container, key = rng.choice(places)
        action = rng.randrange(6)
        if action == 0:
            del container[key]
        elif action == 1 and isinstance(container, dict):
            container[_edited(rng, key)] = container.pop(key)
        elif action == 2 and isinstance(container, list):
            container.append(json.loads(json.dumps(rng.choice(container))))
        elif action == 3 and isinstance(container[key], str):
            container[key] = _edited(rng, container[key])
        elif action == 4 and type(container[key]) is int:
            container[key] += rng.choice([-(2**40), -1, 1, 2**40, 2**60])
        else:
            container[key] = json.loads(json.dumps(rng.choice(_ODD)))
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
            out[at:at] = rng.choice(
                [b"\x00", b"{", b"[", b'"', b"\\u0000", b"\xff", b"'''", b"1e999", b"\r", b"}", b"\\ud800"]
            )
        elif action == 3:
            out[at:at] = out[: rng.choice([1, 8, 64])]
        else:
            del out[at:]
    return bytes(out)


def mutants(value: Any, encode: Callable[[Any], bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` mutants of a document: half are changed values, encoded again, half changed bytes."""
    rng = random.Random(seed)
    plain = encode(value)
    for _ in range(count // 2):
        yield encode(mutate_value(rng, value))
        yield mutate_bytes(rng, plain)
