"""How a worker's process is started: everything that decides what it runs and is not a file.

The flags close the ways in which a host could slip code past the measurement:

- `-I`: no PYTHON* variable counts, no user site folder, no script folder on the path.
- `-S`: `site` is not imported, so no `.pth` file, `sitecustomize` or `usercustomize` runs.
- `-B` and the bytecode prefix: bytecode is neither written nor read. The prefix lies below a device file, so
  it is empty for good, and nobody can put a `.pyc` there even while the worker runs.

The environment is written anew, not inherited: LD_PRELOAD, LD_LIBRARY_PATH, GLIBC_TUNABLES and the like never
arrive. OPENSSL_CONF keeps the system's OpenSSL configuration, which can name modules to load, out of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from strongroom.attestation.measurement_errors import BAD_ENTRY, MeasurementError

ENTRY: Final = "strongroom.worker.main:main"
"""The one entry point of an enclave in production."""

FLAGS: Final = ("-I", "-S", "-B", "-X", "pycache_prefix=/dev/null/pycache")

ENVIRONMENT: Final = MappingProxyType(
    {
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        "OPENSSL_CONF": "/dev/null",
    }
)

_ENTRY: Final = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)

# `openvino.tools` exists for conversion; importing it sends a telemetry event to the network, which has no
# place in an enclave, and costs 0.5 s. The collector would only walk what the imports keep anyway.
_BOOT: Final = """\
import gc, sys
gc.disable()
config, quotes, *sys.path = sys.argv[1:]
sys.argv = ["strongroom-worker", config, quotes]
sys.modules["openvino.tools"] = None
from {module} import {function} as entry
gc.freeze()
gc.enable()
sys.exit(entry())
"""


@dataclass(frozen=True, slots=True)
class StartPlan:
    """The command line and environment of an enclave.

    Attributes:
        entry: `MODULE:FUNCTION`, called without arguments; what it returns is the exit status.
        flags: Interpreter flags.
        environment: The whole environment.

    Raises:
        MeasurementError: `measurement-entry`.
    """

    entry: str = ENTRY
    flags: tuple[str, ...] = FLAGS
    environment: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT)

    def __post_init__(self) -> None:
        if not _ENTRY.fullmatch(self.entry):
            raise MeasurementError(BAD_ENTRY)

    @property
    def boot(self) -> str:
        """The program text given to `-c`."""
        module, function = self.entry.split(":")
        return _BOOT.format(module=module, function=function)

    def command(self, interpreter: Path, path: Sequence[Path], arguments: tuple[str, str]) -> list[str]:
        """The command line.

        Args:
            interpreter: The base interpreter, links resolved.
            path: The whole import path, in order.
            arguments: Descriptors of the configuration and of the quoting socket, as decimal numbers.
        """
        return [str(interpreter), *self.flags, "-c", self.boot, *arguments, *map(str, path)]

    def documents(self) -> dict[str, bytes]:
        """What is measured of this plan, by name, each as bytes with one meaning only."""
        return {
            "command/boot": self.boot.encode(),
            "command/environment": json.dumps(dict(self.environment), sort_keys=True).encode(),
            "command/flags": json.dumps(self.flags).encode(),
        }
