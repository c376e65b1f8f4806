"""A small worker that tests launch for real: a copied interpreter, an import root, a program that reports."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from copied_python import NO_SYSTEM, VERSION, copy_python
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.measurement import Measurement, measure
from strongroom.engines.launcher import Launcher

PROGRAM = """
import json, os, signal, socket, sys
import part

def report():
    return {
        "argv": sys.argv, "cwd": os.getcwd(), "environ": dict(os.environ),
        "fds": sorted(map(int, os.listdir("/proc/self/fd"))),
        "flags": [sys.flags.isolated, sys.flags.no_site, sys.flags.dont_write_bytecode, sys.flags.optimize],
        "modules": sorted(sys.modules), "path": sys.path, "pgid": os.getpgid(0), "pid": os.getpid(),
        "stdin": os.readlink("/proc/self/fd/0"), "umask": os.umask(0), "value": part.VALUE,
    }

def main():
    with os.fdopen(int(sys.argv[1])) as pipe:
        config = json.load(pipe)
    if "requests" in config:
        return ask([bytes.fromhex(text) for text in config["requests"]], config["out"])
    if "wait" in config:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        print(os.getpid(), flush=True)
        with open(config["wait"], "w"):
            pass
        while True:
            signal.pause()
    with open(config["out"], "w") as out:
        json.dump(report() | {"config": config}, out)
    return config.get("status", 0)

def ask(requests, out):
    sock = socket.socket(fileno=int(sys.argv[2]))
    answers = []
    for request in requests:
        sock.send(request)
        packets = [sock.recv(65536)]
        while packets[-1][:1] == b"+":
            packets.append(sock.recv(65536))
        answers.append([packet.hex() for packet in packets])
    with open(out, "w") as file:
        json.dump(answers, file)
    return 0
"""


class FixedBackend:
    """Quotes that name the report data and nothing else."""

    def quote(self, report_data: bytes) -> Evidence:
        return Evidence(EvidenceKind.SGX, report_data, None, b"init")


class TinyWorker:
    """An import root with a small program, and what happens when it is launched."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.python = python
        self.root = folder / "root"
        self.root.mkdir()
        (self.root / "program.py").write_text(PROGRAM)
        (self.root / "part.py").write_text("VALUE = 'good'\n")
        self.marker = folder / "marker"
        self.evil = f"open({str(self.marker)!r}, 'a').write('ran')\n"
        self.out = folder / "out.json"

    @property
    def library(self) -> Path:
        """The interpreter's standard library."""
        return self.python.parent.parent / "lib" / VERSION

    def measure(self, **options: Any) -> Measurement:
        """Measure it as it is now, without the system's libraries."""
        return measure(self.python, [self.root], **{"entry": "program:main", "system": NO_SYSTEM, **options})

    def launcher(self, config: Mapping[str, Any], backend: Any = None, **options: Any) -> Launcher:
        """Measure it, and make a launcher for it."""
        return Launcher(self.measure(**options), backend or FixedBackend(), json.dumps(dict(config)).encode())

    def report(self, *, expect: int = 0, **config: Any) -> dict[str, Any]:
        """Launch it and return what it says about itself."""
        self.out.unlink(missing_ok=True)
        status = self.launcher({"out": str(self.out), **config}).start().wait(60)
        assert status == expect
        result: dict[str, Any] = json.loads(self.out.read_text())
        return result

    def ran_evil_code(self) -> bool:
        """Whether the marker was written; removes it."""
        ran = self.marker.exists()
        self.marker.unlink(missing_ok=True)
        return ran

    def ordinary(
        self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Start the same interpreter as anybody would: the positive control of an attack."""
        subprocess.run(
            [str(self.python), *arguments],
            env=dict(env or {}),
            cwd=cwd or Path("/"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=60,
        )

    def import_part(self, *before: str, env: Mapping[str, str] | None = None) -> None:
        """Import the module `part` in an ordinary interpreter."""
        lines: Sequence[str] = [*before, f"import sys; sys.path.append({str(self.root)!r}); import part"]
        self.ordinary("-c", "\n".join(lines), env=env)


@pytest.fixture(scope="session")
def shared_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copied interpreter, not to be changed by tests."""
    return copy_python(tmp_path_factory.mktemp("python"))


@pytest.fixture
def tiny(tmp_path: Path, shared_python: Path) -> TinyWorker:
    """A small worker; its interpreter is not to be changed."""
    return TinyWorker(tmp_path, shared_python)


@pytest.fixture
def tiny_own_python(tmp_path: Path) -> TinyWorker:
    """A small worker with an interpreter of its own, to be changed at will."""
    return TinyWorker(tmp_path, copy_python(tmp_path / "python"))
