"""Error codes of the simulator."""

from __future__ import annotations

from strongroom.errors import StrongroomError, define


class SimulatorError(StrongroomError):
    """The simulator cannot make evidence."""


STATE_DAMAGED = define(
    "simulator-state-damaged",
    "The simulator's keys cannot be read",
    status=500,
    remedy="Delete the simulator's state folder; policies must then pin the new root.",
)
STATE_EXPOSED = define(
    "simulator-state-exposed",
    "Other users can reach the simulator's keys",
    status=500,
    remedy="chmod 700 the state folder and chmod 600 the file in it.",
)
STATE_UNWRITABLE = define(
    "simulator-state-unwritable",
    "The simulator's state folder cannot be written",
    status=500,
    remedy="Choose a folder that the current user may write.",
)
BAD_FIELD = define(
    "simulator-field-size",
    "A field of the quote has the wrong size",
    status=500,
    remedy="SGX: a measurement of 32 bytes, else 48; an init-data digest of 48, SNP: 32; report data of 64.",
)
