"""A real PostgreSQL server for tests: a folder of its own, a unix socket, each commit on disk."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg


def programs() -> Path | None:
    """The folder of the newest server that is installed, if there is one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    return found[-1].parent if found else None


class PostgresServer:
    """A server that runs until `stop`. Who is root runs it as the user `postgres`: it refuses to run as root.

    Attributes:
        folder: Everything of it: data, socket, log.
        port: Number in the name of its socket.
    """

    def __init__(self, *options: str) -> None:
        self._programs = programs()
        assert self._programs is not None
        self._options = options
        self._names = itertools.count(1)
        self._free: list[str] = []
        self.port = 5432
        # Not in pytest's folder: the user of the server may not look into it, and names of sockets are short.
        self.folder = Path(tempfile.mkdtemp(prefix="strongroom-pg-"))
        self._prefix: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._prefix = [
                "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--",
            ]  # fmt: skip
        self._run(
            "initdb", "-D", str(self.data), "-U", "strongroom", "--auth=trust", "--no-locale", "-E", "UTF8"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    def _run(self, program: str, *arguments: str) -> bytes:
        assert self._programs is not None
        command = [*self._prefix, str(self._programs / program), *arguments]
        done = subprocess.run(command, cwd="/", capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def start(self) -> None:
        """Run it and wait until it answers."""
        assert self._programs is not None
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}", *self._options]
        command = [*self._prefix, str(self._programs / "postgres"), "-D", str(self.data), *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.02)  # it is on its way
            else:
                return

    def kill(self) -> None:
        """End it at once, like a power cut that spares the disk."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(60)

    def stop(self) -> None:
        """End it and remove its folder."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://strongroom@/{database}?host={self.folder}&port={self.port}"

    def take(self) -> str:
        """Name of an empty database."""
        if self._free:
            return self._free.pop()
        name = f"keys{next(self._names)}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return name

    def give_back(self, name: str) -> None:
        """Empty a database, for the next one who wants one: quicker than to make it."""
        self.execute(name, "DROP SCHEMA public CASCADE")
        self.execute(name, "CREATE SCHEMA public")
        self._free.append(name)

    def execute(self, database: str, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Run a statement as someone else than a broker does."""
        with psycopg.connect(self.url(database), autocommit=True) as db:
            cursor = db.execute(sql.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def dump(self, database: str) -> bytes:
        """What `pg_dump` says of a database."""
        return self._run("pg_dump", self.url(database))
