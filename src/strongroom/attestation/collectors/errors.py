"""Error codes of the collection of evidence."""

from __future__ import annotations

from strongroom.errors import EXIT_FAILED, EXIT_REFUSED, EXIT_UNREACHABLE, define

COLLECTOR_ABSENT = define(
    "collector-absent",
    "This host does not have the source of evidence that was asked for",
    status=503,
    exit_code=EXIT_UNREACHABLE,
    remedy="Run it inside the TEE. `strongroom evidence collect --list` says what is missing for each kind.",
)
COLLECTOR_DENIED = define(
    "collector-denied",
    "The source of evidence may not be used by this user",
    status=503,
    exit_code=EXIT_REFUSED,
    remedy="Run it as root, or give this user the file or device that is named.",
)
COLLECTOR_FAILED = define(
    "collector-failed",
    "The source of evidence failed",
    status=503,
    exit_code=EXIT_FAILED,
    remedy="Look at the kernel's log and at the host's quoting service; try again.",
)
COLLECTOR_RACED = define(
    "collector-raced",
    "Something else used the source of evidence in the meantime",
    status=503,
    exit_code=EXIT_FAILED,
    remedy="Try again. If it stays so, find the program that writes there.",
)
COLLECTOR_ANSWER = define(
    "collector-answer-invalid",
    "The source of evidence gave something that is no evidence of its kind",
    status=502,
    exit_code=EXIT_FAILED,
    remedy="Check the versions of kernel, driver and LibOS against docs/how-to/collect-evidence.md.",
)
