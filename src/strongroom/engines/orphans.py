"""No orphans: a child process gets a signal from the kernel when its parent ends."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with(parent: int, number: signal.Signals) -> Callable[[], None]:
    """What a child does between fork and exec, for `preexec_fn`.

    Everything is prepared before the fork, because a child of a process with threads may not take locks. The
    kernel's rule is that the signal comes when the *thread* ends which forked.

    Args:
        parent: Process id of the parent; a child whose parent is already another ends at once.
        number: The signal.
    """
    prctl = ctypes.CDLL(None).prctl
    arguments = (_PR_SET_PDEATHSIG, int(number), 0, 0, 0)

    def prepare() -> None:
        if prctl(*arguments) or os.getppid() != parent:  # it may have died before the call
            os._exit(1)

    return prepare
