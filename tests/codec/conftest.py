"""What the tests of the codecs share: an assertion on codes, and the driver of the mutation tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from hypothesis import settings

from strongroom.errors import CodecError

# No deadline for a single example: a busy machine is no fault of the code.
settings.register_profile("codec", deadline=None)
settings.load_profile("codec")

Refused = Callable[..., AbstractContextManager[None]]
Drive = Callable[..., Counter[str]]


@pytest.fixture(scope="session")
def refused() -> Refused:
    """`with refused(code, part_of_the_detail):` expects exactly this refusal."""

    @contextmanager
    def expect(code: str, detail: str = "") -> Iterator[None]:
        with pytest.raises(CodecError) as caught:
            yield
        assert caught.value.code == code, str(caught.value)
        assert detail in caught.value.detail

    return expect


@pytest.fixture(scope="session")
def drive() -> Drive:
    """Run a parser over inputs: only our own error type may leave it. Counts outcomes by code, or "ok"."""

    def run(parse: Callable[..., object], inputs: Iterable[tuple[object, ...]]) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        for arguments in inputs:
            try:
                parse(*arguments)
            except CodecError as error:
                outcomes[error.code] += 1
            else:
                outcomes["ok"] += 1
        return outcomes

    return run
