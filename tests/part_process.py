"""A part of Strongroom that listens, as a process of a test."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass
class PartProcess:
    """A broker or a front end that runs."""

    host: str
    port: int
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls, part: str, config: Path, host: str, port: int, *, env: Mapping[str, str] | None = None
    ) -> Self:
        """Run `strongroom PART` with a configuration that says where it listens."""
        log = config.with_suffix(".log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "strongroom", part, "--config", str(config)],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return cls(host, port, log, process)

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection((self.host, self.port), timeout=30)

    def until_listening(self) -> None:
        """Wait until it takes connections."""
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            try:
                self.connect().close()
            except ConnectionRefusedError:
                time.sleep(0.02)  # another process is on its way
            else:
                return

    def stop(self) -> None:
        """Ask it to stop."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(30)

    def kill(self) -> None:
        """End it in any case."""
        self.process.kill()
        self.process.wait()


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that is free now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
