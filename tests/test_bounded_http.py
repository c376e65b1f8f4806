from __future__ import annotations

import asyncio

import pytest

from strongroom.bounded_http import OneWrite


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
async def gathered(transport: Transport) -> OneWrite:
    return OneWrite(transport, asyncio.get_running_loop())


async def test_what_one_turn_writes_leaves_in_one_piece(transport: Transport, gathered: OneWrite) -> None:
    gathered.write(b"head")
    gathered.write(b"body")
    assert transport.writes == []
    await asyncio.sleep(0)
    gathered.write(b"next")
    await asyncio.sleep(0)
    assert transport.writes == [b"headbody", b"next"]


async def test_closing_sends_what_was_written(transport: Transport, gathered: OneWrite) -> None:
    gathered.write(b"answer")
    gathered.close()
    await asyncio.sleep(0)
    assert (transport.writes, transport.closed, gathered.is_closing()) == ([b"answer"], True, True)


async def test_nothing_is_written_to_a_connection_that_is_lost(
    transport: Transport, gathered: OneWrite
) -> None:
    gathered.write(b"answer")
    transport.close()
    await asyncio.sleep(0)
    assert transport.writes == []
