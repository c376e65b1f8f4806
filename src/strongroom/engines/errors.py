"""Error codes of the engines: starting, watching and stopping workers."""

from __future__ import annotations

from strongroom.errors import EXIT_USAGE, StrongroomError, define


class EngineError(StrongroomError):
    """A part of a service cannot be started or kept running."""


PART_FAILED = define(
    "part-failed",
    "A part of the service does not start",
    status=500,
    remedy="Read the last lines of its log, named here.",
)
MODEL_KEY_UNKNOWN = define(
    "model-key-unknown",
    "The broker's store has no key for this sealed model",
    status=404,
    exit_code=EXIT_USAGE,
    remedy="Seal the model on this machine with `strongroom model seal`, or name the right store.",
)
PORT_TAKEN = define(
    "port-taken",
    "Another program listens at this address",
    status=500,
    exit_code=EXIT_USAGE,
    remedy="Stop it, or choose another port with --port.",
)
ALREADY_RUNNING = define(
    "already-running",
    "A service is already running from this state folder",
    status=500,
    exit_code=EXIT_USAGE,
    remedy="Stop the other `strongroom up`, or set STRONGROOM_HOME to another folder.",
)
LAUNCH_REFUSED = define(
    "launch-refused",
    "The launcher cannot start a worker",
    status=500,
    remedy="See the detail.",
)
MEMORY_UNREADABLE = define(
    "memory-unreadable",
    "A process or file cannot be searched",
    status=500,
    remedy="Search as an ancestor of the process, under the same user, with ptrace allowed for descendants.",
)
