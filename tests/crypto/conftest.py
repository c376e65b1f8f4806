"""What the tests of the crypto layer share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import CryptoError

CodeOf = Callable[..., str | None]
Refuses = Callable[[str], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def refuses() -> Refuses:
    """`with refuses(code):` the body raises CryptoError with exactly this code."""

    @contextmanager
    def check(code: str) -> Iterator[None]:
        with pytest.raises(CryptoError) as caught:
            yield
        assert caught.value.code == code

    return check


@pytest.fixture(scope="session")
def code_of() -> CodeOf:
    """Call something; None if it works, the code if it raises CryptoError. Other errors pass through."""

    def call(action: Callable[..., object], *args: object, **kwargs: object) -> str | None:
        try:
            action(*args, **kwargs)
        except CryptoError as error:
            return error.code
        return None

    return call


@pytest.fixture(scope="session")
def hpke_vectors(testdata: Path) -> list[dict[str, Any]]:
    """All HPKE vectors, of RFC 9180 and of the post-quantum draft."""
    folder = testdata / "vectors" / "hpke"
    vectors: list[dict[str, Any]] = []
    for name in ("rfc9180.json", "hpke-pq.json"):
        vectors += json.loads((folder / name).read_text())
    return vectors


@pytest.fixture(scope="session")
def low_order_points() -> list[bytes]:
    """Every encoding of an X25519 point that gives an all-zero shared secret (cr.yp.to/ecdh.html)."""
    p = 2**255 - 19
    order_8 = (
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
    coordinates = (0, 1, *order_8, p - 1, p, p + 1)
    return [(u | top << 255).to_bytes(32, "little") for u in coordinates for top in (0, 1)]
