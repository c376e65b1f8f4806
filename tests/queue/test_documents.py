from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import ConfigError, QueueError, UnreachableError
from strongroom.queue.connect import connect
from strongroom.queue.documents import MAX_DOCUMENT, MAX_DOCUMENTS, documents, publish


async def test_each_workers_document_is_listed_under_its_name(bench: Any) -> None:
    client = bench.client()
    for worker, document in (("w0", b'{"a":1}'), ("w1", b"\x00\xff"), ("w0", b"newer")):
        await publish(client, bench.service, "evidence", worker, document, lifetime=60)
    await publish(client, bench.service, "keyset", "w0", b"keys", lifetime=60)
    assert await documents(client, bench.service, "evidence") == {"w0": b"newer", "w1": b"\x00\xff"}
    assert await documents(client, bench.service, "keyset") == {"w0": b"keys"}
    assert await documents(client, bench.service, "policy") == {}
    assert await documents(client, f"{bench.service}-other", "evidence") == {}


async def test_worker_and_front_end_meet_there(bench: Any) -> None:
    worker, requests = await bench.work("w0"), bench.requests()
    await worker.publish("evidence", "w0", b"{}", 30)
    assert await requests.documents("evidence") == {"w0": b"{}"}


async def test_documents_do_not_depend_on_the_shard(bench: Any) -> None:
    from strongroom.queue.consumer import WorkQueue

    client = bench.client()
    third = WorkQueue(client, bench.service, 3, "w3")
    await third.publish("evidence", "w3", b"{}", 30)
    assert await bench.requests().documents("evidence") == {"w3": b"{}"}
    await third.aclose()


async def test_a_document_expires(bench: Any, until: Any) -> None:
    client = bench.client()
    await publish(client, bench.service, "evidence", "w0", b"old", lifetime=0.05)
    await publish(client, bench.service, "evidence", "w1", b"new", lifetime=60)

    async def gone() -> bool:
        return await documents(client, bench.service, "evidence") == {"w1": b"new"}

    await until(gone)


async def test_of_many_the_last_to_expire_are_read(bench: Any) -> None:
    client = bench.client()
    for number in range(MAX_DOCUMENTS + 5):
        await publish(client, bench.service, "evidence", f"w{number}", b"x", lifetime=60 + number)
    names = set(await documents(client, bench.service, "evidence"))
    assert names == {f"w{number}" for number in range(5, MAX_DOCUMENTS + 5)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "a:b"}, "kind"),
        ({"kind": ""}, "kind"),
        ({"worker": "{x}"}, "worker"),
        ({"service": "a b"}, "service"),
        ({"lifetime": 0}, "lifetime"),
        ({"lifetime": 31 * 86_400}, "lifetime"),
    ],
)
async def test_bad_names_and_lives_are_refused(bench: Any, change: dict[str, Any], message: str) -> None:
    values = {"service": "s", "kind": "evidence", "worker": "w", "document": b"", "lifetime": 1} | change
    with pytest.raises(ConfigError, match=message):
        await publish(bench.client(), **values)


async def test_a_kind_that_is_no_name_cannot_be_read(bench: Any) -> None:
    with pytest.raises(ConfigError, match="kind"):
        await documents(bench.client(), bench.service, "a:b")


async def test_a_document_has_a_largest_size(bench: Any) -> None:
    client = bench.client()
    await publish(client, bench.service, "evidence", "w", bytes(MAX_DOCUMENT), lifetime=60)
    assert len((await documents(client, bench.service, "evidence"))["w"]) == MAX_DOCUMENT
    with pytest.raises(QueueError) as caught:
        await publish(client, bench.service, "evidence", "w", bytes(MAX_DOCUMENT + 1), lifetime=60)
    assert caught.value.code == "queue-body-too-large"


async def test_what_a_hostile_host_wrote_is_left_out(bench: Any) -> None:
    client = bench.client()
    tag = f"{{strongroom:{bench.service}:0}}"
    await publish(client, bench.service, "evidence", "w", b"good", lifetime=60)
    for name in (b"a:b", b"\xff", b"", b"gone", b"list", b"large"):
        await client.execute("ZADD", f"{tag}:docs:evidence", 1 << 60, name)
    await client.execute("RPUSH", f"{tag}:doc:evidence:list", "x")
    await client.execute("SET", f"{tag}:doc:evidence:large", bytes(MAX_DOCUMENT + 1))
    assert await documents(client, bench.service, "evidence") == {"w": b"good"}


@pytest.mark.parametrize(
    "answers",
    [
        [b"$1\r\nx\r\n"],
        [b"*33\r\n" + b":1\r\n" * 33],
        [b"*1\r\n$1\r\nw\r\n", b":1\r\n"],
        [b"*1\r\n$1\r\nw\r\n", b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n"],
    ],
)
async def test_nonsense_is_refused(scripted: Any, folder: Path, answers: list[bytes]) -> None:
    async with scripted(folder / "s", b"+PONG\r\n", *answers) as url, connect(url) as client:
        with pytest.raises(QueueError) as caught:
            await documents(client, "s", "evidence")
    assert caught.value.code == "queue-protocol"


async def test_items_of_other_types_are_left_out(scripted: Any, folder: Path) -> None:
    answers = [b"*3\r\n:1\r\n*0\r\n$1\r\nw\r\n", b"*1\r\n*0\r\n"]
    async with scripted(folder / "s", b"+PONG\r\n", *answers) as url, connect(url) as client:
        assert await documents(client, "s", "evidence") == {}


async def test_publishing_waits_for_a_server_that_comes_back(folder: Path) -> None:
    from strongroom.queue.consumer import WorkQueue
    from strongroom.queue.valkey import EmbeddedValkey

    server = EmbeddedValkey(folder / "q")
    async with connect(server.url) as client:
        patient = WorkQueue(client, "s", 0, "w0", retry_for=30)
        hasty = WorkQueue(client, "s", 0, "w1", retry_for=0)
        with pytest.raises(UnreachableError):
            await hasty.publish("evidence", "w1", b"{}", 30)
        publishing = asyncio.create_task(patient.publish("evidence", "w0", b"{}", 30))
        await asyncio.sleep(0.05)
        with server:
            await publishing
            assert await documents(client, "s", "evidence") == {"w0": b"{}"}
        await patient.aclose()
        await hasty.aclose()
