"""Where auditors read: a store, a folder that it was exported to, a broker that serves it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from log_rig import LOG
from strongroom.broker import files, log, log_entry, log_tiles
from strongroom.broker.audit import State, advance, verify
from strongroom.broker.log_entry import Event
from strongroom.broker.log_source import FolderSource, HttpSource, StoreSource
from strongroom.broker.server import create_app
from strongroom.broker.store import Store
from strongroom.codec import checkpoint, note, tiles


def append(store: Store, count: int) -> None:
    with store.write() as db:
        for _ in range(count):
            log.append(store, db, time=1, event=Event.RELEASED, facts={"service": "pictures"})


def test_store_folder_and_server_show_the_same_log(store: Store, tmp_path: Path, serve, clock) -> None:
    key = log_entry.log_key(store.signing_key.verifying_key)
    folder = tmp_path / "exported"
    served = HttpSource(serve(create_app(store, now=clock)) + "/strongroom/v1/log/")
    state = State()
    for count in (0, 3, 300, 0, 250):
        append(store, count)
        size = log_tiles.export(store, folder)
        steps = [verify(each, key) for each in (StoreSource(store), FolderSource(folder), served)]
        assert {step.head.size for step in steps} == {size}
        assert len({step.head.root for step in steps}) == 1
        step = advance(served, state, key)
        assert len(list(step.entries())) == count
        state = step.state
    served.close()


def test_an_export_keeps_what_an_older_checkpoint_needs_and_no_more(store: Store, tmp_path: Path) -> None:
    append(store, 255)
    folder = tmp_path / "exported"
    log_tiles.export(store, folder)
    assert (folder / "tile/0/000.p/255").exists()
    append(store, 1)
    log_tiles.export(store, folder)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {"checkpoint", "tile/0/000", "tile/1/000.p/1", "tile/entries/000"}


@pytest.mark.parametrize(
    "path",
    ["", "tile/0/001", "tile/0/000.p/4", "tile/1/000.p/1", "tile/entries/000", "checkpoints", "../log"],
)
def test_what_the_log_does_not_have(store: Store, refused, path: str) -> None:
    append(store, 3)
    with refused("log-entry-unknown"):
        log_tiles.read(store, path)


def test_how_the_broker_serves_it(rig, serve) -> None:
    url = serve(create_app(rig.store, now=rig.clock, broker=rig.broker)) + "/strongroom/v1/log/"
    answer = httpx.get(url + "checkpoint", trust_env=False)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    size = checkpoint.parse(note.parse(answer.content).text).size
    answer = httpx.get(f"{url}tile/entries/000.p/{size}", trust_env=False)
    assert len(tiles.split_entries(answer.content, count=size)) == size
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "immutable" in answer.headers["Cache-Control"]
    answer = httpx.get(url + "tile/0/999", trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (404, "log-entry-unknown")


def test_a_folder_without_a_log(tmp_path: Path, refused) -> None:
    with refused("log-unreachable"):
        advance(FolderSource(tmp_path), State(), LOG.key)


def test_a_part_is_bounded(tmp_path: Path, refused) -> None:
    (tmp_path / "checkpoint").write_bytes(b"x" * 200_000)
    with refused("log-unreachable"):
        advance(FolderSource(tmp_path), State(), LOG.key)
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=b"x" * 200_000))
    with refused("log-unreachable"):
        advance(HttpSource("http://log.example", transport=transport), State(), LOG.key)


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_server_that_does_not_answer(refused, status: int) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(status))
    with refused("log-unreachable"):
        advance(HttpSource("http://log.example", transport=transport), State(), LOG.key)
    with refused("log-unreachable"):
        advance(HttpSource("http://127.0.0.1:9"), State(), LOG.key)
    with refused("log-unreachable"):
        advance(HttpSource("http://[::bad"), State(), LOG.key)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    files.write_whole(path, b"one")
    files.write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert [each.name for each in path.parent.iterdir()] == ["b"]
