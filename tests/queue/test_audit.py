from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import QueueError, UnreachableError
from strongroom.queue.audit import server_warnings
from strongroom.queue.connect import connect
from strongroom.queue.valkey import EmbeddedValkey


async def test_the_embedded_server_keeps_what_it_accepts(server: EmbeddedValkey) -> None:
    async with connect(server.url) as client:
        assert await server_warnings(client) == ()


@pytest.mark.parametrize(
    ("name", "value", "danger"),
    [
        ("maxmemory-policy", "allkeys-lru", "evicted"),
        ("appendonly", "no", "lost when the server dies"),
        ("appendfsync", "everysec", "can be lost when the server dies"),
    ],
)
async def test_each_dangerous_setting_is_named_alone(
    own_server: EmbeddedValkey, name: str, value: str, danger: str
) -> None:
    async with connect(own_server.url) as client:
        await client.execute("CONFIG", "SET", name, value)
        [warning] = await server_warnings(client)
    assert f"{name} {value}" in warning
    assert danger in warning


async def test_redis_as_debian_ships_it_is_warned_of(redis_server: Any, port: int) -> None:
    from strongroom.queue.client import persist

    redis_server("--port", port, "--bind", "127.0.0.1", "--appendonly", "no", "--appendfsync", "everysec")
    async with connect(f"redis://127.0.0.1:{port}") as client:
        warnings = await persist(lambda: server_warnings(client), seconds=20)
    assert [each.split()[4] for each in warnings] == ["appendonly", "appendfsync"]


@pytest.mark.parametrize("refusal", [b"-NOPERM no\r\n", b"-ERR unknown command\r\n"])
async def test_a_server_that_hides_its_settings_is_warned_of(
    scripted: Any, folder: Path, refusal: bytes
) -> None:
    async with scripted(folder / "s", b"+PONG\r\n", refusal) as url, connect(url) as client:
        [warning] = await server_warnings(client)
    assert "does not show its settings" in warning


@pytest.mark.parametrize(
    "answer",
    [
        b":1\r\n",
        b"*0\r\n",
        b"*3\r\n$10\r\nappendonly\r\n:1\r\n$1\r\nx\r\n",
        b"*2\r\n$10\r\nappendonly\r\n$4\r\n\x1b[1m\r\n",
    ],
)
async def test_nonsense_counts_as_unknown(scripted: Any, folder: Path, answer: bytes) -> None:
    async with scripted(folder / "s", b"+PONG\r\n", answer) as url, connect(url) as client:
        warnings = await server_warnings(client)
    assert len(warnings) == 3
    assert all("unknown" in each and each.isprintable() for each in warnings)


async def test_without_a_server_there_is_nothing_to_say(scripted: Any, folder: Path) -> None:
    async with connect(f"unix://{folder}/none") as client:
        with pytest.raises(UnreachableError):
            await server_warnings(client)
    async with scripted(folder / "s", b"+PONG\r\n", b"@") as url, connect(url) as client:
        with pytest.raises(QueueError, match="queue-protocol"):
            await server_warnings(client)
