"""Error codes of the measurement."""

from __future__ import annotations

from strongroom.errors import StrongroomError, define


class MeasurementError(StrongroomError):
    """What a worker would be started from cannot be measured. It is then not started."""


UNREADABLE = define(
    "measurement-unreadable",
    "A file that the worker could load cannot be read",
    status=500,
    remedy="Let the user who starts the worker read its environment, or install the environment again.",
)
UNSUPPORTED_FILE = define(
    "measurement-unsupported-file",
    "The import path holds something that cannot be measured",
    status=500,
    remedy="Remove what is named: only files, folders and links to these belong on the import path.",
)
TOO_LARGE = define(
    "measurement-too-large",
    "The import path holds more than a worker's environment plausibly does",
    status=500,
    remedy="Give Strongroom an environment of its own; do not install it beside large data.",
)
INTERPRETER = define(
    "measurement-interpreter",
    "The Python interpreter cannot be measured",
    status=500,
    remedy="Use CPython 3.11 or later for 64-bit Linux, installed from a distribution or from source.",
)
BAD_ENTRY = define(
    "measurement-entry",
    "The entry point is not MODULE:FUNCTION",
    status=500,
    remedy="Name a function of a module on the import path.",
)
ELF_MALFORMED = define(
    "elf-malformed",
    "The file is not a shared object that this machine could load",
    status=500,
    remedy="Install the package that the file belongs to again.",
)
LD_CACHE_MALFORMED = define(
    "ld-cache-malformed",
    "The system's cache of shared libraries is not well-formed",
    status=500,
    remedy="Run ldconfig as root.",
)
